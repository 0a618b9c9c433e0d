/* What the files of the scheduler share. */
#pragma once
#include "base/map.h"
#include "base/memory.h"
#include "fleet/scheduler.h"

struct sched_list {
	struct sched_unit **items;
	size_t count, cap;
};
struct sched_machine {
	char *id;
	struct arena arena; /* metadata */
	struct scheduler_pair *metadata;
	size_t metadata_count;
	bool present;		   /* false: only the target of units */
	bool freed;		   /* in scheduler.freed */
	struct sched_list units;   /* placed here */
	struct sched_list globals; /* present machines: the global units that run here, in order of names */
	size_t load;
};
struct sched_unit {
	char *name;
	struct unit_requirements rules; /* own copy */
	bool wanted, dirty, waiting, patterned;
	bool anywhere; /* this round may place it on any machine, not only on freed ones */
	struct sched_machine *machine;
	size_t slot;	     /* in machine->units */
	size_t waiting_slot; /* in scheduler.waiting */
	/* What this run has done with it. */
	uint64_t run;
	const char *run_from; /* in scheduler.run_arena */
	uint64_t walk, peer_walk;
	unsigned run_placements;
};
struct sched_followers {
	struct sched_list units;
};
struct scheduler {
	struct map machines, units, followers;
	struct sched_machine **order; /* present machines by (load, ID) */
	size_t order_count, order_cap;
	struct sched_list dirty, waiting, globals, touched;
	struct sched_machine **freed;
	size_t freed_count, freed_cap;
	bool globals_patterned;			 /* some global unit has Conflicts */
	bool globals_changed;			 /* every machine's list must be made anew */
	struct scheduler_global_change *changes; /* of what was told last */
	size_t change_count, change_cap;
	bool changes_told, changes_lost; /* they have been asked for; there were too many */
	struct arena change_arena;
	struct sched_list replacing; /* units that have Replaces */
	bool replacing_changed;	     /* who replaces whom must be looked at anew */
	struct sched_list trail;     /* of the walk that is going on: units still to be looked at */
	uint64_t walk;		     /* over circles: sched_unit.walk tells who was met */
	uint64_t peer_walk;	     /* over peers, likewise */
	uint64_t run;
	struct arena run_arena;	   /* decisions of the last run */
	struct arena answer_arena; /* of the last explanation */
};

/* Works out where global units run, if that has to be done for all machines. */
void scheduler_refresh_globals(struct scheduler *s);
/* The global unit came to the machine, or left it. */
void scheduler_note_global(
	struct scheduler *s, const struct sched_unit *unit, const struct sched_machine *machine);
/* The first rule by which the machine refuses the unit; `detail` (may be NULL) gets the reason. */
enum scheduler_rule scheduler_refusal_of(struct scheduler *s, const struct sched_unit *unit,
	struct sched_machine *machine, struct buf *detail);
bool scheduler_metadata_fits(const struct sched_unit *unit, struct sched_machine *machine);
/* A unit of the list that conflicts with `unit`, whichever of the two says so; NULL: none. */
const struct sched_unit *scheduler_conflict_in(
	const struct sched_unit *unit, const struct sched_list *list, struct slice *ret_pattern);
/* `unit` takes the place of `other`. Those do not count that replace each other, be it in a circle of many,
 * nor a peer that is needed, be it by a peer: nobody could ever stay. */
bool scheduler_unit_replaces(struct scheduler *s, const struct sched_unit *unit,
	const struct sched_unit *other, struct slice *ret_pattern);
void scheduler_list_add(struct sched_list *list, struct sched_unit *unit);
bool scheduler_list_has(const struct sched_list *list, const struct sched_unit *unit);
bool scheduler_rules_equal(const struct unit_requirements *a, const struct unit_requirements *b);
/* An own copy of what was parsed elsewhere. */
void scheduler_rules_copy(struct unit_requirements *to, const struct unit_requirements *from);
