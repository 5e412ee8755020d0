package python

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// An identity is a user, or a group, that an instance runs as. The zero identity is
// the worker's own.
type identity struct {
	switched bool
	id       uint32
}

// identities are users that exist nowhere else, so that nothing on the machine is
// theirs. Nil stands for a worker that can't become another user.
type identities struct {
	base, count uint32

	mu   sync.Mutex // guards used
	used map[uint32]bool
}

// firstID is above what is given to people, services, containers (systemd's end at
// 1,879,048,191) and to other mapped users (from 524,288 on, by shadow's defaults).
const (
	firstID = 1_900_000_000
	manyIDs = 100_000_000
	nobody  = 65534
)

// newIdentities returns what the worker can become. In a container with few users
// that is nobody, who then runs all instances.
func newIdentities() *identities {
	if os.Geteuid() != 0 {
		return nil
	}
	ids := &identities{used: make(map[uint32]bool)}
	switch {
	case mapped(firstID + manyIDs):
		ids.base, ids.count = firstID, manyIDs
	case mapped(nobody):
		ids.base, ids.count = nobody, 1
	default:
		return nil
	}
	return ids
}

// mapped says whether there are users and groups of that id in this user namespace.
func mapped(id uint64) bool {
	for _, file := range []string{"/proc/self/uid_map", "/proc/self/gid_map"} {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // without user namespaces there is no such file, and all exist
		}
		var first, outside, count uint64
		// One range from 0 on is how containers are made; others are left alone.
		if _, err := fmt.Sscan(string(text), &first, &outside, &count); err != nil || first != 0 || count <= id {
			return false
		}
	}
	return true
}

// switches says whether instances run as another user than the worker.
func (s *identities) switches() bool { return s != nil }

// alone says whether no two instances run as the same user.
func (s *identities) alone() bool { return s != nil && s.count > 1 }

// take returns an identity that nobody has, if there are enough.
func (s *identities) take() identity {
	if s == nil {
		return identity{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// By chance, since other workers on this machine choose as well.
	id := s.base + rand.Uint32N(s.count)
	for s.count > 1 && s.used[id] {
		id = s.base + rand.Uint32N(s.count)
	}
	s.used[id] = true
	return identity{true, id}
}

// give returns an identity for others to use.
func (s *identities) give(id identity) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.used, id.id)
}

// sweep kills what an instance has left behind: a process that has left its process
// group is still its user's.
func (s *identities) sweep(id identity) {
	if !s.alone() || !id.switched {
		return
	}
	// Bounded, should processes be made as fast as they are killed: RLIMIT_NPROC
	// lets none be made once enough are being killed.
	for range 100 {
		if !killAllOf(id.id) {
			return
		}
	}
}

// killAllOf kills the processes of a user, and says whether there were any.
func killAllOf(user uint32) (found bool) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return false
	}
	for _, dir := range dirs {
		var stat syscall.Stat_t
		if syscall.Lstat(dir, &stat) != nil || stat.Uid != user {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil && syscall.Kill(pid, syscall.SIGKILL) == nil && !ended(dir) {
			found = true
		}
	}
	return found
}

// ended says whether a process is a zombie: dead, and not yet waited for.
func ended(dir string) bool {
	text, err := os.ReadFile(filepath.Join(dir, "stat"))
	at := bytes.LastIndexByte(text, ')') // ends the name, which may hold anything
	return err != nil || at < 0 || at+2 >= len(text) || text[at+2] == 'Z' || text[at+2] == 'X'
}
