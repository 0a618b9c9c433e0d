/* The engine: of all fleetd one leads, by a lease in the store, and decides where units run. It acts on each
 * change as it comes; a pass over everything every reconcile interval is only the safety net.
 *
 * The lease is created when absent, renewed every ttl/2, and compared by index. A dead leader's lease is
 * broken as soon as its machine's presence has expired. A leader without contact to the store decides
 * nothing, and after an outage machines that are missing get time to come back before their units are moved:
 * "could not read" is unknown, not gone.
 *
 * What a machine published lives as long as the machine's presence: the leader removes exactly its keys when
 * it is gone. While it does, which is as long as no machine of fleet 1.0 is there, it says so in the key
 * lease/states, and nobody has to refresh what does not change. What is left in the registry without a
 * meaning it removes too: at once what cannot have one, after a while what is only not needed.
 *
 * A cluster of many units or machines is called large in the key lease/large: then only who needs the whole
 * cluster in memory follows it. To lead anew means to read everything there, so the lease of a large cluster
 * is a long one, and a short one elsewhere. Loop's thread. */
#pragma once
#include "fleet/cluster.h"
#include "flotilla/etcd.h"

struct engine;
struct engine_config {
	struct etcd_client *client; /* for the lease: short timeouts */
	struct etcd_client *writes; /* for everything else */
	const char *prefix;	    /* "/_coreos.com/fleet", without a slash at its end */
	const char *machine_id;
	struct cluster *cluster;
	int64_t lease_ttl_s; /* of a large cluster; else ENGINE_SHORT_LEASE_S at most */
	uint64_t reconcile_ms;
	uint64_t collect_ms; /* what nobody needs is removed after that time; 0: an hour */
	bool disabled;	     /* never leads, only follows who does */
	/* Whether this machine's presence is in the store, and nobody else's under its name. */
	bool (*is_registered)(void *userdata);
	/* Loop time in ms since when the store has been in contact, 0: not now. */
	uint64_t (*contact_since_ms)(void *userdata);
	/* True while the cluster mirror holds a complete read. */
	bool (*cluster_is_live)(void *userdata);   /* it follows the store */
	uint64_t (*cluster_index)(void *userdata); /* of the store, up to which the cluster is known */
	/* Began or ceased to lead; a full mirror is needed while leading. */
	void (*leading)(void *userdata, bool leads);
	void (*log)(void *userdata, const char *text);
	void *userdata;
};

struct engine *engine_new(const struct engine_config *config);
struct engine *engine_free(struct engine *engine);
/* What the mirror of lease/engine-leader says; value.data NULL: nobody leads. */
void engine_lease_seen(struct engine *engine, struct slice value);
/* What engine/version says. While it is newer than this engine, as after an upgrade of other machines, this
 * one does not lead. */
void engine_version_seen(struct engine *engine, struct slice value);
/* Whether lease/states is there. */
void engine_states_seen(struct engine *engine, bool lasting);
/* Whether lease/large is there. */
void engine_large_seen(struct engine *engine, bool large);
/* Changes of the cluster, by name; engine_turn() then acts on all of them. */
void engine_machine_changed(struct engine *engine, const char *id);
void engine_unit_changed(struct engine *engine, const char *name);
void engine_states_changed(struct engine *engine, const char *name);
void engine_state_gone(struct engine *engine, const char *name, const char *machine, uint64_t index);
void engine_assignments_changed(struct engine *engine, const char *name);
void engine_turn(struct engine *engine);
/* The cluster was read anew, or contact came back: look at everything. */
void engine_look_at_all(struct engine *engine);
struct engine_stats {
	int64_t led_since_us;	    /* wall clock; 0: it does not lead */
	uint64_t rounds;	    /* over what had changed, or over everything */
	uint64_t placed, taken_off; /* decisions */
	uint64_t not_placed,
		not_taken_off; /* of them, not written: the store was away, or another wrote first */
	uint64_t unplaced;     /* units that no machine took, in the last round over everything */
	uint64_t failures;     /* their number, added up over all those rounds */
};
void engine_get_stats(const struct engine *engine, struct engine_stats *ret);
bool engine_leads(const struct engine *engine);
/* ID of the leading machine, or NULL when nobody leads as far as is known. */
const char *engine_leader(const struct engine *engine);
/* Gives the lease back (if it is ours), then calls back; the engine takes no part any more. */
void engine_resign(struct engine *engine, void (*done)(void *userdata), void *userdata);
