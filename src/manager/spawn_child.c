/* A process between fork() and execve(). It is a copy of the keeper, and only its own: it may block, and ends
 * with an exit status of systemd.exec(5) when something cannot be had. The order is systemd's: what needs
 * privileges comes before the user. */
#include "base/memory.h"
#include "manager/directives.h"
#include "manager/spawn_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/ioprio.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define IDLE_MS 5000

void spawn_report(const struct spawn *spawn, const char *format, ...)
{
	char line[2048];
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (len >= (int)sizeof(line))
		len = (int)sizeof(line) - 1;
	if (len > 0 && write(spawn->report_fd, line, (size_t)len) < 0)
		return; /* the exit status still tells */
}

_noreturn_ void spawn_fail(const struct spawn *spawn, int exit_status, int error)
{
	spawn_report(spawn, "EFailed at step %s spawning %s: %s\n", exit_status_name(exit_status),
		spawn->command->words[0], strerror(error));
	_exit(exit_status);
}

static void child_signals(const struct spawn *spawn)
{
	sigset_t none;

	for (int number = 1; number < NSIG; number++)
		if (number != SIGKILL && number != SIGSTOP)
			(void)signal(number, SIG_DFL);
	if (spawn->service->config.process.ignore_sigpipe)
		(void)signal(SIGPIPE, SIG_IGN);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

void spawn_set(struct spawn *spawn, const char *name, const char *value, bool only_default)
{
	if (only_default && unit_environment_get(&spawn->environment, slice_str(name)))
		return;
	/* A value that no environment can hold is left out, as systemd does. */
	if (unit_environment_set(&spawn->environment, slice_str(name), slice_str(value)) < 0)
		return;
}

static int open_file(const char *path, int flags)
{
	return open(path, flags | O_CLOEXEC | O_NOCTTY, 0666);
}

/* The descriptor of one output. */
static int open_output(const struct spawn *spawn, const struct stream_config *stream, int null)
{
	switch (stream->kind) {
	case STREAM_NULL:
		return null;
	case STREAM_FILE:
		return open_file(stream->path, O_WRONLY | O_CREAT);
	case STREAM_APPEND:
		return open_file(stream->path, O_WRONLY | O_CREAT | O_APPEND);
	case STREAM_TRUNCATE:
		return open_file(stream->path, O_WRONLY | O_CREAT | O_TRUNC);
	default:
		return spawn->output_fd;
	}
}

static bool is_same_file(const struct stream_config *a, const struct stream_config *b)
{
	return a->path && b->path && a->kind == b->kind && strcmp(a->path, b->path) == 0;
}

static void child_files(const struct spawn *spawn)
{
	const struct process_config *process = &spawn->service->config.process;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), in = null, out, err;
	bool from_file = process->input.kind == STREAM_FILE;
	/* One file for input and output is opened once, for both. */
	bool both = from_file && is_same_file(&process->input, &process->output);

	if (from_file)
		in = open_file(process->input.path, both ? O_RDWR | O_CREAT : O_RDONLY);
	if (null < 0 || in < 0 || dup2(in, STDIN_FILENO) < 0)
		spawn_fail(spawn, 208, errno);
	if (both || process->output.kind == STREAM_INHERIT)
		out = from_file ? in : null;
	else
		out = open_output(spawn, &process->output, null);
	if (out < 0 || dup2(out, STDOUT_FILENO) < 0)
		spawn_fail(spawn, 209, errno);
	if (process->error.kind == STREAM_DEFAULT || process->error.kind == STREAM_INHERIT ||
		is_same_file(&process->error, &process->output))
		err = STDOUT_FILENO;
	else
		err = open_output(spawn, &process->error, null);
	if (err < 0 || dup2(err, STDERR_FILENO) < 0)
		spawn_fail(spawn, 222, errno);
}

/* Sets a limit, or as much of it as this process may have. */
static int set_limit(int resource, rlim_t soft, rlim_t hard)
{
	struct rlimit wanted = {soft, hard}, now;

	if (setrlimit((__rlimit_resource_t)resource, &wanted) == 0)
		return 0;
	if (errno != EPERM || getrlimit((__rlimit_resource_t)resource, &now) < 0)
		return -errno;
	if (now.rlim_max == RLIM_INFINITY)
		return -EPERM; /* not for going beyond it */
	wanted = (struct rlimit){MIN(soft, now.rlim_max), MIN(hard, now.rlim_max)};
	return setrlimit((__rlimit_resource_t)resource, &wanted) < 0 ? -errno : 0;
}

void spawn_child_limits(const struct spawn *spawn)
{
	const struct process_config *process = &spawn->service->config.process;

	if (!process->limits[RLIMIT_NOFILE].set)
		(void)setrlimit(RLIMIT_NOFILE, &spawn->files);
	for (int i = 0; i < RLIM_NLIMITS; i++) {
		int r = process->limits[i].set
				? set_limit(i, process->limits[i].soft, process->limits[i].hard)
				: 0;

		if (r < 0)
			spawn_fail(spawn, 205, -r);
	}
}

static void child_oom_score(const struct spawn *spawn)
{
	char text[16];
	int fd, len;

	fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	len = snprintf(text, sizeof(text), "%d", spawn->service->config.process.oom_score);
	/* Without privileges it cannot be lowered; that is no reason not to run. */
	if (fd < 0 || (write(fd, text, (size_t)len) < 0 && errno != EPERM && errno != EACCES))
		spawn_fail(spawn, 206, errno);
	close(fd);
}

static void child_affinity(const struct spawn *spawn)
{
	const struct process_config *process = &spawn->service->config.process;
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	for (int cpu = 0; cpu < MIN(AFFINITY_CPUS_MAX, CPU_SETSIZE); cpu++)
		if (process->affinity[cpu / 8] >> (cpu % 8) & 1)
			CPU_SET(cpu, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus) < 0)
		spawn_fail(spawn, 215, errno);
}

static void child_scheduling(const struct spawn *spawn)
{
	const struct process_config *process = &spawn->service->config.process;
	struct sched_param parameters = {.sched_priority = process->priority};

	if (process->oom_score_set)
		child_oom_score(spawn);
	if (process->nice_set && setpriority(PRIO_PROCESS, 0, process->nice) < 0)
		spawn_fail(spawn, 201, errno);
	if ((process->policy_set || process->reset_on_fork) &&
		sched_setscheduler(0, process->policy | (process->reset_on_fork ? SCHED_RESET_ON_FORK : 0),
			&parameters) < 0)
		spawn_fail(spawn, 214, errno);
	if (process->affinity_set)
		child_affinity(spawn);
	if (process->io_set && syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0,
				       process->io_class << IOPRIO_CLASS_SHIFT | process->io_priority) < 0)
		spawn_fail(spawn, 211, errno);
}

static void child_directory(const struct spawn *spawn, const char *home)
{
	const struct process_config *process = &spawn->service->config.process;
	const char *path = process->working_directory ? process->working_directory : "/";

	if (strcmp(path, "~") == 0)
		path = home;
	if (chdir(path) == 0)
		return;
	if (process->working_directory_optional && chdir("/") == 0)
		return;
	int error = errno;
	spawn_report(spawn, "WChanging to the requested working directory failed: %s\n", strerror(error));
	spawn_fail(spawn, 200, error);
}

static char *child_find(const struct spawn *spawn)
{
	const char *name = spawn->command->words[0];
	int error = ENOENT;

	if (name[0] == '/')
		return mem_strdup(name);
	for (const char *at = SPAWN_SEARCH_PATH; *at;) {
		size_t len = strcspn(at, ":");
		char *path = mem_printf("%.*s/%s", (int)len, at, name);
		struct stat st;

		if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
			if (access(path, X_OK) == 0)
				return path;
			error = errno;
		}
		free(path);
		at += len + (at[len] == ':');
	}
	spawn_fail(spawn, 203, error);
}

static void child_cgroups(const struct spawn *spawn)
{
	if (spawn->cgroup_fd >= 0 && write(spawn->cgroup_fd, "0", 1) < 0)
		spawn_fail(spawn, 219, errno);
	for (size_t i = 0; i < LIMITS_CONTROLLERS; i++)
		if (spawn->limit_fds[i] >= 0 && write(spawn->limit_fds[i], "0", 1) < 0)
			spawn_fail(spawn, 219, errno);
}

/* Nothing of the keeper's is held here, where anything may block: its lock, its socket and its clients live
 * and end with it alone. Nor is the other end of the pipe that Type=idle waits for. */
static void close_others(const struct spawn *spawn)
{
	const int keep[] = {spawn->report_fd, spawn->output_fd, spawn->idle_fd};
	const int *listening = spawn->listen.fds;

	for (unsigned from = STDERR_FILENO + 1; from;) {
		unsigned next = ~0u;

		for (size_t i = 0; i < ARRAY_LEN(keep); i++)
			if ((unsigned)keep[i] >= from)
				next = MIN(next, (unsigned)keep[i]);
		for (size_t i = 0; i < spawn->listen.count; i++)
			if ((unsigned)listening[i] >= from)
				next = MIN(next, (unsigned)listening[i]);
		if (next > from)
			(void)close_range(from, next == ~0u ? ~0u : next - 1, 0);
		from = next + 1;
	}
}

/* Type=idle: until the keeper has nothing more to start or stop, but not for long. */
static void child_idle(const struct spawn *spawn)
{
	struct pollfd wait = {.fd = spawn->idle_fd};

	if (spawn->idle_fd < 0)
		return;
	(void)poll(&wait, 1, IDLE_MS);
}

static void child_unset(struct spawn *spawn)
{
	const struct strings *unset = &spawn->service->config.unset_environment;

	for (size_t i = 0; i < unset->count; i++) {
		struct slice name = slice_str(unset->items[i]);

		for (size_t j = 0; j < spawn->environment.count; j++) {
			const char *item = spawn->environment.items[j];

			if (strncmp(item, name.data, name.len) == 0 &&
				(!item[name.len] || item[name.len] == '=')) {
				spawn->environment.items[j] =
					spawn->environment.items[spawn->environment.count - 1];
				spawn->environment.items[--spawn->environment.count] = NULL;
				break;
			}
		}
	}
}

/* The sockets become 3, 4, … (sd_listen_fds(3)). What stands there is moved away first. */
static void child_sockets(struct spawn *spawn)
{
	int first = STDERR_FILENO + 1, behind = first + (int)spawn->listen.count;
	bool non_blocking = spawn->service->config.process.non_blocking;
	int report_fd;

	if (!spawn->listen.count)
		return;
	report_fd = fcntl(spawn->report_fd, F_DUPFD_CLOEXEC, behind);
	if (report_fd < 0)
		spawn_fail(spawn, 202, errno);
	spawn->report_fd = report_fd;
	for (size_t i = 0; i < spawn->listen.count; i++) {
		spawn->listen.fds[i] = fcntl(spawn->listen.fds[i], F_DUPFD_CLOEXEC, behind);
		if (spawn->listen.fds[i] < 0)
			spawn_fail(spawn, 202, errno);
	}
	for (size_t i = 0; i < spawn->listen.count; i++) {
		int fd = dup2(spawn->listen.fds[i], first + (int)i), flags = fcntl(fd, F_GETFL);

		if (fd < 0 || fcntl(fd, F_SETFL, non_blocking ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) < 0)
			spawn_fail(spawn, 202, errno);
	}
}

_noreturn_ static void child_exec(struct spawn *spawn)
{
	char *const *words = spawn->command->words + ((spawn->command->flags & UNIT_COMMAND_ARGV0) ? 1 : 0);
	_cleanup_buf_ struct buf unset = BUF_INIT(1024);
	char **argv = (char **)words, *path;

	if (!(spawn->command->flags & UNIT_COMMAND_NO_ENV))
		argv = unit_argv_expand(words, &spawn->environment, &unset);
	if (!argv)
		spawn_fail(spawn, 204, E2BIG);
	if (unset.len)
		spawn_report(spawn,
			"WReferenced but unset environment variable evaluates to an empty string: %s\n",
			buf_text(&unset));
	path = child_find(spawn);
	child_sockets(spawn);
	(void)execve(path, argv, spawn->environment.items);
	spawn_fail(spawn, 203, errno);
}

_noreturn_ void spawn_child(struct spawn *spawn)
{
	const char *home;
	char text[24];

	child_signals(spawn);
	if (setsid() < 0)
		spawn_fail(spawn, 220, errno);
	child_cgroups(spawn);
	close_others(spawn);
	child_idle(spawn);
	(void)umask(spawn->service->config.process.umask);
	child_files(spawn);
	child_scheduling(spawn);
	(void)snprintf(text, sizeof(text), "%d", (int)getpid());
	if (spawn->watched)
		spawn_set(spawn, "WATCHDOG_PID", text, false);
	if (spawn->listen.count)
		spawn_set(spawn, "LISTEN_PID", text, false);
	spawn_set(spawn, "SYSTEMD_EXEC_PID", text, true);
	home = spawn_child_user(spawn);
	child_directory(spawn, home);
	child_unset(spawn);
	child_exec(spawn);
}
