package broker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// ensureStream creates a stream unless it exists, and puts one right that does.
func (b *Broker) ensureStream(ctx context.Context, want jetstream.StreamConfig) error {
	err := patiently(ctx, func() error {
		for {
			within, cancel := context.WithTimeout(ctx, 2*b.timeout)
			_, err := b.js.CreateStream(within, want)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
				return err
			} // the answer was lost: ask again
		}
	})
	// Where more is reserved than there is, it says so of a stream that exists, too.
	noRoom := isNoStorage(err)
	if !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) && !noRoom {
		return createError(want.Name, err)
	}
	refused := err
	have, err := b.streamConfig(ctx, want.Name)
	if noRoom && errors.Is(err, jetstream.ErrStreamNotFound) {
		return createError(want.Name, refused)
	}
	if err != nil {
		return apiError("read stream", want.Name, err)
	}
	return b.mend(ctx, have, want)
}

func isNoStorage(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == codeNoStorage
}

// createError says what to do where a stream can't be made.
func createError(stream string, err error) error {
	if isNoStorage(err) {
		msg := "the server has less storage left than the stream reserves: free some, or raise the server's limit (--max-store)"
		if size := reservedBy(stream); size != "" {
			msg += fmt.Sprintf("; or reserve less: `cloudburst server --%s 16MiB`, and while it runs `cloudburst platform set %[1]s=16MiB`", size)
		}
		return &wire.Error{Op: "create stream", Kind: wire.KindBusy, Name: stream, Err: err, Msg: msg}
	}
	if isNoReplicas(err) {
		return noReplicas("create stream", stream, err)
	}
	return apiError("create stream", stream, err)
}

// reservedBy names the size that says how much a stream reserves; empty if none does.
func reservedBy(stream string) string {
	switch stream {
	case bucketStream(BucketResults):
		return "results-size"
	case StreamMessages:
		return "messages-size"
	case StreamLogs:
		return "logs-size"
	}
	if strings.HasPrefix(stream, CallsStream("")) {
		return "backlog-size"
	}
	return ""
}

func isNoReplicas(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == codeNoReplicas
}

// noReplicas is the error for copies that a server alone can't keep.
func noReplicas(op, stream string, err error) error {
	return &wire.Error{
		Op: op, Kind: wire.KindBadArgument, Name: stream, Err: err,
		Msg: "a NATS server that is alone keeps one copy: leave replicas at 1, or join servers into a cluster",
	}
}

// A config is the JSON form of a stream's or consumer's configuration. It holds
// whatever the server knows, also what this client doesn't.
type config map[string]json.RawMessage

// streamConfig asks the server for a stream's configuration.
func (b *Broker) streamConfig(ctx context.Context, stream string) (config, error) {
	return b.configOf(ctx, "STREAM.INFO."+stream, nil, b.timeout)
}

// configOf makes a request of the JetStream API that answers with a configuration.
func (b *Broker) configOf(ctx context.Context, request string, args any, timeout time.Duration) (config, error) {
	var body []byte
	if args != nil {
		var err error
		if body, err = json.Marshal(args); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	msg, err := b.nc.RequestWithContext(ctx, "$JS.API."+request, body)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Config config              `json:"config"`
		Time   time.Time           `json:"ts"`
		Error  *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return nil, err
	}
	b.clock.tell(answer.Time)
	if answer.Error != nil {
		return nil, answer.Error
	}
	return answer.Config, nil
}

// subjects returns what a stream listens to.
func (c config) subjects() ([]string, error) {
	var subjects []string
	if raw, ok := c["subjects"]; ok {
		if err := json.Unmarshal(raw, &subjects); err != nil {
			return nil, fmt.Errorf("read subjects: %w", err)
		}
	}
	return subjects, nil
}

func union(a, b config) config {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// meaning returns a field's value, where all ways to say "not set" are nil: the
// server fills in some of them.
func meaning(raw json.RawMessage) any {
	if len(raw) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return string(raw)
	}
	switch v := v.(type) {
	case bool:
		if !v {
			return nil
		}
	case json.Number:
		if v == "0" || v == "-1" {
			return nil
		}
	case string:
		if v == "" {
			return nil
		}
	case map[string]any:
		if len(v) == 0 {
			return nil
		}
	case []any:
		if len(v) == 0 {
			return nil
		}
	}
	return v
}

// show prints a field's value as people write it.
func show(field string, v any) string {
	switch v := v.(type) {
	case nil:
		return "unset"
	case json.Number:
		switch field {
		case "max_age", "duplicate_window", "subject_delete_marker_ttl", "ack_wait", "inactive_threshold", "max_expires":
			if ns, err := v.Int64(); err == nil {
				return time.Duration(ns).String()
			}
		}
		return v.String()
	}
	var text strings.Builder
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false) // subjects end in ">"
	if err := enc.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	return strings.TrimSpace(text.String())
}
