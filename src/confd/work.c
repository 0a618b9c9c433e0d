/* A chain of steps, each started by the end of the one before, so that many resources can be under way at
 * once and none waits for another's commands. What a pass needs lives in its arena and goes with it. */
#include "confd/work.h"
#include "base/text.h"
#include "base/time.h"
#include "confd/functions.h"
#include "confd/report.h"
#include "confd/target.h"
#include "io/file.h"
#include "io/process.h"
#include "template/format.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#define OUTPUT_MAX_BYTES (256u << 20)
#define COMMAND_TIMEOUT_MS (10u * 60 * 1000)

struct work {
	struct work_options options;
	struct resource *resource;
	work_done_fn *fn;
	void *user;
	struct arena arena;
	struct confd_tree tree;
	struct backend_fetch *fetch;
	struct backend_result fetched;
	struct buf contents;
	struct buf error;
	struct target target;
	struct process *process;
	bool replaced;
};

static void work_free(struct work *work)
{
	target_done(&work->target, false);
	buf_done(&work->contents);
	buf_done(&work->error);
	arena_done(&work->arena);
	free(work);
}

static void work_end(struct work *work)
{
	struct work_result result = {
		.error = work->error.len ? buf_text(&work->error) : NULL,
		.answered = work->fetched.answered,
		.index = work->fetched.index,
		.replaced = work->replaced,
	};

	if (work->options.config->keep_stage_file && work->target.stage) {
		report_info("Keeping staged file: %s", work->target.stage);
		target_done(&work->target, true);
	}
	target_done(&work->target, false);
	work->fn(&result, work->user);
	work_free(work);
}

static void work_fail(struct work *work, const char *text)
{
	if (!work->error.len)
		buf_add_str(&work->error, text);
	work_end(work);
}

/* ---- commands ---- */

typedef void command_done_fn(struct work *work, const char *problem);

struct command {
	struct work *work;
	command_done_fn *fn;
};

static void report_output(enum report_level level, const struct process_result *result)
{
	_cleanup_buf_ struct buf quoted = BUF_INIT(0);

	text_add_quoted(&quoted, result->output);
	report(level, "%s", buf_text(&quoted));
}

static void command_ended(struct process *process, const struct process_result *result, void *user)
{
	_cleanup_buf_ struct buf problem = BUF_INIT(1 << 12);
	struct command *command = user;
	struct work *work = command->work;
	command_done_fn *fn = command->fn;

	(void)process;
	work->process = NULL;
	if (result->timed_out)
		buf_printf(&problem, "not finished after %u seconds", COMMAND_TIMEOUT_MS / 1000);
	else
		process_add_status(&problem, result);
	report_output(problem.len ? REPORT_ERROR : REPORT_DEBUG, result);
	fn(work, problem.len ? buf_text(&problem) : NULL);
}

/* /bin/sh -c TEXT with our directory and environment; both outputs together. */
static void command_start(struct work *work, const char *text, command_done_fn *fn)
{
	const char *const argv[] = {"/bin/sh", "-c", text, NULL};
	struct process_options options = {
		.argv = argv, .max_output_bytes = 1 << 20, .timeout_ms = COMMAND_TIMEOUT_MS};
	_cleanup_buf_ struct buf error = BUF_INIT(1 << 12);
	struct command *command = arena_alloc(&work->arena, sizeof(*command));

	*command = (struct command){work, fn};
	report_debug("Running %s", text);
	if (process_start(work->options.loop, &options, command_ended, command, &work->process, &error) < 0) {
		work->process = NULL;
		fn(work, buf_text(&error));
	}
}

/* ---- replacing ---- */

static void reload_ended(struct work *work, const char *problem)
{
	work->resource->reload_due = problem != NULL;
	if (problem) {
		buf_printf(
			&work->error, "Config reload failed: %s (%s)", problem, work->resource->reload_cmd);
		work_end(work);
		return;
	}
	if (work->replaced)
		report_info("Target config %s has been updated", work->target.dest);
	work_end(work);
}

static void reload_start(struct work *work)
{
	if (!work->resource->reload_cmd[0] || work->options.config->sync_only) {
		reload_ended(work, NULL);
		return;
	}
	command_start(work, work->resource->reload_cmd, reload_ended);
}

static void replace(struct work *work)
{
	report_debug("Overwriting target config %s", work->target.dest);
	if (target_replace(&work->target, buf_slice(&work->contents), &work->error) < 0) {
		work_end(work);
		return;
	}
	work->replaced = true;
	reload_start(work);
}

static void check_ended(struct work *work, const char *problem)
{
	bool trial = work->target.state != TARGET_STAGED;

	if (problem) {
		buf_printf(&work->error, "Config check failed: %s", problem);
		if (trial && target_revert(&work->target, &work->error) >= 0)
			report_info("Target config %s is the old one again", work->target.dest);
		work_end(work);
		return;
	}
	if (!trial) {
		replace(work);
		return;
	}
	target_keep(&work->target);
	work->replaced = true;
	reload_start(work);
}

/* check_cmd is a template of its own, over a map with "src", the staged file. */
static int check_text(struct work *work, struct buf *ret_text)
{
	_cleanup_(template_freep) struct template *template = NULL;
	struct template_value data = template_map_new(&work->arena, &template_type_map_string);
	struct template_run run = {.arena = &work->arena};
	int r;

	template_map_put(&work->arena, &data, template_str("src"), template_str(work->target.stage));
	r = template_parse(
		"checkcmd", slice_str(work->resource->check_cmd), NULL, 0, &template, &work->error);
	if (r < 0)
		return r;
	return template_execute(template, &run, data, ret_text, &work->error);
}

static void check_start(struct work *work)
{
	_cleanup_buf_ struct buf text = BUF_INIT(1 << 20);

	if (!work->resource->check_cmd[0] || work->options.config->sync_only) {
		replace(work);
		return;
	}
	if (check_text(work, &text) < 0) {
		work_end(work);
		return;
	}
	/* A check that does not name the staged file (`nginx -t`) looks at what is in place: the new file
	 * goes there first and is taken back if the check fails. Checking the old one would let any mistake
	 * in, and then block its repair. */
	if (!strstr(work->resource->check_cmd, ".src")) {
		int r = target_try(&work->target, &work->error);

		if (r < 0 && r != -EOPNOTSUPP) {
			work_end(work);
			return;
		}
	}
	command_start(work, buf_text(&text), check_ended);
}

/* ---- comparing ---- */

static void report_difference(const struct target *target, const struct target_difference *difference)
{
	struct stat staged;

	if (!difference->missing && stat(target->stage, &staged) == 0) {
		if (difference->owner)
			report_info("%s has UID %u should be %u", target->dest, difference->old_uid,
				staged.st_uid);
		if (difference->group)
			report_info("%s has GID %u should be %u", target->dest, difference->old_gid,
				staged.st_gid);
		if (difference->mode)
			report_info("%s has mode %04o should be %04o", target->dest, difference->old_mode,
				staged.st_mode & 07777);
		if (difference->contents)
			report_info("%s has other contents than it should have", target->dest);
	}
	report_info("Target config %s out of sync", target->dest);
}

static void compare(struct work *work)
{
	struct target_difference difference;
	int r = target_compare(&work->target, buf_slice(&work->contents), &difference, &work->error);

	if (r < 0) {
		work_end(work);
		return;
	}
	if (r > 0)
		report_difference(&work->target, &difference);
	else
		report_debug("Target config %s in sync", work->target.dest);
	if (work->options.config->noop) {
		report_warning("Noop mode enabled. %s will not be modified", work->target.dest);
		work_end(work);
		return;
	}
	if (r > 0) {
		check_start(work);
		return;
	}
	if (work->resource->reload_due) {
		report_info("Target config %s is in sync, but its last reload failed: once more",
			work->target.dest);
		reload_start(work);
		return;
	}
	work_end(work);
}

/* ---- rendering ---- */

static int read_template(struct work *work, struct template **ret_template)
{
	_cleanup_buf_ struct buf text = BUF_INIT(TEMPLATE_TEXT_MAX + 1);
	_cleanup_buf_ struct buf error = BUF_INIT(1 << 20);
	const struct resource *resource = work->resource;
	int r = file_read(resource->source, TEMPLATE_TEXT_MAX, &text);

	report_debug("Using source template %s", resource->source);
	if (r == -ENOENT) {
		buf_printf(&work->error, "Missing template: %s", resource->source);
		return r;
	}
	if (r < 0) {
		buf_printf(&work->error, "Cannot read the template %s: %s", resource->source, strerror(-r));
		return r;
	}
	report_debug("Compiling source template %s", resource->source);
	r = template_parse(
		resource->name, buf_slice(&text), confd_funcs, confd_func_count, ret_template, &error);
	if (r < 0)
		buf_printf(&work->error, "Unable to process template %s, %s", resource->source,
			buf_text(&error));
	return r;
}

static int render(struct work *work)
{
	_cleanup_(template_freep) struct template *template = NULL;
	struct functions_data data = {.tree = &work->tree, .started_mono_ns = work->options.started_mono_ns};
	struct template_run run = {.arena = &work->arena, .user = &data};
	struct template_value dot = functions_dot(&work->arena, &work->tree, work->resource->prefix);
	int r = read_template(work, &template);

	if (r < 0)
		return r;
	return template_execute(template, &run, dot, &work->contents, &work->error);
}

static int stage(struct work *work)
{
	const struct resource *resource = work->resource;
	int owner_error = 0;
	int r = target_stage(&work->target, resource->dest, buf_slice(&work->contents), resource->has_mode,
		resource->mode, resource->uid, resource->gid, &owner_error, &work->error);

	if (r >= 0 && owner_error < 0)
		report_warning("Cannot set the owner of %s: %s", resource->dest, strerror(-owner_error));
	return r;
}

static void fetched(const struct backend_result *result, void *user)
{
	struct work *work = user;

	work->fetch = NULL;
	work->fetched = *result;
	work->fetched.error = NULL;
	if (result->error) {
		work_fail(work, result->error);
		return;
	}
	confd_tree_finish(&work->tree, work->resource->prefix);
	report_debug("Got %zu keys from the store", work->tree.leaf_count);
	report_debug("Comparing candidate config to %s", work->resource->dest);
	if (render(work) < 0 || stage(work) < 0) {
		work_end(work);
		return;
	}
	compare(work);
}

struct work *work_start(
	const struct work_options *options, struct resource *resource, work_done_fn *fn, void *user)
{
	struct work *work = mem_new(struct work);

	work->options = *options;
	work->resource = resource;
	work->fn = fn;
	work->user = user;
	arena_init(&work->arena);
	confd_tree_init(&work->tree, &work->arena);
	buf_init(&work->contents, OUTPUT_MAX_BYTES);
	buf_init(&work->error, 1 << 20);
	report_debug("Retrieving keys from store");
	report_debug("Key prefix set to %.*s", (int)resource->prefix.len, resource->prefix.data);
	work->fetch = backend_fetch(
		options->backend, resource->queries, resource->query_count, &work->tree, fetched, work);
	return work;
}

struct work *work_cancel(struct work *work)
{
	if (!work)
		return NULL;
	if (work->process)
		process_cancel(work->process);
	if (work->fetch)
		backend_fetch_cancel(work->fetch);
	work_free(work);
	return NULL;
}

void work_abandon(struct work *work)
{
	if (work)
		target_done(&work->target, false);
}
