package console

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// contextHome returns a home with contexts of the nats CLI in it.
func contextHome(t *testing.T, selected string, files map[string]string) string {
	t.Helper()
	home := t.TempDir()
	dir := filepath.Join(home, ".config", "nats", "context")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range files {
		write(filepath.Join(dir, name+".json"), text)
	}
	if selected != "" {
		write(filepath.Join(home, ".config", "nats", "context.txt"), selected)
	}
	return home
}

func TestResolve(t *testing.T) {
	home := contextHome(t, "prod\n", map[string]string{
		// As the nats CLI writes it.
		"prod": `{"description": "", "url": "nats://prod:4222", "socks_proxy": "", "token": "", "user": "", "password": "",
			"creds": "~/prod.creds", "nkey": "", "cert": "/c.pem", "key": "/k.pem", "ca": "/ca.pem", "nsc": "",
			"jetstream_domain": "", "jetstream_api_prefix": "", "jetstream_event_prefix": "", "inbox_prefix": "",
			"user_jwt": "", "color_scheme": "", "tls_first": false}`,
		"user":  `{"url": "one:4222, nats://two:4222", "user": "ann", "password": "p@ss/word"}`,
		"token": `{"url": "tls://three:4222", "token": "t0ken"}`,
		"bare":  `{}`,
	})
	for _, test := range []struct {
		name             string
		env              map[string]string
		flags            connection
		url, creds, cert string
	}{
		{name: "nothing", env: map[string]string{"HOME": t.TempDir()}, url: defaultURL},
		{name: "no home", url: defaultURL},
		{name: "selected", env: map[string]string{"HOME": home}, url: "nats://prod:4222", creds: home + "/prod.creds", cert: "/c.pem"},
		{name: "XDG", env: map[string]string{"HOME": "/nowhere", "XDG_CONFIG_HOME": home + "/.config"}, url: "nats://prod:4222", creds: "/nowhere/prod.creds", cert: "/c.pem"},
		{name: "NATS_URL before selected", env: map[string]string{"HOME": home, "NATS_URL": "localhost"}, url: "nats://localhost"},
		{name: "NATS_CONTEXT before selected", env: map[string]string{"HOME": home, "NATS_CONTEXT": "token"}, url: "tls://t0ken@three:4222"},
		{name: "NATS_URL before NATS_CONTEXT", env: map[string]string{"HOME": home, "NATS_CONTEXT": "token", "NATS_URL": "x"}, url: "nats://x"},
		{name: "context before NATS_URL", env: map[string]string{"HOME": home, "NATS_URL": "x"}, flags: connection{context: "user"}, url: "nats://ann:p%40ss%2Fword@one:4222,nats://ann:p%40ss%2Fword@two:4222"},
		{name: "URL before the rest", env: map[string]string{"HOME": home, "NATS_URL": "x"}, flags: connection{url: "nats://y:1", creds: "mine"}, url: "nats://y:1", creds: "mine"},
		{name: "URL with a context's user", env: map[string]string{"HOME": home}, flags: connection{url: "y,bob:b@z", context: "token"}, url: "nats://t0ken@y,nats://bob:b@z"},
		{name: "flags before the context's", env: map[string]string{"HOME": home}, flags: connection{context: "prod", tlsCert: "mine"}, url: "nats://prod:4222", creds: home + "/prod.creds", cert: "mine"},
		{name: "context without a URL", env: map[string]string{"HOME": home, "NATS_URL": "x"}, flags: connection{context: "bare"}, url: "nats://x"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newTestConsole(test.env)
			c.conn = test.flags
			cfg, err := c.resolve()
			if err != nil || cfg.URL != test.url || cfg.Creds != test.creds || cfg.TLSCert != test.cert {
				t.Errorf("got URL %q, creds %q, cert %q, error %v; want %q, %q, %q", cfg.URL, cfg.Creds, cfg.TLSCert, err, test.url, test.creds, test.cert)
			}
		})
	}
}

func TestResolveRefuses(t *testing.T) {
	home := contextHome(t, "", map[string]string{
		"broken": `{"url": `,
		"nkey":   `{"url": "nats://x", "nkey": "/seed"}`,
		"domain": `{"url": "nats://x", "jetstream_domain": "hub"}`,
		"first":  `{"url": "nats://x", "tls_first": true}`,
		"badurl": `{"url": "nats://ann:secret@"}`,
	})
	for _, test := range []struct {
		context string
		kind    wire.Kind
		want    string
	}{
		{"broken", wire.KindInvalid, "JSON"},
		{"nkey", wire.KindInvalid, "nkey"},
		{"domain", wire.KindInvalid, "jetstream_domain"},
		{"first", wire.KindInvalid, "tls_first"},
		{"nkye", wire.KindUnknown, "did you mean nkey?"},
		{"../secrets", wire.KindBadName, "../secrets"},
		{"badurl", wire.KindBadArgument, "looks like nats://"},
	} {
		c := newTestConsole(map[string]string{"HOME": home})
		c.conn.context = test.context
		_, err := c.resolve()
		if wire.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.want) {
			t.Errorf("context %q: got %v; want kind %v and %q", test.context, err, test.kind, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret@") {
			t.Errorf("context %q: the password shows: %v", test.context, err)
		}
	}
}

func TestSelectedContextThatIsGone(t *testing.T) {
	c := newTestConsole(map[string]string{"HOME": contextHome(t, "gone", nil)})
	if _, err := c.resolve(); wire.KindOf(err) != wire.KindUnknown {
		t.Errorf("got %v; want that the selected context is unknown, not another server", err)
	}
}
