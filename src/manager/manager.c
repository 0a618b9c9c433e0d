/* Picks the implementation and passes calls on to it. What an implementation does not know of is a unit whose
 * load failed: why is remembered here, for who asks for its status. */
#include "manager/manager.h"
#include "base/memory.h"
#include "manager/implementation.h"
#include <errno.h>

/* When there are more all are forgotten: those that are tried again are soon back. */
#define LOAD_FAILURES_MAX 4096

enum manager_kind manager_kind_from_name(const char *name)
{
	if (strcmp(name, "auto") == 0)
		return MANAGER_AUTO;
	if (strcmp(name, "supervisor") == 0)
		return MANAGER_SUPERVISOR;
	if (strcmp(name, "systemd") == 0)
		return MANAGER_SYSTEMD;
	return MANAGER_KIND_INVALID;
}

enum manager_kind manager_kind_here(enum manager_kind kind, bool user)
{
	if (kind != MANAGER_AUTO)
		return kind;
	return user || systemd_is_there(false) ? MANAGER_SYSTEMD : MANAGER_SUPERVISOR;
}

int manager_new(const struct manager_config *config, struct manager **ret, struct buf *reterr)
{
	switch (manager_kind_here(config->kind, config->user)) {
	case MANAGER_SUPERVISOR:
		return supervisor_new(config, ret, reterr);
	case MANAGER_SYSTEMD:
		return systemd_new(config, ret, reterr);
	default:
		buf_add_str(reterr, "unknown kind of manager (known: auto, supervisor, systemd)");
		return -EINVAL;
	}
}

/* ---- loads that failed ---- */

static void forget_failures(struct manager *manager)
{
	size_t position = 0;
	void *why;

	while (map_next(&manager->load_failures, &position, NULL, &why))
		free(why);
	map_done(&manager->load_failures);
}

static void note_failure(struct manager *manager, const char *name, const char *why)
{
	if (manager->load_failures.count >= LOAD_FAILURES_MAX)
		forget_failures(manager);
	free(map_put(&manager->load_failures, slice_str(name), mem_strdup(why)));
}

static void forget_failure(struct manager *manager, const char *name)
{
	free(map_remove(&manager->load_failures, slice_str(name)));
}

struct load {
	struct manager *manager;
	char *name;
	manager_done_fn done;
	void *userdata;
};

static void load_done(void *userdata, int result, const char *message)
{
	struct load *load = userdata;

	if (result >= 0)
		forget_failure(load->manager, load->name);
	else if (result != -ECANCELED)
		note_failure(load->manager, load->name, message);
	if (load->done)
		load->done(load->userdata, result, message);
	free(load->name);
	free(load);
}

struct status {
	char *name, *why;
	manager_text_fn text;
	void *userdata;
};

static void status_text(void *userdata, int result, const char *message, struct slice text, bool last)
{
	struct status *status = userdata;
	_cleanup_free_ char *failed = NULL;

	if (result == -ENOENT)
		message = failed = mem_printf("Unit %s could not be loaded: %s", status->name, status->why);
	status->text(status->userdata, result, message, text, last);
	if (!last)
		return;
	free(status->name);
	free(status->why);
	free(status);
}

/* ---- the interface ---- */

void manager_close(struct manager *manager, void (*closed)(void *userdata), void *userdata)
{
	forget_failures(manager);
	manager->operations->close(manager, closed, userdata);
}

bool manager_is_ready(const struct manager *manager)
{
	return manager->operations->is_ready(manager);
}

void manager_load(struct manager *manager, const char *name, struct slice text, const char *hash,
	manager_done_fn done, void *userdata)
{
	struct load *load = mem_new(struct load);

	forget_failure(manager, name);
	*load = (struct load){manager, mem_strdup(name), done, userdata};
	manager->operations->load(manager, name, text, hash ? hash : "", load_done, load);
}

void manager_unload(struct manager *manager, const char *name, manager_done_fn done, void *userdata)
{
	forget_failure(manager, name);
	manager->operations->act(manager, "unload", name, done, userdata);
}

void manager_start(struct manager *manager, const char *name, manager_done_fn done, void *userdata)
{
	manager->operations->act(manager, "start", name, done, userdata);
}

void manager_stop(struct manager *manager, const char *name, manager_done_fn done, void *userdata)
{
	manager->operations->act(manager, "stop", name, done, userdata);
}

void manager_restart(struct manager *manager, const char *name, manager_done_fn done, void *userdata)
{
	manager->operations->act(manager, "restart", name, done, userdata);
}

bool manager_state(const struct manager *manager, const char *name, struct manager_unit_state *ret)
{
	return manager->operations->state(manager, name, ret);
}

size_t manager_count(const struct manager *manager)
{
	return manager->operations->count(manager);
}

void manager_list(const struct manager *manager,
	void (*each)(void *userdata, const struct manager_unit_state *state), void *userdata)
{
	manager->operations->list(manager, each, userdata);
}

void manager_status(struct manager *manager, const char *name, manager_text_fn text, void *userdata)
{
	const char *why = map_get(&manager->load_failures, slice_str(name));
	struct status *status;

	if (!why) {
		manager->operations->status(manager, name, text, userdata);
		return;
	}
	status = mem_new(struct status);
	*status = (struct status){mem_strdup(name), mem_strdup(why), text, userdata};
	manager->operations->status(manager, name, status_text, status);
}

int manager_status_exit(const struct manager_unit_state *state)
{
	if (!state)
		return 4;
	return strcmp(state->active, "active") == 0 || strcmp(state->active, "reloading") == 0 ? 0 : 3;
}

struct manager_stream *manager_journal(struct manager *manager, const char *name,
	const struct manager_journal_options *options, manager_text_fn text, void *userdata)
{
	return manager->operations->journal(manager, name, options, text, userdata);
}

void manager_stream_cancel(struct manager_stream *stream)
{
	stream->manager->operations->cancel(stream);
}
