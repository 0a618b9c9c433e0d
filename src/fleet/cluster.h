/* The cluster in memory: what the registry says, read through a mirror of the whole prefix, indexed by
 * machine and unit, and fed to a scheduler. It is told keys (cluster_set, cluster_remove) and tells its
 * observers which machine or unit changed. No I/O. Loop's thread; texts are borrowed until the next key is
 * told. */
#pragma once
#include "base/list.h"
#include "base/map.h"
#include "fleet/registry.h"
#include "fleet/scheduler.h"

struct cluster_machine {
	char *id;
	bool present; /* machines/ID/object is there */
	bool changed; /* by a read that has not ended */
	struct registry_machine object;
	char *object_text;	       /* what it was read from */
	struct registry_pair *dynamic; /* machines/ID/metadata/, sorted */
	size_t dynamic_count;
	struct registry_pair *fresh; /* what the read that is going on has told of it */
	size_t fresh_count;
	uint64_t object_seen; /* generation of the read that had it last */
};
/* A unit's text, shared by the units of equal hash. */
struct cluster_text {
	char hash[UNIT_HASH_HEX_SIZE];
	char *raw; /* NULL: units refer to it, and it is not known */
	size_t raw_len;
	struct unit_file *file; /* NULL: cannot be parsed */
	bool sound;		/* it has the hash that it is filed under */
	bool stored;		/* false: the store has lost it, and units still refer to it */
	bool overwritten;	/* lost to something else that is in its place */
	uint64_t index;		/* of its key in the store */
	uint64_t seen;
	struct list users; /* cluster_unit.text_link */
};
struct cluster_state {
	struct registry_unit_state state;
	uint64_t index; /* of the key in the store; 0: not known */
	uint64_t seen;
};
struct cluster_assignment {
	char *machine, *value;
	uint64_t seen;
};
struct cluster_unit {
	char *name;
	char hash[UNIT_HASH_HEX_SIZE]; /* "" without an object: no unit (yet, or any more) */
	enum registry_state desired;
	bool has_desired, global;
	char *target, *heartbeat;     /* machine IDs or NULL */
	uint64_t heartbeat_index;     /* of its key; 0: not known */
	uint64_t desired_index;	      /* likewise */
	struct cluster_state *states; /* sorted by machine */
	size_t state_count;
	struct cluster_assignment *assignments;
	size_t assignment_count;
	struct cluster_text *text; /* of its hash, known or not; NULL without one */
	struct list text_link;
	bool planned;	   /* the scheduler knows it */
	unsigned deciding; /* writes of its target under way; see cluster_decision_sent() */
	uint64_t object_seen, desired_seen, target_seen, heartbeat_seen;
};

struct cluster;
struct cluster_observer {
	void (*machine)(void *userdata, const char *id);    /* came, went, or has other metadata */
	void (*unit)(void *userdata, const char *name);	    /* object, wish or target changed; or it went */
	void (*state)(void *userdata, const char *name);    /* published states or heartbeat */
	void (*assigned)(void *userdata, const char *name); /* its entries in the assignment index */
	/* The state that a machine published went, as the store knew at that index (0: not known). Told
	 * before state(). */
	void (*state_gone)(void *userdata, const char *name, const char *machine, uint64_t index);
	void *userdata;
};

struct cluster *cluster_new(void);
struct cluster *cluster_free(struct cluster *cluster);
DEFINE_CLEANUP(struct cluster *, cluster_free)
void cluster_observe(
	struct cluster *cluster, const struct cluster_observer *observer); /* one; any member may be NULL */

/* Keys relative to the prefix, in the manner of mirror_handler. What is not understood is ignored. Index 0:
 * not known, it counts. */
void cluster_begin(struct cluster *cluster, uint64_t index);
void cluster_set(struct cluster *cluster, const char *path, struct slice value, uint64_t index);
void cluster_set_empty(struct cluster *cluster, const char *path);
void cluster_remove(struct cluster *cluster, const char *path, uint64_t index);
void cluster_end(struct cluster *cluster);
/* What the store has answered to a write of this process: the key's new value, or none if it is not there any
 * more, by the index of the answer. It counts at once, and what the mirror tells of that key from before is
 * left out. */
void cluster_written(struct cluster *cluster, const char *path, struct slice value, uint64_t index);
/* While the decision of the scheduler about a unit is being written, whatever the registry says of its target
 * is older, or makes that write fail: the scheduler hears of it after the last answer. The unit has an entry.
 */
void cluster_decision_sent(struct cluster *cluster, const char *unit);
void cluster_decision_answered(struct cluster *cluster, const char *unit);
/* Decisions whose writes were dropped are none: what the registry says counts. */
void cluster_forget_decisions(struct cluster *cluster);
/* Forgets everything without telling the observer (the mirror was closed). */
void cluster_clear(struct cluster *cluster);

struct scheduler *cluster_scheduler(const struct cluster *cluster);
const struct cluster_machine *cluster_machine(
	const struct cluster *cluster, const char *id); /* present ones */
/* NULL unless it has an object with a known text and a desired state. */
const struct cluster_unit *cluster_unit(const struct cluster *cluster, const char *name);
/* Any entry, also of a unit that is gone but still has states or assignments. */
const struct cluster_unit *cluster_entry(const struct cluster *cluster, const char *name);
/* Also one that the store has lost, as long as a unit refers to it. NULL: not known. */
const struct cluster_text *cluster_text(const struct cluster *cluster, const char *hash);
bool cluster_text_is_used(const struct cluster_text *text); /* by a unit */
/* fleet's current state: inactive without a target or a state published there; launched while the heartbeat
 * is the target's; else loaded. */
enum registry_state cluster_unit_current(const struct cluster_unit *unit);
const struct cluster_state *cluster_unit_state(const struct cluster_unit *unit, const char *machine);
/* Static metadata overridden by dynamic, sorted by key; keys hidden by an empty value left out. Borrowed
 * pairs in a block that the caller frees. */
struct scheduler_pair *cluster_machine_metadata(const struct cluster_machine *machine, size_t *ret_count);
/* Sorted arrays of present machines and of all entries; the caller frees the block. */
const struct cluster_machine **cluster_machines(const struct cluster *cluster, size_t *ret_count);
const struct cluster_unit **cluster_entries(const struct cluster *cluster, size_t *ret_count);
size_t cluster_unit_count(const struct cluster *cluster);
/* Directories of units ("states/NAME", "job/NAME") that are there with nothing in them, as far as is known:
 * an unset key's directory stays. Whoever removes one says so with cluster_remove(), and with
 * cluster_not_bare() when the store has refused: it was gone, or something is in it. */
bool cluster_is_bare(const struct cluster *cluster, const char *path);
void cluster_not_bare(struct cluster *cluster, const char *path, uint64_t index);
/* Sorted, in one block that the caller frees. */
char **cluster_bare_paths(const struct cluster *cluster, size_t *ret_count);
/* Keys below states/ whose value is no state: paths, and the index of one (0: it is none of them). */
char **cluster_garbage_paths(const struct cluster *cluster, size_t *ret_count);
uint64_t cluster_garbage_index(const struct cluster *cluster, const char *path);
/* IDs of machines, present or not, that have a directory in the assignment index. */
char **cluster_indexed_machines(const struct cluster *cluster, size_t *ret_count);
/* Term by which the machine's index is complete, or NULL. */
const char *cluster_epoch(const struct cluster *cluster, const char *machine);
/* The machine's entry in the index, or NULL. */
const struct cluster_assignment *cluster_unit_assignment(
	const struct cluster_unit *unit, const char *machine);
/* Steps through all entries in no order: start with *position = 0; NULL at the end. */
const struct cluster_unit *cluster_next_entry(const struct cluster *cluster, size_t *position);
/* All known texts, in no order; the caller frees the block. */
const struct cluster_text **cluster_texts(const struct cluster *cluster, size_t *ret_count);
