// Where things of the topology stand in its picture: a box for each host with boxes for its switches, a line for each port, and the
// tunnels as lines between the hosts' endpoints. Coordinates are pixels; nothing here touches the page.
import type { Topology, TopologyArc, TopologyHost, TopologyPort } from '../api'

export interface SwitchBox { name: string; kind: string; ports: { port: TopologyPort; y: number }[]; y: number; height: number }
export interface HostBox { id: string; host: TopologyHost; ports: TopologyPort[]; switches: SwitchBox[]; folded: boolean; x: number; y: number; width: number; height: number; row: number }
export interface ArcLine { arc: TopologyArc; path: string; width: number; a: HostBox; b: HostBox }
export interface Drawing { width: number; height: number; hosts: HostBox[]; arcs: ArcLine[]; hiddenArcs: number; hiddenHosts: number }

export const BOX = 268
const GAP = 22 // between boxes of a row: tunnels to other rows pass here
const LANE = 74 // above each row: its tunnels
const HEAD = 44 // name and endpoint of a host
export const LINE = 21 // a port
export const SWITCH = 22 // name of a switch
const ARCS = 40
/** More ports than this fold hosts that nobody opened. */
export const FOLD = 120

/** hostId names a host within all platforms. */
export const hostId = (h: { host?: string; name?: string; platform: string }) => (h.platform ? h.platform + '/' : '') + (h.host ?? h.name ?? '')

/** HOSTS is how many hosts a picture has room for. */
export const HOSTS = 200

/** byHost gives the ports of each host. */
export function byHost(rows: TopologyPort[]): Map<string, TopologyPort[]> {
  const out = new Map<string, TopologyPort[]>()
  for (const p of rows) {
    const key = hostId(p)
    const list = out.get(key)
    if (list) list.push(p)
    else out.set(key, [p])
  }
  return out
}

/** narrowed keeps the hosts that have a text in their name, and those with ports that have it: of these only such ports. */
export function narrowed(doc: Topology, text: string): Topology {
  const q = text.trim().toLowerCase()
  if (q === '') return doc
  const has = (...list: (string | null)[]) => list.some((x) => x?.toLowerCase().includes(q))
  const named = new Set((doc.hosts ?? []).filter((h) => has(h.name, h.platform, ...(h.vteps ?? []))).map(hostId))
  const rows = (doc.rows ?? []).filter((p) => named.has(hostId(p)) || has(p.vm, p.vm_id, p.switch, p.group, p.port, p.tenant, p.segment, p.mac, ...(p.addrs ?? []), ...(p.taps ?? [])))
  const kept = new Set([...named, ...rows.map(hostId)])
  return { ...doc, hosts: (doc.hosts ?? []).filter((h) => kept.has(hostId(h))), rows }
}

const natural = new Intl.Collator('en', { numeric: true })

/** inOrder sorts hosts and ports as people count: h2 before h10. */
export function inOrder(doc: Topology): Topology {
  const at = (p: TopologyPort) => [p.host, p.switch, p.port, p.vm]
  const rows = (doc.rows ?? []).map((p) => ({ p, key: at(p) }))
  rows.sort((a, b) => a.key.reduce((r, k, i) => r || (k === b.key[i] ? 0 : natural.compare(k, b.key[i]!)), 0))
  return { ...doc, hosts: (doc.hosts ?? []).toSorted((a, b) => natural.compare(a.platform, b.platform) || natural.compare(a.name, b.name)), rows: rows.map((r) => r.p) }
}

/** layout draws what is known into a width. open are the hosts that are shown with their ports although there are many. */
export function layout(doc: Topology, width: number, open: string[]): Drawing {
  const rows = doc.rows ?? []
  const many = rows.length > FOLD
  const own = byHost(rows)
  const boxes = (doc.hosts ?? []).slice(0, HOSTS).map((host) => boxOf(host, own.get(hostId(host)) ?? [], many && !open.includes(hostId(host))))
  const columns = Math.max(1, Math.min(boxes.length, Math.floor((width + GAP) / (BOX + GAP))))
  const used = columns * (BOX + GAP) - GAP
  const lane = doc.arcs?.length ? LANE : 14 // room for tunnels, where there are any
  let y = 0
  for (let i = 0; i < boxes.length; i += columns) {
    const line = boxes.slice(i, i + columns)
    y += lane
    line.forEach((b, k) => Object.assign(b, { x: k * (BOX + GAP), y, row: i / columns }))
    y += Math.max(...line.map((b) => b.height))
  }
  const arcs = lines(doc.arcs ?? [], boxes)
  const beside = columns === 1 && arcs.length ? GAP : 0 // tunnels between boxes of one column pass beside it
  return { width: Math.max(used + beside, 1), height: y + 4, hosts: boxes, arcs: arcs.slice(0, ARCS), hiddenArcs: Math.max(0, arcs.length - ARCS), hiddenHosts: Math.max(0, (doc.hosts?.length ?? 0) - HOSTS) }
}

function boxOf(host: TopologyHost, ports: TopologyPort[], folded: boolean): HostBox {
  const names = [...new Set(ports.map((p) => p.switch))].sort()
  let y = HEAD
  const switches = names.map((name) => {
    const own = ports.filter((p) => p.switch === name)
    const top = y
    let at = y + SWITCH
    const list = folded ? [] : own.map((port) => ({ port, y: (at += LINE) - LINE }))
    y = top + SWITCH + Math.max(1, list.length) * LINE + 8
    return { name, kind: own[0]?.switch_kind ?? '', ports: list, y: top, height: y - top - 8 }
  })
  return { id: hostId(host), host, ports, switches, folded, x: 0, y: 0, width: BOX, height: y + 4, row: 0 }
}

/** lines draws tunnels between boxes; those whose ends are not hosts that are drawn stay in the table. */
function lines(arcs: TopologyArc[], boxes: HostBox[]): ArcLine[] {
  const owner = new Map<string, HostBox>()
  for (const b of boxes) for (const v of b.host.vteps ?? []) if (!owner.has(v)) owner.set(v, b)
  const most = Math.max(1, ...arcs.map((a) => a.octets))
  return arcs.flatMap((arc, i) => {
    const [a, b] = [owner.get(arc.a_vtep), owner.get(arc.b_vtep)]
    return a && b && a !== b ? [{ arc, a, b, path: route(a, b, i), width: 1.5 + 5.5 * (arc.octets / most) ** 2 }] : []
  })
}

const pin = (b: HostBox) => b.x + b.width / 2

/** route leads from the top of one box to the top of another: an arc above their row, or through the gap beside the columns. */
export function route(a: HostBox, b: HostBox, nth: number): string {
  const [p, q] = a.row < b.row || (a.row === b.row && a.x <= b.x) ? [a, b] : [b, a]
  if (p.row === q.row) {
    const rise = Math.min(LANE - 8, 22 + Math.abs(pin(q) - pin(p)) * 0.09)
    return `M${pin(p)} ${p.y}C${pin(p)} ${p.y - rise * 1.3} ${pin(q)} ${q.y - rise * 1.3} ${pin(q)} ${q.y}`
  }
  const shift = (nth % 5) * 3 - 6 // lines of one gap stand side by side
  const gutter = q.x + (pin(p) <= q.x + q.width / 2 && q.x > 0 ? -GAP / 2 : q.width + GAP / 2) + shift
  const [above, below] = [p.y - 16 - (nth % 4) * 5, q.y - 20 - (nth % 4) * 5]
  return `M${pin(p)} ${p.y}C${pin(p)} ${above} ${pin(p)} ${above} ${(pin(p) + gutter) / 2} ${above}S${gutter} ${above} ${gutter} ${above + 24}V${below - 12}C${gutter} ${below} ${pin(q)} ${below - 8} ${pin(q)} ${q.y}`
}
