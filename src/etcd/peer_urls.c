/* A few short texts: everything is looked for from the beginning. */
#include "etcd/peer_urls.h"
#include "base/macros.h"
#include "base/memory.h"
#include "base/text.h"
#include <errno.h>
#include <string.h>

static bool has(const char *const *items, size_t count, const char *url)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(items[i], url) == 0)
			return true;
	return false;
}

static void add_one(struct peer_urls *urls, const char *url)
{
	if (urls->count < PEER_URLS_MAX && !has((const char *const *)urls->items, urls->count, url))
		urls->items[urls->count++] = mem_strdup(url);
}

void peer_urls_done(struct peer_urls *urls)
{
	while (urls->count)
		mem_free(urls->items[--urls->count]);
}

void peer_urls_move(struct peer_urls *to, struct peer_urls *from)
{
	peer_urls_done(to);
	*to = *from;
	*from = (struct peer_urls){0};
}

void peer_urls_add(struct peer_urls *urls, const char *const *more)
{
	for (; more && *more; more++) {
		_cleanup_buf_ struct buf why = BUF_INIT(0);

		if (!strchr(*more, ',') && identity_check_url(*more, &why) == 0)
			add_one(urls, *more);
	}
}

bool peer_urls_meet(const struct peer_urls *one, const struct peer_urls *other)
{
	for (size_t i = 0; i < one->count; i++)
		if (has((const char *const *)other->items, other->count, one->items[i]))
			return true;
	return false;
}

void peer_urls_write(const struct peer_urls *urls, struct buf *out)
{
	for (size_t i = 0; i < urls->count; i++) {
		buf_add_str(out, i ? "," : "");
		buf_add_str(out, urls->items[i]);
	}
}

int peer_urls_read(struct slice text, struct peer_urls *ret_urls, struct buf *reterr)
{
	_cleanup_peer_urls_ struct peer_urls urls = {0};

	while (text.len) {
		_cleanup_free_ char *url = NULL;
		struct slice item;

		(void)text_cut(text, ',', &item, &text);
		item = text_trim(item);
		url = mem_strndup(item.data, item.len);
		if (identity_check_url(url, reterr) < 0)
			return -EINVAL;
		if (urls.count == PEER_URLS_MAX) {
			buf_printf(reterr, "more than %d peer URLs", PEER_URLS_MAX);
			return -EINVAL;
		}
		add_one(&urls, url);
	}
	*ret_urls = urls;
	urls.count = 0;
	return 0;
}

const char *peer_urls_pick(const struct peer_urls *known, const struct peer_urls *said, size_t turn)
{
	const char *all[2 * PEER_URLS_MAX];
	size_t count = 0;

	for (size_t i = 0; i < MAX(known->count, said->count); i++) {
		if (i < known->count && !has(all, count, known->items[i]))
			all[count++] = known->items[i];
		if (i < said->count && !has(all, count, said->items[i]))
			all[count++] = said->items[i];
	}
	return count ? all[turn % count] : NULL;
}
