/* jansson reads the body. What it does not take is scanned once more, for the words in which Go's
 * encoding/json complains: at the end of the text Go feeds one blank to see whether the state minds. */
#include "etcd/members_request.h"
#include "base/text.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { DEPTH_MAX = 1000 };

/* ---- Where Go's scanner stops ---- */

struct scan {
	struct slice text;
	size_t at;
	char *error; /* of size_bytes */
	size_t size_bytes;
};

static bool at_end(const struct scan *scan)
{
	return scan->at >= scan->text.len;
}

static char current(const struct scan *scan)
{
	return at_end(scan) ? ' ' : scan->text.data[scan->at];
}

static bool fail_end(struct scan *scan)
{
	(void)snprintf(scan->error, scan->size_bytes, "unexpected end of JSON input");
	return false;
}

static bool fail_at(struct scan *scan, const char *context)
{
	unsigned char c = (unsigned char)current(scan);
	char shown[8];

	if (c == '\'')
		(void)snprintf(shown, sizeof(shown), "\\'");
	else if (c < ' ' || c >= 0x7f)
		(void)snprintf(shown, sizeof(shown), "\\x%02x", c);
	else
		(void)snprintf(shown, sizeof(shown), c == '\\' ? "\\\\" : "%c", c);
	(void)snprintf(scan->error, scan->size_bytes, "invalid character '%s' %s", shown, context);
	return false;
}

static void skip_blanks(struct scan *scan)
{
	while (!at_end(scan) && current(scan) && strchr(" \t\r\n", current(scan)))
		scan->at++;
}

static bool scan_escape(struct scan *scan)
{
	if (at_end(scan) || !current(scan) || !strchr("bfnrt\\/\"u", current(scan)))
		return fail_at(scan, "in string escape code");
	if (scan->text.data[scan->at++] != 'u')
		return true;
	for (int i = 0; i < 4; i++, scan->at++)
		if (at_end(scan) || !current(scan) || !strchr("0123456789abcdefABCDEF", current(scan)))
			return fail_at(scan, "in \\u hexadecimal character escape");
	return true;
}

/* The opening quote has been read. */
static bool scan_string(struct scan *scan)
{
	while (!at_end(scan) && current(scan) != '"') {
		if ((unsigned char)current(scan) < ' ')
			return fail_at(scan, "in string literal");
		if (scan->text.data[scan->at++] == '\\' && !scan_escape(scan))
			return false;
	}
	if (at_end(scan))
		return fail_end(scan);
	scan->at++;
	return true;
}

static bool scan_digits(struct scan *scan, const char *context)
{
	size_t from = scan->at;

	while (!at_end(scan) && current(scan) >= '0' && current(scan) <= '9')
		scan->at++;
	return scan->at > from || fail_at(scan, context);
}

static bool scan_number(struct scan *scan)
{
	scan->at += current(scan) == '-';
	if (current(scan) == '0')
		scan->at++;
	else if (!scan_digits(scan, "in numeric literal"))
		return false;
	if (current(scan) == '.') {
		scan->at++;
		if (!scan_digits(scan, "after decimal point in numeric literal"))
			return false;
	}
	if (current(scan) == 'e' || current(scan) == 'E') {
		scan->at++;
		scan->at += current(scan) == '+' || current(scan) == '-';
		return scan_digits(scan, "in exponent of numeric literal");
	}
	return true;
}

static bool scan_literal(struct scan *scan, const char *literal)
{
	char context[64];

	for (size_t i = 0; literal[i]; i++, scan->at++) {
		if (!at_end(scan) && current(scan) == literal[i])
			continue;
		(void)snprintf(
			context, sizeof(context), "in literal %s (expecting '%c')", literal, literal[i]);
		return fail_at(scan, context);
	}
	return true;
}

static bool scan_value(struct scan *scan, unsigned depth);

/* An array or an object, whose opening bracket has been read. */
static bool scan_items(struct scan *scan, unsigned depth, char close, const char *after)
{
	skip_blanks(scan);
	if (!at_end(scan) && current(scan) == close) {
		scan->at++;
		return true;
	}
	for (;;) {
		if (close == '}') {
			skip_blanks(scan);
			if (at_end(scan))
				return fail_end(scan);
			if (current(scan) != '"')
				return fail_at(scan, "looking for beginning of object key string");
			scan->at++;
			if (!scan_string(scan))
				return false;
			skip_blanks(scan);
			if (at_end(scan))
				return fail_end(scan);
			if (current(scan) != ':')
				return fail_at(scan, "after object key");
			scan->at++;
		}
		if (!scan_value(scan, depth + 1))
			return false;
		skip_blanks(scan);
		if (at_end(scan))
			return fail_end(scan);
		if (current(scan) != ',' && current(scan) != close)
			return fail_at(scan, after);
		if (scan->text.data[scan->at++] == close)
			return true;
	}
}

static bool scan_value(struct scan *scan, unsigned depth)
{
	skip_blanks(scan);
	if (at_end(scan))
		return fail_end(scan);
	if (depth > DEPTH_MAX) {
		(void)snprintf(scan->error, scan->size_bytes, "exceeded max depth");
		return false;
	}
	switch (current(scan)) {
	case '{':
		scan->at++;
		return scan_items(scan, depth, '}', "after object key:value pair");
	case '[':
		scan->at++;
		return scan_items(scan, depth, ']', "after array element");
	case '"':
		scan->at++;
		return scan_string(scan);
	case 't':
		return scan_literal(scan, "true");
	case 'f':
		return scan_literal(scan, "false");
	case 'n':
		return scan_literal(scan, "null");
	default:
		if (current(scan) == '-' || (current(scan) >= '0' && current(scan) <= '9'))
			return scan_number(scan);
		return fail_at(scan, "looking for beginning of value");
	}
}

static const char *complaint(struct arena *arena, struct slice body)
{
	char error[160] = "invalid JSON";
	struct scan scan = {.text = body, .error = error, .size_bytes = sizeof(error)};

	if (scan_value(&scan, 0)) {
		skip_blanks(&scan);
		if (!at_end(&scan))
			(void)fail_at(&scan, "after top-level value");
	}
	return arena_strndup(arena, error, strlen(error));
}

/* ---- What it says ---- */

static const char *kind_of(const json_t *value)
{
	return json_is_array(value)	? "array"
	       : json_is_object(value)	? "object"
	       : json_is_string(value)	? "string"
	       : json_is_boolean(value) ? "bool"
					: "number";
}

/* Go finds fields whatever the case of their letters. */
static const json_t *find_urls(const json_t *root)
{
	const char *name;
	json_t *value;
	const json_t *found = NULL;

	json_object_foreach((json_t *)(uintptr_t)root, name, value)
	{
		if (strcasecmp(name, "peerURLs") == 0)
			found = value;
	}
	return found;
}

static int url_order(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static const char *take_url(struct arena *arena, const char *text, struct members_request *request)
{
	_cleanup_buf_ struct buf why = BUF_INIT(4096);
	struct slice trimmed = text_trim(slice_str(text));
	const char *url = arena_strndup(arena, trimmed.data, trimmed.len);

	if (request->url_count == IDENTITY_URLS_MAX)
		return arena_printf(arena, "more than %d peer URLs", IDENTITY_URLS_MAX);
	if (identity_check_url(url, &why) < 0)
		return arena_strndup(arena, buf_text(&why), why.len);
	if (strncmp(url, "https:", 6) == 0)
		return arena_printf(arena, "TLS is not supported yet, use http: %s", url);
	request->urls[request->url_count++] = url;
	return NULL;
}

static const char *take_urls(struct arena *arena, const json_t *root, struct members_request *request)
{
	const json_t *urls;

	if (!json_is_object(root) && !json_is_null(root))
		return arena_printf(arena,
			"json: cannot unmarshal %s into Go value of type struct { PeerURLs []string "
			"\"json:\\\"peerURLs\\\"\" }",
			kind_of(root));
	urls = find_urls(root);
	if (urls && !json_is_array(urls) && !json_is_null(urls))
		return arena_printf(arena,
			"json: cannot unmarshal %s into Go struct field .peerURLs of type []string",
			kind_of(urls));
	for (size_t i = 0; i < json_array_size(urls); i++) {
		const json_t *item = json_array_get(urls, i);
		const char *text = json_is_null(item) ? "" : json_string_value(item), *wrong;

		if (!text)
			return arena_printf(arena,
				"json: cannot unmarshal %s into Go struct field .peerURLs of type string",
				kind_of(item));
		wrong = take_url(arena, text, request);
		if (wrong)
			return wrong;
	}
	return request->url_count ? NULL : "no valid URLs given";
}

int members_request_parse(struct arena *arena, const struct slice *content_type, struct slice body,
	struct members_request *ret_request, const char **ret_message)
{
	json_t *root;

	*ret_request = (struct members_request){0};
	if (!content_type || !slice_is(*content_type, "application/json")) {
		*ret_message = arena_printf(arena, "Bad Content-Type %.*s, accept application/json",
			content_type ? (int)MIN(content_type->len, (size_t)1024) : 0,
			content_type ? content_type->data : "");
		return 415;
	}
	root = json_loadb(
		body.data ? body.data : "", body.len, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL);
	*ret_message = root ? take_urls(arena, root, ret_request) : complaint(arena, body);
	json_decref(root);
	if (*ret_message)
		return 400;
	qsort(ret_request->urls, ret_request->url_count, sizeof(ret_request->urls[0]), url_order);
	return 0;
}
