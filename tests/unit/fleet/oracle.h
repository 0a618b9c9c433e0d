/* The rules of placement by brute force, written from the words of scheduler.h and of fleet's manual: every
 * question is answered by walking over everything. Shares nothing with the scheduler, not even the matching
 * of patterns. */
#pragma once
#include "base/buf.h"
#include "base/rng.h"
#include "fleet/scheduler.h"

enum { ORACLE_MACHINES = 12, ORACLE_UNITS = 7, ORACLE_KEYS = 2, ORACLE_LIST = 2 };

struct oracle_machine {
	const char *id;
	bool present;
	int metadata[ORACLE_KEYS]; /* number of the value; -1: it has no such key */
};
struct oracle_wish {
	int key, value;
};
struct oracle_unit {
	const char *name;
	bool exists, wanted, global;
	const char *machine_id; /* NULL: none */
	struct oracle_wish metadata[ORACLE_LIST + 1];
	int metadata_count;
	const char *peers[ORACLE_LIST], *conflicts[ORACLE_LIST], *replaces[ORACLE_LIST]; /* NULL: fewer */
	/* Which units the lists mean, one bit each. */
	unsigned needs, conflicts_with, would_replace;
	const char *target; /* ID of a machine, also of one that is not there; NULL: none */
};
struct oracle {
	struct oracle_machine machines[ORACLE_MACHINES]; /* in order of ID */
	struct oracle_unit units[ORACLE_UNITS];		 /* in order of name */
	int machine_count;				 /* the others never come */
	bool peers_used, replaces_used;			 /* units may have MachineOf, Replaces */
};

extern const char *const oracle_keys[ORACLE_KEYS];
extern const char *const oracle_values[2];

void oracle_init(struct oracle *o, int machine_count, bool peers_used, bool replaces_used);
struct oracle_unit *oracle_find(struct oracle *o, const char *name);
/* Other rules for the unit. */
void oracle_random_rules(const struct oracle *o, struct oracle_unit *unit, struct rng *rng);
/* The unit's [X-Fleet] section. */
void oracle_rules_text(const struct oracle_unit *unit, struct buf *out);
/* Everything, for who reads a failure. */
void oracle_print(const struct oracle *o, struct buf *out);

/* The first rule by which the machine, which is there, refuses the unit. */
enum scheduler_rule oracle_refusal(
	const struct oracle *o, const struct oracle_unit *unit, const struct oracle_machine *machine);
bool oracle_replaces(const struct oracle *o, const struct oracle_unit *unit, const struct oracle_unit *other);
/* Whether it runs there: placed, or global and allowed to. */
bool oracle_runs(
	const struct oracle *o, const struct oracle_unit *unit, const struct oracle_machine *machine);
size_t oracle_load(const struct oracle *o, const struct oracle_machine *machine);
/* Whether it has a target where it must not be. */
bool oracle_is_misplaced(const struct oracle *o, const struct oracle_unit *unit);
/* Where a unit without a target goes; NULL: nowhere. */
const struct oracle_machine *oracle_best(const struct oracle *o, const struct oracle_unit *unit);
/* Decides everything, in the order of the words: what must not stay leaves, what has no place is placed in
 * order of names, until nothing changes. False where the words leave open what happens: peers, or misplaced
 * units of which one could stay if the other went. */
bool oracle_decide(struct oracle *o);
