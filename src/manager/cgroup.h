/* Where cgroups are on this machine: what tracker.c and limits.c both need to know. Shell code, one thread.
 */
#pragma once

/* The path of this process in a hierarchy: a v1 controller's, "name=systemd", or "" for v2. Of a keeper in an
 * earlier keeper's cgroup, the path above that. Owned; NULL: there is none. */
char *cgroup_own(const char *controller);
/* Where a hierarchy is mounted: the first mount of that type whose options hold `option` as a word (NULL:
 * any). Owned; NULL: nowhere. */
char *cgroup_mount(const char *type, const char *option);
/* Removes a cgroup and those right below it, as far as they are empty. */
void cgroup_remove_tree(const char *base);
