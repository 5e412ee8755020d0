package deployments

import (
	"os"
	"strconv"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/cloudburst-nats/cloudburst/autoscaler"
	"github.com/cloudburst-nats/cloudburst/broker"
)

// The manifest names what the broker makes, and scales as the autoscaler would.
func TestKEDAReadsTheLagOfThePool(t *testing.T) {
	text, err := os.ReadFile("k8s/keda-scaledobject.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		Kind string `yaml:"kind"`
		Spec struct {
			Min      int `yaml:"minReplicaCount"`
			Max      int `yaml:"maxReplicaCount"`
			Cooldown int `yaml:"cooldownPeriod"`
			Advanced struct {
				HPA struct {
					Behavior struct {
						Down struct {
							Window int `yaml:"stabilizationWindowSeconds"`
						} `yaml:"scaleDown"`
					} `yaml:"behavior"`
				} `yaml:"horizontalPodAutoscalerConfig"`
			} `yaml:"advanced"`
			Triggers []struct {
				Type     string            `yaml:"type"`
				Metadata map[string]string `yaml:"metadata"`
			} `yaml:"triggers"`
		} `yaml:"spec"`
	}
	if err := yaml.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	if m.Kind != "ScaledObject" || len(m.Spec.Triggers) != 1 || m.Spec.Triggers[0].Type != "nats-jetstream" {
		t.Fatalf("it is %+v", m)
	}
	meta := m.Spec.Triggers[0].Metadata
	want := map[string]string{
		"stream": broker.CallsStream(broker.DeployedPool), "consumer": broker.CallsConsumer,
		"lagThreshold": strconv.Itoa(int(autoscaler.DefaultTarget*100) * DefaultSlots / 100),
	}
	for key, value := range want {
		if meta[key] != value {
			t.Errorf("%s is %q, want %q", key, meta[key], value)
		}
	}
	if got := m.Spec.Advanced.HPA.Behavior.Down.Window; got != int(autoscaler.DefaultStable.Seconds()) {
		t.Errorf("the stable window is %d s, want %v", got, autoscaler.DefaultStable)
	}
	if m.Spec.Cooldown != int(autoscaler.DefaultIdle.Seconds()) || m.Spec.Min != 1 || m.Spec.Max <= m.Spec.Min {
		t.Errorf("bounds: %+v", m.Spec)
	}
	if autoscaler.DefaultSlots != DefaultSlots {
		t.Errorf("the autoscaler thinks that a worker has %d slots, and it has %d", autoscaler.DefaultSlots, DefaultSlots)
	}
}
