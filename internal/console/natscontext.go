package console

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cloudburst-nats/cloudburst/internal/cli"
	"github.com/cloudburst-nats/cloudburst/wire"
)

// A natsContext is what we take from a context of the nats CLI: a file
// context/NAME.json in its configuration directory. The name of the one that is
// selected is in context.txt.
type natsContext struct {
	URL      string `json:"url"`
	Creds    string `json:"creds"`
	Cert     string `json:"cert"`
	Key      string `json:"key"`
	CA       string `json:"ca"`
	User     string `json:"user"`
	Password string `json:"password"`
	Token    string `json:"token"`
}

// beyond are settings of a context that change how one connects and that we
// can't follow: to ignore them would be to connect as somebody else.
func beyond() []string {
	return []string{
		"nkey", "nsc", "user_jwt", "user_seed", "jetstream_domain", "jetstream_api_prefix",
		"inbox_prefix", "socks_proxy", "tls_first", "windows_cert_store",
	}
}

func loadContext(dir, name, home string) (natsContext, error) {
	fail := func(kind wire.Kind, msg string, err error) (natsContext, error) {
		return natsContext{}, &wire.Error{Op: "read nats context", Kind: kind, Name: name, Msg: msg, Err: err}
	}
	if name != filepath.Base(name) || name == "." || name == ".." {
		return fail(wire.KindBadName, "not the name of a context", nil)
	}
	data, err := os.ReadFile(filepath.Join(dir, "context", name+".json"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fail(wire.KindUnknown, "no such context"+cli.DidYouMean(cli.Near(name, contexts(dir)))+" (`nats context ls` lists them)", err)
	case err != nil:
		return fail(0, err.Error(), err)
	}
	var n natsContext
	var all map[string]any
	if err := errors.Join(json.Unmarshal(data, &n), json.Unmarshal(data, &all)); err != nil {
		return fail(wire.KindInvalid, "its file isn't the JSON that it should be: "+err.Error(), err)
	}
	for _, field := range slices.Sorted(maps.Keys(all)) {
		if v := all[field]; slices.Contains(beyond(), field) && v != nil && v != "" && v != false {
			return fail(wire.KindInvalid, "sets "+field+", which cloudburst can't follow; use a credentials file, or --nats", nil)
		}
	}
	for _, path := range []*string{&n.Creds, &n.Cert, &n.Key, &n.CA} {
		if rest, ok := strings.CutPrefix(*path, "~"); ok && home != "" {
			*path = home + rest
		}
	}
	return n, nil
}

// selectedContext returns the name of the context that is selected, if any is.
func selectedContext(dir string) (string, error) {
	if dir == "" {
		return "", nil
	}
	data, err := os.ReadFile(filepath.Join(dir, "context.txt"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(data)), err
}

// contexts lists the contexts that there are.
func contexts(dir string) []string {
	entries, err := os.ReadDir(filepath.Join(dir, "context"))
	if err != nil {
		return nil // there are none to list
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".json"); ok {
			names = append(names, name)
		}
	}
	return names
}

func (n natsContext) userinfo() *url.Userinfo {
	switch {
	case n.Token != "":
		return url.User(n.Token)
	case n.User != "" && n.Password != "":
		return url.UserPassword(n.User, n.Password)
	case n.User != "":
		return url.User(n.User) // as the nats CLI does: NATS reads it as a token
	default:
		return nil
	}
}
