package deployments

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// An object is what the checks need of a Kubernetes object.
type object struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct{ Name string }
	Data       map[string]string
	Spec       struct {
		Replicas       int
		ServiceName    string                `yaml:"serviceName"`
		Selector       selector              `yaml:"selector"`
		PodSelector    selector              `yaml:"podSelector"`
		ScaleTargetRef struct{ Name string } `yaml:"scaleTargetRef"`
		Ports          []struct {
			Name       string
			Port       int
			TargetPort string `yaml:"targetPort"`
		}
		Template struct {
			Metadata struct{ Labels map[string]string }
			Spec     pod
		}
		VolumeClaimTemplates []struct{ Metadata struct{ Name string } } `yaml:"volumeClaimTemplates"`
	}
}

// A selector is labels, as a Service has them, or the same under matchLabels.
type selector struct {
	MatchLabels map[string]string `yaml:"matchLabels"`
	Labels      map[string]string `yaml:",inline"`
}

func (s selector) labels() map[string]string {
	if len(s.MatchLabels) > 0 {
		return s.MatchLabels
	}
	return s.Labels
}

type pod struct {
	Grace      int `yaml:"terminationGracePeriodSeconds"`
	Containers []struct {
		Name, Image string
		Args        []string
		Ports       []struct{ Name string }
		Readiness   probe                   `yaml:"readinessProbe"`
		Liveness    probe                   `yaml:"livenessProbe"`
		Startup     probe                   `yaml:"startupProbe"`
		Mounts      []struct{ Name string } `yaml:"volumeMounts"`
	}
	Volumes []struct {
		Name      string
		ConfigMap struct{ Name string } `yaml:"configMap"`
	}
}

type probe struct {
	HTTPGet struct{ Path, Port string } `yaml:"httpGet"`
}

// versions are those of the kinds that we use.
var versions = map[string]string{
	"Namespace": "v1", "ConfigMap": "v1", "Service": "v1", "StatefulSet": "apps/v1", "Deployment": "apps/v1",
	"PodDisruptionBudget": "policy/v1", "NetworkPolicy": "networking.k8s.io/v1", "ScaledObject": "keda.sh/v1alpha1",
}

func objects(text []byte) ([]object, error) {
	var all []object
	for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var o object
		switch err := d.Decode(&o); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, err
		}
		all = append(all, o)
	}
}

// dangling returns what refers to something that isn't there.
func dangling(all []object) []string {
	var wrong []string
	bad := func(o object, format string, args ...any) {
		wrong = append(wrong, fmt.Sprintf("%s %s: %s", o.Kind, o.Metadata.Name, fmt.Sprintf(format, args...)))
	}
	named := func(kind, name string) bool {
		return slices.ContainsFunc(all, func(o object) bool { return o.Kind == kind && o.Metadata.Name == name })
	}
	pods := func(labels map[string]string) (found []object) {
		for _, o := range all {
			if len(labels) > 0 && len(o.Spec.Template.Metadata.Labels) > 0 && includes(o.Spec.Template.Metadata.Labels, labels) {
				found = append(found, o)
			}
		}
		return found
	}
	for _, o := range all {
		if versions[o.Kind] != o.APIVersion || o.Metadata.Name == "" {
			bad(o, "it is of %q", o.APIVersion)
		}
		switch o.Kind {
		case "Service", "PodDisruptionBudget":
			chosen := pods(o.Spec.Selector.labels())
			if len(chosen) != 1 {
				bad(o, "it selects %d workloads", len(chosen))
				continue
			}
			for _, p := range o.Spec.Ports {
				name := p.TargetPort
				if name == "" {
					name = p.Name
				}
				if !chosen[0].Spec.Template.Spec.opens(name) {
					bad(o, "no container opens the port %s", name)
				}
			}
		case "NetworkPolicy":
			if len(pods(o.Spec.PodSelector.labels())) != 1 {
				bad(o, "it is about no workload")
			}
		case "ScaledObject":
			if !named("Deployment", o.Spec.ScaleTargetRef.Name) {
				bad(o, "there is no Deployment %q", o.Spec.ScaleTargetRef.Name)
			}
		case "StatefulSet", "Deployment":
			if !includes(o.Spec.Template.Metadata.Labels, o.Spec.Selector.labels()) {
				bad(o, "it doesn't select its own pods")
			}
			if o.Kind == "StatefulSet" && !named("Service", o.Spec.ServiceName) {
				bad(o, "there is no Service %q", o.Spec.ServiceName)
			}
			if o.Spec.Template.Spec.Grace < 60 {
				bad(o, "it has %d s to drain", o.Spec.Template.Spec.Grace)
			}
			for _, w := range o.Spec.Template.Spec.unresolved(o, named) {
				bad(o, "%s", w)
			}
		}
	}
	return wrong
}

func includes(labels, want map[string]string) bool {
	for key, value := range want {
		if labels[key] != value {
			return false
		}
	}
	return len(want) > 0
}

func (p pod) opens(port string) bool {
	for _, c := range p.Containers {
		for _, open := range c.Ports {
			if open.Name == port {
				return true
			}
		}
	}
	return false
}

// unresolved returns ports of probes, volumes and their sources that aren't there.
func (p pod) unresolved(o object, named func(kind, name string) bool) (wrong []string) {
	volumes := make(map[string]bool)
	for _, v := range p.Volumes {
		volumes[v.Name] = true
		if name := v.ConfigMap.Name; name != "" && !named("ConfigMap", name) {
			wrong = append(wrong, "there is no ConfigMap "+name)
		}
	}
	for _, v := range o.Spec.VolumeClaimTemplates {
		volumes[v.Metadata.Name] = true
	}
	if len(p.Containers) == 0 {
		wrong = append(wrong, "it has no container")
	}
	for _, c := range p.Containers {
		for _, probe := range []probe{c.Readiness, c.Liveness, c.Startup} {
			if port := probe.HTTPGet.Port; port != "" && !p.opens(port) {
				wrong = append(wrong, "it is probed at the port "+port)
			}
		}
		for _, m := range c.Mounts {
			if !volumes[m.Name] {
				wrong = append(wrong, "there is no volume "+m.Name)
			}
		}
	}
	return wrong
}

func kustomized(t *testing.T) []object {
	t.Helper()
	var k struct{ Resources []string }
	if err := yaml.Unmarshal(read(t, "k8s/kustomization.yaml"), &k); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("k8s/*.yaml")
	if err != nil || len(files) != len(k.Resources)+2 { // with itself, and KEDA's, which is left to who has KEDA
		t.Errorf("%d files (%v), and %d are resources", len(files), err, len(k.Resources))
	}
	var all []object
	for _, name := range append(k.Resources, "keda-scaledobject.yaml") {
		found, err := objects(read(t, "k8s/"+name))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s holds %d objects: %v", name, len(found), err)
		}
		all = append(all, found...)
	}
	return all
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestKubernetesObjectsHoldTogether(t *testing.T) {
	all := kustomized(t)
	for _, wrong := range dangling(all) {
		t.Error(wrong)
	}
	for _, o := range all {
		if o.Kind != "StatefulSet" {
			continue
		}
		// Every copy is on a server of its own, and each is named where clients look.
		if o.Spec.Replicas != 3 {
			t.Errorf("%d servers, and streams are kept on 3", o.Spec.Replicas)
		}
		for i := range o.Spec.Replicas {
			host := fmt.Sprintf("%s-%d.%s", o.Metadata.Name, i, o.Spec.ServiceName)
			for _, other := range all {
				for _, c := range other.Spec.Template.Spec.Containers {
					if args := strings.Join(c.Args, " "); strings.Contains(args, "--nats") && !strings.Contains(args, host) {
						t.Errorf("%s isn't told of %s", other.Metadata.Name, host)
					}
				}
				if conf := other.Data["nats-server.conf"]; conf != "" && !strings.Contains(conf, host) {
					t.Errorf("the servers aren't told of %s", host)
				}
			}
		}
	}
}

// Each of these has one thing changed that the check has to see.
func TestKubernetesObjectsThatDoNotHoldTogether(t *testing.T) {
	for name, spoil := range map[string]func(o *object) bool{
		"version": func(o *object) bool { o.APIVersion += "beta1"; return o.Kind == "Deployment" },
		"name":    func(o *object) bool { o.Metadata.Name += "x"; return o.Kind == "ConfigMap" },
		"target":  func(o *object) bool { o.Spec.ScaleTargetRef.Name += "x"; return o.Kind == "ScaledObject" },
		"labels": func(o *object) bool {
			o.Spec.Template.Metadata.Labels = map[string]string{"app": "x"}
			return o.Kind == "Deployment"
		},
		"port": func(o *object) bool {
			if o.Kind != "Service" {
				return false
			}
			o.Spec.Ports = slices.Clone(o.Spec.Ports)
			o.Spec.Ports[0].Name, o.Spec.Ports[0].TargetPort = "x", ""
			return true
		},
		"containers": func(o *object) bool { o.Spec.Template.Spec.Containers = nil; return o.Kind == "StatefulSet" },
		"grace":      func(o *object) bool { o.Spec.Template.Spec.Grace = 1; return o.Kind == "StatefulSet" },
	} {
		all := kustomized(t)
		spoiled := false
		for i := range all {
			o := all[i]
			if spoil(&o) {
				all[i], spoiled = o, true
				break
			}
		}
		if !spoiled || len(dangling(all)) == 0 {
			t.Errorf("nobody sees what is wrong: %s", name)
		}
	}
}

// The keys of systemd.unit, .service and .exec that the units use, by their sections.
var unitKeys = map[string][]string{
	"Unit": {"Description", "Documentation", "After", "Wants"},
	"Service": {
		"EnvironmentFile", "ExecStart", "Restart", "RestartSec", "TimeoutStopSec", "KillMode", "LimitNOFILE", "StateDirectory", "CacheDirectory",
		"User", "Group", "DynamicUser", "NoNewPrivileges", "ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "ProtectKernelTunables",
		"ProtectKernelModules", "ProtectControlGroups", "RestrictAddressFamilies", "RestrictSUIDSGID", "LockPersonality",
	},
	"Install": {"WantedBy"},
}

// unit reads a unit: the values of its keys.
func unit(text string) (map[string]string, error) {
	values, section := make(map[string]string), ""
	for n, line := range strings.Split(strings.ReplaceAll(text, "\\\n", ""), "\n") {
		key, value, isKey := strings.Cut(line, "=")
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			section = strings.Trim(line, "[]")
			if unitKeys[section] == nil {
				return nil, fmt.Errorf("line %d: section %q", n+1, section)
			}
		case !isKey || !slices.Contains(unitKeys[section], key) || value == "":
			return nil, fmt.Errorf("line %d: %q in section %q", n+1, line, section)
		default:
			values[key] = value
		}
	}
	return values, nil
}

func TestUnits(t *testing.T) {
	files, err := filepath.Glob("systemd/*.service")
	if err != nil || len(files) != 3 {
		t.Fatalf("units: %v, %v", files, err)
	}
	variable := regexp.MustCompile(`\$\{([A-Z_]+)\}`)
	for _, file := range files {
		text := string(read(t, file))
		values, err := unit(text)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if values["ExecStart"] == "" || values["Restart"] != "always" || values["NoNewPrivileges"] != "yes" || values["WantedBy"] == "" {
			t.Errorf("%s: %v", file, values)
		}
		if values["DynamicUser"] == "" && values["User"] == "" {
			t.Errorf("%s runs as root", file)
		}
		// The comment says what the environment file has to have.
		for _, name := range variable.FindAllStringSubmatch(values["ExecStart"], -1) {
			if !strings.Contains(text, "#\t"+name[1]+"=") {
				t.Errorf("%s: nobody says what %s is", file, name[1])
			}
		}
	}
	for _, wrong := range []string{"[Service]\nExecstart=x\n", "[Services]\n", "[Service]\nUser=\n", "User=x\n"} {
		if values, err := unit(wrong); err == nil {
			t.Errorf("%q is %v", wrong, values)
		}
	}
}

func TestDockerfile(t *testing.T) {
	text := string(read(t, "docker/Dockerfile"))
	goVersion := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(read(t, "../go.mod"))
	if goVersion == nil || !strings.Contains(text, "FROM golang:"+string(goVersion[1])+"-") {
		t.Errorf("it isn't built with the Go of go.mod, %s", goVersion)
	}
	copied := 0
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[0] != "COPY" || strings.HasPrefix(fields[1], "--from") {
			continue
		}
		for _, from := range fields[1 : len(fields)-1] {
			copied++
			if _, err := os.Stat(filepath.Join("..", from)); err != nil {
				t.Error(err)
			}
		}
	}
	if copied == 0 || !strings.Contains(text, "\nUSER ") {
		t.Errorf("it copies %d files, and runs as somebody or as root", copied)
	}
}

func TestCompose(t *testing.T) {
	var file struct {
		Services map[string]struct {
			Ports       []string
			Volumes     []string
			Environment map[string]string
			Configs     []struct{ Source string }
			DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
			Healthcheck struct{ Test []string }
			Build       struct{ Context, Dockerfile string }
		}
		Configs map[string]struct{ File string }
		Volumes map[string]any
	}
	if err := yaml.Unmarshal(read(t, "compose/compose.yaml"), &file); err != nil {
		t.Fatal(err)
	}
	if names := slices.Sorted(maps.Keys(file.Services)); !slices.Equal(names, []string{"gateway", "n1", "n2", "n3", "worker"}) {
		t.Errorf("services: %v", names)
	}
	ports := make(map[string]bool)
	for name, s := range file.Services {
		for _, port := range s.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") || ports[port] {
				t.Errorf("%s opens %s: twice, or to others", name, port)
			}
			ports[port] = true
		}
		for _, v := range s.Volumes {
			volume, _, _ := strings.Cut(v, ":")
			if _, ok := file.Volumes[volume]; !ok {
				t.Errorf("%s: there is no volume %s", name, volume)
			}
		}
		for _, c := range s.Configs {
			if _, err := os.Stat(filepath.Join("compose", file.Configs[c.Source].File)); err != nil || file.Configs[c.Source].File == "" {
				t.Errorf("%s: config %s: %v", name, c.Source, err)
			}
			if s.Environment["NAME"] != name {
				t.Errorf("%s is called %q", name, s.Environment["NAME"])
			}
		}
		for other, d := range s.DependsOn {
			if d.Condition != "service_healthy" || len(file.Services[other].Healthcheck.Test) == 0 {
				t.Errorf("%s waits for %s to be %s, which nobody checks", name, other, d.Condition)
			}
		}
		if s.Build.Dockerfile != "" {
			if _, err := os.Stat(filepath.Join("compose", s.Build.Context, s.Build.Dockerfile)); err != nil {
				t.Error(err)
			}
		}
	}
}
