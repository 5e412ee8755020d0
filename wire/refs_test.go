package wire

import (
	"testing"
)

func TestResolveEach(t *testing.T) {
	t.Parallel()
	raw := Value{Body: []byte{1, 2, 3}, Type: "application/octet-stream"}
	look := func(r Ref) (Value, error) {
		if r.Key != "k" {
			return Value{}, &Error{Kind: KindUnknown, Name: r.Key}
		}
		return raw, nil
	}
	for _, c := range []struct {
		args string
		want []string
	}{
		{``, nil},
		{`5`, []string{"5"}},
		{`{"$ref":"k"}`, []string{"\x01\x02\x03"}},
		{`[{"$ref":"k"}, 7, {"$ref":"k"}, {"a":1}]`, []string{"\x01\x02\x03", "7", "\x01\x02\x03", `{"a":1}`}},
		{`[]`, []string{}},
	} {
		got, err := ResolveEach(Value{Body: []byte(c.args)}, look)
		if err != nil || len(got) != len(c.want) {
			t.Errorf("ResolveEach(%s) = %v, %v; want %d values", c.args, got, err, len(c.want))
			continue
		}
		for i, v := range got {
			if string(v.Body) != c.want[i] {
				t.Errorf("ResolveEach(%s)[%d] = %q, want %q", c.args, i, v.Body, c.want[i])
			}
			if string(v.Body) == "\x01\x02\x03" && &v.Body[0] != &raw.Body[0] {
				t.Errorf("ResolveEach(%s)[%d] is a copy", c.args, i)
			}
		}
	}
	if got, err := ResolveEach(raw, look); err != nil || len(got) != 1 || got[0].Type != raw.Type {
		t.Errorf("ResolveEach(raw) = %v, %v; want it alone", got, err)
	}
	for _, bad := range []string{`[{"$ref":"nothing"}]`, `{"$ref":"nothing"}`, `[1,`} {
		if _, err := ResolveEach(Value{Body: []byte(bad)}, look); err == nil {
			t.Errorf("ResolveEach(%s) is no error", bad)
		}
	}
}

// Every call is asked for its references.
func TestRefsCostNothingWithoutAny(t *testing.T) {
	args := Value{Body: []byte(`[{"user":"ada","text":"no references here"},17]`)}
	if n := testing.AllocsPerRun(100, func() {
		if refs := Refs(args); refs != nil {
			t.Fatal(refs)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
	if refs := Refs(Value{Body: []byte(`[{"$ref":"a"},{"$ref":"b","ns":"n"},3]`)}); len(refs) != 2 || refs[1].Namespace != "n" {
		t.Errorf("references: %+v, want two", refs)
	}
}
