package testgpu

import "strings"

// A scalar type of PTX.
type scalar uint8

const (
	noType scalar = iota
	pred
	b8
	b16
	b32
	b64
	u8
	u16
	u32
	u64
	s8
	s16
	s32
	s64
	f16
	f16x2
	bf16
	bf16x2
	tf32
	f32
	f64
)

var scalarNames = [...]string{noType: "none", pred: "pred", b8: "b8", b16: "b16", b32: "b32", b64: "b64", u8: "u8", u16: "u16", u32: "u32", u64: "u64",
	s8: "s8", s16: "s16", s32: "s32", s64: "s64", f16: "f16", f16x2: "f16x2", bf16: "bf16", bf16x2: "bf16x2", tf32: "tf32", f32: "f32", f64: "f64"}

func (s scalar) String() string { return scalarNames[s] }

func scalarOf(name string) (scalar, bool) {
	for i, n := range scalarNames {
		if n == name && i != 0 {
			return scalar(i), true
		}
	}
	return noType, false
}

// size is the number of bytes; 0 for predicates.
func (s scalar) size() int {
	switch s {
	case b8, u8, s8:
		return 1
	case b16, u16, s16, f16, bf16:
		return 2
	case b32, u32, s32, f32, f16x2, bf16x2, tf32:
		return 4
	case b64, u64, s64, f64:
		return 8
	}
	return 0
}

func (s scalar) signed() bool { return s >= s8 && s <= s64 }
func (s scalar) float() bool  { return s >= f16 }

// A state space.
type space uint8

const (
	generic space = iota
	global
	shared
	local
	param
	constant
)

var spaceNames = [...]string{"generic", "global", "shared", "local", "param", "const"}

func (s space) String() string { return spaceNames[s] }

func spaceOf(name string) (space, bool) {
	for i, n := range spaceNames {
		if n == name && i != 0 {
			return space(i), true
		}
	}
	return generic, false
}

// opcode is an instruction's name taken apart: root and modifiers in order.
type opcode struct {
	text string
	root string
	mods []string
	at   int // modifiers consumed so far
}

func newOpcode(text string) opcode {
	parts := strings.Split(text, ".")
	return opcode{text: text, root: parts[0], mods: parts[1:]}
}

// take consumes the next modifier if it is one of names, and returns it.
func (o *opcode) take(names ...string) string {
	if o.at < len(o.mods) {
		for _, n := range names {
			if o.mods[o.at] == n {
				o.at++
				return n
			}
		}
	}
	return ""
}

// scalar consumes the next modifier if it names a type.
func (o *opcode) scalar() scalar {
	if o.at < len(o.mods) {
		if t, ok := scalarOf(o.mods[o.at]); ok {
			o.at++
			return t
		}
	}
	return noType
}

// space consumes the next modifier if it names a state space.
func (o *opcode) space() space {
	if o.at < len(o.mods) {
		if s, ok := spaceOf(o.mods[o.at]); ok {
			o.at++
			return s
		}
	}
	return generic
}

func (o *opcode) done() bool { return o.at == len(o.mods) }
