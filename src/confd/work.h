/* One pass over one template resource: fetch, render, stage, compare, check, replace, reload. Loop's thread.
 */
#pragma once
#include "confd/backend.h"
#include "confd/resource.h"

struct work;

struct work_options {
	uv_loop_t *loop;
	const struct confd_config *config;
	struct backend *backend;
	int64_t started_mono_ns;
};

struct work_result {
	const char *error; /* one line, or NULL */
	bool answered;	   /* the store answered; then `index` is what it was read at */
	uint64_t index;
	bool replaced;
};
typedef void work_done_fn(const struct work_result *result, void *user);

/* Starts; fn is called once, in a later turn. The resource must live until then; its reload_due is kept up to
 * date. */
struct work *work_start(
	const struct work_options *options, struct resource *resource, work_done_fn *fn, void *user);
/* Stops it: the staged file is removed, a command that runs is killed, fn is not called. */
struct work *work_cancel(struct work *work);
/* For the end of the process: only removes the staged file; a command that runs (a reload, perhaps half done)
 * goes on. */
void work_abandon(struct work *work);
