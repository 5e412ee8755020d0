/* Asks for everything that cloudburst.h has, and fails where the answer is wrong. */
#include "../cloudburst.h"

#define CHECK(what) \
	if (!(what)) { \
		fprintf(stderr, "line %d: %s; the last error: %s\n", __LINE__, #what, cb_error()); \
		return 1; \
	}

static int is(const cb_value *v, const char *type, const char *text) {
	return strcmp(v->data, text) == 0 && v->len == strlen(text) && (type == NULL || strcmp(v->type, type) == 0);
}

static int state(void) {
	cb_value v;
	CHECK(cb_get(NULL, "k", &v) == CB_NOTHING && v.data == NULL)
	cb_free(&v);
	CHECK(cb_put(NULL, "k", NULL, "{\"a\":1}", 7) == CB_OK)
	CHECK(cb_get(NULL, "k", &v) == CB_OK && is(&v, "", "{\"a\":1}") && cb_is_json(&v))
	cb_free(&v);
	CHECK(cb_get("other", "k", &v) == CB_NOTHING)
	CHECK(cb_put("other", "k", "image/png", "\0\1\2", 3) == CB_OK)
	CHECK(cb_get("other", "k", &v) == CB_OK && v.len == 3 && memcmp(v.data, "\0\1\2", 4) == 0 && !cb_is_json(&v))
	cb_free(&v);
	CHECK(cb_delete(NULL, "k") == CB_OK && cb_get(NULL, "k", &v) == CB_NOTHING)
	CHECK(cb_put(NULL, "k", NULL, "{", 1) == CB_ERROR && strcmp(cb_error_kind(), "bad argument") == 0)
	CHECK(strstr(cb_error(), "JSON") != NULL)
	CHECK(cb_put(NULL, "empty", "text/plain", NULL, 0) == CB_OK && cb_get(NULL, "empty", &v) == CB_OK && is(&v, "text/plain", ""))
	cb_free(&v);
	return 0;
}

static int lattices(void) {
	cb_value v;
	CHECK(cb_update(NULL, "c", "counter", "5") == CB_OK && cb_update(NULL, "c", "counter", "-2") == CB_OK)
	CHECK(cb_read(NULL, "c", "counter", &v) == CB_OK && is(&v, NULL, "3"))
	cb_free(&v);
	CHECK(cb_update(NULL, "o", "orset", "{\"add\":[\"x\",\"y\"]}") == CB_OK)
	CHECK(cb_read(NULL, "o", "orset", &v) == CB_OK && is(&v, NULL, "[\"x\",\"y\"]"))
	cb_free(&v);
	CHECK(cb_read(NULL, "m", "max", &v) == CB_NOTHING)
	CHECK(cb_update(NULL, "c", "set", "[1]") == CB_ERROR)
	return 0;
}

static int messages(void) {
	cb_value id, v;
	char *from = NULL;
	CHECK(cb_id(&id) == CB_OK && strcmp(id.data, "run-1") == 0)
	CHECK(cb_recv(0, NULL, &v) == CB_NOTHING)
	CHECK(cb_send(id.data, "text/plain", "one", 3) == CB_OK && cb_send(id.data, NULL, "2", 1) == CB_OK)
	CHECK(cb_recv(1000, &from, &v) == CB_OK && strcmp(from, id.data) == 0 && is(&v, "text/plain", "one"))
	free(from);
	cb_free(&v);
	CHECK(cb_recv(1000, NULL, &v) == CB_OK && is(&v, "", "2"))
	cb_free(&v);
	CHECK(cb_send("", NULL, "1", 1) == CB_ERROR && strcmp(cb_error_kind(), "bad name") == 0)
	cb_free(&id);
	return 0;
}

static int strings(void) {
	static const struct {
		const char *json, *text;
	} cases[] = {
		{"\"\"", ""}, {" \"a b\"\n", "a b"}, {"\"\\\"\\\\\\/\\n\\t\"", "\"\\/\n\t"}, {"\"\\u00e9\\u20AC\\ud83d\\ude00\"", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
		{"\"\\ud83d!\"", "\xef\xbf\xbd!"}, {"\"", NULL}, {"\"a", NULL}, {"\"a\\\"", NULL}, {"\"a\" 1", NULL}, {"\"\\u12\"", NULL}, {"\"\\x\"", NULL}, {"7", NULL}, {"", NULL},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		cb_value v = {(char *)cases[i].json, strlen(cases[i].json), ""};
		char *s = cb_string(&v);
		if ((s == NULL) != (cases[i].text == NULL) || (s != NULL && strcmp(s, cases[i].text) != 0)) {
			fprintf(stderr, "%s is read as %s\n", cases[i].json, s == NULL ? "nothing" : s);
			return 1;
		}
		free(s);
	}
	return 0;
}

int main(void) {
	cb_value v;
	CHECK(cb_args(&v) == CB_OK && is(&v, "", "[1,2]"))
	cb_free(&v);
	CHECK(cb_info(&v) == CB_OK && strstr(v.data, "\"function\":\"everything\"") != NULL)
	cb_free(&v);
	CHECK(cb_call("echo", "text/plain", "hello", 5, &v) == CB_OK && is(&v, "text/plain", "hello"))
	cb_free(&v);
	CHECK(cb_call("missing", NULL, NULL, 0, &v) == CB_ERROR && strcmp(cb_error_kind(), "unknown") == 0)
	CHECK(cb_log("a line") == CB_OK)
	if (state() || lattices() || messages() || strings()) {
		return 1;
	}
	return cb_must(cb_return_json("\"all is well\""));
}
