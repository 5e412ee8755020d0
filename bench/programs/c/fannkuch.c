// Fannkuch-redux: of every permutation of 1 to N, how many flips of its first so many
// numbers bring a 1 to the front? Small arrays, indexed without any pattern.
//
// The result is the largest number of flips and a checksum: the sum of all of them,
// where every other permutation counts negative: {"n":7,"checksum":228,"flips":16}
#include <string.h>

#include "input.h"

enum { MOST = 12 };

// flips counts those of one permutation, of 0 to n-1.
static int flips(const int permutation[MOST]) {
  int p[MOST], count = 0;
  memcpy(p, permutation, sizeof p);
  for (int first; (first = p[0]) != 0; count++) {
    for (int low = 0, high = first; low < high; low++, high--) {
      int swap = p[low];
      p[low] = p[high];
      p[high] = swap;
    }
  }
  return count;
}

// next makes the permutation that follows, and says whether there is one. turns[i]
// is how often the first i+1 numbers have been rotated by one place: after i+1 times
// they are as they were, and it is the turn of one number more.
static int next(int *permutation, int *turns, int n) {
  for (int i = 1; i < n; i++) {
    int first = permutation[0];
    for (int k = 0; k < i; k++) permutation[k] = permutation[k + 1];
    permutation[i] = first;
    if (++turns[i] <= i) return 1;
    turns[i] = 0;
  }
  return 0;
}

int main(void) {
  int n = input(10, 1, MOST);
  int permutation[MOST] = {0}, turns[MOST] = {0};
  for (int i = 0; i < n; i++) permutation[i] = i;
  int most = 0, checksum = 0, sign = 1;
  do {
    int count = flips(permutation);
    if (count > most) most = count;
    checksum += sign * count;
    sign = -sign;
  } while (next(permutation, turns, n));
  printf("{\"n\":%d,\"checksum\":%d,\"flips\":%d}\n", n, checksum, most);
}
