// A heat map of a time series: a line for each group, a column for each step, a colour for how much. Loaded when first shown.
import { clock, day, rate, type Zone } from '../format'

export interface Heat { times: number[]; lines: { name: string; values: number[]; rest: boolean }[]; unit: string; zone: Zone; step: number }

export interface Spot { line: number; index: number; left: number; top: number }

const NAMES = 150 // room for the names of lines
const AXIS = 22
const ROW = 24
const KEY = 26 // the scale below

/** heightOf is what a heat map of so many lines needs. */
export const heightOf = (lines: number): number => lines * ROW + AXIS + KEY + 6

/** strength gives how strong a value's colour is, 0 to 1: its cube root, so that small flows are seen beside great ones. */
export function strength(value: number, most: number): number {
  return most > 0 ? Math.cbrt(Math.max(0, Math.min(1, value / most))) : 0
}

/** HeatMap draws into a canvas of its own below node. */
export class HeatMap {
  readonly canvas = document.createElement('canvas')
  #heat: Heat
  #resize: ResizeObserver

  constructor(private readonly node: HTMLElement, heat: Heat, private readonly point: (s: Spot | null) => void) {
    this.#heat = heat
    node.append(this.canvas)
    this.canvas.addEventListener('pointermove', (e) => this.point(this.#spot(e)))
    this.canvas.addEventListener('pointerleave', () => this.point(null))
    this.#resize = new ResizeObserver(() => this.show(this.#heat))
    this.#resize.observe(node)
  }

  #spot(e: PointerEvent): Spot | null {
    const { times, lines } = this.#heat
    const width = this.node.clientWidth - NAMES
    const index = Math.floor(((e.offsetX - NAMES) / Math.max(1, width)) * times.length)
    const line = Math.floor(e.offsetY / ROW)
    return index >= 0 && index < times.length && line >= 0 && line < lines.length ? { index, line, left: e.offsetX, top: e.offsetY } : null
  }

  show(heat: Heat): void {
    this.#heat = heat
    const { times, lines, unit, zone } = heat
    const css = getComputedStyle(this.node)
    const [text, faint, accent, line] = ['--text', '--faint', '--accent', '--bar'].map((n) => css.getPropertyValue(n).trim())
    const [width, height] = [Math.max(260, this.node.clientWidth), heightOf(lines.length)]
    const dpr = window.devicePixelRatio || 1
    Object.assign(this.canvas, { width: Math.round(width * dpr), height: Math.round(height * dpr) })
    Object.assign(this.canvas.style, { width: width + 'px', height: height + 'px', display: 'block' })
    const c = this.canvas.getContext('2d')!
    c.scale(dpr, dpr)
    c.font = '12px system-ui, sans-serif'
    c.textBaseline = 'middle'
    // The rest of all groups would outshine each of them.
    const own = lines.filter((l) => !l.rest)
    const most = Math.max(0, ...(own.length ? own : lines).flatMap((l) => l.values))
    const beyond = lines.some((l) => l.values.some((v) => v > most))
    const cell = (width - NAMES) / Math.max(1, times.length)
    lines.forEach((l, k) => {
      const y = k * ROW
      c.globalAlpha = 1
      c.fillStyle = text!
      c.textAlign = 'right'
      c.fillText(l.name.length > 22 ? l.name.slice(0, 21) + '…' : l.name, NAMES - 8, y + ROW / 2, NAMES - 12)
      c.fillStyle = line!
      c.fillRect(NAMES, y + 1, width - NAMES, ROW - 2)
      c.fillStyle = accent!
      l.values.forEach((v, i) => {
        c.globalAlpha = strength(v ?? 0, most)
        if (c.globalAlpha > 0) c.fillRect(NAMES + i * cell, y + 1, Math.max(1, cell + 0.4), ROW - 2)
      })
    })
    c.globalAlpha = 1
    c.fillStyle = faint!
    c.font = '11px system-ui, sans-serif'
    c.textAlign = 'left'
    const every = Math.max(1, Math.ceil(84 / Math.max(cell, 0.1)))
    for (let i = 0; i + every * 0.6 < times.length; i += every) c.fillText(heat.step >= 86400_000 ? day(times[i]!, zone).slice(0, -5) : clock(times[i]!, zone, heat.step < 60_000), NAMES + i * cell, lines.length * ROW + AXIS / 2 + 2)
    this.#scale(c, most, (beyond ? '≥ ' : '') + rate(most, unit), lines.length * ROW + AXIS + 4, Math.min(220, width - NAMES - 120), accent!, line!)
  }

  /** scale draws what the colours mean. */
  #scale(c: CanvasRenderingContext2D, most: number, label: string, y: number, width: number, accent: string, ground: string): void {
    const STEPS = 24
    c.fillText('0', NAMES - 12, y + 7)
    for (let i = 0; i < STEPS; i++) {
      const x = NAMES + (i * width) / STEPS
      const text = c.fillStyle
      c.globalAlpha = 1
      c.fillStyle = ground
      c.fillRect(x, y, width / STEPS + 0.5, 13)
      c.globalAlpha = strength((most * (i + 0.5)) / STEPS, most)
      c.fillStyle = accent
      c.fillRect(x, y, width / STEPS + 0.5, 13)
      c.globalAlpha = 1
      c.fillStyle = text
    }
    c.fillText(label, NAMES + width + 8, y + 7)
  }

  destroy(): void {
    this.#resize.disconnect()
    this.canvas.remove()
  }
}
