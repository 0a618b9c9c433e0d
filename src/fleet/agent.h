/* The agent: makes this machine run what the cluster assigned to it, and publishes what its units do.
 *
 * What is assigned comes from the assignment index of this machine, which the leading engine keeps
 * (agent_index_…), and is believed only while the index's epoch is the term of the lease: a stale or
 * half-written index changes nothing. Under a fleet 1.0 engine, which writes no index, the whole cluster is
 * looked at instead (agent_set_foreign). As long as neither is known nothing is touched: a store that cannot
 * be read never stops a unit. Loop's thread. */
#pragma once
#include "fleet/cluster.h"
#include "flotilla/etcd.h"
#include "manager/manager.h"

struct agent;
struct agent_config {
	struct etcd_client *client;
	const char *prefix; /* without a slash at its end */
	const char *machine_id;
	struct cluster *cluster; /* looked at under a foreign engine, and for texts when it is loaded */
	struct manager *manager;
	int64_t ttl_s;
	uint64_t (*cluster_index)(void *userdata); /* of the store, up to which the cluster is known */
	void (*log)(void *userdata, const char *text);
	void *userdata;
};
struct agent *agent_new(const struct agent_config *config);
struct agent *agent_free(struct agent *agent);

/* The mirror of assigned/ID: names are unit names, or "epoch". */
void agent_index_begin(struct agent *agent);
void agent_index_set(struct agent *agent, const char *name, struct slice value);
void agent_index_remove(struct agent *agent, const char *name); /* "": everything */
void agent_index_end(struct agent *agent);
/* The lease as the mirror saw it last. NULL: no term known yet. Nobody leading changes nothing. */
void agent_lease_term(struct agent *agent, const char *term);
/* Whether what is published may last without a refresh (lease/states): the leader removes it when this
 * machine is gone. Under a foreign engine nothing lasts. */
void agent_set_lasting(struct agent *agent, bool lasting);
/* The cluster has been read: takes back what an earlier life of this daemon published and left behind, at
 * once or when it is known what shall run here. Whether it was done at once. */
bool agent_sweep(struct agent *agent);
/* Somebody, perhaps this machine, published something of the unit: what stands under this machine's name is
 * put right if it is not what this daemon wrote. */
void agent_published(struct agent *agent, const char *name);
/* A fleet 1.0 engine leads: go by the cluster; call agent_cluster_changed() on its changes. */
void agent_set_foreign(struct agent *agent, bool foreign);
void agent_cluster_changed(struct agent *agent);

/* The manager's events. */
void agent_manager_ready(struct agent *agent);
void agent_unit_state_changed(struct agent *agent, const struct manager_unit_state *state);
void agent_unit_unloaded(struct agent *agent, const char *name);

/* Contact to the store came back, or the presence was lost and is there again: publishes everything anew. The
 * caller has the index (and the cluster) read again, and until then nothing is done. */
void agent_contact(struct agent *agent);
/* Whether this machine is registered, and nobody else under its name: else nothing is done, nor published. */
void agent_set_registered(struct agent *agent, bool registered);
/* Stops and unloads everything and withdraws what is published, then calls back (at the latest after
 * limit_ms). */
void agent_hand_over(struct agent *agent, uint64_t limit_ms, void (*done)(void *userdata), void *userdata);
