/* Where units run: the pure heart of fleet. It holds what a decision needs (machines with their metadata,
 * units with their [X-Fleet] rules, wishes and present targets), is told each change, and answers with
 * decisions at the cost of the change, not of the cluster. Deterministic: the same calls give the same
 * decisions. No I/O, no clock, never logs. One owner, one thread.
 *
 * A unit may run on a machine when, in this order (fleet 1.0's): MachineID names it (in full or by its
 * first eight characters); each MachineMetadata key has one of the wanted values; each MachineOf peer is
 * placed there; no Conflicts pattern of either side matches the other; no unit there replaces it (Replaces,
 * which does not count between units that replace each other, directly or in a circle, nor for what the
 * replacing unit needs: a peer, or a peer's).
 * Among the machines left the one with the fewest units wins, then the smallest ID. What runs is never moved
 * for balance. A global unit has no target: it runs on each machine whose ID and metadata match and where
 * it conflicts with nothing placed there nor with a global unit that runs there and whose name sorts before
 * it. */
#pragma once
#include "base/buf.h"
#include "base/macros.h"
#include "unit/unit.h"

enum scheduler_rule {
	SCHEDULER_RULE_NONE, /* the machine is able */
	SCHEDULER_RULE_MACHINE_ID,
	SCHEDULER_RULE_METADATA,
	SCHEDULER_RULE_MACHINE_OF,
	SCHEDULER_RULE_CONFLICTS,
	SCHEDULER_RULE_REPLACES,
	SCHEDULER_RULE_MAX
};

struct scheduler_pair {
	const char *key, *value;
};

struct scheduler_decision {
	const char *unit;
	const char *from; /* machine ID that it leaves, or NULL */
	const char *to;	  /* machine ID that it goes to, or NULL: it is placed nowhere now */
};

/* Why one machine does not take a unit. */
struct scheduler_refusal {
	const char *machine; /* machine ID */
	enum scheduler_rule rule;
	const char *detail; /* e.g. "conflicts with b.service (Conflicts=b*.service)" */
};

struct scheduler;
struct scheduler *scheduler_new(void);
struct scheduler *scheduler_free(struct scheduler *scheduler);
DEFINE_CLEANUP(struct scheduler *, scheduler_free)

/* Adds a machine, or gives it other metadata (keys unique, any order). */
void scheduler_put_machine(
	struct scheduler *scheduler, const char *id, const struct scheduler_pair *metadata, size_t count);
void scheduler_remove_machine(struct scheduler *scheduler, const char *id); /* harmless when unknown */
/* Adds a unit or replaces its rules (copied; specifiers already expanded) and wish. `wanted`: its desired
 * state is other than inactive. The target is kept. */
void scheduler_put_unit(
	struct scheduler *scheduler, const char *name, const struct unit_requirements *rules, bool wanted);
void scheduler_remove_unit(struct scheduler *scheduler, const char *name);
/* Tells where a unit is placed now (NULL: nowhere), as read from the registry; ignored for unknown units. The
 * machine may be one that is not known (any more): the next run then takes the unit off it. */
void scheduler_set_target(struct scheduler *scheduler, const char *name, const char *machine_id);
/* Makes the next run look at every unit again (the safety net). */
void scheduler_touch_all(struct scheduler *scheduler);
/* Makes the next run look at this unit again. */
void scheduler_touch_unit(struct scheduler *scheduler, const char *name);

/* Decides what the changes since the last run call for, and takes its own decisions as carried out (correct
 * it with scheduler_set_target() when a write failed). One decision per unit at most. The array and texts are
 * borrowed until the next call of any function here. */
size_t scheduler_run(struct scheduler *scheduler, const struct scheduler_decision **ret_decisions);

/* Present target of a unit, or NULL. */
const char *scheduler_target(const struct scheduler *scheduler, const char *name);
/* Number of units on a machine, global ones included; 0 when unknown. */
size_t scheduler_load(const struct scheduler *scheduler, const char *machine_id);
size_t scheduler_machine_count(const struct scheduler *scheduler);
/* A global unit runs on a machine from now on, or does not any more: scheduler_global_runs() tells which. */
struct scheduler_global_change {
	const char *unit, *machine;
};
/* What has changed of them since the last call, pair by pair; false: so much that everything may have.
 * Borrowed until the next call of any function here. */
bool scheduler_global_changes(struct scheduler *scheduler, const struct scheduler_global_change **ret_changes,
	size_t *ret_count) _must_check_;
/* True when the global unit runs on that machine. */
bool scheduler_global_runs(struct scheduler *scheduler, const char *name, const char *machine_id);
/* Why each machine, in order of ID, refuses the unit; machines that would take it are left out. -ENOENT:
 * unknown unit. Borrowed until the next call of any function here. */
int scheduler_explain(struct scheduler *scheduler, const char *name,
	const struct scheduler_refusal **ret_refusals, size_t *ret_count) _must_check_;
/* "MachineID", "MachineMetadata", "MachineOf", "Conflicts", "Replaces". */
const char *scheduler_rule_name(enum scheduler_rule rule);
