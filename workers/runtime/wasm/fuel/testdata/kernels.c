// What the tests and benchmarks run. kernels.wasm is made by build.sh.
typedef unsigned char u8;
typedef unsigned u32;
typedef unsigned long long u64;
#define EXPORT(name) __attribute__((export_name(name), noinline)) u64

static u8 bytes[1 << 20];
static u32 words[1 << 14];

EXPORT("loop") loop(u64 n) { // one that is as tight as can be
	u64 s = 0;
	for (u64 i = 0; i < n; i++) s = (s ^ i) + (s >> 3);
	return s;
}

EXPORT("live") live(u64 n) { // a tight one with many variables
	u64 a = 1, b = 2, c = 3, d = 4, e = 5, f = 6;
	for (u64 i = 0; i < n; i++) { a += b; b ^= c * 3; c += d >> 1; d ^= e << 2; e += f; f ^= a; }
	return a + b + c + d + e + f;
}

EXPORT("sieve") sieve(u64 n) {
	u64 c = 0;
	while (n--) {
		c = 0;
		for (u32 i = 2; i < 1 << 18; i++) bytes[i] = 1;
		for (u32 i = 2; i < 1 << 18; i++)
			if (bytes[i]) {
				c++;
				for (u32 j = 2 * i; j < 1 << 18; j += i) bytes[j] = 0;
			}
	}
	return c;
}

static double A[64][64], B[64][64], C[64][64];

EXPORT("matrix") matrix(u64 n) {
	for (int i = 0; i < 64; i++)
		for (int j = 0; j < 64; j++) A[i][j] = i + j, B[i][j] = i - j;
	while (n--)
		for (int i = 0; i < 64; i++)
			for (int j = 0; j < 64; j++) {
				double s = 0;
				for (int k = 0; k < 64; k++) s += A[i][k] * B[k][j];
				C[i][j] = s;
			}
	return (u64)C[3][5];
}

__attribute__((noinline)) static u64 fib1(u64 n) { return n < 2 ? n : fib1(n - 1) + fib1(n - 2); }
EXPORT("fib") fib(u64 n) { return fib1(n); }

static const char *const texts[] = {"the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "pack", "my", "box", "with", "five", "dozen", "jugs"};
__attribute__((noinline)) static u32 length(const char *s) {
	u32 n = 0;
	while (s[n]) n++;
	return n;
}

EXPORT("strings") strings(u64 n) { // short loops in functions
	u64 s = 0;
	while (n--)
		for (int i = 0; i < 16; i++) s += length(texts[(i + n) & 15]);
	return s;
}

static void quick(u32 *a, int n) {
	while (n > 1) {
		u32 p = a[n / 2];
		int i = 0, j = n - 1;
		for (;;) {
			while (a[i] < p) i++;
			while (a[j] > p) j--;
			if (i >= j) break;
			u32 t = a[i]; a[i++] = a[j]; a[j--] = t;
		}
		if (i < n - i) { quick(a, i); a += i; n -= i; }
		else { quick(a + i, n - i); n = i; }
	}
}

EXPORT("sort") sort(u64 n) {
	u32 x = 1;
	u64 s = 0;
	while (n--) {
		for (int i = 0; i < 1 << 14; i++) { x = x * 1664525 + 1013904223; words[i] = x >> 8; }
		quick(words, 1 << 14);
		s += words[77];
	}
	return s;
}

static const u8 program[] = {0, 1, 2, 3, 1, 4, 2, 5, 6, 7, 8, 3, 2, 1, 0, 4, 9, 10, 11, 12, 13, 14, 15, 5};

EXPORT("interpreter") interpreter(u64 n) { // a large switch in a loop
	u64 pc = 0, acc = 1, x = 2, y = 3, z = 4, st[16];
	for (int i = 0; i < 16; i++) st[i] = i;
	while (n) {
		switch (program[pc++]) {
		case 0: acc += x; break;
		case 1: acc ^= y; break;
		case 2: x = acc + z; break;
		case 3: y = x * 5; break;
		case 4: z = acc >> 3; break;
		case 5: n--; if (pc > 8) pc = 0; break;
		case 6: st[acc & 15] = x; break;
		case 7: x = st[y & 15]; break;
		case 8: acc -= z; break;
		case 9: if (acc & 1) x++; else y++; break;
		case 10: for (int i = 0; i < 4; i++) acc += st[i]; break;
		case 11: acc = acc * 6364136223846793005ull + 1; break;
		case 12: st[x & 15] += acc; break;
		case 13: y = acc & 255; break;
		case 14: z ^= x; break;
		case 15: acc |= 1; break;
		}
	}
	return acc;
}

typedef u64 (*op)(u64, u64);
static u64 add(u64 a, u64 b) { return a + b; }
static u64 sub(u64 a, u64 b) { return a - b; }
static u64 mix(u64 a, u64 b) { for (int i = 0; i < 5; i++) a = a * 31 + b; return a; }
static u64 xor(u64 a, u64 b) { return a ^ b; }
static op volatile table[] = {add, sub, mix, xor};

EXPORT("pointers") pointers(u64 n) { // calls through a table
	u64 a = 1;
	for (u64 i = 0; i < n; i++) a = table[(i * 7 + a) & 3](a, i);
	return a;
}

EXPORT("copies") copies(u64 n) {
	u64 s = 0;
	while (n--)
		for (u32 k = 1; k < 2000; k += 7) {
			__builtin_memcpy(bytes + (1 << 19), bytes + k, k);
			bytes[k] += n;
			s += bytes[(1 << 19) + k / 2];
		}
	return s;
}

EXPORT("fills") fills(u64 n) {
	u64 s = 0;
	while (n--) {
		__builtin_memset(bytes, (int)n, 1 << 20);
		__builtin_memmove(bytes + 100, bytes, (1 << 20) - 100);
		s += bytes[n & 0xfffff] + bytes[(1 << 20) - 1];
	}
	return s;
}

EXPORT("distance") distance(u64 n) { // Levenshtein's
	static u32 row[128];
	u64 s = 0;
	while (n--) {
		for (u32 j = 0; j <= 96; j++) row[j] = j;
		for (u32 i = 0; i < 96; i++) {
			u32 p = row[0];
			row[0] = i + 1;
			for (u32 j = 0; j < 96; j++) {
				u32 c = p + ("abcde"[i * 7 % 5] != "abcde"[(j * j + n) % 5]);
				p = row[j + 1];
				u32 m = row[j] + 1 < p + 1 ? row[j] + 1 : p + 1;
				row[j + 1] = m < c ? m : c;
			}
		}
		s += row[96];
	}
	return s;
}

typedef struct tree { struct tree *l, *r; int v; } tree;
static tree pool[1 << 15];
static int used;
static tree *grow(int d) {
	tree *t = &pool[used++];
	t->v = d;
	t->l = t->r = 0;
	if (d) { t->l = grow(d - 1); t->r = grow(d - 1); }
	return t;
}
static u64 sum(tree *t) { return t ? t->v + sum(t->l) + sum(t->r) : 0; }

EXPORT("trees") trees(u64 n) {
	u64 s = 0;
	while (n--) { used = 0; s += sum(grow(13)); }
	return s;
}

EXPORT("vectors") vectors(u64 n) {
	static float a[4096], b[4096];
	for (int i = 0; i < 4096; i++) a[i] = i, b[i] = 1;
	while (n--)
		for (int i = 0; i < 4096; i++) b[i] = b[i] * .99f + a[i];
	float s = 0;
	for (int i = 0; i < 4096; i++) s += b[i];
	return (u64)s;
}
