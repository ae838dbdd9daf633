// Stripes tell bands that have the same colour from each other.

const SIZE = 8 // CSS pixels from one stripe to the next

/** striped is a colour with stripes of the background, which lean right in the first round, left in the second, and lie after that. */
export function striped(colour: string, background: string, round: number): CanvasPattern | string {
  const size = Math.round(SIZE * (window.devicePixelRatio || 1))
  const tile = Object.assign(document.createElement('canvas'), { width: size, height: size })
  const c = tile.getContext('2d')!
  c.fillStyle = colour
  c.fillRect(0, 0, size, size)
  c.strokeStyle = background
  c.lineWidth = size / 4
  c.beginPath()
  for (const shift of [-size, 0, size]) { // the neighbours' stripes fill the corners
    const [from, to] = round === 1 ? [size, 0] : round === 2 ? [0, size] : [size / 2, size / 2]
    c.moveTo(round > 2 ? 0 : shift, from)
    c.lineTo(round > 2 ? size : shift + size, to)
  }
  c.stroke()
  return c.createPattern(tile, 'repeat') ?? colour
}
