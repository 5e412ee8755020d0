package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudburst-nats/cloudburst/internal/prose"
)

// Every console block of every document does what it says, in the document's own order, on
// one server and one store. The conventions:
//
//   - A line that begins with the prompt `$ ` is a command; a backslash at its end goes on.
//     The lines up to the next command are what the command prints, errors included.
//   - A block of another language whose first line is a comment with a file's name, such as
//     "# square.py", is that file. It is there before the first command.
//   - `cloudburst server` runs until the document's end, or until the next one starts. A
//     document whose first command is another has a server with the examples and HTTP.
//   - "# exit code 7" is checked; without it the exit code is 0.
//   - In what is printed, `…` stands for anything, and a line of it alone for any lines.
//     Ids of runs and workers, times and durations may differ; white space may, too.
//   - The ports 4222 and 8080 are two that are free.
var _ = Describe("The documents", Label("docs"), func() {
	files, err := prose.Documents("..")
	if err != nil {
		panic(err)
	}
	for _, file := range files {
		blocks, err := prose.Read(filepath.Join("..", file))
		if err != nil {
			panic(err)
		}
		session := sessionOf(blocks)
		if len(session.commands) == 0 {
			continue
		}
		It("does what "+file+" says", func(ctx SpecContext) {
			session.run(ctx, file)
		}, SpecTimeout(patience))
	}
})

// A typed command is a command of a document, and what it prints.
type typed struct {
	line int
	text string
	want []string
}

// A session is what a document has its reader do.
type session struct {
	files    map[string]string
	commands []typed
}

var fileName = regexp.MustCompile(`^(?:#|//) ([\w-]+\.\w+)(?:$|:|\s)`)

func sessionOf(blocks []prose.Block) session {
	s := session{files: make(map[string]string)}
	for _, b := range blocks {
		switch {
		case b.Kind != prose.Fence || len(b.Lines) == 0:
		case b.Lang == "console":
			s.commands = append(s.commands, typedIn(b)...)
		default:
			if name := fileName.FindStringSubmatch(b.Lines[0]); name != nil {
				s.files[name[1]] = strings.Join(b.Lines, "\n") + "\n"
			}
		}
	}
	return s
}

func typedIn(b prose.Block) []typed {
	var commands []typed
	for i, line := range b.Lines {
		last := len(commands) - 1
		switch text, prompt := strings.CutPrefix(line, "$ "); {
		case prompt:
			commands = append(commands, typed{line: b.Line + i + 1, text: text})
		case last >= 0 && len(commands[last].want) == 0 && strings.HasSuffix(commands[last].text, `\`):
			commands[last].text += "\n" + line
		case last >= 0:
			commands[last].want = append(commands[last].want, line)
		}
	}
	return commands
}

var serverCommand = regexp.MustCompile(`^cloudburst server\b`)

func (s session) run(ctx context.Context, file string) {
	GinkgoHelper()
	dir := GinkgoT().TempDir()
	for name, text := range s.files {
		Expect(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)).To(Succeed())
	}
	for _, name := range []string{"examples", "bin", "deployments"} {
		at, err := filepath.Abs(filepath.Join("..", name))
		Expect(err).NotTo(HaveOccurred())
		Expect(os.Symlink(at, filepath.Join(dir, name))).To(Succeed())
	}
	r := newReader(dir)
	defer r.leave()
	if !serverCommand.MatchString(s.commands[0].text) {
		r.serve(ctx, "cloudburst server --examples --http :8080")
	}
	for _, c := range s.commands {
		at := fmt.Sprintf("%s:%d: $ %s", file, c.line, c.text)
		if serverCommand.MatchString(c.text) && exitCode(c.text) == 0 {
			printed := r.serve(ctx, c.text)
			Expect(differs(c.want, printed)).To(BeEmpty(), at)
			continue
		}
		printed, code := r.execute(ctx, c.text)
		GinkgoWriter.Printf("%s\n%s\n", at, printed)
		Expect(code).To(Equal(exitCode(c.text)), "%s: the exit code; printed:\n%s", at, printed)
		Expect(differs(c.want, printed)).To(BeEmpty(), at)
	}
}

var exitComment = regexp.MustCompile(`# exit code (\d+)`)

func exitCode(command string) int {
	found := exitComment.FindStringSubmatch(command)
	if found == nil {
		return 0
	}
	code, err := strconv.Atoi(found[1])
	Expect(err).NotTo(HaveOccurred(), command)
	return code
}

// A reader is somebody who types in one terminal, with a server in another.
type reader struct {
	env        []string
	dir        string
	nats, http string // the addresses of the server
	server     *process
	shell      *exec.Cmd
	in         io.WriteCloser
	out        *bufio.Reader
}

func newReader(dir string) *reader {
	GinkgoHelper()
	r := &reader{dir: dir, nats: freePort(), http: freePort()}
	// Curl draws no progress for people, and would for us.
	Expect(os.WriteFile(filepath.Join(dir, ".curlrc"), []byte("silent\n"), 0o600)).To(Succeed())
	r.env = append(os.Environ(), "PATH="+filepath.Dir(bin.cloudburst)+":"+os.Getenv("PATH"),
		"NATS_URL=nats://"+r.nats, "XDG_CONFIG_HOME="+dir, "HOME="+dir)
	r.shell = exec.Command("bash")
	r.shell.Dir, r.shell.Env = dir, r.env
	var err error
	r.in, err = r.shell.StdinPipe()
	Expect(err).NotTo(HaveOccurred())
	out, err := r.shell.StdoutPipe()
	Expect(err).NotTo(HaveOccurred())
	r.out = bufio.NewReader(out)
	r.shell.Stderr = GinkgoWriter
	Expect(r.shell.Start()).To(Succeed())
	return r
}

func (r *reader) leave() {
	_ = r.in.Close()
	_ = r.shell.Wait() // its exit code is the last command's
}

// here replaces the documents' addresses by ours.
func (r *reader) here(command string) string {
	return strings.NewReplacer("127.0.0.1:4222", r.nats, "127.0.0.1:8080", r.http, "--http :8080", "--http "+r.http).Replace(command)
}

// serve starts a server, in place of the one before, and returns what it printed.
func (r *reader) serve(ctx context.Context, command string) string {
	GinkgoHelper()
	if r.server != nil {
		r.server.interrupt(ctx)
	}
	if !strings.Contains(command, "--listen") {
		command = strings.Replace(command, "cloudburst server", "cloudburst server --listen "+r.nats, 1)
	}
	cmd := exec.Command("bash", "-c", "exec "+r.here(command))
	cmd.Dir, cmd.Env = r.dir, r.env
	var line string
	r.server, line = launch(ctx, r.nats, cmd)
	return strings.ReplaceAll(line, r.nats, "127.0.0.1:4222")
}

// interrupt ends the process as Ctrl-C does.
func (p *process) interrupt(ctx context.Context) {
	GinkgoHelper()
	Expect(p.cmd.Process.Signal(os.Interrupt)).To(Succeed())
	done := make(chan error, 1)
	go func() { done <- p.cmd.Wait() }()
	Eventually(ctx, done).WithTimeout(patience).Should(Receive())
}

const mark = "-- the command's end:"

// execute types a command, and returns what it printed and its exit code.
func (r *reader) execute(ctx context.Context, command string) (printed string, code int) {
	GinkgoHelper()
	_, err := fmt.Fprintf(r.in, "{ %s\n} </dev/null 2>&1\necho \"\n%s $?\"\n", r.here(command), mark)
	Expect(err).NotTo(HaveOccurred())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			line, err := r.out.ReadString('\n')
			if _, end := fmt.Sscanf(line, mark+" %d", &code); end == nil || err != nil {
				return
			}
			printed += line
		}
	}()
	Eventually(ctx, done).WithTimeout(patience).Should(BeClosed(), "%s: it doesn't end", command)
	printed = strings.NewReplacer(r.nats, "127.0.0.1:4222", r.http, "127.0.0.1:8080").Replace(printed)
	return strings.TrimSpace(printed), code
}

// vary are the parts of a line that are never the same twice.
var vary = []struct {
	re *regexp.Regexp
	by string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "<id>"},
	{regexp.MustCompile(`\bw-[0-9a-f]{8}-[0-9a-f]{4}\b`), "<worker>"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]`), ""},
	{regexp.MustCompile(`\d\d:\d\d:\d\d(\.\d+)?Z?`), "<time>"},
	{regexp.MustCompile(`\b(\d+(\.\d+)?(h|ms|m|s|µs|ns))+( ago)?`), "<duration>"},
	{regexp.MustCompile(`─+`), "─"},
	{regexp.MustCompile(`\s+`), " "},
}

func same(line string) string {
	for _, v := range vary {
		line = v.re.ReplaceAllString(line, v.by)
	}
	return strings.TrimSpace(line)
}

// differs says how what was printed differs from what a document says; "" if it doesn't.
func differs(want []string, printed string) string {
	pattern := ""
	for _, line := range want {
		if strings.TrimSpace(line) == "…" {
			pattern += `(.*\n)*?`
			continue
		}
		parts := strings.Split(same(line), "…")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		pattern += strings.Join(parts, ".*") + "\n"
	}
	got := ""
	if printed != "" {
		for line := range strings.SplitSeq(printed, "\n") {
			got += same(line) + "\n"
		}
	}
	if regexp.MustCompile(`^` + pattern + `$`).MatchString(got) {
		return ""
	}
	return fmt.Sprintf("the document says:\n%s\nprinted:\n%s", strings.Join(want, "\n"), printed)
}
