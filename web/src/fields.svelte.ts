// The fields that flows can be grouped by, as the server names and describes them. Asked for once.
import { get, type Completions } from './api'

export interface Field { name: string; what: string }

class Fields {
  all = $state.raw<Field[]>([])
  #asked = false

  /** want asks the server, the first time. A failed question leaves the list empty: fields in the URL still work. */
  want(): void {
    if (this.#asked) return
    this.#asked = true
    get<Completions>('filter/complete', { f: '', pos: 0, limit: 50 }).then(
      (c) => (this.all = (c.completions ?? []).filter((o) => o.kind === 'field').map((o) => ({ name: o.text, what: o.detail }))),
      () => (this.#asked = false),
    )
  }
}

export const fields = new Fields()
