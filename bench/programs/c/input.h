// What the programs of this directory share: reading N.
#ifndef INPUT_H
#define INPUT_H

#include <stdio.h>
#include <stdlib.h>

// input returns the number on standard input, or what it is by default if there is
// none. A number that the program can't do is refused.
static int input(int by_default, int least, int most) {
  double n;
  int read = scanf("%lf", &n);
  if (read == EOF) return by_default;
  if (read != 1 || n < least || n > most || n != (int)n) {
    fprintf(stderr, "the argument is to be a whole number from %d to %d\n", least, most);
    exit(1);
  }
  return (int)n;
}

#endif
