package model

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"testing"
)

// hiddenStates reads hidden.0, hidden.1, ... from an expected file, in float64 or float32.
func hiddenStates(t *testing.T, file []byte) (states [][]float64) {
	t.Helper()
	n := binary.LittleEndian.Uint64(file)
	var header map[string]json.RawMessage
	if err := json.Unmarshal(file[8:8+n], &header); err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		raw, ok := header[fmt.Sprintf("hidden.%d", i)]
		if !ok {
			break
		}
		var e struct {
			Dtype   string
			Offsets [2]int `json:"data_offsets"`
		}
		if err := json.Unmarshal(raw, &e); err != nil {
			t.Fatal(err)
		}
		data := file[8+int(n):][e.Offsets[0]:e.Offsets[1]]
		var v []float64
		switch e.Dtype {
		case "F32":
			for ; len(data) > 0; data = data[4:] {
				v = append(v, float64(math.Float32frombits(binary.LittleEndian.Uint32(data))))
			}
		case "F64":
			for ; len(data) > 0; data = data[8:] {
				v = append(v, math.Float64frombits(binary.LittleEndian.Uint64(data)))
			}
		default:
			t.Fatalf("hidden.%d is %s", i, e.Dtype)
		}
		states = append(states, v)
	}
	if len(states) == 0 {
		t.Fatal("no hidden states in the file")
	}
	return states
}
