/* One process on its way: what spawn.c prepares in the keeper, and spawn_child.c uses in the child. */
#pragma once
#include "manager/activation.h"
#include "unit/environment.h"

#define SPAWN_SEARCH_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct spawn {
	struct service *service;
	const struct unit_command *command;
	struct unit_environment environment;
	bool main, watched;		     /* watched: it is told of the watchdog */
	int report_fd, output_fd, cgroup_fd; /* -1: none */
	int limit_fds[LIMITS_CONTROLLERS];   /* -1: none */
	int idle_fd;			     /* of Type=idle; -1: it does not wait */
	struct listen_fds listen;	     /* of its sockets, handed over as 3, 4, … */
	struct rlimit files;		     /* RLIMIT_NOFILE without LimitNOFILE= */
};

/* The rest of the child's life until execve(). What fails is told on report_fd, by lines that begin with W (a
 * warning) or E (it ends with a status of systemd.exec(5)). */
_noreturn_ void spawn_child(struct spawn *spawn);
/* "/run", "/var/lib" … */
const char *spawn_directory_root(enum directory_kind kind);
/* In the child: "W…" or "E…". */
void spawn_report(const struct spawn *spawn, const char *format, ...) _printf_(2, 3);
_noreturn_ void spawn_fail(const struct spawn *spawn, int exit_status, int error);
/* Sets a variable of the command's environment, unless the unit has set it (`only_default`). */
void spawn_set(struct spawn *spawn, const char *name, const char *value, bool only_default);

/* spawn_child_user.c: directories, groups, capabilities, and becoming the user. Answers the home directory.
 */
const char *spawn_child_user(struct spawn *spawn);
/* spawn_child.c: Limit*=. */
void spawn_child_limits(const struct spawn *spawn);
