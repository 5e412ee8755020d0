package broker

import (
	"fmt"
	"sync"

	"github.com/sirupsen/logrus"
)

// serverLog is the embedded server's logger. What is fatal to a server ends
// up in an error of StartServer; the server itself only stops starting.
type serverLog struct {
	log *logrus.Entry // nil is silent

	mu    sync.Mutex // guards first
	first string     // what was fatal
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
func (l *serverLog) Warnf(format string, v ...any) { l.say(logrus.WarnLevel, format, v) }

// Errorf is for what went wrong.
func (l *serverLog) Errorf(format string, v ...any) { l.say(logrus.WarnLevel, format, v) }

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
