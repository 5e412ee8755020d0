/* square: the argument times itself. No SDK: a number in, a number out.
 *
 *     clang --target=wasm32-wasi -O2 -Wl,-s -o square.wasm square.c
 *     cloudburst fn deploy square square.wasm
 *     cloudburst call square 5
 */
#include <stdio.h>

int main(void) {
	long long x, square;
	char more;
	if (scanf("%lld %c", &x, &more) != 1) {
		fputs("square: the argument is to be a whole number\n", stderr);
		return 1;
	}
	if (__builtin_mul_overflow(x, x, &square)) {
		fputs("square: the result doesn't fit into 64 bits\n", stderr);
		return 1;
	}
	printf("%lld\n", square);
	return 0;
}
