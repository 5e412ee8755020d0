// Binary-trees: makes, walks and frees a great many binary trees without anything in
// them, the deepest of depth N+1. Allocation, and following pointers.
//
// The result is the number of nodes that were walked, of the deepest tree, of one
// that lives to the end, and of all the others:
// {"n":10,"deepest":4095,"longest":2047,"others":129712}
#include <stdint.h>

#include "input.h"

enum { LEAST = 4 };

typedef struct node {
  struct node *left, *right;
} node;

static node *make(int depth) {
  node *n = malloc(sizeof *n);
  if (!n) {
    fputs("out of memory\n", stderr);
    exit(1);
  }
  n->left = depth ? make(depth - 1) : NULL;
  n->right = depth ? make(depth - 1) : NULL;
  return n;
}

static int64_t walk(const node *n) { return n->left ? 1 + walk(n->left) + walk(n->right) : 1; }

static void drop(node *n) {
  if (n->left) {
    drop(n->left);
    drop(n->right);
  }
  free(n);
}

static int64_t once(int depth) {
  node *n = make(depth);
  int64_t nodes = walk(n);
  drop(n);
  return nodes;
}

int main(void) {
  int n = input(17, 0, 20);
  if (n < LEAST + 2) n = LEAST + 2;
  int64_t deepest = once(n + 1), others = 0;
  node *longest = make(n);
  for (int depth = LEAST; depth <= n; depth += 2)
    for (int i = 0; i < 1 << (n - depth + LEAST); i++) others += once(depth);
  printf("{\"n\":%d,\"deepest\":%lld,\"longest\":%lld,\"others\":%lld}\n", n, (long long)deepest, (long long)walk(longest), (long long)others);
  drop(longest);
}
