/* Which processes belong to a unit. Where a cgroup hierarchy can be written each unit has a cgroup of its
 * own; elsewhere the process tree under the keeper is walked, to which orphans return because it is the
 * subreaper. Shell code, one thread. */
#pragma once
#include "base/map.h"
#include "base/slice.h"

struct tracker {
	char *base;   /* directory of the keeper's cgroups; NULL: cgroups cannot be used */
	bool unified; /* base is in cgroup v2 */
	struct process_list {
		struct process *items;
		size_t count, cap;
	} recent; /* the last reading of /proc, for tracker_pids(); dropped by tracker_turn() */
	bool recent_valid;
};
struct pids {
	pid_t *items;
	size_t count, cap;
};
/* What the search without cgroups must know of a unit. */
struct tracker_unit {
	const char *name;
	const char *invocation; /* 32 hex digits in each process's environment */
	pid_t main_pid, control_pid;
	const pid_t *sessions;
	size_t session_count;
	const struct map *started; /* all processes the keeper started and that have not ended, by pid_t */
};

void tracker_open(struct tracker *tracker, const char *id, bool allow_cgroups);
void tracker_done(struct tracker *tracker);
/* Makes the unit's cgroup and answers a descriptor of its cgroup.procs, for the child to join by writing 0;
 * -errno. */
int tracker_unit_open(const struct tracker *tracker, const char *name);
void tracker_unit_remove(const struct tracker *tracker, const char *name);
/* Kills all in the unit's cgroup at once, where the kernel can: what is being forked has no way out. */
void tracker_unit_kill(const struct tracker *tracker, const char *name);
/* The cgroup as the status shows it; NULL without. Free it. */
char *tracker_unit_path(const struct tracker *tracker, const char *name);
/* Living processes of the unit, in ascending order. Without cgroups, calls of one turn may share one reading
 * of /proc unless `fresh`; a pid may then be of a process that has just ended. */
void tracker_pids(struct tracker *tracker, const struct tracker_unit *unit, bool by_cgroup, bool fresh,
	struct pids *ret);
/* True when the process is one of the unit's; one that has ended counts until its parent has looked. */
bool tracker_owns(const struct tracker *tracker, const struct tracker_unit *unit, bool by_cgroup, pid_t pid);
void tracker_turn(struct tracker *tracker); /* a new turn of the loop begins */
void pids_done(struct pids *pids);
void pids_add(struct pids *pids, pid_t pid);
/* Kills what a keeper of the same id left behind: everything in its cgroups, and processes whose environment
 * holds one of the invocation ids. Waits up to timeout_ms for their end; answers how many there were. */
size_t tracker_kill_leftovers(
	const struct tracker *tracker, const char *const *invocations, size_t count, int timeout_ms);
/* Parent and start time (in ticks since boot) of a living process; false when it is gone. */
bool process_read(pid_t pid, pid_t *ret_parent, uint64_t *ret_start);
/* Command name and command line of a process; "" when it is gone. */
void process_name(pid_t pid, char *ret, size_t size);
