/* Where cgroups are on this machine, and what is in one: what tracker.c and limits.c both need to know. Shell
 * code, one thread.
 */
#pragma once
#include <stdbool.h>

/* The path of this process in a hierarchy: a v1 controller's, "name=systemd", or "" for v2. Of a keeper in an
 * earlier keeper's cgroup, the path above that. Owned; NULL: there is none. */
char *cgroup_own(const char *controller);
/* Where a hierarchy is mounted: the first mount of that type whose options hold `option` as a word (NULL:
 * any). Owned; NULL: nowhere. */
char *cgroup_mount(const char *type, const char *option);
/* Whether a cgroup of that name is one that a keeper made: "flotilla-" and its id, 32 hex digits. */
bool cgroup_is_keepers(const char *name);

/* A unit's processes may have made cgroups below its own: these mean them, too. */
struct pids;
void cgroup_pids(const char *path, struct pids *ret); /* adds the processes */
/* Removes the cgroups as far as they are empty: what holds a process cannot be removed. */
void cgroup_remove_tree(const char *path);
/* Kills all at once, also what is being forked, where the kernel can (cgroup v2, Linux 5.14). */
void cgroup_kill(const char *path);
