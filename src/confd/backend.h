/* Where keys come from: etcd (v2 API) or the environment. Loop's thread. */
#pragma once
#include "confd/config.h"
#include "confd/tree.h"
#include <uv.h>

struct backend;
struct backend_fetch;
struct backend_watch;

/* -EINVAL and others with a message: an unknown or unsupported backend, a bad node. */
int backend_open(const struct confd_config *config, uv_loop_t *loop, struct backend **ret_backend,
	struct buf *reterr) _must_check_;
struct backend *backend_close(
	struct backend *backend); /* accepts NULL, answers NULL; ends fetches without a call */

struct backend_result {
	const char *error; /* NULL: the tree has its roots */
	bool answered;	   /* the store answered, if only with an error: `index` is valid */
	uint64_t
		index; /* what was fetched is the state at this index or a later one; 0 for the environment */
};
typedef void backend_fetched_fn(const struct backend_result *result, void *user);
/* Fetches the keys, each with all below it, as roots of the tree (not finished). Calls fn once, in a later
 * turn. keys and tree stay the caller's and must live until then. */
struct backend_fetch *backend_fetch(struct backend *backend, const struct slice *keys, size_t count,
	struct confd_tree *tree, backend_fetched_fn *fn, void *user);

/* fn is not called. */
void backend_fetch_cancel(struct backend_fetch *fetch);

enum backend_news { BACKEND_CHANGED, BACKEND_OUTAGE, BACKEND_BACK };
typedef void backend_changed_fn(enum backend_news news, const char *text, void *user);
/* Tells each change of the keys or below them that came after `index`. NULL: this backend never changes. */
struct backend_watch *backend_watch(struct backend *backend, const struct slice *keys, size_t count,
	uint64_t index, backend_changed_fn *fn, void *user);
struct backend_watch *backend_watch_close(struct backend_watch *watch); /* accepts NULL, answers NULL */
