package harmony

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// The golden files hold what the library does; these are the rules around it.
func TestSignature(t *testing.T) {
	for _, c := range []struct{ name, schema, want string }{
		{"null", `null`, `() => any`},
		{"no object", `true`, `(_: any) => any`},
		{"a reference to an empty object", `{"$ref":"#/$defs/E","$defs":{"E":{"type":"object"}}}`, `() => any`},
		{"duplicate keys", `{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"null"},"a":{"type":"number"}}}`,
			"(_: {\na?: number,\nb?: any,\n}) => any"},
		{"references in a row", `{"$ref":"#/a","a":{"$ref":"#/b","description":"of a"},"b":{"type":"array","description":"of b"}}`, `(_: Array<any>) => any`},
		{"a reference to itself", `{"$ref":"#/a","a":{"$ref":"#/a","type":"string"}}`, `(_: string) => any`},
		{"a reference to the root", `{"type":"array","items":{"$ref":"#"}}`, `(_: any[]) => any`},
		{"a reference that is no string", `{"$ref":5,"type":"string"}`, `(_: string) => any`},
		{"a percent-encoded reference", `{"$ref":"#/%24defs/A%20B","$defs":{"A B":{"type":"boolean"}}}`, `(_: boolean) => any`},
		{"a reference into a list", `{"$ref":"#/a/1","a":[{},{"type":"boolean"}]}`, `(_: boolean) => any`},
		{"null or null", `{"anyOf":[{"type":"null"},{"type":"null"}]}`, "(_: \n | null\n | null) => any"},
		{"a nested choice with null", `{"type":"array","items":{"anyOf":[{"anyOf":[{"type":"string"},{"type":"number"}]},{"type":"null"}]}}`,
			"(_: \n | string\n | number[]) => any"},
		{"oneOf before anyOf", `{"oneOf":[{"type":"string"}],"anyOf":[{"type":"number"}]}`, "(_: \n | string) => any"},
		{"the outer keys win", `{"type":"object","properties":{"x":{"anyOf":[{"type":"string","description":"in","default":"a"},{"type":"null"}],"description":"out"}}}`,
			"(_: {\n// out\nx?: string | null, // default: \"a\"\n}) => any"},
		{"const with an enum", `{"const":"a","enum":["a","b"],"type":"string"}`, `(_: "a" | "b") => any`},
		{"const of another type", `{"const":"a","type":"number"}`, `(_: number) => any`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := (&Tool{Name: "f", Parameters: json.RawMessage(c.schema)}).signature()
			if err != nil || got != c.want {
				t.Errorf("got  %s, %v\nwant %s", got, err, c.want)
			}
		})
	}
}

func TestNumbersKeepTheirValue(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"0", "0"}, {"-1", "-1"}, {"18446744073709551616", "18446744073709551616"},
		{"123456789012345678901234567890", "123456789012345678901234567890"},
		{"3.0", "3.0"}, {"3.10", "3.1"}, {"1e2", "100.0"}, {"-0.0", "-0.0"},
		{"9999999999999998.0", "9999999999999998.0"}, {"1e16", "1e16"}, {"1.25E+20", "1.25e20"},
		{"0.00001", "0.00001"}, {"0.000001", "1e-6"}, {"-1.5e-07", "-1.5e-7"}, {"5e-324", "5e-324"},
		{"1e999", "1e999"},
	} {
		if got := string(appendNumber(nil, c.in)); got != c.want {
			t.Errorf("%s: got %s, want %s", c.in, got, c.want)
		}
	}
}

func TestParseValueErrors(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{``, "invalid JSON: unexpected EOF"},
		{`{"a":1`, "invalid JSON: unexpected EOF"},
		{`{"a":1} 2`, "invalid JSON: text after the value"},
		{`{"a":nope}`, "invalid JSON: invalid character"},
		{strings.Repeat("[", 300), "nested deeper than 256 levels"},
	} {
		_, err := parseValue([]byte(c.in))
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%.20s: got %v, want %s", c.in, err, c.want)
		}
	}
}

// A short schema may expand without end; each limit has its error.
func TestSchemaLimits(t *testing.T) {
	doubling := `{"$ref":"#/d/0","d":[`
	for i := range 40 {
		doubling += fmt.Sprintf(`{"type":"object","properties":{"a":{"$ref":"#/d/%d"},"b":{"$ref":"#/d/%d"}}},`, i+1, i+1)
	}
	doubling += `{}]}`
	chain := `{"$ref":"#/d/0","d":[`
	for i := range 100 {
		chain += fmt.Sprintf(`{"type":"array","items":{"$ref":"#/d/%d"}},`, i+1)
	}
	chain += `{}]}`
	long := strings.Repeat("x", 200_000)
	for _, c := range []struct{ name, schema, want string }{
		{"doubling", doubling, "the schema has more than 20000 parts after its references are expanded"},
		{"chain", chain, "the schema is nested deeper than 64 levels"},
		{"text", `{"type":"object","properties":{"a":{"$ref":"#/d"},"b":{"$ref":"#/d"},"c":{"$ref":"#/d"},"e":{"$ref":"#/d"},"f":{"$ref":"#/d"},"g":{"$ref":"#/d"}},"d":{"description":"` + long + `"}}`,
			"the schema renders to more than 1 MiB of text"},
	} {
		_, err := (&Tool{Name: "f", Parameters: json.RawMessage(c.schema)}).signature()
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
}

// FuzzSchema renders any JSON as a schema: an error or a text within the limit, the
// same each time, and what the ordered reader prints is JSON of the same value.
func FuzzSchema(f *testing.F) {
	for _, s := range []string{
		`{}`, `true`, `[1e400,-0,"\ud800"]`, `{"$ref":"#/a","a":{"anyOf":[{"$ref":"#/a"},{"type":"null"}]}}`,
		`{"type":"object","properties":{"x":{"oneOf":[{"type":"string","const":"a"}],"nullable":true,"default":{"b":1.5e300}}},"required":["x"]}`,
		`{"type":["string",null],"description":"a\nb","items":{"items":[]}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		tool := Tool{Name: "f", Parameters: data}
		first, err := tool.signature()
		second, again := tool.signature()
		if first != second || (err == nil) != (again == nil) {
			t.Fatalf("two results: %q, %v and %q, %v", first, err, second, again)
		}
		if len(first) > maxSchemaText+100 {
			t.Fatalf("%d bytes of text", len(first))
		}
		v, err := parseValue(data)
		if err != nil {
			return
		}
		if !json.Valid(data) {
			t.Fatalf("parsed what is no JSON: %q", data)
		}
		printed := v.appendJSON(nil)
		w, err := parseValue(printed)
		if err != nil {
			t.Fatalf("%q printed as %q: %v", data, printed, err)
		}
		if again := w.appendJSON(nil); string(again) != string(printed) {
			t.Fatalf("printed as %q, then as %q", printed, again)
		}
	})
}

func TestStringsAreEscapedOnlyWhereNeeded(t *testing.T) {
	const in, want = "\"\\/\b\t\n\f\r\x00\x1f\x7f<&>é\u2028💖", `"\"\\/\b\t\n\f\r\u0000\u001f` + "\x7f<&>é\u2028💖\""
	if got := string(appendString(nil, in)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
