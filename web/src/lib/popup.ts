// Where a popup stands, and arrow keys inside a menu.

/** place puts a shown popover under its anchor, or above it where there is no room, inside the window. */
export function place(box: HTMLElement, anchor: Element): void {
  const a = anchor.getBoundingClientRect()
  const b = box.getBoundingClientRect()
  const below = a.bottom + 4 + b.height <= innerHeight || a.top < b.height + 4
  const s = box.style
  s.position = 'fixed'
  s.inset = 'auto'
  s.margin = '0'
  s.left = Math.max(6, Math.min(a.left, innerWidth - b.width - 6)) + 'px'
  s.top = Math.max(6, below ? Math.min(a.bottom + 4, innerHeight - b.height - 6) : a.top - 4 - b.height) + 'px'
}

/** roving moves the focus among the items of a menu. */
export function roving(e: KeyboardEvent, box: HTMLElement): void {
  const items = [...box.querySelectorAll<HTMLElement>('[role=menuitem]')]
  const at = items.indexOf(document.activeElement as HTMLElement)
  const to: Record<string, number> = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }
  const next = to[e.key]
  if (next === undefined) {
    if (e.key === 'Tab') box.hidePopover()
    return
  }
  e.preventDefault()
  items.at(next % items.length)?.focus()
}

/** presses are the attributes of something drawn that is pressed like a button, with the pointer or a key. */
export const presses = (act: (at: SVGElement) => void) => ({
  role: 'button' as const,
  tabindex: 0,
  onclick: (e: Event & { currentTarget: SVGElement }) => act(e.currentTarget),
  onkeydown: (e: KeyboardEvent & { currentTarget: SVGElement }) => {
    if (e.key !== 'Enter' && e.key !== ' ') return
    e.preventDefault()
    act(e.currentTarget)
  },
})
