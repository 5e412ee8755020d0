package console

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is the version of this tree, the newest of CHANGELOG.md. It is written here alone.
const version = "v0.1.0"

// jsonVersion is what this program was built of.
type jsonVersion struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Server   string `json:"nats_server"`
}

func (c *console) version() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  cloudburst version -o json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := built()
			return c.show(v, func() error {
				_, err := fmt.Fprintf(c.Stdout, "cloudburst %s (%s, %s, nats-server %s)\n", v.Version, v.Go, v.Platform, first(v.Server, "unknown"))
				return err
			})
		},
	}
}

func built() jsonVersion {
	v := jsonVersion{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Commit = s.Value
		}
	}
	for _, dep := range info.Deps {
		if dep.Path == "github.com/nats-io/nats-server/v2" {
			v.Server = dep.Version
		}
	}
	return v
}
