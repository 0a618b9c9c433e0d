/* Endpoints are kept as URLs, which is what the HTTP client takes and users read. Cleaning and escaping are
 * io/url.h's. */
#include "etcdclient/target.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/url.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

void target_endpoints_free(char **urls, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(urls[i]);
	free(urls);
}

static int refuse(struct buf *error, int code, const char *text, const char *why)
{
	buf_printf(error, "endpoint \"%.200s\": %s", text, why);
	return code;
}

static int parse_endpoint(const char *text, char **ret_url, struct buf *error)
{
	_cleanup_url_ struct url url = {0};
	_cleanup_buf_ struct buf out = BUF_INIT(URL_MAX_BYTES);
	int r = url_parse(text, &url, error);

	if (r < 0)
		return r;
	if (url.scheme != URL_HTTP && url.scheme != URL_HTTPS)
		return refuse(error, -EPROTONOSUPPORT, text, "the scheme must be http or https");
	if (url.userinfo[0]) { /* not repeated: logs are read by others */
		buf_add_str(error,
			"an endpoint holds a user or password before '@': give them by their own options");
		return -EINVAL;
	}
	if (!url.host[0] || url.query[0] || (url.path[0] && strcmp(url.path, "/")))
		return refuse(error, -EINVAL, text, "not of the form http://host:port");
	buf_add_str(&out, url.scheme == URL_HTTPS ? "https://" : "http://");
	if (url.port_given || !url.scheme_given)
		url_add_host_port(&out, url.host, url.port_given ? url.port : 2379);
	else
		buf_add_str(&out, url.authority);
	*ret_url = buf_take(&out, NULL);
	return 0;
}

int target_parse_endpoints(const char *text, char ***ret_urls, size_t *ret_count, struct buf *error)
{
	char **urls = NULL;
	struct slice rest = slice_str(text), item;
	size_t count = 0;
	bool more = true;
	int r = 0;

	while (more && r >= 0) {
		more = text_cut(rest, ',', &item, &rest);
		item = text_trim(item);
		if (!item.len)
			continue;
		_cleanup_free_ char *copy = mem_strndup(item.data, item.len);
		urls = mem_reallocarray(urls, count + 1, sizeof(*urls));
		if (count == TARGET_ENDPOINTS_MAX)
			r = refuse(error, -E2BIG, copy, "too many endpoints");
		else
			r = parse_endpoint(copy, &urls[count], error);
		if (r >= 0)
			count++;
	}
	if (r >= 0 && !count) {
		buf_add_str(error, "no endpoint given; write http://host:port");
		r = -EINVAL;
	}
	if (r < 0) {
		target_endpoints_free(urls, count);
		return r;
	}
	*ret_urls = urls;
	*ret_count = count;
	return 0;
}

static void add_clean(struct buf *out, const char *path)
{
	_cleanup_buf_ struct buf rooted = BUF_INIT(0);

	buf_printf(&rooted, "/%s", path);
	url_clean_path(out, buf_slice(&rooted));
}

void target_add_key(struct buf *out, const char *prefix, const char *key)
{
	_cleanup_buf_ struct buf path = BUF_INIT(0);

	buf_add_str(&path, "/v2/keys");
	if (prefix && prefix[0])
		add_clean(&path, prefix);
	if (path.data[path.len - 1] == '/')
		buf_truncate(&path, path.len - 1);
	add_clean(&path, key);
	url_escape(out, buf_slice(&path), URL_PART_PATH);
}

void target_add_param(struct buf *out, const char *name, struct slice value)
{
	if (out->len && out->data[out->len - 1] != '?')
		buf_add_char(out, '&');
	buf_printf(out, "%s=", name);
	url_escape(out, value, URL_PART_QUERY);
}

void target_add_number(struct buf *out, const char *name, uint64_t value)
{
	char digits[24];

	(void)snprintf(digits, sizeof(digits), "%llu", (unsigned long long)value);
	target_add_param(out, name, slice_str(digits));
}

void target_add_bool(struct buf *out, const char *name, bool value)
{
	target_add_param(out, name, slice_str(value ? "true" : "false"));
}
