// A command: the argument comes out again, unless it is the number to exit with.
#include <unistd.h>

static char buffer[1 << 12];

int main(int count, char **arguments) {
  ssize_t n = read(0, buffer, sizeof buffer);
  if (n == 1) {
    write(2, "leaving\n", 8);
    return buffer[0] - '0';
  }
  if (n == 0) {
    const char *name = arguments[0];
    while (*name) write(1, name++, 1);
  }
  for (; n > 0; n = read(0, buffer, sizeof buffer)) write(1, buffer, n);
  return 0;
}
