/* Starts one process of a unit. The keeper is small, so a plain fork() is cheap; everything that may block or
 * fail in the process's own name (users, directories, looking for the executable, expanding variables)
 * happens in the child (spawn_child.c), which tells warnings and errors on a pipe that execve() closes. */
#include "base/memory.h"
#include "base/time.h"
#include "manager/service_internal.h"
#include "manager/spawn_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENVIRONMENT_FILE_MAX (1024 * 1024)
#define SESSIONS_MAX 512

static int read_environment_file(const char *path, struct unit_environment *environment, size_t *skipped)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	_cleanup_buf_ struct buf text = BUF_INIT(ENVIRONMENT_FILE_MAX);
	struct stat st;
	ssize_t len;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL; /* a device or FIFO could block the keeper */
	do {
		char *at = buf_reserve(&text, 4096);

		if (!at)
			return -EFBIG;
		len = read(fd, at, 4096);
		if (len > 0)
			buf_commit(&text, (size_t)len);
	} while (len > 0 || (len < 0 && errno == EINTR));
	if (len < 0)
		return -errno;
	*skipped += unit_environment_read(environment, buf_slice(&text));
	return 0;
}

/* The path may be a pattern; one that matches nothing counts as a missing file. */
static int read_environment_files(const char *pattern, struct unit_environment *environment, size_t *skipped)
{
	glob_t found = {0};
	int r = 0;

	if (!strpbrk(pattern, "*?["))
		return read_environment_file(pattern, environment, skipped);
	if (glob(pattern, 0, NULL, &found) != 0)
		r = -ENOENT;
	for (size_t i = 0; r == 0 && i < found.gl_pathc; i++)
		r = read_environment_file(found.gl_pathv[i], environment, skipped);
	globfree(&found);
	return r;
}

static void set(struct unit_environment *environment, const char *name, const char *value)
{
	/* A value that no environment can hold is left out, as systemd does. */
	if (unit_environment_set(environment, slice_str(name), slice_str(value)) < 0)
		return;
}

static void set_result(struct service *service, struct unit_environment *environment)
{
	const struct exec_record *record = &service->main_exec;
	char status[32];

	set(environment, "SERVICE_RESULT", service_result_name(service->result));
	if (!record->pid || !record->exited)
		return;
	set(environment, "EXIT_CODE", record->by_signal ? (record->dumped ? "dumped" : "killed") : "exited");
	(void)snprintf(status, sizeof(status), "%d", record->status);
	if (record->by_signal && unit_signal_name(record->status))
		set(environment, "EXIT_STATUS", unit_signal_name(record->status));
	else
		set(environment, "EXIT_STATUS", status);
}

static void set_number(struct unit_environment *environment, const char *name, long long number)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%lld", number);
	set(environment, name, text);
}

const char *spawn_directory_root(enum directory_kind kind)
{
	static const char *const roots[] = {[DIRECTORY_RUNTIME] = "/run",
		[DIRECTORY_STATE] = "/var/lib",
		[DIRECTORY_CACHE] = "/var/cache",
		[DIRECTORY_LOGS] = "/var/log",
		[DIRECTORY_CONFIGURATION] = "/etc"};

	return roots[kind];
}

static void set_directories(struct unit_environment *environment, const char *name, enum directory_kind kind,
	const struct strings *names)
{
	_cleanup_buf_ struct buf paths = BUF_INIT(UNIT_ENVIRONMENT_VALUE_MAX);

	for (size_t i = 0; i < names->count; i++)
		buf_printf(&paths, "%s%s/%s", i ? ":" : "", spawn_directory_root(kind), names->items[i]);
	if (names->count)
		set(environment, name, buf_text(&paths));
}

/* Who may speak is told where; who is watched, how often it must. */
static void set_notify(
	struct service *service, const struct spawn *spawn, struct unit_environment *environment)
{
	enum notify_access access = service->config.notify_access;
	const char *address;

	if (access == NOTIFY_NONE || (!spawn->main && !spawn->watched && access < NOTIFY_EXEC))
		return;
	address = notify_open(service);
	if (!address) {
		service_say(service, "%s: Failed to open the notification socket.", service->name);
		return;
	}
	set(environment, "NOTIFY_SOCKET", address);
	if (spawn->watched)
		set_number(environment, "WATCHDOG_USEC", service->watchdog_ns / 1000);
}

static int build_environment(struct service *service, enum exec_kind kind, const struct spawn *spawn,
	struct unit_environment *environment)
{
	static const char *const directories[] = {"RUNTIME_DIRECTORY", "STATE_DIRECTORY", "CACHE_DIRECTORY",
		"LOGS_DIRECTORY", "CONFIGURATION_DIRECTORY"};
	const struct service_config *config = &service->config;
	size_t skipped = 0;

	set(environment, "PATH", SPAWN_SEARCH_PATH);
	set(environment, "LANG", "C.UTF-8");
	set(environment, "INVOCATION_ID", service->invocation);
	if (service->main_pid)
		set_number(environment, "MAINPID", service->main_pid);
	if (config->pid_file)
		set(environment, "PIDFILE", config->pid_file);
	if (spawn->listen.count) {
		set_number(environment, "LISTEN_FDS", (long long)spawn->listen.count);
		set(environment, "LISTEN_FDNAMES", spawn->listen.names);
	}
	for (size_t i = 0; i < DIRECTORY_KIND_MAX; i++)
		set_directories(environment, directories[i], (enum directory_kind)i,
			&config->process.directories[i].names);
	set_notify(service, spawn, environment);
	for (size_t i = 0; i < config->process.pass_environment.count; i++) {
		const char *name = config->process.pass_environment.items[i];

		if (getenv(name))
			set(environment, name, getenv(name));
	}
	if (kind == EXEC_STOP || kind == EXEC_STOP_POST)
		set_result(service, environment);
	for (size_t i = 0; i < config->environment.count; i++)
		if (unit_environment_assign(environment, slice_str(config->environment.items[i])) < 0)
			service_say(service, "%s: too many environment variables, ignored: %.100s",
				service->name, config->environment.items[i]);
	for (size_t i = 0; i < config->environment_files.count; i++) {
		const char *path = config->environment_files.items[i];
		bool optional = path[0] == '-';
		int r = read_environment_files(path + optional, environment, &skipped);

		if (r < 0 && !(optional && r == -ENOENT)) {
			service_say(service, "%s: Failed to load environment files: %s: %s", service->name,
				path + optional, strerror(-r));
			if (!optional)
				return r;
		}
	}
	if (skipped)
		service_say(service, "%s: %zu lines of the environment files are no assignments, ignored",
			service->name, skipped);
	return 0;
}

/* A pipe for the child's report, whose read end the loop can wait for. */
static int open_report(int ret_fds[static 2])
{
	if (pipe2(ret_fds, O_CLOEXEC) < 0)
		return -errno;
	(void)fcntl(ret_fds[0], F_SETFL, O_NONBLOCK);
	return 0;
}

static const char *command_identifier(const struct service *service, const struct unit_command *command)
{
	const char *slash = strrchr(command->words[0], '/');

	if (service->config.process.identifier)
		return service->config.process.identifier;
	return slash ? slash + 1 : command->words[0];
}

bool spawn_is_main(const struct service *service, enum exec_kind kind)
{
	return kind == EXEC_START && service->config.type != SERVICE_FORKING;
}

static void remember(
	struct service *service, enum exec_kind kind, const struct unit_command *command, pid_t pid)
{
	struct exec_record *record =
		spawn_is_main(service, kind) ? &service->main_exec : &service->control_exec[kind];
	_cleanup_buf_ struct buf text = BUF_INIT(0);

	if (service->session_count < SESSIONS_MAX) {
		service->sessions =
			mem_reallocarray(service->sessions, service->session_count + 1, sizeof(pid_t));
		service->sessions[service->session_count++] = pid;
	}
	for (size_t i = 0; i < command->count; i++)
		buf_printf(&text, "%s%s", i ? " " : "", command->words[i]);
	free(record->command);
	*record = (struct exec_record){
		.pid = pid, .start_us = time_wall_ns() / 1000, .command = buf_take(&text, NULL)};
}

static void default_files(struct spawn *spawn)
{
	/* systemd's default: a soft limit that select() can live with. */
	if (getrlimit(RLIMIT_NOFILE, &spawn->files) < 0)
		spawn->files = (struct rlimit){1024, 1024};
	spawn->files.rlim_cur = MIN((rlim_t)1024, spawn->files.rlim_max);
}

/* The unit's cgroups; the child goes into them. */
static void open_cgroups(struct service *service, struct spawn *spawn)
{
	struct keeper *keeper = service->keeper;
	struct strings missing = {0};

	spawn->cgroup_fd = tracker_unit_open(&keeper->tracker, service->name);
	service->uses_cgroup = spawn->cgroup_fd >= 0;
	limits_unit_open(&keeper->limits, service->name, &service->config.resources,
		service->config.oom_policy == OOM_KILL, &service->limits, spawn->limit_fds, &missing);
	for (size_t i = 0; i < missing.count; i++)
		service_warn(service, "%s: %s.", service->name, missing.items[i]);
	strings_done(&missing);
	/* What a cgroup that outlived its run has counted is none of this one's. */
	if (service->oom_kills == UINT64_MAX)
		service->oom_kills = limits_oom_kills(&keeper->limits, service->name, &service->limits);
	service_poll_begin(service);
}

static void close_cgroups(struct spawn *spawn)
{
	if (spawn->cgroup_fd >= 0)
		close(spawn->cgroup_fd);
	for (size_t i = 0; i < LIMITS_CONTROLLERS; i++)
		if (spawn->limit_fds[i] >= 0)
			close(spawn->limit_fds[i]);
}

static pid_t fork_child(struct spawn *spawn)
{
	sigset_t all, before;
	pid_t pid;

	/* No signal may reach the child before it has let go of the loop's handlers: they would write into
	 * the pipe that it shares with the keeper, and a SIGTERM for the unit would end the keeper. */
	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0)
		spawn_child(spawn);
	if (pid < 0)
		pid = -errno;
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
	return pid;
}

int spawn_command(struct service *service, enum exec_kind kind, size_t index, pid_t *ret_pid)
{
	const struct unit_command *command = &service->config.exec[kind].items[index];
	_cleanup_close_ int output_fd = -1, report_read = -1, report_write = -1;
	struct spawn spawn = {.service = service,
		.command = command,
		.main = spawn_is_main(service, kind),
		.watched = kind == EXEC_START && service->watchdog_ns,
		.idle_fd = -1};
	int fds[2], r;
	pid_t pid;

	if (kind == EXEC_START)
		listen_fds_collect(service, &spawn.listen);
	r = build_environment(service, kind, &spawn, &spawn.environment);
	if (r == 0)
		r = stream_open(service, command_identifier(service, command), &output_fd);
	if (r == 0)
		r = open_report(fds);
	if (r < 0) {
		unit_environment_done(&spawn.environment);
		listen_fds_done(&spawn.listen);
		return r;
	}
	report_read = fds[0];
	report_write = fds[1];
	open_cgroups(service, &spawn);
	spawn.output_fd = output_fd;
	spawn.report_fd = report_write;
	default_files(&spawn);
	if (service->config.type == SERVICE_IDLE && kind == EXEC_START)
		spawn.idle_fd = keeper_idle_fd(service->keeper);
	pid = fork_child(&spawn);
	unit_environment_done(&spawn.environment);
	listen_fds_done(&spawn.listen);
	close_cgroups(&spawn);
	if (pid < 0)
		return (int)pid;
	remember(service, kind, command, pid);
	(void)map_put(&service->keeper->started, slice_make(&pid, sizeof(pid)), service);
	r = stream_open_report(service, pid, report_read);
	if (r == 0)
		report_read = -1; /* the stream's now */
	if (spawn.main)
		service->main_known = true;
	*ret_pid = pid;
	return 0;
}
