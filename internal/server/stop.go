package server

// stopMatcher finds the first stop string to be completed in a text that comes in pieces, and holds back what may yet
// become one. It follows each stop string with the automaton of Knuth, Morris and Pratt, so what it finds does not
// depend on how the text was cut, and no text is looked at twice.
type stopMatcher struct {
	stops []stopString
	held  string // text not passed on: a beginning of some stop string
}

type stopString struct {
	text string
	fail []int // length of the longest proper border of text[:i+1]
	at   int   // bytes matched so far
}

func newStopMatcher(stops []string) *stopMatcher {
	m := &stopMatcher{}
	for _, s := range stops {
		m.stops = append(m.stops, stopString{text: s, fail: borders(s)})
	}
	return m
}

// borders is the failure function of the automaton.
func borders(s string) []int {
	f := make([]int, len(s))
	for i, k := 1, 0; i < len(s); i++ {
		for k > 0 && s[i] != s[k] {
			k = f[k-1]
		}
		if s[i] == s[k] {
			k++
		}
		f[i] = k
	}
	return f
}

// push takes the next text and returns what is safe to show. found is the stop string that the text completed, ""
// if none; what comes before it is in the result and nothing more must be pushed. Of two completed by the same
// character the longer one counts.
func (m *stopMatcher) push(text string) (show, found string) {
	if len(m.stops) == 0 {
		return text, ""
	}
	all := m.held + text
	for i := len(m.held); i < len(all); i++ {
		for j := range m.stops {
			if m.stops[j].step(all[i]) && len(m.stops[j].text) > len(found) {
				found = m.stops[j].text
			}
		}
		if found != "" {
			m.held = ""
			return all[:i+1-len(found)], found
		}
	}
	keep := 0
	for j := range m.stops {
		keep = max(keep, m.stops[j].at)
	}
	m.held = all[len(all)-keep:]
	return all[:len(all)-keep], ""
}

// flush returns what is still held when the text has ended.
func (m *stopMatcher) flush() string {
	s := m.held
	m.held = ""
	for j := range m.stops {
		m.stops[j].at = 0
	}
	return s
}

// step reads one byte and reports whether the stop string is complete.
func (s *stopString) step(c byte) bool {
	for s.at > 0 && s.text[s.at] != c {
		s.at = s.fail[s.at-1]
	}
	if s.text[s.at] == c {
		s.at++
	}
	return s.at == len(s.text)
}
