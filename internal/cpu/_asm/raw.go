package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
)

// Go's assembler has no instructions for tiles (Intel's AMX). They are written as their bytes, once registers are given:
// until then they stand in the text under Intel's names, tile registers as numbers.

func tileConfig(m Mem)        { raw("LDTILECFG", m) }
func tileRelease()            { raw("TILERELEASE") }
func tileZero(t int)          { raw("TILEZERO", U8(t)) }
func tileLoad(t int, m Mem)   { raw("TILELOADD", m, U8(t)) }
func tileStore(m Mem, t int)  { raw("TILESTORED", m, U8(t)) }
func tileMulBF16(c, a, b int) { raw("TDPBF16PS", U8(b), U8(a), U8(c)) }
func raw(name string, ops ...Op) {
	Instruction(&ir.Instruction{Opcode: name, Operands: ops, Inputs: ops})
}

// tileCode is how an instruction is encoded: VEX, map 0F38, W 0.
type tileCode struct{ prefix, opcode byte }

var tileCodes = map[string]tileCode{
	"LDTILECFG": {0, 0x49}, "TILERELEASE": {0, 0x49}, "TILEZERO": {3, 0x49}, "TILELOADD": {3, 0x4B}, "TILESTORED": {2, 0x4B}, "TDPBF16PS": {2, 0x5C},
}

var (
	tileLine  = regexp.MustCompile(`^\t(LDTILECFG|TILERELEASE|TILEZERO|TILELOADD|TILESTORED|TDPBF16PS)( .*)?$`)
	memoryArg = regexp.MustCompile(`^(-?\d+)?\((\w+)\)(?:\((\w+)\*(\d)\))?$`)
)

// encodeRaw turns the named instructions of an assembly file into bytes.
func encodeRaw(name string) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	lines := strings.Split(string(b), "\n")
	for i, line := range lines {
		m := tileLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		code, err := encodeTile(m[1], strings.Split(strings.TrimSpace(m[2]), ", "))
		if err != nil {
			return fmt.Errorf("%s:%d: %w", name, i+1, err)
		}
		var text []string
		for _, c := range code {
			text = append(text, fmt.Sprintf("BYTE $0x%02x", c))
		}
		lines[i] = "\t" + strings.Join(text, "; ") + " // " + strings.Join(strings.Fields(line), " ")
	}
	return os.WriteFile(name, []byte(strings.Join(lines, "\n")), 0o644)
}

func encodeTile(name string, args []string) ([]byte, error) {
	c := tileCodes[name]
	var tiles []byte
	memory := ""
	for _, a := range args {
		if n, ok := strings.CutPrefix(a, "$"); ok {
			t, err := strconv.ParseUint(n, 0, 3)
			if err != nil {
				return nil, err
			}
			tiles = append(tiles, byte(t))
		} else {
			memory = a
		}
	}
	vex := func(notX, notB, v byte) []byte {
		return []byte{0xC4, 0x80 | notX<<6 | notB<<5 | 2, (^v&15)<<3 | c.prefix, c.opcode}
	}
	switch name {
	case "TILERELEASE":
		return append(vex(1, 1, 0), 0xC0), nil
	case "TILEZERO":
		return append(vex(1, 1, 0), 0xC0|tiles[0]<<3), nil
	case "TDPBF16PS": // b, a, c
		return append(vex(1, 1, tiles[0]), 0xC0|tiles[2]<<3|tiles[1]), nil
	}
	m := memoryArg.FindStringSubmatch(memory)
	if m == nil {
		return nil, fmt.Errorf("%s: cannot read %q", name, memory)
	}
	var reg byte
	if len(tiles) > 0 {
		reg = tiles[0]
	}
	base, ok := registerNumbers[m[2]]
	index, ok2 := byte(4), true // none
	if m[3] != "" {
		index, ok2 = registerNumbers[m[3]]
	}
	if !ok || !ok2 || m[3] != "" && index == 4 || m[4] != "" && m[4] != "1" {
		return nil, fmt.Errorf("%s: cannot address %q", name, memory)
	}
	disp := 0
	if m[1] != "" {
		disp, _ = strconv.Atoi(m[1])
	}
	if disp != int(int8(disp)) {
		return nil, fmt.Errorf("%s: %d is too far", name, disp)
	}
	// mod 1 (a byte's displacement), always by a second byte of base and index
	return append(vex(1-index>>3, 1-base>>3, 0), 1<<6|reg<<3|4, (index&7)<<3|base&7, byte(disp)), nil
}

var registerNumbers = map[string]byte{
	"AX": 0, "CX": 1, "DX": 2, "BX": 3, "SP": 4, "BP": 5, "SI": 6, "DI": 7,
	"R8": 8, "R9": 9, "R10": 10, "R11": 11, "R12": 12, "R13": 13, "R14": 14, "R15": 15,
}
