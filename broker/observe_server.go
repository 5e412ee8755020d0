package broker

import (
	"fmt"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"
)

// serverLog is the embedded server's logger. What is fatal to a server ends
// up in an error of StartServer; the server itself only stops starting.
type serverLog struct {
	log *logrus.Entry // nil is silent

	mu     sync.Mutex // guards what follows
	first  string     // what was fatal
	broken string     // why a store takes no writes any more
}

// Of what the server says when a store takes no more writes.
var storeBroken = []string{"write error: ", "out of space", "resources, will be DISABLED", "disabling JetStream"}

// storeError is why a store takes no writes any more; empty if all do.
func (l *serverLog) storeError() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken
}

// note keeps what tells of a store that takes no more writes.
func (l *serverLog) note(format string, v []any) {
	text := fmt.Sprintf(format, v...)
	for _, mark := range storeBroken {
		if strings.Contains(text, mark) {
			l.mu.Lock()
			if l.broken == "" {
				l.broken = text
			}
			l.mu.Unlock()
		}
	}
}

func (l *serverLog) debug() bool {
	return l.log != nil && l.log.Logger.IsLevelEnabled(logrus.TraceLevel)
}

func (l *serverLog) fatal() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

func (l *serverLog) say(level logrus.Level, format string, v []any) {
	if l.log != nil {
		l.log.WithField("part", "nats").Logf(level, format, v...)
	}
}

// Noticef, and the methods below, implement the server's logger.
func (l *serverLog) Noticef(format string, v ...any) { l.say(logrus.DebugLevel, format, v) }

// Warnf is for what somebody should look into.
func (l *serverLog) Warnf(format string, v ...any) {
	l.note(format, v)
	l.say(logrus.WarnLevel, format, v)
}

// Errorf is for what went wrong.
func (l *serverLog) Errorf(format string, v ...any) {
	l.note(format, v)
	l.say(logrus.WarnLevel, format, v)
}

// Debugf is for the server's own developers.
func (l *serverLog) Debugf(format string, v ...any) { l.say(logrus.TraceLevel, format, v) }

// Tracef is for the server's own developers.
func (l *serverLog) Tracef(format string, v ...any) { l.say(logrus.TraceLevel, format, v) }

// Fatalf is for what keeps the server from starting.
func (l *serverLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == "" {
		l.first = fmt.Sprintf(format, v...)
	}
}
