/* URLs, percent coding, and forms, by Go's rules and with Go's error texts (net/url), since servers and tools
 * report them to users. Pure, any thread. */
#pragma once
#include "base/buf.h"
#include "base/memory.h"

enum url_scheme { URL_HTTP, URL_HTTPS, URL_UNIX };

/* "http://host:port/path?query", "https://...", "unix:///path/of/socket", or a bare "host:port" (an http
 * URL). IPv6 literals stand in brackets. All texts are owned and never NULL. */
struct url {
	enum url_scheme scheme;
	bool scheme_given; /* false: it was a bare host:port */
	char *host;	   /* without brackets; "" for unix */
	uint16_t port;	   /* 80 or 443 when not given; 0 for unix */
	bool port_given;
	char *authority; /* as it stands in a Host header: "host", "host:port", "[::1]:2379" */
	char *userinfo;	 /* before an '@', undecoded; "" when there is none */
	char *path;	 /* undecoded; "" when there is none; for unix the socket's path */
	char *query;	 /* undecoded, without '?'; "" when there is none */
};
/* -EINVAL with a one-line text in reterr (may be NULL), e.g. `parse "http://a b": invalid character " " in
 * host name`. A fragment is cut off. Limit: URL_MAX_BYTES. */
enum { URL_MAX_BYTES = 64 * 1024 };
int url_parse(const char *text, struct url *ret_url, struct buf *reterr) _must_check_;
void url_done(struct url *url);
#define _cleanup_url_ _cleanup_(url_done)

/* Splits "host:port", ":port", "[::1]:port"; the host may be "" and is owned by the caller. -EINVAL with a
 * text in reterr (may be NULL): `address a: missing port in address`. */
int url_split_host_port(
	const char *text, char **ret_host, uint16_t *ret_port, struct buf *reterr) _must_check_;
void url_add_host_port(struct buf *out, const char *host, uint16_t port); /* brackets around IPv6 */

enum url_part {
	URL_PART_PATH,	  /* a whole path: '/' stays */
	URL_PART_SEGMENT, /* one segment: '/' is escaped */
	URL_PART_QUERY,	  /* a name or value of a query or form: blank becomes '+' */
};
void url_escape(struct buf *out, struct slice text, enum url_part part);
/* Decodes; '+' is a blank in URL_PART_QUERY only. -EINVAL and `invalid URL escape "%zz"` in reterr (may be
 * NULL); then nothing was added to `out`. */
int url_unescape(struct buf *out, struct slice text, enum url_part part, struct buf *reterr) _must_check_;

struct url_pair {
	struct slice name, value; /* decoded; live in the arena */
};
struct url_form {
	struct url_pair *pairs; /* in order of appearance */
	size_t count, cap;
};
enum { URL_FORM_MAX_PAIRS = 10000 };
/* Appends the pairs of "a=1&b=2" (a query or an application/x-www-form-urlencoded body) to `form`, which
 * begins as {0}. As in Go a bad pair is left out, the rest is still read, and the first error is answered:
 * -EINVAL with `invalid URL escape "%zz"` or `invalid semicolon separator in query`; -E2BIG past
 * URL_FORM_MAX_PAIRS. */
int url_form_parse(
	struct arena *arena, struct url_form *form, struct slice text, struct buf *reterr) _must_check_;
/* The first value of that name, or NULL when it is not there ("a" and "a=" are there and empty). */
const struct slice *url_form_get(const struct url_form *form, const char *name);
/* Go's path.Clean as net/http applies it to a request's path: rooted, no "//", "/./", "/../"; a trailing
 * slash stays. */
void url_clean_path(struct buf *out, struct slice path);
