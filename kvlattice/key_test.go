package kvlattice_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/cloudburst-nats/cloudburst/kvlattice"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// legalKey is what a NATS key-value store takes, without empty tokens and
// without a token that is "=" alone.
var legalKey = regexp.MustCompile(`^(=[0-9A-F]{2}|[A-Za-z0-9_/-])+(\.(=[0-9A-F]{2}|[A-Za-z0-9_/-])+)*$`)

func TestEscapeKey(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"a":              "a",
		"cart.42/x-y_Z":  "cart.42/x-y_Z",
		".":              "=2E",
		"..":             "=2E=2E",
		"a.":             "a=2E",
		".a":             "=2Ea",
		"a..b":           "a.=2Eb",
		"a...b":          "a.=2E=2Eb",
		"a b":            "a=20b",
		"=":              "=3D",
		"a.=.b":          "a.=3D.b",
		"a=20b":          "a=3D20b",
		"*.>":            "=2A.=3E",
		"é":              "=C3=A9",
		"\x00\xff\r\n":   "=00=FF=0D=0A",
		"user@host:8080": "user=40host=3A8080",
	} {
		got, err := kvlattice.EscapeKey(key)
		if err != nil || got != want {
			t.Errorf("EscapeKey(%q) = %q, %v, want %q", key, got, err, want)
		}
		if back, err := kvlattice.UnescapeKey(got); err != nil || back != key {
			t.Errorf("UnescapeKey(%q) = %q, %v, want %q", got, back, err, key)
		}
	}
}

func TestEscapeKeyRefuses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		key  string
		want wire.Kind
	}{
		"empty":          {"", wire.KindBadName},
		"513 bytes":      {strings.Repeat("a", 513), wire.KindTooLarge},
		"171 odd bytes":  {strings.Repeat(" ", 171), wire.KindTooLarge},
		"512 bytes":      {strings.Repeat("a", 512), 0},
		"170 odd bytes":  {strings.Repeat(" ", 170), 0},
		"long and a dot": {strings.Repeat("a", 510) + ".", wire.KindTooLarge},
	} {
		if _, err := kvlattice.EscapeKey(tt.key); wire.KindOf(err) != tt.want {
			t.Errorf("%s: got %v, want kind %q", name, err, tt.want)
		}
	}
}

func TestUnescapeKeyRefuses(t *testing.T) {
	t.Parallel()
	for _, stored := range []string{
		"", "=", "a=", "a=2", "a=2e", "a=GG", "a=41", "a b", ".a", "a.", "a..b", "a.=.b", "é", "a=2Eb", strings.Repeat("a", 513),
	} {
		if key, err := kvlattice.UnescapeKey(stored); wire.KindOf(err) != wire.KindBadName {
			t.Errorf("UnescapeKey(%q) = %q, %v, want an error of %q", stored, key, err, wire.KindBadName)
		}
	}
}

func TestSlotKey(t *testing.T) {
	t.Parallel()
	escaped, err := kvlattice.EscapeKey("a.=.b")
	if err != nil {
		t.Fatal(err)
	}
	stored := kvlattice.SlotKey(escaped, "w1")
	if want := "a.=3D.b.=.w1"; stored != want {
		t.Errorf("slot is stored at %q, want %q", stored, want)
	}
	if key, writer := kvlattice.SplitSlot(stored); key != escaped || writer != "w1" {
		t.Errorf("SplitSlot(%q) = %q, %q", stored, key, writer)
	}
	if key, writer := kvlattice.SplitSlot(escaped); key != escaped || writer != "" {
		t.Errorf("SplitSlot(%q) = %q, %q, want a base", escaped, key, writer)
	}
}

func FuzzKey(f *testing.F) {
	for _, seed := range []string{"a", "a..b", "=.=", "é ", "a=3D.=2E", ".\x00."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if escaped, err := kvlattice.EscapeKey(s); err == nil {
			if !legalKey.MatchString(escaped) || len(escaped) > kvlattice.MaxKey {
				t.Errorf("EscapeKey(%q) = %q, which isn't legal", s, escaped)
			}
			if back, err := kvlattice.UnescapeKey(escaped); err != nil || back != s {
				t.Errorf("%q came back from %q as %q, %v", s, escaped, back, err)
			}
			if key, writer := kvlattice.SplitSlot(kvlattice.SlotKey(escaped, "w")); key != escaped || writer != "w" {
				t.Errorf("the slot of %q splits into %q and %q", escaped, key, writer)
			}
		}
		if key, err := kvlattice.UnescapeKey(s); err == nil {
			if again, err := kvlattice.EscapeKey(key); err != nil || again != s {
				t.Errorf("%q unescapes to %q, which is stored as %q, %v", s, key, again, err)
			}
		}
	})
}
