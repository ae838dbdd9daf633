// Where the nodes and ribbons of the VTEP–VNI–VTEP diagram lie. The order is by name, so that it stays when figures change.
import { sankey, sankeyLinkHorizontal, type SankeyLink, type SankeyNode } from 'd3-sankey'
import type { Link } from '../api'
import { m } from '../messages'

interface NodeData { id: string; column: 0 | 1 | 2; name: string; tenant: string }
interface RibbonData { link: Link; value: number }

export type Node = SankeyNode<NodeData, RibbonData>
export type Ribbon = SankeyLink<NodeData, RibbonData>

const natural = new Intl.Collator('en', { numeric: true })

/** segmentName writes "vxlan:5001" as operators say it. */
export function segmentName(segment: string): string {
  const vni = /^vxlan:(\d+)$/.exec(segment)
  return vni ? 'VNI ' + vni[1] : segment || m.notKnown
}

const MOST = 12 // VTEPs drawn in a column; the rest is one node

/** folded joins the VTEPs beyond the greatest ones: a picture of thirty thin lines says nothing, the table beside it says all. */
function folded(links: Link[], end: 'src_vtep' | 'dst_vtep'): Link[] {
  const sums = new Map<string, number>()
  for (const l of links) sums.set(l[end], (sums.get(l[end]) ?? 0) + l.octets)
  if (sums.size <= MOST + 1) return links
  const kept = new Set([...sums].sort((a, b) => b[1] - a[1]).slice(0, MOST).map(([name]) => name))
  const rest = m.others(sums.size - MOST)
  return links.map((l) => (kept.has(l[end]) ? l : { ...l, [end]: rest }))
}

/** joined sums links that have become the same. */
function joined(links: Link[]): Link[] {
  const all = new Map<string, Link>()
  for (const l of links) {
    const key = [l.src_vtep, l.segment, l.dst_vtep].join('|')
    const same = all.get(key)
    all.set(key, same ? { ...same, octets: same.octets + l.octets, packets: same.packets + l.packets } : l)
  }
  return [...all.values()]
}

/** last sorts what is no VTEP under those that are. */
const last = (name: string) => (/^\d+\.\d+\.|:/.test(name) ? 0 : 1)

/** layout places the links into a box; each link becomes two ribbons. */
export function layout(links: Link[], width: number, height: number): { nodes: Node[]; ribbons: Ribbon[] } {
  const nodes = new Map<string, NodeData>()
  const node = (column: 0 | 1 | 2, name: string, tenant = ''): string => {
    const id = column + ' ' + name
    if (!nodes.has(id)) nodes.set(id, { id, column, name, tenant })
    return id
  }
  const ribbons = joined(folded(folded(links.filter((l) => l.octets > 0), 'src_vtep'), 'dst_vtep')).flatMap((link) => {
    const segment = node(1, link.segment, link.tenant)
    return [
      { source: node(0, link.src_vtep), target: segment, value: link.octets, link },
      { source: segment, target: node(2, link.dst_vtep), value: link.octets, link },
    ]
  })
  if (ribbons.length === 0) return { nodes: [], ribbons: [] }
  const most = Math.max(...[0, 1, 2].map((c) => [...nodes.values()].filter((n) => n.column === c).length))
  const graph = sankey<NodeData, RibbonData>()
    .nodeId((n) => n.id)
    .nodeAlign((n) => n.column)
    .nodeWidth(9)
    .nodePadding(Math.max(3, Math.min(14, (height * 0.45) / most)))
    .nodeSort((a, b) => last(a.name) - last(b.name) || natural.compare(a.name, b.name))
    .extent([[1, 4], [width - 1, height - 4]])
  const out = graph({ nodes: [...nodes.values()], links: ribbons })
  return { nodes: out.nodes, ribbons: out.links }
}

export const ribbonPath = sankeyLinkHorizontal<NodeData, RibbonData>()
