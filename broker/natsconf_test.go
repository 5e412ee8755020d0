package broker

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/cloudburst-nats/cloudburst/wire"
)

// On NATS servers with the configuration in deployments, the platform may do all that
// it does, and who calls may call and hear the result, and nothing else.
func TestConfigurationForNATSServers(t *testing.T) {
	t.Setenv("NAME", "n1")
	t.Setenv("PLATFORM_PASSWORD", "p")
	t.Setenv("CALLER_PASSWORD", "c")
	opts, err := server.ProcessConfigFile("../deployments/nats/nats-server.conf")
	if err != nil {
		t.Fatal(err)
	}
	if !opts.JetStream || len(opts.Routes) != 3 || opts.Cluster.Name == "" || opts.HTTPPort != 8222 {
		t.Errorf("JetStream %v, routes %v, cluster %q, monitoring at %d", opts.JetStream, opts.Routes, opts.Cluster.Name, opts.HTTPPort)
	}
	// The same, alone and where the test may.
	opts.Host, opts.Port, opts.HTTPPort, opts.StoreDir = "127.0.0.1", -1, 0, t.TempDir()
	opts.Cluster, opts.Routes, opts.NoSigs, opts.NoLog = server.ClusterOpts{}, nil, true, true
	ns, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	defer ns.WaitForShutdown()
	defer ns.Shutdown()
	if !ns.ReadyForConnections(time.Minute) {
		t.Fatal("the server didn't start")
	}
	at := ns.Addr().String()
	b, err := Connect(t.Context(), Config{URL: "nats://platform:p@" + at})
	if err != nil {
		t.Fatal(err)
	}
	p := &platform{Broker: b, t: t}
	t.Cleanup(b.Close)
	t.Cleanup(p.ending.Wait)
	if err := b.EnsurePlatform(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.OpenBucket(t.Context(), "state"); err != nil {
		t.Fatal(err)
	}
	p.register("f")
	p.work(func(d *Delivery) { p.succeed(d, "25") })
	catalogue := b.NewCatalogue()
	p.start(catalogue.Run)
	<-catalogue.Ready()
	gateway := b.NewGateway(catalogue)
	p.start(gateway.Run)
	<-gateway.Ready()

	denied := make(chan error, 10)
	nc, err := nats.Connect("nats://caller:c@"+at, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err }))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for _, subject := range []string{"cb.fn.f", "cb.call.f"} { // answered, and stored
		if msg, err := nc.Request(subject, []byte("5"), time.Minute); err != nil || msg.Header.Get("Status") == "503" {
			t.Errorf("a caller can't call by %s: %v", subject, err)
		}
	}
	for _, subject := range []string{"$KV.state.k", "$JS.API.STREAM.LIST", "cb.cancel.r"} {
		if err := nc.Publish(subject, []byte("1")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := nc.SubscribeSync("$KV.>"); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		select {
		case err := <-denied:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				t.Error(err)
			}
		case <-time.After(time.Minute):
			t.Fatal("a caller may do more than call")
		}
	}
	if _, err := Connect(t.Context(), Config{URL: "nats://caller:wrong@" + at}); wire.KindOf(err) != wire.KindBadArgument {
		t.Errorf("with a wrong password: %v", err)
	}
}
