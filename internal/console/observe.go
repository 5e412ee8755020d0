package console

import (
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/cloudburst-nats/cloudburst/internal/cli"
)

// log returns the log that the parts of a server write: to standard error.
func (c *console) log(cmd *cobra.Command, level string) (*logrus.Entry, error) {
	l, err := logrus.ParseLevel(level)
	if err != nil {
		return nil, cli.Usagef(cmd, "--log %s: there are debug, info, warn and error", level)
	}
	log := logrus.New()
	log.SetOutput(c.Stderr)
	log.SetLevel(l)
	log.SetFormatter(&logrus.TextFormatter{DisableColors: c.Getenv("NO_COLOR") != "", FullTimestamp: true})
	return logrus.NewEntry(log), nil
}

// draining tells that the server was asked to end.
func draining(log *logrus.Entry) { log.Info("draining: what is being run ends first") }
