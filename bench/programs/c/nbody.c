// N-body: the sun and four planets for N steps of a hundredth of a day. Arithmetic
// of doubles, most of it in one small loop.
//
// The result is the energy of the system before and after, of which a good
// integration loses next to nothing: {"n":1000,"before":-0.169075164,"after":-0.169087605}
#include <math.h>

#include "input.h"

enum { BODIES = 5 };

static const double pi = 3.141592653589793;
static const double year = 365.24; // days
static const double step = 0.01;

// Places are in astronomical units, speeds in those per year, masses such that the
// constant of gravity is 1.
typedef struct {
  double at[3], speed[3], mass;
} body;

// Where the bodies are at the start: speeds per day, masses in suns.
static body bodies[BODIES] = {
    {{0, 0, 0}, {0, 0, 0}, 1}, // the sun
    {{4.84143144246472090e+00, -1.16032004402742839e+00, -1.03622044471123109e-01}, // Jupiter
     {1.66007664274403694e-03, 7.69901118419740425e-03, -6.90460016972063023e-05},
     9.54791938424326609e-04},
    {{8.34336671824457987e+00, 4.12479856412430479e+00, -4.03523417114321381e-01}, // Saturn
     {-2.76742510726411899e-03, 4.99852801234917238e-03, 2.30417297573763929e-05},
     2.85885980666130812e-04},
    {{1.28943695621391310e+01, -1.51111514016986312e+01, -2.23307578892655734e-01}, // Uranus
     {2.96460137564761618e-03, 2.37847173959480950e-03, -2.96589568540237556e-05},
     4.36624404335156298e-05},
    {{1.53796971148509165e+01, -2.59193146099879641e+01, 1.79258772950371181e-01}, // Neptune
     {2.68067772490389322e-03, 1.62824170038242295e-03, -9.51592254519715870e-05},
     5.15138902046611451e-05},
};

// begin takes the numbers to the units of the program, and the momentum out of the
// system by moving the sun.
static void begin(void) {
  double sun = 4 * pi * pi;
  for (int i = 0; i < BODIES; i++) {
    bodies[i].mass *= sun;
    for (int k = 0; k < 3; k++) {
      bodies[i].speed[k] *= year;
      bodies[0].speed[k] -= bodies[i].speed[k] * bodies[i].mass / sun;
    }
  }
}

static void advance(void) {
  for (int i = 0; i < BODIES; i++) {
    body *a = &bodies[i];
    for (int j = i + 1; j < BODIES; j++) {
      body *b = &bodies[j];
      double x = a->at[0] - b->at[0], y = a->at[1] - b->at[1], z = a->at[2] - b->at[2];
      double square = x * x + y * y + z * z;
      double pull = step / (square * sqrt(square));
      double on_a = b->mass * pull, on_b = a->mass * pull;
      a->speed[0] -= x * on_a;
      a->speed[1] -= y * on_a;
      a->speed[2] -= z * on_a;
      b->speed[0] += x * on_b;
      b->speed[1] += y * on_b;
      b->speed[2] += z * on_b;
    }
  }
  for (int i = 0; i < BODIES; i++)
    for (int k = 0; k < 3; k++) bodies[i].at[k] += step * bodies[i].speed[k];
}

static double energy(void) {
  double sum = 0;
  for (int i = 0; i < BODIES; i++) {
    const body *a = &bodies[i];
    sum += a->mass * (a->speed[0] * a->speed[0] + a->speed[1] * a->speed[1] + a->speed[2] * a->speed[2]) / 2;
    for (int j = i + 1; j < BODIES; j++) {
      const body *b = &bodies[j];
      double x = a->at[0] - b->at[0], y = a->at[1] - b->at[1], z = a->at[2] - b->at[2];
      sum -= a->mass * b->mass / sqrt(x * x + y * y + z * z);
    }
  }
  return sum;
}

int main(void) {
  int n = input(10000000, 0, 1000000000);
  begin();
  double before = energy();
  for (int i = 0; i < n; i++) advance();
  printf("{\"n\":%d,\"before\":%.9f,\"after\":%.9f}\n", n, before, energy());
}
