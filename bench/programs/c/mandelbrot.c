// Mandelbrot: a picture of N by N points of the Mandelbrot set between -1.5-i and
// 0.5+i, one bit for each. Arithmetic of doubles in a loop that ends when it wants.
//
// The result is how many points are in the set, as far as 50 steps can tell, and a
// checksum (32-bit FNV-1a) of the picture's bytes, row by row and each row filled up
// to a whole byte: {"n":200,"inside":15899,"checksum":3419197333}
#include <stdint.h>

#include "input.h"

enum { STEPS = 50 };

// inside says whether z*z+c, again and again from 0, stays within 2 of 0.
static int inside(double re, double im) {
  double x = 0, y = 0, xx = 0, yy = 0;
  for (int i = 0; i < STEPS; i++) {
    y = 2 * x * y + im;
    x = xx - yy + re;
    xx = x * x;
    yy = y * y;
    if (xx + yy > 4) return 0;
  }
  return 1;
}

int main(void) {
  int n = input(3500, 1, 20000);
  uint32_t checksum = 2166136261u;
  int count = 0;
  for (int row = 0; row < n; row++) {
    double im = 2.0 * row / n - 1;
    unsigned byte = 0;
    for (int column = 0; column < (n + 7) / 8 * 8; column++) {
      int bit = column < n && inside(2.0 * column / n - 1.5, im);
      count += bit;
      byte = byte << 1 | (unsigned)bit;
      if (column % 8 == 7) {
        checksum = (checksum ^ byte) * 16777619u;
        byte = 0;
      }
    }
  }
  printf("{\"n\":%d,\"inside\":%d,\"checksum\":%u}\n", n, count, (unsigned)checksum);
}
