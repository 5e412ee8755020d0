package console

import (
	"context"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker"
	"github.com/cloudburst-nats/cloudburst/wire"
)

const defaultURL = "nats://127.0.0.1:4222"

// connection is where the server is, and who we are, as flags say it.
type connection struct {
	url, context, creds    string
	tlsCA, tlsCert, tlsKey string
}

func (n *connection) addFlags(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.StringVar(&n.url, "nats", "", "URL of the NATS server, or several with commas")
	flags.StringVar(&n.context, "context", "", "name of a context of the nats CLI to connect by")
	flags.StringVar(&n.creds, "creds", "", "credentials file")
	flags.StringVar(&n.tlsCA, "tlsca", "", "PEM file of the authority to trust")
	flags.StringVar(&n.tlsCert, "tlscert", "", "PEM file of the client certificate")
	flags.StringVar(&n.tlsKey, "tlskey", "", "PEM file of its key")
}

// given says whether flags name a server, rather than the environment.
func (n *connection) given() bool { return n.url != "" || n.context != "" }

// resolve says how to connect: flags first, then the named context, then the
// environment, then the context that is selected.
func (c *console) resolve() (broker.Config, error) {
	env, name := c.Getenv("NATS_URL"), c.conn.context
	if name == "" && c.conn.url == "" && env == "" {
		name = c.Getenv("NATS_CONTEXT")
		if name == "" {
			var err error
			if name, err = selectedContext(c.contextDir()); err != nil {
				return broker.Config{}, err
			}
		}
	}
	var from natsContext
	if name != "" {
		var err error
		if from, err = loadContext(c.contextDir(), name, c.Getenv("HOME")); err != nil {
			return broker.Config{}, err
		}
	}
	cfg := broker.Config{
		Name:    "cloudburst cli",
		URL:     first(c.conn.url, from.URL, env, defaultURL),
		Creds:   first(c.conn.creds, from.Creds),
		TLSCA:   first(c.conn.tlsCA, from.CA),
		TLSCert: first(c.conn.tlsCert, from.Cert),
		TLSKey:  first(c.conn.tlsKey, from.Key),
	}
	var err error
	cfg.URL, err = withUser(cfg.URL, from.userinfo())
	return cfg, err
}

// connect returns a client; within bounds each of its requests too.
func (c *console) connect(ctx context.Context, within time.Duration) (*cloudburst.Client, error) {
	cfg, err := c.resolve()
	if err != nil {
		return nil, err
	}
	cfg.Timeout = min(within, 5*time.Second)
	b, err := broker.Connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return cloudburst.NewClient(b, nil), nil
}

// contextDir is where the nats CLI keeps its contexts.
func (c *console) contextDir() string {
	config := c.Getenv("XDG_CONFIG_HOME")
	if config == "" {
		home := c.Getenv("HOME")
		if home == "" {
			return ""
		}
		config = filepath.Join(home, ".config")
	}
	return filepath.Join(config, "nats")
}

// withUser puts a user into every URL that has none.
func withUser(list string, user *url.Userinfo) (string, error) {
	urls := strings.Split(list, ",")
	for i, one := range urls {
		one = strings.TrimSpace(one)
		if !strings.Contains(one, "://") {
			one = "nats://" + one
		}
		u, err := url.Parse(one)
		if err != nil || u.Host == "" {
			// Not shown: it may hold a password.
			return "", &wire.Error{Op: "connect to NATS", Kind: wire.KindBadArgument, Msg: "a server URL can't be read; it looks like " + defaultURL}
		}
		if user != nil && u.User == nil {
			u.User = user
		}
		urls[i] = u.String()
	}
	return strings.Join(urls, ","), nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
