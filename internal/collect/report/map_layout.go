package report

import (
	"cmp"
	"slices"
)

// Measures of the picture, pixels.
const (
	boxWidth, boxHeight = 180, 44
	gapX, gapY          = 110, 22
	margin              = 30
	captionHeight       = 40
)

// layout puts the nodes into layers, clients left of servers, and orders each layer so that few edges cross. The same graph
// always gets the same picture.
func layout(m *Map) {
	index := map[string]int{}
	for i := range m.Nodes {
		index[m.Nodes[i].ID] = i
	}
	g := graph{out: make([][]int, len(m.Nodes)), in: make([][]int, len(m.Nodes))}
	for i := range m.Edges { // the greatest first: of a cycle the least edge goes backwards
		g.add(index[m.Edges[i].Src], index[m.Edges[i].Dst])
	}
	layers := g.layers()
	g.order(layers)
	tallest := 0
	for _, l := range layers {
		tallest = max(tallest, len(l))
	}
	for x, l := range layers {
		top := margin + captionHeight + (tallest-len(l))*(boxHeight+gapY)/2
		for y, n := range l {
			m.Nodes[n].Layer = x
			m.Nodes[n].X, m.Nodes[n].Y = margin+boxWidth/2+x*(boxWidth+gapX), top+boxHeight/2+y*(boxHeight+gapY)
		}
	}
	m.Width = 2*margin + max(1, len(layers))*(boxWidth+gapX) - gapX
	m.Height = 2*margin + captionHeight + max(1, tallest)*(boxHeight+gapY) - gapY
}

// graph has no cycle.
type graph struct{ out, in [][]int }

// add takes an edge unless it closes a cycle or is there.
func (g *graph) add(a, b int) {
	if a == b || slices.Contains(g.out[a], b) || g.reaches(b, a) {
		return
	}
	g.out[a], g.in[b] = append(g.out[a], b), append(g.in[b], a)
}

func (g *graph) reaches(from, to int) bool {
	seen, todo := make([]bool, len(g.out)), []int{from}
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if n == to {
			return true
		}
		if !seen[n] {
			seen[n] = true
			todo = append(todo, g.out[n]...)
		}
	}
	return false
}

// layers gives the nodes by the longest way from a node without clients.
func (g *graph) layers() [][]int {
	depth, left := make([]int, len(g.out)), make([]int, len(g.out))
	var todo []int
	for n := range g.in {
		if left[n] = len(g.in[n]); left[n] == 0 {
			todo = append(todo, n)
		}
	}
	var out [][]int
	for len(todo) > 0 {
		n := todo[0]
		todo = todo[1:]
		for len(out) <= depth[n] {
			out = append(out, nil)
		}
		out[depth[n]] = append(out[depth[n]], n)
		for _, to := range g.out[n] {
			depth[to] = max(depth[to], depth[n]+1)
			if left[to]--; left[to] == 0 {
				todo = append(todo, to)
			}
		}
	}
	for _, l := range out {
		slices.Sort(l) // nodes come in the order of their ids
	}
	return out
}

// sweeps is how often the layers are gone through in each direction.
const sweeps = 8

// order sorts each layer by the mean place of its neighbours, to and fro.
func (g *graph) order(layers [][]int) {
	place := make([]float64, len(g.out))
	number := func(l []int) {
		for i, n := range l {
			place[n] = (float64(i) + 0.5) / float64(len(l))
		}
	}
	for _, l := range layers {
		number(l)
	}
	sort := func(l []int, near [][]int) {
		mean := map[int]float64{}
		for _, n := range l {
			mean[n] = place[n]
			if len(near[n]) > 0 {
				sum := 0.0
				for _, k := range near[n] {
					sum += place[k]
				}
				mean[n] = sum / float64(len(near[n]))
			}
		}
		slices.SortStableFunc(l, func(a, b int) int { return cmp.Or(cmp.Compare(mean[a], mean[b]), cmp.Compare(a, b)) })
		number(l)
	}
	for range sweeps {
		for _, l := range layers {
			sort(l, g.in)
		}
		for i := len(layers) - 1; i >= 0; i-- {
			sort(layers[i], g.out)
		}
	}
}
