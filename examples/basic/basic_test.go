package basic

import (
	"encoding/json"
	"testing"
)

func TestSum(t *testing.T) {
	for text, want := range map[string]float64{
		"5": 5, "[]": 0, "[1, 2.5]": 3.5, "[[1, 2], 3, [[4]]]": 10, " [ [ ] , 1 ] ": 1, "null": 0,
	} {
		var n numbers
		if err := json.Unmarshal([]byte(text), &n); err != nil || n.sum != want {
			t.Errorf("sum of %s: got %v, %v; want %v", text, n.sum, err, want)
		}
	}
	for _, text := range []string{`"5"`, `[1, "2"]`, `{"a": 1}`, `[[1], true]`} {
		var n numbers
		if err := json.Unmarshal([]byte(text), &n); err == nil {
			t.Errorf("sum of %s: got %v; want an error", text, n.sum)
		}
	}
}

func TestComposeHoldsTogether(t *testing.T) {
	if err := Compose().Validate(); err != nil {
		t.Error(err)
	}
}
