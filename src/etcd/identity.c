/* SHA-1 is libmd's; it is a name here, not a protection. */
#include "etcd/identity.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/url.h"
#include <errno.h>
#include <sha1.h>

static uint64_t sha1_head(const char *data, size_t len)
{
	uint8_t digest[SHA1_DIGEST_LENGTH];
	uint64_t head = 0;
	SHA1_CTX sha1;

	SHA1Init(&sha1);
	SHA1Update(&sha1, (const uint8_t *)data, len);
	SHA1Final(digest, &sha1);
	for (size_t i = 0; i < 8; i++)
		head = head << 8 | digest[i];
	return head;
}

uint64_t identity_member_id(char *const *sorted_urls, size_t count, const char *token)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0);

	for (size_t i = 0; i < count; i++)
		buf_add_str(&text, sorted_urls[i]);
	buf_add_str(&text, token);
	return sha1_head(buf_text(&text), text.len);
}

uint64_t identity_cluster_id(const uint64_t *sorted_ids, size_t count)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);

	for (size_t i = 0; i < count; i++)
		for (int shift = 56; shift >= 0; shift -= 8)
			buf_add_char(&bytes, (char)(sorted_ids[i] >> shift & 0xff));
	return sha1_head(buf_text(&bytes), bytes.len);
}

int identity_check_name(struct slice name, struct buf *reterr)
{
	if (name.len > IDENTITY_NAME_BYTES_MAX) {
		buf_printf(reterr, "at most %d bytes are allowed, this one has %zu", IDENTITY_NAME_BYTES_MAX,
			name.len);
		return -EINVAL;
	}
	for (size_t i = 0; i < name.len; i++) {
		unsigned char c = (unsigned char)name.data[i];

		if (c >= ' ' && c != 0x7f)
			continue;
		buf_printf(reterr,
			"a member's name must not contain control characters (byte 0x%02x after \"%.*s\"): "
			"leave "
			"it out",
			c, (int)i, name.data);
		return -EINVAL;
	}
	return 0;
}

int identity_check_url(const char *text, struct buf *reterr)
{
	_cleanup_url_ struct url url = {0};
	bool http = strncmp(text, "http://", 7) == 0, https = strncmp(text, "https://", 8) == 0;

	if (strlen(text) > IDENTITY_URL_BYTES_MAX) {
		buf_printf(reterr,
			"URL is too long (%zu bytes; a scheme, a host of at most %d bytes and a port are at "
			"most "
			"%d): %.64s...",
			strlen(text), IDENTITY_HOST_BYTES_MAX, IDENTITY_URL_BYTES_MAX, text);
		return -EINVAL;
	}
	if (!http && !https) {
		buf_printf(reterr, "URL scheme must be http or https: %s", text);
		return -EINVAL;
	}
	if (url_parse(text, &url, reterr) < 0)
		return -EINVAL;
	if (!url.port_given) {
		buf_printf(reterr, "URL address does not have the form \"host:port\": %s", text);
		return -EINVAL;
	}
	if (*url.path || *url.query || *url.userinfo) {
		buf_printf(reterr, "URL must not contain a path: %s", text);
		return -EINVAL;
	}
	if (strlen(url.host) > IDENTITY_HOST_BYTES_MAX) {
		buf_printf(reterr, "URL's host has %zu bytes, at most %d are allowed: %s", strlen(url.host),
			IDENTITY_HOST_BYTES_MAX, text);
		return -EINVAL;
	}
	return 0;
}

static int url_order(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int member_order(const void *a, const void *b)
{
	const struct identity_member *one = a, *other = b;

	return one->id < other->id ? -1 : one->id > other->id;
}

const struct identity_member *identity_find(const struct identity_cluster *cluster, const char *name)
{
	for (size_t i = 0; i < cluster->count; i++)
		if (strcmp(cluster->members[i].name, name) == 0)
			return &cluster->members[i];
	return NULL;
}

static int cluster_add(
	struct identity_cluster *cluster, struct slice name, struct slice url, struct buf *reterr)
{
	struct identity_member *member = NULL;
	char *text;

	for (size_t i = 0; i < cluster->count; i++)
		if (slice_is(name, cluster->members[i].name))
			member = &cluster->members[i];
	if (!member) {
		if (cluster->count == IDENTITY_MEMBERS_MAX) {
			buf_printf(
				reterr, "more than %d members in the initial cluster", IDENTITY_MEMBERS_MAX);
			return -EINVAL;
		}
		if (identity_check_name(name, reterr) < 0)
			return -EINVAL;
		member = &cluster->members[cluster->count++];
		member->name = mem_strndup(name.data, name.len);
	}
	if (member->url_count == IDENTITY_URLS_MAX) {
		buf_printf(reterr, "more than %d peer URLs for member %s", IDENTITY_URLS_MAX, member->name);
		return -EINVAL;
	}
	text = member->urls[member->url_count++] = mem_strndup(url.data, url.len);
	return identity_check_url(text, reterr);
}

static int cluster_finish(struct identity_cluster *cluster, const char *token, struct buf *reterr)
{
	uint64_t ids[IDENTITY_MEMBERS_MAX];

	for (size_t i = 0; i < cluster->count; i++) {
		struct identity_member *member = &cluster->members[i];

		qsort(member->urls, member->url_count, sizeof(member->urls[0]), url_order);
		member->id = identity_member_id(member->urls, member->url_count, token);
	}
	qsort(cluster->members, cluster->count, sizeof(cluster->members[0]), member_order);
	for (size_t i = 0; i < cluster->count; i++) {
		ids[i] = cluster->members[i].id;
		if (i > 0 && ids[i] == ids[i - 1]) {
			buf_printf(reterr, "members %s and %s of the initial cluster have the same peer URLs",
				cluster->members[i - 1].name, cluster->members[i].name);
			return -EINVAL;
		}
	}
	cluster->id = identity_cluster_id(ids, cluster->count);
	return 0;
}

int identity_parse(const char *initial_cluster, const char *token, struct identity_cluster *ret_cluster,
	struct buf *reterr)
{
	struct slice rest = slice_str(initial_cluster), item, name, url;

	*ret_cluster = (struct identity_cluster){0};
	while (rest.len) {
		(void)text_cut(rest, ',', &item, &rest);
		item = text_trim(item);
		if (!item.len)
			continue;
		if (!text_cut(item, '=', &name, &url) || !name.len || !url.len) {
			buf_printf(reterr, "incomplete entry \"%.*s\" (expected name=URL)", (int)item.len,
				item.data);
			return -EINVAL;
		}
		if (cluster_add(ret_cluster, name, url, reterr) < 0)
			return -EINVAL;
	}
	if (!ret_cluster->count) {
		buf_add_str(reterr, "the initial cluster is empty (expected name=URL,...)");
		return -EINVAL;
	}
	return cluster_finish(ret_cluster, token, reterr);
}

void identity_cluster_done(struct identity_cluster *cluster)
{
	for (size_t i = 0; i < cluster->count; i++) {
		struct identity_member *member = &cluster->members[i];

		for (size_t j = 0; j < member->url_count; j++)
			free(member->urls[j]);
		free(member->name);
	}
	*cluster = (struct identity_cluster){0};
}
