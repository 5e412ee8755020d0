package broker

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// A LogLine is a line, or a few, that an execution of a function has printed.
type LogLine struct {
	Function string     `json:"function"`
	Version  int        `json:"version,omitempty"`
	Run      wire.RunID `json:"run"`
	Worker   string     `json:"worker"`
	Time     time.Time  `json:"time"`
	Text     string     `json:"text"` // without the last line's end
}

// A LogFilter chooses lines.
type LogFilter struct {
	Function string     // empty is all
	Run      wire.RunID // empty is all
	Last     int        // of those that are stored; 0 is all
	Follow   bool       // and those to come, until ctx ends
}

// WriteLog stores a line. It doesn't wait for that: a function isn't held up by
// its log, and lines that are on their way when the server dies are lost.
func (b *Broker) WriteLog(line LogLine) error {
	msg := &nats.Msg{Subject: subjectLog + line.Function, Data: []byte(line.Text), Header: nats.Header{
		wire.HeaderOf:     {string(line.Run)},
		wire.HeaderWorker: {line.Worker},
	}}
	if line.Version > 0 {
		msg.Header[wire.HeaderVersion] = []string{strconv.Itoa(line.Version)}
	}
	return apiError("write log", line.Function, b.nc.PublishMsg(msg))
}

// Logs hands the lines that filter chooses to each, the oldest first.
func (b *Broker) Logs(ctx context.Context, filter LogFilter, each func(LogLine) error) error {
	subject := subjectLog + "*"
	if filter.Function != "" {
		if err := wire.CheckName("function", filter.Function); err != nil {
			return err
		}
		subject = subjectLog + filter.Function
	}
	news := make(chan struct{}, 1)
	if filter.Follow {
		sub, err := b.nc.Subscribe(subject, func(*nats.Msg) {
			select {
			case news <- struct{}{}:
			default: // a look is due already
			}
		})
		if err != nil {
			return apiError("read logs", filter.Function, err)
		}
		defer b.unsubscribe(sub)
	}
	from, kept, err := b.logsFrom(ctx, subject, filter, 1)
	if err != nil {
		return err
	}
	for {
		for _, line := range kept {
			if err := each(line); err != nil {
				return err
			}
		}
		if !filter.Follow {
			return nil
		}
		// The news of a line comes beside its storing, and may come first.
		select {
		case <-news:
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil
		}
		if from, kept, err = b.logsFrom(ctx, subject, LogFilter{Run: filter.Run}, from); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// logsFrom returns the lines from sequence from on, and where to go on.
func (b *Broker) logsFrom(ctx context.Context, subject string, filter LogFilter, from uint64) (next uint64, lines []LogLine, err error) {
	next = from
	err = b.scan(ctx, StreamLogs, subject, from, func(msg *nats.Msg) bool {
		next = sequenceOf(msg) + 1
		line := logLine(msg)
		if filter.Run != "" && line.Run != filter.Run {
			return true
		}
		lines = append(lines, line)
		if filter.Last > 0 && len(lines) > 2*filter.Last {
			lines = append(lines[:0], lines[len(lines)-filter.Last:]...)
		}
		return true
	})
	if filter.Last > 0 && len(lines) > filter.Last {
		lines = lines[len(lines)-filter.Last:]
	}
	return next, lines, apiError("read logs", filter.Function, err)
}

func logLine(msg *nats.Msg) LogLine {
	h := wire.Header(msg.Header)
	line := LogLine{
		Function: strings.TrimPrefix(wire.First(h, jetstream.SubjectHeader), subjectLog), Run: wire.RunID(wire.First(h, wire.HeaderOf)),
		Worker: wire.First(h, wire.HeaderWorker), Time: storedAt(msg), Text: string(msg.Data),
	}
	if v, err := strconv.Atoi(wire.First(h, wire.HeaderVersion)); err == nil {
		line.Version = v
	}
	return line
}
