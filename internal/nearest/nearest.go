// Package nearest guesses what a mistyped word was meant to be.
package nearest

import (
	"fmt"
	"strings"
)

// Of returns the word that was probably meant: the one with the smallest edit distance to
// got, if at most a third of its letters differ. "" means that none is near.
func Of(got string, words []string) string {
	if got == "" {
		return ""
	}
	return Within(got, words, 1+max(1, len(got)/3))
}

// Hint returns `did you mean "WORD"?` with the word that was probably meant, or otherwise when none is near.
func Hint(got string, words []string, otherwise string) string {
	if near := Of(got, words); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return otherwise
}

// Behind returns a hint to be put behind a message: `; did you mean "WORD"?`, "" when none is near.
func Behind(got string, words []string) string {
	if hint := Hint(got, words, ""); hint != "" {
		return "; " + hint
	}
	return ""
}

// Within returns the word with the smallest edit distance to got, if that is below limit; the first of several. Capitals count as
// small letters. "" means that there is none.
func Within(got string, words []string, limit int) string {
	best, bestDistance := "", limit
	got = strings.ToLower(got)
	for _, w := range words {
		if d := distance(got, strings.ToLower(w), bestDistance); d < bestDistance {
			best, bestDistance = w, d
		}
	}
	return best
}

// distance is the number of inserted, deleted, changed or swapped bytes between a and b (optimal
// string alignment). Words whose lengths differ by limit or more are not looked at.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	before, row, next := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next[0] = i
		for j := 1; j <= len(b); j++ {
			change := row[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			next[j] = min(change, row[j]+1, next[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row, next = row, next, before
	}
	return row[len(b)]
}
