// The guest that the tests use: a reactor, of which each test calls another
// function. Built by testdata/build.sh.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define EXPORT(name) __attribute__((export_name(#name)))

__attribute__((import_module("cloudburst"), import_name("request"))) uint32_t cb_request(const void *, uint32_t);
__attribute__((import_module("cloudburst"), import_name("response"))) void cb_response(void *);

static char buffer[1 << 12];

static void say(int fd, const char *text) { write(fd, text, strlen(text)); }

static void number(int fd, long n) {
  char digits[24];
  int at = sizeof digits;
  do digits[--at] = '0' + n % 10;
  while (n /= 10);
  write(fd, digits + at, sizeof digits - at);
}

// What the argument is comes out again.
EXPORT(handler) void handler(void) {
  ssize_t n;
  while ((n = read(0, buffer, sizeof buffer)) > 0) write(1, buffer, n);
}

// A request is made as it came, and the response is the result.
EXPORT(ask) void ask(void) {
  static char request[1 << 16];
  uint32_t length = 0;
  ssize_t n;
  while ((n = read(0, request + length, sizeof request - length)) > 0) length += n;
  uint32_t size = cb_request(request, length);
  char *response = malloc(size);
  cb_response(response);
  write(1, response, size);
}

// Nothing of one call may be seen by the next: this returns what it finds in
// memory that it has just written to all over.
static int counter;
static char *kept;
EXPORT(remember) void remember(void) {
  counter++;
  long dirty = 0;
  for (int i = 0; i < 40; i++) {
    char *more = malloc(60000);
    if (!more) break;
    for (int j = 0; j < 60000; j++) dirty += more[j] != 0;
    memset(more, 0x55, 60000);
    kept = more;
  }
  number(1, counter + dirty + (long)__builtin_wasm_memory_size(0) * 1000);
}

EXPORT(loop) void loop(void) {
  for (volatile int i = 0;; i++)
    ;
}

EXPORT(tight) void tight(void) {
  for (;;)
    ;
}

// It must not be made a loop, nor use the stack that is in memory.
__attribute__((noinline)) static int deep(int n) { return counter ? n : deep(n + 1) * 3 + n; }
EXPORT(recurse) int recurse(void) { return deep(0); }

EXPORT(hoard) void hoard(void) {
  long total = 0;
  while (__builtin_wasm_memory_grow(0, 16) != -1) {
    total += 16;
    memset((char *)((__builtin_wasm_memory_size(0) - 16) << 16), 1, 16 << 16);
  }
  number(1, total);
}

EXPORT(flood) void flood(void) {
  memset(buffer, 'x', sizeof buffer);
  for (;;) write(1, buffer, sizeof buffer);
}

EXPORT(chatter) void chatter(void) {
  memset(buffer, 'x', sizeof buffer);
  buffer[99] = '\n';
  for (int i = 0; i < 100000; i++) write(2, buffer, 100);
}

EXPORT(sleeper) void sleeper(void) {
  struct timespec ever = {1000000, 0};
  nanosleep(&ever, 0);
}

EXPORT(nap) void nap(void) {
  struct timespec before, after, ms20 = {0, 20000000};
  clock_gettime(CLOCK_MONOTONIC, &before);
  nanosleep(&ms20, 0);
  clock_gettime(CLOCK_MONOTONIC, &after);
  number(1, (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000);
}

EXPORT(pester) void pester(void) {
  for (;;) cb_request("i", 1);
}

EXPORT(spin_clock) void spin_clock(void) {
  struct timespec now;
  for (;;) clock_gettime(CLOCK_MONOTONIC, &now);
}

EXPORT(trap) void trap(void) {
  say(2, "about to fail\n");
  __builtin_trap();
}

EXPORT(fail) int fail(void) {
  say(2, "first line\nthe reason");
  return 3;
}

EXPORT(quiet) int quiet(void) { return 7; }

EXPORT(leave) void leave(void) {
  say(2, "going\n");
  _exit(4);
}

EXPORT(leave_well) void leave_well(void) {
  say(1, "[1]");
  _exit(0);
}

EXPORT(far_request) void far_request(void) { cb_request((void *)0xfffffff0, 100); }
EXPORT(huge_request) void huge_request(void) { cb_request(buffer, 0xffffffff); }
EXPORT(far_response) void far_response(void) {
  cb_request("i", 1);
  cb_response((void *)0xffffffff);
}
EXPORT(large_request) void large_request(void) {
  uint32_t size = 70 << 20;
  char *p = (char *)(__builtin_wasm_memory_grow(0, size >> 16) << 16);
  uint32_t n = cb_request(p, size);
  cb_response(p);
  write(1, p, n);
}

// The time in milliseconds, and eight random bytes.
EXPORT(chance) void chance(void) {
  struct timespec now;
  uint64_t random;
  clock_gettime(CLOCK_REALTIME, &now);
  getentropy(&random, sizeof random);
  say(1, "[");
  number(1, now.tv_sec);
  say(1, ",");
  number(1, now.tv_nsec);
  say(1, ",");
  number(1, (long)(random >> 33));
  say(1, "]");
}

// The result is returned, and what is printed is only log.
EXPORT(by_return) void by_return(void) {
  static const char request[] = "t\0\0\0\0\4\0\0\0\"ok\"";
  say(1, "printed\n");
  cb_request(request, sizeof request - 1);
}

EXPORT(no_entry) int no_entry(int a) { return a; }

// Work of about n million steps, for measuring.
EXPORT(work) void work(void) {
  long n = 0;
  ssize_t got = read(0, buffer, sizeof buffer - 1);
  buffer[got] = 0;
  n = atol(buffer) * 1000000;
  uint32_t x = 1;
  for (long i = 0; i < n; i++) x = x * 1664525 + 1013904223;
  number(1, x >> 1);
}

// Instructions that work on much memory at once.
EXPORT(fill) void fill(void) {
  long pages = 1000 - __builtin_wasm_memory_size(0);
  char *p = (char *)(__builtin_wasm_memory_grow(0, pages) << 16);
  for (;;) __asm__ volatile("local.get %0\ni32.const 7\ni32.const 62914560\nmemory.fill 0" ::"r"(p));
}
