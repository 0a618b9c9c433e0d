/* Starts one process of a unit. The keeper is small, so a plain fork() is cheap; everything that may block or
 * fail in the process's own name (users, directories, looking for the executable, expanding variables)
 * happens in the child, which tells warnings and errors on a pipe that execve() closes. */
#include "base/memory.h"
#include "base/time.h"
#include "manager/directives.h"
#include "manager/keeper.h"
#include "unit/environment.h"
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEARCH_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define ENVIRONMENT_FILE_MAX (1024 * 1024)
#define SESSIONS_MAX 512

struct spawn {
	struct service *service;
	const struct unit_command *command;
	struct unit_environment environment;
	int report_fd, output_fd, cgroup_fd; /* -1: none */
	struct rlimit files;
};

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

static int build_environment(
	struct service *service, enum exec_kind kind, struct unit_environment *environment)
{
	const struct service_config *config = &service->config;
	size_t skipped = 0;

	set(environment, "PATH", SEARCH_PATH);
	set(environment, "LANG", "C.UTF-8");
	set(environment, "INVOCATION_ID", service->invocation);
	if (service->main_pid) {
		char pid[24];

		(void)snprintf(pid, sizeof(pid), "%d", (int)service->main_pid);
		set(environment, "MAINPID", pid);
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

static void report(const struct spawn *spawn, const char *format, ...) _printf_(2, 3);
static void report(const struct spawn *spawn, const char *format, ...)
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

_noreturn_ static void child_fail(const struct spawn *spawn, int exit_status, int error)
{
	report(spawn, "EFailed at step %s spawning %s: %s\n", exit_status_name(exit_status),
		spawn->command->words[0], strerror(error));
	_exit(exit_status);
}

static void child_signals(const struct spawn *spawn)
{
	sigset_t none;

	for (int number = 1; number < NSIG; number++)
		if (number != SIGKILL && number != SIGSTOP)
			(void)signal(number, SIG_DFL);
	if (spawn->service->config.ignore_sigpipe)
		(void)signal(SIGPIPE, SIG_IGN);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static void child_files(const struct spawn *spawn)
{
	const struct service_config *config = &spawn->service->config;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0 || dup2(null, STDIN_FILENO) < 0)
		child_fail(spawn, 208, errno);
	if (dup2(config->null_stdout ? null : spawn->output_fd, STDOUT_FILENO) < 0)
		child_fail(spawn, 209, errno);
	if (dup2(config->null_stderr ? null : spawn->output_fd, STDERR_FILENO) < 0)
		child_fail(spawn, 222, errno);
	(void)setrlimit(RLIMIT_NOFILE, &spawn->files);
}

static void child_set_default(struct spawn *spawn, const char *name, const char *value)
{
	if (!unit_environment_get(&spawn->environment, slice_str(name)))
		set(&spawn->environment, name, value);
}

/* Becomes the unit's user; answers the home directory ("~"). */
static const char *child_user(struct spawn *spawn)
{
	const struct service_config *config = &spawn->service->config;
	bool privileged = spawn->command->flags & (UNIT_COMMAND_FULL | UNIT_COMMAND_NO_SETUID);
	struct passwd *user = NULL;
	struct group *group = NULL;
	gid_t gid;

	if (config->user && config->user[0]) {
		char *end;
		unsigned long uid = strtoul(config->user, &end, 10);

		user = *end ? getpwnam(config->user) : getpwuid((uid_t)uid);
		if (!user) {
			report(spawn, "WFailed to determine user credentials: user %s does not exist\n",
				config->user);
			child_fail(spawn, 217, ESRCH);
		}
		child_set_default(spawn, "HOME", user->pw_dir);
		child_set_default(spawn, "LOGNAME", user->pw_name);
		child_set_default(spawn, "USER", user->pw_name);
		child_set_default(spawn, "SHELL", user->pw_shell);
	}
	if (config->group && config->group[0]) {
		char *end;
		unsigned long number = strtoul(config->group, &end, 10);

		group = *end ? getgrnam(config->group) : getgrgid((gid_t)number);
		if (!group) {
			report(spawn, "WFailed to determine group credentials: group %s does not exist\n",
				config->group);
			child_fail(spawn, 216, ESRCH);
		}
	}
	if (privileged || (!user && !group))
		return user ? user->pw_dir : "/root";
	gid = group ? group->gr_gid : user->pw_gid;
	/* Without privileges only "become who I am" works, and needs none of these calls. */
	if (geteuid() != 0 && user && user->pw_uid == geteuid() && gid == getegid())
		return user->pw_dir;
	if (user && initgroups(user->pw_name, gid) < 0)
		child_fail(spawn, 216, errno);
	if (setresgid(gid, gid, gid) < 0)
		child_fail(spawn, 216, errno);
	if (user && setresuid(user->pw_uid, user->pw_uid, user->pw_uid) < 0)
		child_fail(spawn, 217, errno);
	return user ? user->pw_dir : "/root";
}

static void child_directory(const struct spawn *spawn, const char *home)
{
	const struct service_config *config = &spawn->service->config;
	const char *path = config->working_directory ? config->working_directory : "/";

	if (strcmp(path, "~") == 0)
		path = home;
	if (chdir(path) == 0)
		return;
	if (config->working_directory_optional && chdir("/") == 0)
		return;
	int error = errno;
	report(spawn, "WChanging to the requested working directory failed: %s\n", strerror(error));
	child_fail(spawn, 200, error);
}

static char *child_find(const struct spawn *spawn)
{
	const char *name = spawn->command->words[0];
	int error = ENOENT;

	if (name[0] == '/')
		return mem_strdup(name);
	for (const char *at = SEARCH_PATH; *at;) {
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
	child_fail(spawn, 203, error);
}

_noreturn_ static void child_run(struct spawn *spawn)
{
	const struct service_config *config = &spawn->service->config;
	_cleanup_buf_ struct buf unset = BUF_INIT(1024);
	char *const *words = spawn->command->words + ((spawn->command->flags & UNIT_COMMAND_ARGV0) ? 1 : 0);
	char **argv, *path, text[24];
	const char *home;

	child_signals(spawn);
	if (setsid() < 0)
		child_fail(spawn, 220, errno);
	if (spawn->cgroup_fd >= 0 && write(spawn->cgroup_fd, "0", 1) < 0)
		child_fail(spawn, 219, errno);
	child_files(spawn);
	if (config->nice && setpriority(PRIO_PROCESS, 0, config->nice) < 0)
		child_fail(spawn, 201, errno);
	(void)umask(config->umask);
	home = child_user(spawn);
	child_directory(spawn, home);
	(void)snprintf(text, sizeof(text), "%d", (int)getpid());
	child_set_default(spawn, "SYSTEMD_EXEC_PID", text);
	for (size_t i = 0; i < config->unset_environment.count; i++) {
		struct slice name = slice_str(config->unset_environment.items[i]);

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
	argv = (spawn->command->flags & UNIT_COMMAND_NO_ENV)
		       ? (char **)words
		       : unit_argv_expand(words, &spawn->environment, &unset);
	if (!argv)
		child_fail(spawn, 204, E2BIG);
	if (unset.len)
		report(spawn, "WReferenced but unset environment variable evaluates to an empty string: %s\n",
			buf_text(&unset));
	path = child_find(spawn);
	(void)execve(path, argv, spawn->environment.items);
	child_fail(spawn, 203, errno);
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

	if (service->config.identifier)
		return service->config.identifier;
	return slash ? slash + 1 : command->words[0];
}

static void remember(
	struct service *service, enum exec_kind kind, const struct unit_command *command, pid_t pid)
{
	struct exec_record *record = kind == EXEC_START ? &service->main_exec : &service->control_exec[kind];
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

static void child_limits(struct spawn *spawn)
{
	/* systemd's default: a soft limit that select() can live with. */
	if (getrlimit(RLIMIT_NOFILE, &spawn->files) < 0)
		spawn->files = (struct rlimit){1024, 1024};
	spawn->files.rlim_cur = MIN((rlim_t)1024, spawn->files.rlim_max);
}

int spawn_command(struct service *service, enum exec_kind kind, size_t index, pid_t *ret_pid)
{
	const struct unit_command *command = &service->config.exec[kind].items[index];
	_cleanup_close_ int output_fd = -1, cgroup_fd = -1, report_read = -1, report_write = -1;
	struct spawn spawn = {.service = service, .command = command};
	sigset_t all, before;
	int fds[2], r;
	pid_t pid;

	r = build_environment(service, kind, &spawn.environment);
	if (r == 0)
		r = stream_open(service, command_identifier(service, command), &output_fd);
	if (r == 0)
		r = open_report(fds);
	if (r < 0) {
		unit_environment_done(&spawn.environment);
		return r;
	}
	report_read = fds[0];
	report_write = fds[1];
	cgroup_fd = tracker_unit_open(&service->keeper->tracker, service->name);
	service->uses_cgroup = cgroup_fd >= 0;
	spawn.output_fd = output_fd;
	spawn.report_fd = report_write;
	spawn.cgroup_fd = cgroup_fd;
	child_limits(&spawn);
	/* No signal may reach the child before it has let go of the loop's handlers: they would write into
	 * the pipe that it shares with the keeper, and a SIGTERM for the unit would end the keeper. */
	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0)
		child_run(&spawn);
	r = pid < 0 ? -errno : 0;
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
	unit_environment_done(&spawn.environment);
	if (r < 0)
		return r;
	remember(service, kind, command, pid);
	(void)map_put(&service->keeper->started, slice_make(&pid, sizeof(pid)), service);
	r = stream_open_report(service, pid, report_read);
	if (r == 0)
		report_read = -1; /* the stream's now */
	*ret_pid = pid;
	return 0;
}
