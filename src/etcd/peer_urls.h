/* Lists of peer URLs, as the transport keeps them, tells them to others and tries them. Pure. */
#pragma once
#include "base/buf.h"
#include "base/slice.h"
#include "etcd/identity.h"

/* A member's own, told to others: those of the membership and those that it is configured with. */
enum { PEER_URLS_MAX = 2 * IDENTITY_URLS_MAX };

struct peer_urls {		    /* begins as {0} */
	char *items[PEER_URLS_MAX]; /* owned; none twice */
	size_t count;
};
void peer_urls_done(struct peer_urls *urls);			   /* empty afterwards */
void peer_urls_move(struct peer_urls *to, struct peer_urls *from); /* `from` is empty then */
#define _cleanup_peer_urls_ _cleanup_(peer_urls_done)
/* Adds those of a NULL-terminated list (may be NULL) that are URLs by identity_check_url() and have no comma
 * in them, as far as there is room. */
void peer_urls_add(struct peer_urls *urls, const char *const *more);
/* Is one of them in both? */
bool peer_urls_meet(const struct peer_urls *one, const struct peer_urls *other);
/* With commas between them. */
void peer_urls_write(const struct peer_urls *urls, struct buf *out);
/* Reads that again. -EINVAL with a text in reterr; then nothing was read. */
int peer_urls_read(struct slice text, struct peer_urls *ret_urls, struct buf *reterr) _must_check_;
/* Which one to try the `turn`-th time: those known and those the peer itself says take turns, so that neither
 * keeps the other from being tried. NULL: there is none. Borrowed. */
const char *peer_urls_pick(const struct peer_urls *known, const struct peer_urls *said, size_t turn);
