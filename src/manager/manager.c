/* Picks the implementation and passes calls on to it. */
#include "manager/manager.h"
#include "manager/implementation.h"
#include <errno.h>

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

void manager_close(struct manager *manager, void (*closed)(void *userdata), void *userdata)
{
	manager->operations->close(manager, closed, userdata);
}

bool manager_is_ready(const struct manager *manager)
{
	return manager->operations->is_ready(manager);
}

void manager_load(struct manager *manager, const char *name, struct slice text, const char *hash,
	manager_done_fn done, void *userdata)
{
	manager->operations->load(manager, name, text, hash ? hash : "", done, userdata);
}

void manager_unload(struct manager *manager, const char *name, manager_done_fn done, void *userdata)
{
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
	manager->operations->status(manager, name, text, userdata);
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
