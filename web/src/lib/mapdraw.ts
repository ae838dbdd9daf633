// How the server's layout of a map is drawn: boxes where it says, edges between them.
import type { DependencyMap, MapEdge, MapNode } from '../api'

/** Half the size of a box. */
export const half = { x: 90, y: 22 }

/** CAPTION is the room that the server leaves for a caption, which the page writes itself. */
export const CAPTION = 46

export interface Drawn { edge: MapEdge; a: MapNode; b: MapNode; path: string; width: number }

/** edgePath leads from client to server: from the right to the left side, bent around boxes that stand between; around
 * everything when it goes back; a loop when it stays. */
export function edgePath(a: MapNode, b: MapNode, all: MapNode[] = []): string {
  const [x1, x2] = [a.x + half.x, b.x - half.x]
  if (a.id === b.id) return `M${x1} ${a.y - 8}c38 -26 38 42 6 18`
  if (x1 > x2) {
    const up = a.y >= b.y ? -1 : 1
    const y = (up < 0 ? Math.min(a.y, b.y) : Math.max(a.y, b.y)) + up * (half.y + 16)
    return `M${a.x} ${a.y + up * half.y}C${a.x} ${y} ${b.x} ${y} ${b.x} ${b.y + up * (half.y + 7)}`
  }
  const reach = x2 - TIP - x1
  const between = all.filter((n) => n.x - half.x > x1 && n.x + half.x < x2)
  const bend = between.length ? reach / 3 : Math.max(40, reach / 2)
  const off = BENDS.find((c) => !between.some((n) => meets(n, x1, a.y, x1 + reach, b.y, bend, c))) ?? 0
  return `M${x1} ${a.y}C${x1 + bend} ${a.y + off} ${x2 - bend} ${b.y + off} ${x2 - TIP} ${b.y}`
}

const TIP = 7 // room for the arrow
const BENDS = [0, -46, 46, -90, 90, -134, 134, -178, 178]

/** meets says whether a curve goes through a box. */
function meets(n: MapNode, x1: number, y1: number, x2: number, y2: number, bend: number, off: number): boolean {
  const at = (t: number, p: [number, number, number, number]) => (1 - t) ** 3 * p[0] + 3 * (1 - t) ** 2 * t * p[1] + 3 * (1 - t) * t * t * p[2] + t ** 3 * p[3]
  for (let t = 0.04; t < 1; t += 0.04) {
    const x = at(t, [x1, x1 + bend, x2 - bend, x2])
    const y = at(t, [y1, y1 + off, y2 + off, y2])
    if (Math.abs(x - n.x) < half.x && Math.abs(y - n.y) < half.y + 2) return true
  }
  return false
}

/** thickness grows with the logarithm of the bytes: a thin edge is still an edge. */
export function thickness(e: MapEdge): number {
  return 1 + Math.log10(e.octets + e.octets_before + 1) / 2.2
}

/** drawn gives the edges with the greatest on top. */
export function drawn(map: DependencyMap): Drawn[] {
  const nodes = new Map((map.nodes ?? []).map((n) => [n.id, n]))
  return [...(map.edges ?? [])].reverse().flatMap((edge) => {
    const [a, b] = [nodes.get(edge.src), nodes.get(edge.dst)]
    return a && b ? [{ edge, a, b, width: thickness(edge), path: edgePath(a, b, map.nodes ?? []) }] : []
  })
}

/** tenantOf is the part of a node's group that has the colour: the tenant where it is grouped by one, else the first. */
export function tenantOf(n: MapNode, by: string[]): string {
  const i = Math.max(0, by.indexOf('tenant'))
  const name = n.group?.[i] ?? ''
  return n.kind === 'outside' || name === '~' ? '' : name
}
