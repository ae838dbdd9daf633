// A change while it is made: what was asked, which number the history gave it, and how it ended. The journal of a running change is
// read while the question is still in flight, so that each host is seen to do its part.
import { Failure, get, post, type Applied, type ControlChange, type Outcome, type PlanStep, type TapPlan } from './api'

const LOOK = 300 // milliseconds between two looks for the number of the change

export class Applying {
  running = $state(false)
  id = $state(0) // of the change, 0 while nobody knows it
  what = $state('')
  outcome = $state.raw<Outcome | null>(null)
  error = $state.raw<Failure | null>(null)
  expected = $state.raw<PlanStep[]>([])
  places = $state.raw<TapPlan['taps']>(null) // taps of the plan, whose places tell the names of hosts

  /** start asks for a change; what a plan has said of it is shown from the beginning. It resolves when the change has ended. */
  async start(what: string, path: string, body: object, plan: TapPlan | null = null): Promise<Outcome | null> {
    Object.assign(this, { running: true, id: 0, what, outcome: null, error: null, expected: plan?.steps ?? [], places: plan?.taps ?? null })
    const before = await newest().catch(() => null)
    const asked = post<Applied>('control/' + path, body)
    void this.#find(before?.id ?? 0)
    try {
      const done = await asked
      this.outcome = done.outcome
      this.expected = done.plan.steps ?? this.expected
      this.places = done.plan.taps ?? this.places
      if (done.outcome.change) this.id = done.outcome.change
      return done.outcome
    } catch (e) {
      const failed = e instanceof Failure ? e : new Failure(0, { detail: String(e) }, path)
      if (failed.status !== 0 || this.id === 0) this.error = failed // else it goes on without us, and its journal tells
      return null
    } finally {
      this.running = false
    }
  }

  async #find(before: number): Promise<void> {
    while (this.running && this.id === 0) {
      await new Promise((r) => setTimeout(r, LOOK))
      const found = await newest().catch(() => null)
      if (this.running && this.id === 0 && found && found.id > before) this.id = found.id
    }
  }
}

async function newest(): Promise<ControlChange | null> {
  return (await get<{ rows: ControlChange[] | null }>('control/history', { limit: 1 })).rows?.[0] ?? null
}
