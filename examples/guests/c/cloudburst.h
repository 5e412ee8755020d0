/* cloudburst.h: what a WebAssembly guest in C asks its host for.
 *
 *     cb_value total;
 *     cb_must(cb_update(NULL, "visits", "counter", "1"));
 *     cb_must(cb_read(NULL, "visits", "counter", &total));
 *     cb_return_json(total.data);
 *
 * A namespace NULL is the function's own, a type NULL is JSON.
 *
 * Whose memory is it? What is passed in stays the caller's, and is not kept. What
 * comes back in a cb_value is the caller's from then on: cb_free it, or leave it,
 * as a call's memory goes when the call ends. A cb_value is only ever set by
 * CB_OK; otherwise it is empty, and may be freed all the same. There is nothing
 * to link with: include this header in one file or in several.
 */
#ifndef CLOUDBURST_H
#define CLOUDBURST_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How a request ended. */
enum {
	CB_OK = 0,
	CB_NOTHING = 1, /* nothing is there */
	CB_ERROR = -1   /* cb_error() tells why */
};

/* A value: its bytes, and a NUL after them that len doesn't count, so that text
 * can be used as a string. The type is a MIME type, "" is JSON. */
typedef struct {
	char *data;
	size_t len;
	char *type;
} cb_value;

/* --- the protocol, which docs/wasm.md describes ------------------------------- */

__attribute__((import_module("cloudburst"), import_name("request"))) int32_t cb_host_request(const void *ptr, int32_t len);
__attribute__((import_module("cloudburst"), import_name("response"))) void cb_host_response(void *ptr);

typedef struct {
	const void *data;
	size_t len;
} cb_field;

static inline cb_field cb_bytes(const void *data, size_t len) {
	cb_field f = {data, len};
	return f;
}

static inline cb_field cb_text(const char *s) {
	return cb_bytes(s, s == NULL ? 0 : strlen(s));
}

/* cb_last is the last response: a status, then fields. One for each file that
 * includes the header. */
static struct {
	unsigned char *data;
	size_t len;
	char *error;
	char *kind;
} cb_last;

static inline void *cb_alloc(size_t n) {
	void *p = malloc(n);
	if (p == NULL) {
		fputs("out of memory\n", stderr);
		exit(1);
	}
	return p;
}

/* cb_take takes the field at *at off the last response, and a NUL after it. */
static inline char *cb_take(size_t *at, size_t *len) {
	uint32_t n = 0;
	if (cb_last.len - *at >= 4) {
		const unsigned char *p = cb_last.data + *at;
		n = p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
		*at += 4;
	}
	if (n > cb_last.len - *at) {
		n = cb_last.len - *at;
	}
	char *s = cb_alloc((size_t)n + 1);
	memcpy(s, cb_last.data + *at, n);
	s[n] = 0;
	*at += n;
	if (len != NULL) {
		*len = n;
	}
	return s;
}

/* cb_request asks for op and keeps the response in cb_last. */
static inline int cb_request(char op, int count, const cb_field *fields) {
	size_t len = 1;
	for (int i = 0; i < count; i++) {
		len += 4 + fields[i].len;
	}
	unsigned char *request = cb_alloc(len), *p = request;
	*p++ = (unsigned char)op;
	for (int i = 0; i < count; i++) {
		size_t n = fields[i].len;
		*p++ = n & 255, *p++ = n >> 8 & 255, *p++ = n >> 16 & 255, *p++ = n >> 24 & 255;
		if (n > 0) {
			memcpy(p, fields[i].data, n);
		}
		p += n;
	}
	cb_last.len = (size_t)cb_host_request(request, (int32_t)len);
	free(request);
	free(cb_last.data);
	cb_last.data = cb_alloc(cb_last.len);
	cb_host_response(cb_last.data);
	if (cb_last.data[0] != 'e') {
		return cb_last.data[0] == 'o' ? CB_OK : CB_NOTHING;
	}
	size_t at = 1;
	free(cb_last.kind);
	free(cb_last.error);
	cb_last.kind = cb_take(&at, NULL);
	cb_last.error = cb_take(&at, NULL);
	return CB_ERROR;
}

/* cb_result makes a value of the last response's fields. */
static inline int cb_result(int status, int typed, cb_value *out) {
	size_t at = 1;
	memset(out, 0, sizeof *out);
	if (status == CB_OK) {
		out->type = typed ? cb_take(&at, NULL) : NULL;
		out->data = cb_take(&at, &out->len);
	}
	return status;
}

/* --- errors and memory ---------------------------------------------------------- */

/* cb_error says why the last request failed; its memory is the library's. */
static inline const char *cb_error(void) { return cb_last.error == NULL ? "no error" : cb_last.error; }

/* cb_error_kind is the kind of that error in words, such as "bad argument". */
static inline const char *cb_error_kind(void) { return cb_last.kind == NULL ? "" : cb_last.kind; }

/* cb_fail ends the call with an error of this text. */
static inline _Noreturn void cb_fail(const char *why) {
	fprintf(stderr, "%s\n", why);
	exit(1);
}

/* cb_must ends the call if a request failed; else it returns the status. */
static inline int cb_must(int status) {
	if (status == CB_ERROR) {
		cb_fail(cb_error());
	}
	return status;
}

/* cb_free gives a value's memory back. */
static inline void cb_free(cb_value *v) {
	free(v->data);
	free(v->type);
	memset(v, 0, sizeof *v);
}

/* --- state ---------------------------------------------------------------------- */

/* cb_get reads a key: CB_NOTHING if it was never written. */
static inline int cb_get(const char *ns, const char *key, cb_value *out) {
	cb_field f[] = {cb_text(ns), cb_text(key)};
	return cb_result(cb_request('g', 2, f), 1, out);
}

/* cb_put writes a key. It is stored when the call has ended well. */
static inline int cb_put(const char *ns, const char *key, const char *type, const void *data, size_t len) {
	cb_field f[] = {cb_text(ns), cb_text(key), cb_text(type), cb_bytes(data, len)};
	return cb_request('p', 4, f);
}

/* cb_delete removes a key. */
static inline int cb_delete(const char *ns, const char *key) {
	cb_field f[] = {cb_text(ns), cb_text(key)};
	return cb_request('d', 2, f);
}

/* cb_update writes to a lattice. By its kind, change is JSON: a number for
 * "counter" and "gcounter", an array to add for "set", a number or string for
 * "max" and "min", {"add":[...],"remove":[...]} for "orset". */
static inline int cb_update(const char *ns, const char *key, const char *kind, const char *change) {
	cb_field f[] = {cb_text(ns), cb_text(key), cb_text(kind), cb_text(change)};
	return cb_request('u', 4, f);
}

/* cb_read reads a lattice as JSON. */
static inline int cb_read(const char *ns, const char *key, const char *kind, cb_value *out) {
	cb_field f[] = {cb_text(ns), cb_text(key), cb_text(kind)};
	return cb_result(cb_request('r', 3, f), 0, out);
}

/* --- other functions ------------------------------------------------------------ */

/* cb_start starts a function or DAG; run->data is the run's id. */
static inline int cb_start(const char *name, const char *type, const void *data, size_t len, cb_value *run) {
	cb_field f[] = {cb_text(name), cb_text(type), cb_bytes(data, len)};
	return cb_result(cb_request('s', 3, f), 0, run);
}

/* cb_await waits for a run, and takes what it returned. */
static inline int cb_await(const char *run, cb_value *out) {
	cb_field f[] = {cb_text(run)};
	return cb_result(cb_request('w', 1, f), 1, out);
}

/* cb_call calls a function or DAG and waits for what it returns. */
static inline int cb_call(const char *name, const char *type, const void *data, size_t len, cb_value *out) {
	cb_value run;
	int status = cb_start(name, type, data, len, &run);
	if (status != CB_OK) {
		memset(out, 0, sizeof *out);
		return status;
	}
	status = cb_await(run.data, out);
	cb_free(&run);
	return status;
}

/* --- messages between calls that run -------------------------------------------- */

/* cb_send sends a message to an execution, by its id: it is stored, and comes once it
 * listens. */
static inline int cb_send(const char *to, const char *type, const void *data, size_t len) {
	cb_field f[] = {cb_text(to), cb_text(type), cb_bytes(data, len)};
	return cb_request('m', 3, f);
}

/* cb_recv takes the next message, those of one sender in their order: CB_NOTHING if
 * none has come within so many milliseconds. from is set to the sender's id, which is
 * the caller's to free; NULL drops it. */
static inline int cb_recv(int wait_ms, char **from, cb_value *out) {
	char text[16];
	snprintf(text, sizeof text, "%d", wait_ms);
	cb_field f[] = {cb_text(text)};
	int status = cb_request('c', 1, f);
	size_t at = 1;
	memset(out, 0, sizeof *out);
	if (status != CB_OK) {
		return status;
	}
	char *sender = cb_take(&at, NULL);
	out->type = cb_take(&at, NULL);
	out->data = cb_take(&at, &out->len);
	if (from != NULL) {
		*from = sender;
	} else {
		free(sender);
	}
	return CB_OK;
}

/* --- the call itself ------------------------------------------------------------ */

/* cb_args is the call's argument. It can be read from stdin as well. */
static inline int cb_args(cb_value *out) { return cb_result(cb_request('a', 0, NULL), 1, out); }

/* cb_return sets the result, which can be written to stdout instead. */
static inline int cb_return(const char *type, const void *data, size_t len) {
	cb_field f[] = {cb_text(type), cb_bytes(data, len)};
	return cb_request('t', 2, f);
}

/* cb_return_json sets the result to JSON. */
static inline int cb_return_json(const char *json) { return cb_return(NULL, json, strlen(json)); }

/* cb_info is JSON that describes the call: run, function, node, attempt, namespace, id. */
static inline int cb_info(cb_value *out) { return cb_result(cb_request('i', 0, NULL), 0, out); }

/* cb_id is the execution's id, which others send messages to. */
static inline int cb_id(cb_value *out) {
	static const char field[] = "\"id\":\"";
	int status = cb_info(out);
	if (status != CB_OK) {
		return status;
	}
	char *id = strstr(out->data, field);
	if (id == NULL) {
		cb_free(out);
		return CB_NOTHING;
	}
	id += sizeof field - 1;
	out->len = strcspn(id, "\"");
	memmove(out->data, id, out->len);
	out->data[out->len] = 0;
	return CB_OK;
}

/* cb_log writes a line to the call's log, as does stderr. */
static inline int cb_log(const char *text) {
	cb_field f[] = {cb_text(text)};
	return cb_request('l', 1, f);
}

/* --- strings of JSON ------------------------------------------------------------ */

static inline int cb_is_json(const cb_value *v) {
	return v->type == NULL || v->type[0] == 0 || strncmp(v->type, "application/json", 16) == 0;
}

static inline char *cb_put_rune(char *to, uint32_t c) {
	if (c < 0x80) {
		*to++ = (char)c;
		return to;
	}
	if (c < 0x800) {
		*to++ = (char)(0xC0 | c >> 6);
	} else {
		if (c < 0x10000) {
			*to++ = (char)(0xE0 | c >> 12);
		} else {
			*to++ = (char)(0xF0 | c >> 18);
			*to++ = (char)(0x80 | (c >> 12 & 63));
		}
		*to++ = (char)(0x80 | (c >> 6 & 63));
	}
	*to++ = (char)(0x80 | (c & 63));
	return to;
}

static inline int cb_hex4(const char *p, uint32_t *c) {
	*c = 0;
	for (int i = 0; i < 4; i++) {
		char d = p[i];
		int digit = d >= '0' && d <= '9' ? d - '0' : (d | 32) >= 'a' && (d | 32) <= 'f' ? (d | 32) - 'a' + 10 : -1;
		if (digit < 0) {
			return 0;
		}
		*c = *c << 4 | (uint32_t)digit;
	}
	return 1;
}

/* cb_unescape writes what an escape stands for, of which p is past the backslash,
 * and returns where it ends; NULL if there is no such escape. */
static inline const char *cb_unescape(const char *p, char **to) {
	static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
	const char *known;
	uint32_t c, low;
	if (*p != 0 && (known = strchr(from, *p)) != NULL) {
		*(*to)++ = into[known - from];
		return p + 1;
	}
	if (*p != 'u' || !cb_hex4(p + 1, &c)) {
		return NULL;
	}
	p += 5;
	if (c >= 0xD800 && c < 0xDC00 && p[0] == '\\' && p[1] == 'u' && cb_hex4(p + 2, &low) && low >= 0xDC00 && low < 0xE000) {
		c = 0x10000 + ((c - 0xD800) << 10 | (low - 0xDC00));
		p += 6;
	}
	*to = cb_put_rune(*to, c >= 0xD800 && c < 0xE000 ? 0xFFFD : c); /* half a pair is no character */
	return p;
}

/* cb_string returns what a string of JSON says, NUL at its end, to be freed; NULL
 * if v is not one string. */
static inline char *cb_string(const cb_value *v) {
	const char *p = v->data, *space = " \t\r\n";
	if (p == NULL) {
		return NULL;
	}
	p += strspn(p, space);
	if (*p++ != '"') {
		return NULL;
	}
	char *s = cb_alloc(v->len + 1), *to = s; /* no escape is shorter than what it stands for */
	while (p != NULL && *p != '"' && *p != 0) {
		if (*p == '\\') {
			p = cb_unescape(p + 1, &to);
		} else {
			*to++ = *p++;
		}
	}
	if (p == NULL || *p != '"' || p[1 + strspn(p + 1, space)] != 0) {
		free(s);
		return NULL;
	}
	*to = 0;
	return s;
}

#endif
