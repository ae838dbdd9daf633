// Pictures of charts as PNG files, drawn by the browser: what is on the screen on its background, a title above it, and below it what
// the figures are. Loaded when the first one is wanted.

import { striped } from './stripes'

export interface Legend { name: string; colour: string; round?: number }

export interface Sheet { title: string; notes: string[]; legend: Legend[] }

const SCALE = 2
const PAD = 14
const LINE = 17

// What a class says must be said by the element itself, for an image knows no style sheet.
const styles = [
  'fill', 'fill-opacity', 'stroke', 'stroke-width', 'stroke-dasharray', 'stroke-opacity', 'stroke-linejoin', 'stroke-linecap', 'opacity', 'color', 'visibility', 'display',
  'font-family', 'font-size', 'font-weight', 'text-anchor', 'paint-order', 'letter-spacing',
]

/** standalone copies a picture so that it looks the same outside of the page. */
export function standalone(svg: SVGSVGElement): { text: string; width: number; height: number } {
  const copy = svg.cloneNode(true) as SVGSVGElement
  const [from, to] = [[svg, ...svg.querySelectorAll('*')], [copy, ...copy.querySelectorAll('*')]]
  from.forEach((node, i) => {
    const style = getComputedStyle(node)
    for (const name of styles) to[i]!.setAttribute(name, style.getPropertyValue(name))
  })
  const box = svg.viewBox.baseVal
  const [width, height] = box && box.width > 0 ? [box.width, box.height] : [svg.clientWidth, svg.clientHeight]
  copy.setAttribute('xmlns', 'http://www.w3.org/2000/svg')
  copy.setAttribute('width', String(width))
  copy.setAttribute('height', String(height))
  copy.removeAttribute('display')
  return { text: new XMLSerializer().serializeToString(copy), width, height }
}

async function imageOf(svg: SVGSVGElement): Promise<{ image: CanvasImageSource; width: number; height: number }> {
  const { text, width, height } = standalone(svg)
  const address = URL.createObjectURL(new Blob([text], { type: 'image/svg+xml' }))
  try {
    const image = new Image()
    image.src = address
    await image.decode()
    return { image, width, height }
  } finally {
    URL.revokeObjectURL(address)
  }
}

/** sheet draws a chart with its title, legend and notes. */
export async function sheet(chart: SVGSVGElement | HTMLCanvasElement, s: Sheet): Promise<HTMLCanvasElement> {
  const css = getComputedStyle(document.documentElement)
  const colour = (name: string) => css.getPropertyValue(name).trim()
  const { image, width, height } = chart instanceof HTMLCanvasElement ? { image: chart as CanvasImageSource, width: chart.clientWidth || chart.width, height: chart.clientHeight || chart.height } : await imageOf(chart)
  const canvas = document.createElement('canvas')
  const most = Math.min(SCALE, 16_000 / Math.max(width, height + 200)) // what a canvas can be
  const rows = wrapped(s.legend, width)
  const total = PAD * 2 + LINE + 8 + height + rows.length * LINE + s.notes.length * LINE + 10
  canvas.width = Math.round((width + 2 * PAD) * most)
  canvas.height = Math.round(total * most)
  const c = canvas.getContext('2d')!
  c.scale(most, most)
  c.fillStyle = colour('--panel')
  c.fillRect(0, 0, width + 2 * PAD, total)
  c.textBaseline = 'middle'
  c.font = '650 14px system-ui, sans-serif'
  c.fillStyle = colour('--text')
  c.fillText(s.title, PAD, PAD + LINE / 2, width)
  c.drawImage(image, PAD, PAD + LINE + 8, width, height)
  let y = PAD + LINE + 8 + height + 6 + LINE / 2
  c.font = '12px system-ui, sans-serif'
  for (const row of rows) {
    let x = PAD
    for (const l of row) {
      c.fillStyle = l.round ? striped(l.colour, colour('--panel'), l.round) : l.colour
      c.fillRect(x, y - 5, 10, 10)
      c.fillStyle = colour('--text')
      c.fillText(l.name, x + 15, y)
      x += labelWidth(l)
    }
    y += LINE
  }
  c.fillStyle = colour('--faint')
  for (const note of s.notes) {
    c.fillText(note, PAD, y, width)
    y += LINE
  }
  return canvas
}

const labelWidth = (l: Legend) => 15 + l.name.length * 7 + 16

function wrapped(legend: Legend[], width: number): Legend[][] {
  const rows: Legend[][] = []
  let room = 0
  for (const l of legend) {
    if (rows.length === 0 || room < labelWidth(l)) {
      rows.push([])
      room = width
    }
    rows.at(-1)!.push(l)
    room -= labelWidth(l)
  }
  return rows
}

/** savePNG hands a chart to the browser as a file. */
export async function savePNG(name: string, chart: SVGSVGElement | HTMLCanvasElement, s: Sheet): Promise<void> {
  const canvas = await sheet(chart, s)
  const blob = await new Promise<Blob | null>((done) => canvas.toBlob(done, 'image/png'))
  if (!blob) throw new Error('no picture')
  const address = URL.createObjectURL(blob)
  Object.assign(document.createElement('a'), { href: address, download: name + '.png' }).click()
  setTimeout(() => URL.revokeObjectURL(address), 1000)
}
