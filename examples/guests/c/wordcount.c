/* wordcount: how often each word is in a text, which is a string of JSON or comes
 * as text/plain.
 *
 *     cloudburst call wordcount '"the cat and the dog"'
 *     {"and":1,"cat":1,"dog":1,"the":2}
 *
 * A word is a run of letters, digits and of whatever is no ASCII, in lower case.
 */
#include "cloudburst.h"

static int part_of_word(unsigned char c) {
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c >= 0x80;
}

static int compare(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* split puts text in lower case and a NUL after each word, and returns the words. */
static char **split(char *text, size_t *count) {
	size_t room = 0, n = 0;
	char **words = NULL;
	int within = 0;
	for (char *p = text; *p != 0; p++) {
		if (*p >= 'A' && *p <= 'Z') {
			*p += 'a' - 'A';
		}
		if (!part_of_word((unsigned char)*p)) {
			*p = 0;
			within = 0;
			continue;
		}
		if (within) {
			continue;
		}
		within = 1;
		if (n == room && (words = realloc(words, (room = 2 * room + 64) * sizeof *words)) == NULL) {
			cb_fail("wordcount: out of memory");
		}
		words[n++] = p;
	}
	*count = n;
	return words;
}

int main(void) {
	cb_value args;
	cb_must(cb_args(&args));
	char *text = cb_is_json(&args) ? cb_string(&args) : args.data;
	if (text == NULL) {
		cb_fail("wordcount: the argument is to be a text");
	}
	size_t count;
	char **words = split(text, &count);
	if (count > 0) {
		qsort(words, count, sizeof *words, compare);
	}
	putchar('{');
	for (size_t i = 0, next; i < count; i = next) {
		for (next = i + 1; next < count && strcmp(words[i], words[next]) == 0; next++) {
		}
		printf("%s\"%s\":%zu", i == 0 ? "" : ",", words[i], next - i);
	}
	puts("}");
	return 0;
}
