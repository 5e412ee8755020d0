package wire

import (
	"fmt"
	"strconv"
	"strings"
)

var units = map[string]float64{
	"": 1, "b": 1, "k": 1 << 10, "kib": 1 << 10, "m": 1 << 20, "mib": 1 << 20, "g": 1 << 30, "gib": 1 << 30, "t": 1 << 40, "tib": 1 << 40,
	"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
}

// ParseSize reads a number of bytes as people write it: 1048576, 1MiB, 1.5GiB or 1MB.
func ParseSize(text string) (int64, error) {
	number := strings.TrimRight(text, "KMGTiBkmgtb ")
	n, err := strconv.ParseFloat(number, 64)
	factor, known := units[strings.ToLower(strings.TrimSpace(text[len(number):]))]
	if err != nil || !known || !(n*factor >= 1 && n*factor < 1<<62) {
		return 0, &Error{Kind: KindBadArgument, Msg: fmt.Sprintf("not a size: %q; it looks like 1048576, 512MiB or 1.5GiB", text)}
	}
	return int64(n * factor), nil
}
