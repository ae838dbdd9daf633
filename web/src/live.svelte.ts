// Following new flows: the server says when there is news (server-sent events), else we ask now and then. While
// somebody reads a table, news is counted and shown later.
import { url, type Tick } from './api'
import { cost } from './resource.svelte'
import { app, refresh } from './state.svelte'

const POLL = 5 // seconds between two questions without a stream

class Live {
  mode = $state<'off' | 'stream' | 'polling'>('off')
  pending = $state(0)
  tick = $state.raw<Tick | null>(null)
  pollSeconds = POLL
}

export const live = new Live()

/** follow listens until the returned function is called. */
export function follow(): () => void {
  const source = new EventSource(url('events'))
  let poll = 0
  source.addEventListener('open', () => {
    live.mode = 'stream'
    clearInterval(poll)
    poll = 0
  })
  source.addEventListener('tick', (e: MessageEvent<string>) => {
    live.tick = JSON.parse(e.data) as Tick
    news()
  })
  source.addEventListener('error', () => {
    live.mode = 'polling'
    if (!poll) poll = window.setInterval(news, POLL * 1000)
  })
  return () => {
    source.close()
    clearInterval(poll)
    live.mode = 'off'
    live.pending = 0
    live.tick = null
  }
}

let shown = 0

function news(): void {
  if (document.hidden) return // nobody looks: the next tick after coming back is enough
  const early = performance.now() - shown < 3 * cost.ms // a slow server is asked less often than it has news
  if (app.reading.size > 0) live.pending++
  else if (!early) showNow()
}

/** showNow takes the news in, also while somebody reads. */
export function showNow(): void {
  live.pending = 0
  shown = performance.now()
  refresh()
}

/** reads marks an element as one that is read while the pointer is over it or the focus in it. */
export function reads(name: string) {
  return (node: HTMLElement) => {
    const inside = () => node.matches(':hover') || (node.contains(document.activeElement) && document.activeElement!.matches(':focus-visible'))
    const update = () => {
      if (inside()) app.reading.add(name)
      else if (app.reading.delete(name) && live.pending > 0 && app.reading.size === 0) showNow()
    }
    const later = () => requestAnimationFrame(update)
    const events = ['pointerenter', 'pointerleave', 'focusin', 'focusout'] as const
    for (const e of events) node.addEventListener(e, later)
    return () => {
      for (const e of events) node.removeEventListener(e, later)
      app.reading.delete(name)
    }
  }
}
