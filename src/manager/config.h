/* What a service unit says, read once into one struct: systemd.unit(5), systemd.service(5), systemd.exec(5),
 * systemd.kill(5) and systemd.resource-control(5), as far as the supervisor goes (docs/supervisor.md).
 * Everything else is named in a warning. Pure. */
#pragma once
#include "base/buf.h"
#include "manager/config_triggers.h"
#include "manager/strings.h"
#include "unit/specifier.h"
#include "unit/unit.h"
#include "unit/words.h"
#include <sys/resource.h>
#include <sys/types.h>

enum service_type {
	SERVICE_SIMPLE,
	SERVICE_EXEC,
	SERVICE_ONESHOT,
	SERVICE_FORKING,
	SERVICE_NOTIFY,
	SERVICE_NOTIFY_RELOAD,
	SERVICE_IDLE,
	SERVICE_TYPE_MAX
};
/* Whose messages on the notification socket count. */
enum notify_access { NOTIFY_UNSET, NOTIFY_NONE, NOTIFY_MAIN, NOTIFY_EXEC, NOTIFY_ALL, NOTIFY_ACCESS_MAX };
enum failure_mode { FAILURE_TERMINATE, FAILURE_ABORT, FAILURE_KILL, FAILURE_MODE_MAX };
enum oom_policy { OOM_STOP, OOM_CONTINUE, OOM_KILL, OOM_POLICY_MAX };
enum exit_type { EXIT_MAIN, EXIT_CGROUP, EXIT_TYPE_MAX };
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
	EXEC_RELOAD,
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
	DEP_WANTED_BY, /* [Install] */
	DEP_REQUIRED_BY,
	DEP_SOCKETS, /* Sockets= */
	DEP_MAX
};

struct status_set { /* exit statuses and signals */
	uint64_t codes[4];
	uint64_t signals[2];
};
bool status_set_has(const struct status_set *set, bool is_signal, int value);

/* Where a standard stream comes from or goes to. */
enum stream_kind {
	STREAM_DEFAULT, /* input: null; output: the unit's log; error: as the output */
	STREAM_NULL,
	STREAM_LOG,
	STREAM_FILE,
	STREAM_APPEND,
	STREAM_TRUNCATE,
	STREAM_INHERIT /* output: as the input; error: as the output */
};
struct stream_config {
	enum stream_kind kind;
	char *path; /* owned; of FILE, APPEND and TRUNCATE */
};
/* RuntimeDirectory= and its siblings, in the order of their exit statuses. */
enum directory_kind {
	DIRECTORY_RUNTIME,
	DIRECTORY_STATE,
	DIRECTORY_CACHE,
	DIRECTORY_LOGS,
	DIRECTORY_CONFIGURATION,
	DIRECTORY_KIND_MAX
};
struct directory_config {
	struct strings names; /* relative to the kind's directory, normalized */
	unsigned mode;
};
enum preserve { PRESERVE_NO, PRESERVE_YES, PRESERVE_RESTART, PRESERVE_MAX };

#define AFFINITY_CPUS_MAX 1024

/* systemd.exec(5): how each process of the unit is set up before it becomes its program. */
struct process_config {
	char *user, *group, *working_directory, *identifier; /* NULL: not set */
	bool working_directory_optional;
	struct strings groups; /* SupplementaryGroups= */
	struct stream_config input, output, error;
	struct directory_config directories[DIRECTORY_KIND_MAX];
	enum preserve runtime_preserve;
	unsigned umask;
	bool nice_set, oom_score_set, policy_set, reset_on_fork, io_set, affinity_set;
	int nice, oom_score, policy, priority, io_class, io_priority;
	unsigned char affinity[AFFINITY_CPUS_MAX / 8];
	struct {
		bool set;
		rlim_t soft, hard;
	} limits[RLIM_NLIMITS];
	bool ignore_sigpipe, no_new_privileges;
	bool non_blocking;				  /* of the sockets that are handed over */
	uint64_t capability_bounds, ambient_capabilities; /* bits by number; bounds default to all */
	struct strings pass_environment;
};

/* A limit that may be relative to what the machine has. */
enum amount_kind { AMOUNT_UNSET, AMOUNT_INFINITY, AMOUNT_ABSOLUTE, AMOUNT_SHARE };
struct amount {
	enum amount_kind kind;
	uint64_t value; /* bytes or tasks; of a share: hundredths of a percent */
};
/* systemd.resource-control(5): what the unit's cgroup is told. */
struct resource_config {
	struct amount memory_min, memory_low, memory_high, memory_max, memory_swap_max, memory_limit;
	struct amount tasks_max;
	uint64_t cpu_weight, cpu_shares; /* 0: not set */
	uint64_t cpu_quota_us;		 /* CPU time per second; 0: not set */
	int64_t cpu_period_ns;
};

struct service_config {
	char *description; /* NULL: none */
	enum service_type type;
	enum exit_type exit_type;
	struct unit_commands exec[EXEC_KIND_MAX];
	struct strings environment;	  /* "NAME=value", in order */
	struct strings environment_files; /* paths; '-' in front: may be missing */
	struct strings unset_environment;
	char *pid_file; /* absolute, or NULL */
	bool guess_main_pid;
	enum notify_access notify_access; /* never NOTIFY_UNSET once read */
	enum service_restart restart;
	int64_t restart_ns, timeout_start_ns, timeout_stop_ns, timeout_abort_ns, runtime_max_ns,
		runtime_extra_ns;
	int64_t watchdog_ns; /* 0: none */
	bool timeout_start_set, timeout_abort_set;
	enum failure_mode start_failure_mode, stop_failure_mode;
	enum oom_policy oom_policy;
	enum kill_mode kill_mode;
	int kill_signal, final_kill_signal, restart_kill_signal, watchdog_signal,
		reload_signal; /* restart_kill_signal 0: kill_signal */
	bool send_sigkill, send_sighup, remain_after_exit;
	struct status_set success, restart_prevent, restart_force;
	int64_t start_limit_interval_ns;
	uint64_t start_limit_burst;
	struct strings dependencies[DEP_MAX];
	struct process_config process;
	struct resource_config resources;
	char *trigger; /* the unit that a timer, path or socket starts; NULL: this is none of those */
	struct timer_config timer;
	struct path_config path;
	struct socket_config socket;
	struct trigger_limit trigger_limit;
	bool default_dependencies;
	struct strings warnings; /* "web.service:7: …" */
	char *error;	       /* why it cannot be started (load state bad-setting or error); NULL: it can */
	bool unsupported_type; /* error is about the unit's type */
};

/* Reads a service's options; never fails, see `error` and `warnings`. */
void service_config_read(
	const struct unit_file *file, const struct unit_specifiers *specifiers, struct service_config *ret);
void service_config_done(struct service_config *config);
/* True when an option of that section and name is read (or refused by its own word), not just warned of. */
bool service_config_reads(const char *section, const char *name);
/* The option at a place of the table; false behind the last. */
bool service_config_reads_at(size_t index, const char **ret_section, const char **ret_name);
const char *exec_kind_name(enum exec_kind kind); /* "ExecStart" */
