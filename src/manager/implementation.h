/* What an implementation of the manager interface provides. The functions stand behind those of manager.h one
 * by one; each implementation's object begins with a struct manager. */
#pragma once
#include "base/map.h"
#include "manager/manager.h"

struct manager_operations {
	void (*close)(struct manager *manager, void (*closed)(void *userdata), void *userdata);
	bool (*is_ready)(const struct manager *manager);
	void (*load)(struct manager *manager, const char *name, struct slice text, const char *hash,
		manager_done_fn done, void *userdata);
	/* verb: unload, start, stop, restart */
	void (*act)(struct manager *manager, const char *verb, const char *name, manager_done_fn done,
		void *userdata);
	bool (*state)(const struct manager *manager, const char *name, struct manager_unit_state *ret);
	size_t (*count)(const struct manager *manager);
	void (*list)(const struct manager *manager,
		void (*each)(void *userdata, const struct manager_unit_state *state), void *userdata);
	void (*status)(struct manager *manager, const char *name, manager_text_fn text, void *userdata);
	struct manager_stream *(*journal)(struct manager *manager, const char *name,
		const struct manager_journal_options *options, manager_text_fn text, void *userdata);
	void (*cancel)(struct manager_stream *stream);
};
struct manager {
	const struct manager_operations *operations;
	struct map load_failures; /* name -> why its last load failed, owned; manager.c's. Begins zeroed */
};
struct manager_stream {
	struct manager *manager;
};

int supervisor_new(const struct manager_config *config, struct manager **ret, struct buf *reterr);
int systemd_new(const struct manager_config *config, struct manager **ret, struct buf *reterr);
/* Whether units can be run through systemd here: the system's, or this user's. */
bool systemd_is_there(bool user);
