/* One machine's part in the cluster: mirrors, engine, agent and presence, wired together on the loop of its
 * clients. It owns them; clients, cluster and manager are the caller's, and outlive it. What surrounds it
 * (the API, configuration, signals) talks to it from outside. Loop's thread. */
#pragma once
#include "base/log.h"
#include "fleet/cluster.h"
#include "fleet/engine.h"
#include "flotilla/etcd.h"
#include "manager/manager.h"

struct member;
struct member_config {
	struct etcd_client *quick; /* presence and lease: short timeouts tell an outage */
	struct etcd_client *client;
	const char *prefix;			/* without a slash at its end */
	const struct registry_machine *machine; /* what its presence says */
	struct cluster *cluster;		/* kept up to date from now on */
	struct manager *manager;
	int64_t ttl_s;	       /* of its presence */
	uint64_t reconcile_ms; /* between the engine's passes over everything */
	bool engine_disabled;
	void (*cluster_moved)(void *userdata); /* what is known of the cluster is new */
	void (*log)(void *userdata, enum log_level level, const char *text);
	void *userdata;
};
/* Copies the configuration; nothing is called before the loop runs. */
struct member *member_new(const struct member_config *config);
/* As if it had died: what it published stays. The memory of its timers is freed by the loop. */
struct member *member_free(struct member *member);

/* The manager's events; its userdata shall be what leads here. */
void member_manager_ready(struct member *member);
void member_manager_lost(struct member *member, const char *why);
void member_unit_changed(struct member *member, const struct manager_unit_state *state);
void member_unit_unloaded(struct member *member, const char *name);

/* Publishes another description of the machine. */
void member_describe(struct member *member, const struct registry_machine *machine);
/* Hands the units over to the others, or lets them run on for the next daemon (keep_units), gives back the
 * lease, and calls back; the store may be away. Once. */
void member_stop(struct member *member, bool keep_units, void (*done)(void *userdata), void *userdata);

/* Of a large cluster all is kept in memory only while it is used: by the leading engine, or from outside. */
void member_use_cluster(struct member *member);
bool member_knows_cluster(const struct member *member);
uint64_t member_cluster_index(const struct member *member); /* of the store, as far as it was followed */
bool member_reaches_store(const struct member *member);
const struct engine *member_engine(const struct member *member);
