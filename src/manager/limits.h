/* What a unit's processes may use (systemd.resource-control(5)), through the cgroup controllers cpu, memory
 * and pids: those of cgroup v2 where they can be enabled for the keeper's cgroups, else those of v1 that can
 * be written. Without any, the settings have no effect, and the caller is told which. Shell code, one thread.
 */
#pragma once
#include "manager/config.h"
#include "manager/tracker.h"

enum limits_controller { LIMITS_CPU, LIMITS_MEMORY, LIMITS_PIDS, LIMITS_CONTROLLERS };

struct limits {
	const struct tracker *tracker; /* borrowed */
	char *id;
	struct {
		bool looked; /* the others are known; a controller is looked for when a unit first needs it */
		bool unified; /* v2: the unit's cgroup of the tracker has it */
		char *base;   /* directory of the keeper's cgroups in it; NULL: it cannot be used */
	} controllers[LIMITS_CONTROLLERS];
};
/* What one unit uses. */
struct limits_unit {
	bool used[LIMITS_CONTROLLERS];
};

/* Removes what an earlier keeper of that id left; uses nothing yet. */
void limits_open(struct limits *limits, const struct tracker *tracker, const char *id);
void limits_done(struct limits *limits);
/* Makes the unit's cgroups and sets the limits. ret_fds: of the cgroup.procs that the child must join beside
 * the tracker's, -1 for none. What could not be set is named in ret_missing ("MemoryHigh= …"). The tracker's
 * cgroup of the unit must be there. */
void limits_unit_open(struct limits *limits, const char *name, const struct resource_config *config,
	bool kill_together, struct limits_unit *ret, int ret_fds[static LIMITS_CONTROLLERS],
	struct strings *ret_missing);
void limits_unit_remove(const struct limits *limits, const char *name, struct limits_unit *unit);
/* How many processes the kernel has killed in it for lack of memory. */
uint64_t limits_oom_kills(const struct limits *limits, const char *name, const struct limits_unit *unit);
