// The time series as a stacked area, drawn by uPlot. This file is loaded when the first chart is shown.
import uPlot from 'uplot'
import 'uplot/dist/uPlot.min.css'
import type { Gap } from '../api'
import { clock, day, rate, type Zone } from '../format'
import { striped } from './stripes'

export interface Band { name: string; colour: string; dash: number[]; round: number; values: number[] }

export interface Picture { times: number[]; bands: Band[]; previous: number[] | null; gaps: Gap[]; unit: string; zone: Zone; from: number; to: number }

export interface Hooks { zoom: (from: number, to: number) => void; point: (index: number | null, left: number, top: number) => void }

/** sums stacks the bands: element i is the top edge of band i. */
export function sums(bands: Band[]): number[][] {
  const out: number[][] = []
  for (const b of bands) {
    const below = out.at(-1)
    out.push(b.values.map((v, i) => (v ?? 0) + (below?.[i] ?? 0)))
  }
  return out
}

/** Chart owns one uPlot in an element, and draws another picture into it as long as the bands are the same. */
export class Chart {
  #plot: uPlot | null = null
  #key = ''
  #picture: Picture
  #top = 0
  #resize: ResizeObserver

  constructor(private readonly node: HTMLElement, picture: Picture, private readonly hooks: Hooks) {
    this.#picture = picture
    this.#resize = new ResizeObserver(() => this.#plot?.setSize(this.#size()))
    this.#resize.observe(node)
    this.show(picture)
  }

  show(p: Picture): void {
    this.#picture = p
    // Top edges are drawn from the highest to the lowest, each filled down to zero, so that every band covers the one above it.
    const data = [p.times.map((t) => t / 1000), ...sums(p.bands).reverse(), ...(p.previous ? [p.previous] : [])] as uPlot.AlignedData
    const css = getComputedStyle(this.node)
    const colours = ['--text', '--faint', '--grid', '--panel', '--shade', '--warn'].map((v) => css.getPropertyValue(v))
    const key = JSON.stringify([p.bands.map((b) => [b.name, b.colour, b.round]), p.unit, p.zone, p.previous !== null, colours])
    this.#top = this.#ceiling(Math.max(0, ...(data[1] ?? []).map(Number), ...(p.previous ?? [])))
    if (this.#plot && key === this.#key) {
      this.#plot.batch(() => {
        this.#plot!.setData(data, false)
        this.#plot!.setScale('x', { min: p.from / 1000, max: p.to / 1000 })
        this.#plot!.setScale('y', { min: 0, max: this.#top })
      })
      return
    }
    this.#key = key
    this.#plot?.destroy()
    this.#plot = new uPlot(this.#options(p, colours), data, this.node)
  }

  /** ceiling keeps the axis still while the highest value moves a little. */
  #ceiling(max: number): number {
    if (max <= this.#top && max > this.#top * 0.6) return this.#top
    const size = 10 ** Math.floor(Math.log10(max || 1))
    return ([1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].find((k) => k * size >= max * 1.03) ?? 10) * size
  }

  #size(): { width: number; height: number } {
    return { width: Math.max(200, this.node.clientWidth), height: Math.max(150, this.node.clientHeight) }
  }

  #options(p: Picture, [text, faint, grid, panel, shade, warn]: string[]): uPlot.Options {
    const dash = window.devicePixelRatio
    const axis = { stroke: faint, grid: { stroke: grid, width: 1 }, ticks: { show: false }, font: '11px system-ui, sans-serif' }
    return {
      ...this.#size(),
      padding: [8, 18, 0, 0],
      legend: { show: false },
      tzDate: (s) => (this.#picture.zone === 'utc' ? uPlot.tzDate(new Date(s * 1000), 'UTC') : new Date(s * 1000)),
      cursor: { y: false, points: { show: false }, drag: { x: true, y: false, setScale: false } },
      scales: { x: { time: true, range: () => [this.#picture.from / 1000, this.#picture.to / 1000] }, y: { range: () => [0, this.#top || 1] } },
      axes: [
        { ...axis, size: 36, space: 70, values: (_u, splits, _i, _s, increment) => splits.map((s, i) => this.#label(s * 1000, increment, i)) },
        { ...axis, size: 64, values: (_u, splits) => splits.map((v) => rate(v, p.unit)) },
      ],
      series: [{}, ...[...p.bands].reverse().map((b) => ({ label: b.name, stroke: b.colour, width: 1.2, dash: b.dash.map((d) => d * dash), fill: b.round ? () => striped(mix(b.colour, panel!), panel!, b.round) : mix(b.colour, panel!), points: { show: false } })),
        ...(p.previous ? [{ label: 'before', stroke: text, width: 1.4, dash: [6 * dash, 4 * dash], points: { show: false } }] : [])],
      hooks: {
        setSelect: [(u) => this.#zoomed(u)],
        setCursor: [(u) => this.hooks.point(u.cursor.idx ?? null, u.cursor.left ?? 0, u.cursor.top ?? 0)],
        draw: [(u) => this.#shadeGaps(u, shade!, warn!), (u) => this.#nameBands(u, text!, panel!)],
      },
    }
  }

  #label(ms: number, increment: number, index: number): string {
    const { zone } = this.#picture
    if (increment >= 86400) return day(ms, zone).slice(0, -5)
    const at = clock(ms, zone, increment < 60)
    return index === 0 || at.startsWith('00:00') ? `${at}\n${day(ms, zone)}` : at
  }

  #zoomed(u: uPlot): void {
    const { left, width } = u.select
    if (width < 4) return
    const [from, to] = [u.posToVal(left, 'x') * 1000, u.posToVal(left + width, 'x') * 1000]
    u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false)
    if (to - from >= 1000) this.hooks.zoom(from, to)
  }

  /** shadeGaps hatches the stretches in which records may be missing. */
  #shadeGaps(u: uPlot, shade: string, edge: string): void {
    const { ctx, bbox } = u
    const x = (iso: string) => Math.max(bbox.left, Math.min(bbox.left + bbox.width, u.valToPos(Date.parse(iso) / 1000, 'x', true)))
    for (const g of this.#picture.gaps) {
      const [a, b] = [x(g.from), x(g.to)]
      ctx.save()
      ctx.beginPath()
      ctx.rect(a, bbox.top, Math.max(2, b - a), bbox.height)
      ctx.clip()
      ctx.fillStyle = shade
      ctx.fill()
      ctx.beginPath()
      for (let at = a - bbox.height; at < b; at += 7 * devicePixelRatio) {
        ctx.moveTo(at, bbox.top + bbox.height)
        ctx.lineTo(at + bbox.height, bbox.top)
      }
      ctx.globalAlpha = 0.55
      ctx.lineWidth = devicePixelRatio
      ctx.strokeStyle = edge
      ctx.stroke()
      ctx.restore()
    }
  }

  /** nameBands writes each band's name where it is thickest, if it fits: colour is not the only key. */
  #nameBands(u: uPlot, text: string, halo: string): void {
    const { ctx } = u
    const { bands, times } = this.#picture
    const tops = sums(bands)
    ctx.save()
    ctx.font = `600 ${11 * devicePixelRatio}px system-ui, sans-serif`
    ctx.textAlign = 'center'
    ctx.textBaseline = 'middle'
    ctx.lineJoin = 'round'
    ctx.strokeStyle = halo
    ctx.lineWidth = 3 * devicePixelRatio
    bands.forEach((b, i) => {
      const half = ctx.measureText(b.name).width / 2
      let best = -1
      let most = 15 * devicePixelRatio
      for (let k = 1; k < times.length - 1; k++) {
        const x = u.valToPos(times[k]! / 1000, 'x', true)
        if (x - half < u.bbox.left + 4 || x + half > u.bbox.left + u.bbox.width - 4) continue
        const thick = u.valToPos(tops[i]![k]! - b.values[k]!, 'y', true) - u.valToPos(tops[i]![k]!, 'y', true)
        if (thick > most) [best, most] = [k, thick]
      }
      if (best < 0) return
      const x = u.valToPos(times[best]! / 1000, 'x', true)
      const y = u.valToPos(tops[i]![best]! - b.values[best]! / 2, 'y', true)
      ctx.globalAlpha = 0.75
      ctx.strokeText(b.name, x, y)
      ctx.globalAlpha = 1
      ctx.fillStyle = text
      ctx.fillText(b.name, x, y)
    })
    ctx.restore()
  }

  destroy(): void {
    this.#resize.disconnect()
    this.#plot?.destroy()
  }
}

/** mix lays a colour at two thirds over the background, opaque: bands must cover what is behind them. */
function mix(colour: string, background: string): string {
  const rgb = (c: string) => [1, 3, 5].map((i) => parseInt(c.trim().replace(/^#(.)(.)(.)$/, '#$1$1$2$2$3$3').slice(i, i + 2), 16))
  const [a, b] = [rgb(colour), rgb(background)]
  return `rgb(${a.map((v, i) => Math.round(v * 0.64 + b[i]! * 0.36)).join(' ')})`
}
