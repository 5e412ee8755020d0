package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/broker"
)

// A spec that kills processes starts this very test program in a role.
const (
	roleEnv  = "CLOUDBURST_E2E_ROLE" // "server", "worker", "bank", "steps" or "order"
	urlEnv   = "CLOUDBURST_E2E_ADDR"
	storeEnv = "CLOUDBURST_E2E_STORE"
	syncEnv  = "CLOUDBURST_E2E_SYNC" // of a server
)

// quick has calls of dead workers handed out again after a second.
var quick = broker.Topology{AckWait: time.Second}

// as returns the command that plays a role.
func as(role, addr, store string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleEnv+"="+role, urlEnv+"="+addr, storeEnv+"="+store)
	return cmd
}

// play runs a role until standard input closes, which it does when the test
// ends, however it ends.
func play(role string) int {
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	run := map[string]func(context.Context) error{"server": playServer, "worker": playWorker, "bank": playBank, "steps": playSteps, "order": playOrder}[role]
	if run == nil {
		fmt.Fprintln(os.Stderr, "no such role:", role)
		return 2
	}
	if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, role+":", err)
		return 1
	}
	return 0
}

func playServer(ctx context.Context) error {
	server, err := cloudburst.Start(ctx, cloudburst.ServerConfig{Listen: os.Getenv(urlEnv), Store: os.Getenv(storeEnv), Sync: os.Getenv(syncEnv), Topology: quick})
	if err != nil {
		return err
	}
	fmt.Println("ready", server.URL())
	<-ctx.Done()
	return server.Close()
}

func playWorker(ctx context.Context) error {
	return playPool(ctx, "crash", func(w *cloudburst.Worker) { cloudburst.Handle(w, "tally", tally) })
}

func playBank(ctx context.Context) error {
	return playPool(ctx, "bank", func(w *cloudburst.Worker) {
		cloudburst.Handle(w, "transfer", transfer, cloudburst.Transactional())
	})
}

// playPool serves a pool, and keeps its state in the namespace of its name.
func playPool(ctx context.Context, pool string, handle func(*cloudburst.Worker)) error {
	client, err := cloudburst.Connect(ctx, "nats://"+os.Getenv(urlEnv))
	if err != nil {
		return err
	}
	defer client.Close()
	w := cloudburst.NewWorker(client, cloudburst.Pool(pool), cloudburst.Namespace(pool), cloudburst.Slots(16))
	handle(w)
	go func() {
		<-w.Ready()
		fmt.Println("ready")
	}()
	return w.Serve(ctx)
}

// tally counts itself and leaves a record of its own.
func tally(ctx context.Context, s *cloudburst.Session, order int) (int, error) {
	if err := s.Counter("tallied").Add(ctx, 1); err != nil {
		return 0, err
	}
	return order, s.Put(ctx, fmt.Sprintf("order:%d", order), order)
}
