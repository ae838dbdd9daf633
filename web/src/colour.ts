// A tenant's colour: stable by its name on every page and after every reload. It never stands alone: each slot
// comes with a shape and a dash, and the name is always written beside it.

export const SLOTS = 8
export const shapes = ['square', 'circle', 'diamond', 'triangle'] as const
export type Shape = (typeof shapes)[number]

/** A look's round is 0, or how many others of the same picture have its colour already: those are striped. */
export interface Look { slot: number; shape: Shape; dash: number[]; round: number }

const dashes = [[], [6, 3], [2, 3], [9, 3, 2, 3]]

// A tenant that is named after a colour of the palette gets that colour.
const named: Record<string, number> = {
  blue: 0, orange: 1, green: 2, violet: 3, purple: 3, teal: 4, cyan: 4, rose: 5, red: 5, pink: 5, yellow: 6, gold: 6, grey: 7, gray: 7,
}

/** hash is FNV-1a, 32 bits. */
export function hash(s: string): number {
  let h = 0x811c9dc5
  for (const b of new TextEncoder().encode(s)) h = Math.imul(h ^ b, 0x01000193) >>> 0
  return h
}

/** look gives colour slot, shape and dash of a name; "other" and "" are always neutral. */
export function look(name: string): Look {
  const n = name.toLowerCase()
  if (n === '' || n === 'other') return { slot: SLOTS - 1, shape: 'circle', dash: [1, 2], round: 0 }
  const h = hash(n)
  const way = (h >>> 8) % shapes.length
  const word = Object.keys(named).find((w) => new RegExp(`(^|[^a-z])${w}([^a-z]|$)`).test(n))
  return { slot: word ? named[word]! : h % (SLOTS - 1), shape: shapes[way]!, dash: dashes[way]!, round: 0 }
}
