/* Shared by the engine's files only: the lease and decisions (engine.c), the index (engine_index.c), what
 * machines publish (engine_states.c), and what nobody needs any more (engine_collect.c). */
#pragma once
#include "fleet/engine.h"
#include "fleet/engine_writer.h"

#define ENGINE_RETRY_MS 200
#define ENGINE_REFUSED_RETRY_MS 50
#define ENGINE_SETTLE_MS 2000  /* missing machines get that long after an outage to come back */
#define ENGINE_SHORT_LEASE_S 2 /* how long a cluster is without a leader that was killed */
#define ENGINE_LARGE_UNITS 2000
#define ENGINE_LARGE_MACHINES 50
#define ENGINE_PASS_SHARE 200 /* a safety-net pass may cost one part in so many of the time */

enum lease_step {
	LEASE_IDLE,
	LEASE_ACQUIRE,
	LEASE_ADOPT,
	LEASE_RENEW,
	LEASE_READ, /* whether it is still ours */
	LEASE_BREAK,
	LEASE_RESIGN
};
/* A key below lease/ that says something by being there. */
struct engine_word {
	bool seen; /* by the mirror */
	bool busy; /* it is being written or removed */
};
struct engine {
	struct engine_config config;
	char *prefix, *machine_id;
	struct engine_writer *writer;

	struct registry_lease seen; /* machine NULL: nobody */
	char *seen_value;	    /* as it stands in the store; NULL: there is none */
	bool seen_known;

	enum lease_step step;
	struct etcd_request *lease_request, *version_request;
	uv_timer_t *lease_timer, *pass_timer, *run_timer;
	char *term, *lease_value;
	uint64_t lease_index, sent_ms, sent_ttl_ms;
	uint64_t term_index;	      /* of the store, when this term began */
	uint64_t renewed_ms, held_ms; /* the lease holds for so long from then on */
	bool leads, ready, resigned;
	bool outdated;	   /* engine/version is newer than this engine */
	bool lease_unsure; /* its index is not known */
	struct engine_stats stats;
	void (*resign_done)(void *userdata);
	void *resign_userdata;

	bool all;			   /* look at everything in the next run */
	bool machines_changed;		   /* one came or went since states were swept */
	uint64_t states_swept_ms;	   /* when that was */
	struct engine_word lasting, large; /* lease/states, lease/large */
	struct map swept; /* keys of machines that are gone, and directories, while they are being removed */
	struct map unneeded;   /* "path index" -> since when (ms) nobody needs it */
	uint64_t collected_ms; /* when it was last looked for; 0: not in this term */
	struct map silent;     /* "machine/unit" -> since when (ms) it does not say what it should */
	uint64_t foreign_ms;   /* when a machine of fleet 1.0 was last seen; 0: never */
	struct map bare;       /* names of units of which something that was published went */
	struct map dirty;      /* names whose index entries must be compared */
	struct map globals;    /* names of global units */
	struct map busy;       /* name -> index writes under way (as a count) */
	struct map waiting;    /* name -> since when (ms) it waits for the end of its copy elsewhere */
	struct map unheard;    /* name -> struct unheard: who has not said that it is gone; engine_index.c */
	struct map epochs;     /* machines that have this term's epoch */
	struct map new_machines;     /* machines that want it */
	struct map changed_machines; /* came, went, or have other metadata, since the last run */
};

/* engine.c */
uint64_t engine_now_ms(const struct engine *e);
void engine_retry_run(struct engine *e, uint64_t ms);
/* All entries of global units are compared in the next run. */
void engine_mark_globals(struct engine *e);
/* Of the store, when it did what was asked or refused it. */
uint64_t engine_answer_index(const struct etcd_response *response);
/* The key has that value by the answer to our write; NULL: it is not there. */
void engine_written(
	struct engine *e, const char *key, const char *value, const struct etcd_response *response);

/* engine_index.c */
/* Whether the machine is present and not of fleet 1.0. */
bool engine_machine_is_ours(const struct engine *e, const char *id);
/* Of what machines were waited for: all, or what is long past. */
void engine_forget_unheard(struct engine *e, bool all);
/* Units that wait for the end of a copy are looked at in the next run. */
void engine_look_at_waiting(struct engine *e);
/* Brings the index entries of one unit to what they should be. */
void engine_index_unit(struct engine *e, const char *name);
/* Those of global units where the scheduler has something new of them. */
void engine_index_globals(struct engine *e);
/* Of machines that came, went or changed: entries of global units; others are marked. */
void engine_index_machines(struct engine *e);
/* Behind all corrections queued so far, unless this term has: the machine's index is complete by it. */
void engine_epoch_write(struct engine *e, const char *machine);
/* Writes an entry of the index, or removes it (value NULL). */
void engine_index_write(struct engine *e, const char *machine, const char *name, const char *value);

/* engine_collect.c */
/* What the store has lost: texts that units refer to, and epochs of this term. */
void engine_restore(struct engine *e);
/* Now and then: what nobody has needed for long. */
void engine_collect(struct engine *e);
/* Whether the machine's index is just being removed; afterwards the machine counts as changed. */
bool engine_index_is_going(const struct engine *e, const char *machine);

/* engine_states.c */
/* After the decisions of a round, and long enough after an outage: removes what gone machines published, says
 * whether what is published may last, and asks for what is missing. all: the round was over everything. */
void engine_states_round(struct engine *e, bool all);
/* Under a 1.0 engine, which removes nothing: what gone machines left to last. */
void engine_sweep_foreign(struct engine *e);
