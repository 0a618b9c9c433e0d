/* The program: onetime, interval and watch mode over one loop.
 *
 * onetime and interval take the resources one after the other. In watch mode each resource lives for itself:
 * it renders, then watches its keys from the index it was read at, and renders again when something changed.
 * Changes that come close together are one: it waits until they pause, but not for long. What failed is tried
 * again with growing pauses, and at the next change. */
#include "base/programs.h"
#include "base/time.h"
#include "confd/report.h"
#include "confd/work.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define QUIET_MS 20	    /* no further change for so long: render */
#define QUIET_LATEST_MS 200 /* but not later than this after the first */
#define RETRY_FIRST_MS 1000
#define RETRY_LAST_MS 60000

struct watched {
	struct confd *confd;
	struct resource *resource;
	struct work *work;
	struct backend_watch *watch;
	uv_timer_t timer;
	bool dirty, down;
	uint64_t first_change_ms;
	uint64_t retry_ms;
};

struct confd {
	struct confd_config config;
	uv_loop_t *loop;
	struct backend *backend;
	struct work_options work_options;
	uv_signal_t signals[2];
	/* onetime, interval */
	struct resource **resources;
	size_t resource_count, at;
	struct work *work;
	uv_timer_t timer;
	size_t failures;
	char *last_error;
	/* watch */
	struct watched *watched;
	int status;
};

/* ---- loading ---- */

static void note_failure(struct confd *confd, const char *text)
{
	report_error("%s", text);
	confd->failures++;
	free(confd->last_error);
	confd->last_error = mem_strdup(text);
}

/* The resource of that path as it was before, with what it knows of its past. */
static bool reload_was_due(struct resource *const *resources, size_t count, const char *path)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(resources[i]->path, path) == 0)
			return resources[i]->reload_due;
	return false;
}

static void free_resources(struct resource **resources, size_t count)
{
	for (size_t i = 0; i < count; i++)
		resource_free(resources[i]);
	free(resources);
}

/* Reads the resources (again). One that cannot be read does not keep the others from being processed. */
static int load_resources(struct confd *confd)
{
	_cleanup_buf_ struct buf error = BUF_INIT(1 << 16);
	struct resource_paths paths = {0};
	struct resource **old = confd->resources;
	size_t old_count = confd->resource_count;
	struct stat status;
	int r;

	if (stat(confd->config.confdir, &status) < 0) {
		buf_printf(&error, "Cannot load template resources: confdir '%s' does not exist",
			confd->config.confdir);
		report_warning("%s", buf_text(&error));
		free(confd->last_error);
		confd->last_error = mem_strdup(buf_text(&error));
		confd->failures++;
		return -ENOENT;
	}
	r = resource_list(confd->config.confdir, &paths, &error);
	if (r < 0) {
		note_failure(confd, buf_text(&error));
		resource_paths_done(&paths);
		return r;
	}
	if (!paths.count)
		report_warning("Found no templates");
	confd->resources = mem_new_array(struct resource *, MAX(paths.count, (size_t)1));
	confd->resource_count = 0;
	for (size_t i = 0; i < paths.count; i++) {
		struct resource *resource;

		buf_clear(&error);
		report_debug("Loading template resource from %s", paths.items[i]);
		if (resource_load(paths.items[i], &confd->config, &resource, &error) < 0) {
			note_failure(confd, buf_text(&error));
			continue;
		}
		resource->reload_due = reload_was_due(old, old_count, resource->path);
		confd->resources[confd->resource_count++] = resource;
	}
	free_resources(old, old_count);
	resource_paths_done(&paths);
	return 0;
}

/* ---- onetime and interval ---- */

static void pass_start(struct confd *confd);

static void timer_fired(uv_timer_t *timer)
{
	pass_start(timer->data);
}

static void pass_end(struct confd *confd)
{
	int64_t seconds = MAX(confd->config.interval_s, INT64_C(0));

	if (confd->config.onetime) {
		if (confd->failures)
			report_fatal("%s", confd->last_error);
		confd->status = confd->failures ? 1 : 0;
		uv_stop(confd->loop);
		return;
	}
	uv_timer_start(
		&confd->timer, timer_fired, (uint64_t)MAX(MIN(seconds, (int64_t)INT32_MAX) * 1000, 100), 0);
}

static void pass_next(struct confd *confd);

static void pass_resource_done(const struct work_result *result, void *user)
{
	struct confd *confd = user;

	confd->work = NULL;
	if (result->error)
		note_failure(confd, result->error);
	confd->at++;
	pass_next(confd);
}

static void pass_next(struct confd *confd)
{
	if (confd->at == confd->resource_count)
		pass_end(confd);
	else
		confd->work = work_start(
			&confd->work_options, confd->resources[confd->at], pass_resource_done, confd);
}

static void pass_start(struct confd *confd)
{
	confd->failures = 0;
	confd->at = 0;
	if (load_resources(confd) < 0)
		confd->at = confd->resource_count;
	pass_next(confd);
}

/* ---- watch ---- */

static void watched_render(struct watched *watched);

static void watched_timer_fired(uv_timer_t *timer)
{
	watched_render(timer->data);
}

static void watched_changed(enum backend_news news, const char *text, void *user)
{
	struct watched *watched = user;
	uint64_t now = uv_now(watched->confd->loop), waited;

	if (news != BACKEND_CHANGED) {
		if (news == BACKEND_OUTAGE)
			report_error("Watching the keys of %s: %s", watched->resource->path, text);
		else
			report_info("Watching the keys of %s again", watched->resource->path);
		return;
	}
	if (!watched->dirty) {
		watched->dirty = true;
		watched->first_change_ms = now;
	}
	if (watched->work)
		return; /* rendered again when this pass is done */
	waited = now - watched->first_change_ms;
	uv_timer_start(&watched->timer, watched_timer_fired, waited >= QUIET_LATEST_MS ? 0 : QUIET_MS, 0);
}

static void watched_done(const struct work_result *result, void *user)
{
	struct watched *watched = user;
	struct confd *confd = watched->confd;
	struct resource *resource = watched->resource;

	watched->work = NULL;
	if (result->error)
		report_error("%s", result->error);
	if (!watched->watch && result->answered)
		watched->watch = backend_watch(confd->backend, resource->queries, resource->query_count,
			result->index, watched_changed, watched);
	if (watched->dirty) {
		watched->retry_ms = 0;
		uv_timer_start(&watched->timer, watched_timer_fired, QUIET_MS, 0);
	} else if (result->error) {
		watched->retry_ms = watched->retry_ms ? MIN(watched->retry_ms * 2, (uint64_t)RETRY_LAST_MS)
						      : RETRY_FIRST_MS;
		uv_timer_start(&watched->timer, watched_timer_fired, watched->retry_ms, 0);
	} else {
		watched->retry_ms = 0;
	}
}

static void watched_render(struct watched *watched)
{
	assert(!watched->work);
	watched->dirty = false;
	uv_timer_stop(&watched->timer);
	watched->work = work_start(&watched->confd->work_options, watched->resource, watched_done, watched);
}

static void watch_start(struct confd *confd)
{
	(void)load_resources(confd);
	confd->watched = mem_new_array(struct watched, MAX(confd->resource_count, (size_t)1));
	for (size_t i = 0; i < confd->resource_count; i++) {
		struct watched *watched = &confd->watched[i];

		watched->confd = confd;
		watched->resource = confd->resources[i];
		uv_timer_init(confd->loop, &watched->timer);
		watched->timer.data = watched;
		watched_render(watched);
	}
}

/* ---- life ---- */

static void signal_caught(uv_signal_t *handle, int number)
{
	struct confd *confd = handle->data;

	report_info("Captured %s. Exiting...", number == SIGTERM ? "terminated" : "interrupt");
	work_abandon(confd->work);
	for (size_t i = 0; confd->watched && i < confd->resource_count; i++)
		work_abandon(confd->watched[i].work);
	exit(0);
}

static void close_handle(uv_handle_t *handle, void *unused)
{
	(void)unused;
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

static void confd_stop(struct confd *confd)
{
	work_cancel(confd->work);
	for (size_t i = 0; confd->watched && i < confd->resource_count; i++) {
		work_cancel(confd->watched[i].work);
		backend_watch_close(confd->watched[i].watch);
		uv_close((uv_handle_t *)&confd->watched[i].timer, NULL);
	}
	uv_close((uv_handle_t *)&confd->timer, NULL);
	for (size_t i = 0; i < ARRAY_LEN(confd->signals); i++)
		uv_close((uv_handle_t *)&confd->signals[i], NULL);
	backend_close(confd->backend);
	uv_run(confd->loop, UV_RUN_DEFAULT);
	uv_walk(confd->loop, close_handle, NULL);
	uv_run(confd->loop, UV_RUN_DEFAULT);
	uv_loop_close(confd->loop);
	free_resources(confd->resources, confd->resource_count);
	free(confd->watched);
	free(confd->last_error);
}

/* What stands before an '@' is no business of a log. */
static void add_without_password(struct buf *out, const char *node)
{
	const char *scheme = strstr(node, "://"), *at = strrchr(node, '@');
	const char *start = scheme ? scheme + strlen("://") : node;

	if (at && at >= start)
		buf_printf(out, "%.*s***%s", (int)(start - node), node, at);
	else
		buf_add_str(out, node);
}

static void report_nodes(const struct confd_config *config)
{
	_cleanup_buf_ struct buf text = BUF_INIT(1 << 16);

	for (size_t i = 0; i < config->node_count; i++) {
		if (i)
			buf_add_str(&text, ", ");
		add_without_password(&text, config->nodes[i]);
	}
	report_info("Backend source(s) set to %s", buf_text(&text));
}

static int confd_run(struct confd *confd)
{
	static const int numbers[] = {SIGTERM, SIGINT};
	_cleanup_buf_ struct buf error = BUF_INIT(1 << 16);
	uv_loop_t loop;

	confd->loop = &loop;
	if (uv_loop_init(&loop) < 0) {
		report_fatal("Cannot start: no event loop");
		return 1;
	}
	report_info("Starting confd");
	report_nodes(&confd->config);
	if (backend_open(&confd->config, &loop, &confd->backend, &error) < 0) {
		report_fatal("%s", buf_text(&error));
		uv_run(&loop, UV_RUN_DEFAULT);
		uv_loop_close(&loop);
		return 1;
	}
	confd->work_options = (struct work_options){
		.loop = &loop,
		.config = &confd->config,
		.backend = confd->backend,
		.started_mono_ns = time_mono_ns(),
	};
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
		uv_signal_init(&loop, &confd->signals[i]);
		confd->signals[i].data = confd;
		uv_signal_start(&confd->signals[i], signal_caught, numbers[i]);
	}
	uv_timer_init(&loop, &confd->timer);
	confd->timer.data = confd;
	if (confd->config.watch && !confd->config.onetime)
		watch_start(confd);
	else
		uv_timer_start(&confd->timer, timer_fired, 0, 0);
	uv_run(&loop, UV_RUN_DEFAULT);
	confd_stop(confd);
	return confd->status;
}

int confd_main(int argc, char **argv)
{
	struct confd confd = {0};
	int status = 0, r;

	report_init(argc > 0 ? argv[0] : "confd");
	r = confd_config_load(argc, argv, &confd.config, &status);
	if (r == 0)
		status = confd_run(&confd);
	confd_config_done(&confd.config);
	return status;
}
