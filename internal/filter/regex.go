package filter

import "crosstap/internal/byteregexp"

// bytesRegex returns a matcher of a regular expression on bytes, of which . matches any one.
func bytesRegex(pattern string) (func(*state, []byte) bool, error) {
	re, err := byteregexp.Compile(pattern, true)
	if err != nil {
		return nil, err
	}
	return func(s *state, b []byte) bool { return re.Match(b, &s.reader) }, nil
}
