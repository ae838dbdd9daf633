// A question in flight: the last answer stays until the next one is there, and only the newest counts.
import { Failure } from './api'

/** cost is how long the slowest of the last answers took, in milliseconds; live updates keep a distance by it. */
export const cost = { ms: 0 }

export class Resource<T> {
  data = $state.raw<T | null>(null)
  error = $state.raw<Failure | null>(null)
  loading = $state(false)
  /** fresh is false from the moment another question was asked until its answer is there. */
  fresh = $state(false)
  #abort: AbortController | null = null
  #key = ''
  #tick = -1

  /** load asks a question, unless it was asked at this tick already. Another key makes the shown answer stale at
   * once; a later tick is a refresh of the same one, and waits for the one that is on its way. */
  load(key: string, tick: number, ask: (signal: AbortSignal) => Promise<T>): void {
    if (key === this.#key && (this.#abort || tick === this.#tick)) return
    this.#tick = tick
    this.#abort?.abort()
    const abort = new AbortController()
    this.#abort = abort
    if (key !== this.#key) this.fresh = false
    this.#key = key
    this.loading = true
    const asked = performance.now()
    ask(abort.signal)
      .then((data) => {
        cost.ms = Math.max(cost.ms * 0.8, performance.now() - asked)
        this.#settle(abort, data, null)
      })
      .catch((e: unknown) => this.#settle(abort, null, e instanceof Failure ? e : new Failure(0, { detail: String(e) }, '')))
  }

  #settle(abort: AbortController, data: T | null, error: Failure | null): void {
    if (this.#abort !== abort) return
    this.#abort = null
    this.loading = false
    this.error = error
    if (data !== null) {
      this.data = data
      this.fresh = true
    }
  }

}
