/* What a service unit says, read once into one struct: systemd.unit(5), systemd.service(5), systemd.exec(5)
 * and systemd.kill(5), as far as the supervisor goes. Everything else is named in a warning. Pure. */
#pragma once
#include "base/buf.h"
#include "unit/specifier.h"
#include "unit/unit.h"
#include "unit/words.h"

enum service_type { SERVICE_SIMPLE, SERVICE_EXEC, SERVICE_ONESHOT, SERVICE_TYPE_MAX };
enum service_restart {
	RESTART_NO,
	RESTART_ON_SUCCESS,
	RESTART_ON_FAILURE,
	RESTART_ON_ABNORMAL,
	RESTART_ON_WATCHDOG,
	RESTART_ON_ABORT,
	RESTART_ALWAYS,
	RESTART_MAX
};
enum kill_mode { KILL_CONTROL_GROUP, KILL_MIXED, KILL_PROCESS, KILL_NONE, KILL_MODE_MAX };
enum exec_kind {
	EXEC_CONDITION,
	EXEC_START_PRE,
	EXEC_START,
	EXEC_START_POST,
	EXEC_STOP,
	EXEC_STOP_POST,
	EXEC_KIND_MAX
};
enum dependency {
	DEP_REQUIRES,
	DEP_REQUISITE,
	DEP_WANTS,
	DEP_BINDS_TO,
	DEP_PART_OF,
	DEP_AFTER,
	DEP_BEFORE,
	DEP_CONFLICTS,
	DEP_MAX
};

struct strings {
	char **items; /* owned */
	size_t count, cap;
};
void strings_add(struct strings *strings, const char *text);
void strings_done(struct strings *strings);
bool strings_have(const struct strings *strings, const char *text);

struct status_set { /* exit statuses and signals */
	uint64_t codes[4];
	uint64_t signals[2];
};
bool status_set_has(const struct status_set *set, bool is_signal, int value);

struct service_config {
	char *description; /* NULL: none */
	enum service_type type;
	struct unit_commands exec[EXEC_KIND_MAX];
	struct strings environment;	  /* "NAME=value", in order */
	struct strings environment_files; /* paths; '-' in front: may be missing */
	struct strings unset_environment;
	enum service_restart restart;
	int64_t restart_ns, timeout_start_ns, timeout_stop_ns;
	bool timeout_start_set;
	enum kill_mode kill_mode;
	int kill_signal, final_kill_signal;
	bool send_sigkill, send_sighup, remain_after_exit, ignore_sigpipe;
	char *user, *group, *working_directory, *identifier; /* NULL: not set */
	bool working_directory_optional;
	bool null_stdout, null_stderr;
	unsigned umask;
	int nice;
	struct status_set success, restart_prevent, restart_force;
	int64_t start_limit_interval_ns;
	uint64_t start_limit_burst;
	struct strings dependencies[DEP_MAX];
	struct strings warnings; /* "web.service:7: …" */
	char *error;	       /* why it cannot be started (load state bad-setting or error); NULL: it can */
	bool unsupported_type; /* error is about the unit's type */
};

/* Reads a service's options; never fails, see `error` and `warnings`. */
void service_config_read(
	const struct unit_file *file, const struct unit_specifiers *specifiers, struct service_config *ret);
void service_config_done(struct service_config *config);
const char *exec_kind_name(enum exec_kind kind); /* "ExecStart" */
