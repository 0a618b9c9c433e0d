/* One pass over the text; every piece is checked by the rules of Go's net/url before it is copied out, so
 * that a struct url is either whole or empty. */
#include "io/url.h"
#include "base/text.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

static int _printf_(2, 3) fail(struct buf *reterr, const char *format, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list args;

	if (!reterr)
		return -EINVAL;
	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	if (text)
		buf_add_str(reterr, text);
	return -EINVAL;
}

static bool escape_is_valid(struct slice text, size_t at)
{
	return at + 2 < text.len && text_hex_digit(text.data[at + 1]) >= 0 &&
	       text_hex_digit(text.data[at + 2]) >= 0;
}

static int fail_escape(struct buf *reterr, struct slice text, size_t at)
{
	if (reterr) {
		buf_add_str(reterr, "invalid URL escape ");
		text_add_quoted(reterr, slice_make(text.data + at, MIN(text.len - at, (size_t)3)));
	}
	return -EINVAL;
}

/* How many bytes there are before the first that stands for another one. */
static size_t literal_run(struct slice text, bool plus_is_blank)
{
	const char *mark = text.len ? memchr(text.data, '%', text.len) : NULL;

	if (mark)
		text.len = (size_t)(mark - text.data);
	mark = plus_is_blank && text.len ? memchr(text.data, '+', text.len) : NULL;
	return mark ? (size_t)(mark - text.data) : text.len;
}

/* Decodes to `at`, which may be text.data itself; answers the length, or -EINVAL and where the bad escape
 * stands. */
static ssize_t decode(char *at, struct slice text, bool plus_is_blank, size_t *ret_bad)
{
	size_t len = literal_run(text, plus_is_blank);

	if (len && at != text.data)
		memcpy(at, text.data, len);
	for (size_t i = len; i < text.len; i++) {
		char c = text.data[i];

		if (c == '%') {
			if (!escape_is_valid(text, i)) {
				*ret_bad = i;
				return -EINVAL;
			}
			c = (char)(text_hex_digit(text.data[i + 1]) << 4 | text_hex_digit(text.data[i + 2]));
			i += 2;
		} else if (c == '+' && plus_is_blank) {
			c = ' ';
		}
		at[len++] = c;
	}
	return (ssize_t)len;
}

int url_unescape(struct buf *out, struct slice text, enum url_part part, struct buf *reterr)
{
	char *at = buf_reserve(out, text.len);
	size_t bad;
	ssize_t len;

	if (!at)
		return -ENOBUFS;
	/* The bytes behind the buffer's length are spare; what was decoded before an error is never
	 * committed. */
	len = decode(at, text, part == URL_PART_QUERY, &bad);
	if (len < 0) {
		at[0] = '\0';
		return fail_escape(reterr, text, bad);
	}
	buf_commit(out, (size_t)len);
	return 0;
}

static bool stays_plain(char c, enum url_part part)
{
	char letter = (char)(c | 0x20);

	if ((letter >= 'a' && letter <= 'z') || (c >= '0' && c <= '9') || (c && strchr("-_.~", c)))
		return true;
	switch (part) {
	case URL_PART_PATH:
		return c && strchr("$&+,/:;=@", c);
	case URL_PART_SEGMENT:
		return c && strchr("$&+:=@", c);
	case URL_PART_QUERY:
	default:
		return false;
	}
}

void url_escape(struct buf *out, struct slice text, enum url_part part)
{
	static const char digits[] = "0123456789ABCDEF";

	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.data[i];
		char escaped[3] = {'%', digits[c >> 4], digits[c & 15]};

		if (stays_plain((char)c, part))
			buf_add_char(out, (char)c);
		else if (c == ' ' && part == URL_PART_QUERY)
			buf_add_char(out, '+');
		else
			buf_add(out, escaped, sizeof(escaped));
	}
}

static int parse_port(struct slice text, uint16_t *ret_port)
{
	uint64_t port;

	if (text_to_u64(text, &port) < 0 || port > UINT16_MAX)
		return -EINVAL;
	*ret_port = (uint16_t)port;
	return 0;
}

/* Splits "host", "host:port", "[v6]:port". An empty port ("host:") is none. */
static int split_authority(struct slice text, struct slice *ret_host, struct slice *ret_port, bool *ret_colon,
	struct buf *reterr)
{
	struct slice rest;

	if (text.len && text.data[0] == '[') {
		const char *end = memrchr(text.data, ']', text.len);

		if (!end)
			return fail(reterr, "missing ']' in host");
		*ret_host = slice_make(text.data + 1, (size_t)(end - text.data) - 1);
		rest = slice_make(end + 1, text.len - ret_host->len - 2);
	} else {
		const char *colon = text.len ? memrchr(text.data, ':', text.len) : NULL;
		size_t len = colon ? (size_t)(colon - text.data) : text.len;

		*ret_host = slice_make(text.data, len);
		rest = slice_make(text.data + len, text.len - len);
	}
	*ret_colon = rest.len > 0;
	*ret_port = rest.len ? slice_make(rest.data + 1, rest.len - 1) : slice_make("", 0);
	if (rest.len && rest.data[0] != ':')
		goto bad_port;
	for (size_t i = 0; i < ret_port->len; i++)
		if (ret_port->data[i] < '0' || ret_port->data[i] > '9')
			goto bad_port;
	return 0;
bad_port:
	if (reterr) {
		buf_add_str(reterr, "invalid port ");
		text_add_quoted(reterr, rest);
		buf_add_str(reterr, " after host");
	}
	return -EINVAL;
}

static int check_host(struct slice host, struct buf *reterr)
{
	for (size_t i = 0; i < host.len; i++) {
		char c = host.data[i], letter = (char)(c | 0x20);

		if ((letter >= 'a' && letter <= 'z') || (c >= '0' && c <= '9') || (unsigned char)c >= 0x80 ||
			(c && strchr("-_.~!$&'()*+,;=:[]<>\"", c)))
			continue;
		if (c == '%') {
			if (!escape_is_valid(host, i))
				return fail_escape(reterr, host, i);
			continue;
		}
		if (reterr) {
			buf_add_str(reterr, "invalid character ");
			text_add_quoted(reterr, slice_make(host.data + i, 1));
			buf_add_str(reterr, " in host name");
		}
		return -EINVAL;
	}
	return 0;
}

static int parse_authority(struct slice text, struct url *url, struct buf *reterr)
{
	const char *at_sign = text.len ? memrchr(text.data, '@', text.len) : NULL;
	struct slice host, port;
	_cleanup_buf_ struct buf decoded = BUF_INIT(0);
	bool colon;
	int r;

	if (at_sign) {
		size_t len = (size_t)(at_sign - text.data);

		url->userinfo = mem_strndup(text.data, len);
		text = slice_make(at_sign + 1, text.len - len - 1);
	} else {
		url->userinfo = mem_strdup("");
	}
	r = split_authority(text, &host, &port, &colon, reterr);
	if (r >= 0)
		r = check_host(host, reterr);
	if (r >= 0)
		r = url_unescape(&decoded, host, URL_PART_PATH, reterr);
	if (r < 0)
		return r;
	if (memchr(buf_text(&decoded), '\0', decoded.len))
		return fail(reterr, "invalid NUL in host name");
	url->host = buf_take(&decoded, NULL);
	url->authority = mem_strndup(text.data, text.len);
	if (port.len) {
		if (parse_port(port, &url->port) < 0)
			return fail(reterr, "invalid port \":%.*s\" after host",
				(int)MIN(port.len, (size_t)64), port.data);
		url->port_given = true;
	} else {
		url->port = url->scheme == URL_HTTPS ? 443 : 80;
	}
	return 0;
}

static int parse_scheme(struct slice *rest, struct url *url, struct buf *reterr)
{
	static const char *const names[] = {[URL_HTTP] = "http", [URL_HTTPS] = "https", [URL_UNIX] = "unix"};
	const char *mark = memmem(rest->data, rest->len, "://", 3);
	struct slice scheme;

	if (!mark) {
		url->scheme = URL_HTTP;
		return 0;
	}
	scheme = slice_make(rest->data, (size_t)(mark - rest->data));
	*rest = slice_make(mark + 3, rest->len - scheme.len - 3);
	url->scheme_given = true;
	if (!scheme.len)
		return fail(reterr, "missing protocol scheme");
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (scheme.len == strlen(names[i]) && strncasecmp(scheme.data, names[i], scheme.len) == 0) {
			url->scheme = (enum url_scheme)i;
			return 0;
		}
	}
	if (reterr) {
		buf_add_str(reterr, "unsupported protocol scheme ");
		text_add_quoted(reterr, scheme);
	}
	return -EINVAL;
}

static int parse_all(struct slice text, struct url *url, struct buf *reterr)
{
	struct slice rest = text, query, fragment, authority;
	const char *slash;
	int r;

	if (text.len > URL_MAX_BYTES)
		return fail(reterr, "too long");
	for (size_t i = 0; i < text.len; i++)
		if ((unsigned char)text.data[i] < 0x20 || text.data[i] == 0x7f)
			return fail(reterr, "net/url: invalid control character in URL");
	(void)text_cut(rest, '#', &rest, &fragment);
	r = parse_scheme(&rest, url, reterr);
	if (r < 0)
		return r;
	(void)text_cut(rest, '?', &rest, &query);
	url->query = mem_strndup(query.data, query.len);
	if (url->scheme == URL_UNIX) {
		if (!rest.len)
			return fail(reterr, "missing path of the socket");
		url->host = mem_strdup("");
		url->authority = mem_strdup("");
		url->userinfo = mem_strdup("");
		url->path = mem_strndup(rest.data, rest.len);
		return 0;
	}
	slash = rest.len ? memchr(rest.data, '/', rest.len) : NULL;
	authority = slice_make(rest.data, slash ? (size_t)(slash - rest.data) : rest.len);
	rest = slice_make(rest.data + authority.len, rest.len - authority.len);
	for (size_t i = 0; i < rest.len; i++)
		if (rest.data[i] == '%' && !escape_is_valid(rest, i))
			return fail_escape(reterr, rest, i);
	url->path = mem_strndup(rest.data, rest.len);
	if (!authority.len && !url->scheme_given)
		return fail(reterr, "missing host");
	return parse_authority(authority, url, reterr);
}

int url_parse(const char *text, struct url *ret_url, struct buf *reterr)
{
	_cleanup_url_ struct url url = {0};
	_cleanup_buf_ struct buf why = BUF_INIT(0);
	int r = parse_all(slice_str(text), &url, &why);

	if (r < 0) {
		if (reterr) {
			buf_add_str(reterr, "parse ");
			text_add_quoted(reterr, slice_str(text));
			buf_printf(reterr, ": %s", buf_text(&why));
		}
		return r;
	}
	*ret_url = url;
	url = (struct url){0};
	return 0;
}

void url_done(struct url *url)
{
	free(url->host);
	free(url->authority);
	free(url->userinfo);
	free(url->path);
	free(url->query);
	*url = (struct url){0};
}

int url_split_host_port(const char *text, char **ret_host, uint16_t *ret_port, struct buf *reterr)
{
	_cleanup_buf_ struct buf why = BUF_INIT(0);
	struct slice host, port;
	const char *problem;
	bool colon;

	if (split_authority(slice_str(text), &host, &port, &colon, &why) < 0)
		problem = buf_text(&why);
	else if (!colon)
		problem = "missing port in address";
	else if (text[0] != '[' && memchr(host.data, ':', host.len))
		problem = "too many colons in address";
	else if (parse_port(port, ret_port) < 0)
		problem = "invalid port";
	else
		problem = NULL;
	if (problem)
		return fail(reterr, "address %s: %s", text, problem);
	*ret_host = mem_strndup(host.data, host.len);
	return 0;
}

void url_add_host_port(struct buf *out, const char *host, uint16_t port)
{
	buf_printf(out, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
}

static void form_add(struct arena *arena, struct url_form *form, struct slice name, struct slice value)
{
	if (form->count == form->cap) {
		size_t cap = form->cap ? form->cap * 2 : 8;
		struct url_pair *pairs = arena_alloc(arena, cap * sizeof(*pairs));

		if (form->count)
			memcpy(pairs, form->pairs, form->count * sizeof(*pairs));
		form->pairs = pairs;
		form->cap = cap;
	}
	form->pairs[form->count++] = (struct url_pair){name, value};
}

/* Decodes in place: the text is the form's own copy. */
static int decode_in_place(struct slice *text, struct buf *reterr)
{
	size_t bad;
	ssize_t len = decode((char *)(uintptr_t)text->data, *text, true, &bad);

	if (len < 0)
		return fail_escape(reterr, *text, bad);
	text->len = (size_t)len;
	return 0;
}

int url_form_parse(struct arena *arena, struct url_form *form, struct slice text, struct buf *reterr)
{
	_cleanup_buf_ struct buf why = BUF_INIT(0), unused = BUF_INIT(0);
	struct slice rest;
	int error = 0;

	if (!text.len)
		return 0;
	rest = slice_make(arena_strndup(arena, text.data, text.len), text.len);
	while (rest.len) {
		struct slice pair, name, value;

		(void)text_cut(rest, '&', &pair, &rest);
		if (!pair.len)
			continue;
		if (memchr(pair.data, ';', pair.len)) {
			/* In Go this error replaces an earlier one. */
			buf_clear(&why);
			error = fail(&why, "invalid semicolon separator in query");
			continue;
		}
		(void)text_cut(pair, '=', &name, &value);
		if (decode_in_place(&name, error ? &unused : &why) < 0 ||
			decode_in_place(&value, error ? &unused : &why) < 0) {
			error = -EINVAL;
			continue;
		}
		if (form->count >= URL_FORM_MAX_PAIRS) {
			(void)fail(reterr, "too many parameters (more than %d)", URL_FORM_MAX_PAIRS);
			return -E2BIG;
		}
		form_add(arena, form, name, value);
	}
	if (error && reterr)
		buf_add_slice(reterr, buf_slice(&why));
	return error;
}

const struct slice *url_form_get(const struct url_form *form, const char *name)
{
	for (size_t i = 0; i < form->count; i++)
		if (slice_is(form->pairs[i].name, name))
			return &form->pairs[i].value;
	return NULL;
}

void url_clean_path(struct buf *out, struct slice path)
{
	size_t from = out->len;
	struct slice rest = path, segment;

	while (rest.len) {
		(void)text_cut(rest, '/', &segment, &rest);
		if (!segment.len || slice_is(segment, "."))
			continue;
		if (slice_is(segment, "..")) {
			const char *slash =
				out->len > from ? memrchr(out->data + from, '/', out->len - from) : NULL;

			if (slash)
				buf_truncate(out, (size_t)(slash - out->data));
			continue;
		}
		buf_add_char(out, '/');
		buf_add_slice(out, segment);
	}
	if (out->len == from || (path.len && path.data[path.len - 1] == '/'))
		buf_add_char(out, '/');
}
