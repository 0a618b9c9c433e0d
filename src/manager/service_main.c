/* Main processes that the supervisor has not started as such: of Type=forking, by PIDFile= or by being the
 * only one left, and those a service names itself (MAINPID=). They are children of the keeper as soon as
 * their parent has ended, because the keeper is the subreaper; until then, or when they belong elsewhere (a
 * container's), nobody tells of their end: the poll timer looks for it. It also looks for the PID file, and
 * for processes that the kernel killed for lack of memory. */
#include "base/memory.h"
#include "base/text.h"
#include "base/time.h"
#include "manager/service_internal.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define POLL_FILE_MS 50
#define POLL_ALIEN_MS 250
#define POLL_MEMORY_MS 1000

static char *command_line(pid_t pid)
{
	char path[64], text[1024];
	ssize_t len;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return mem_strdup("");
	len = read(fd, text, sizeof(text));
	close(fd);
	while (len > 0 && !text[len - 1])
		len--;
	for (ssize_t i = 0; i < len; i++)
		if (!text[i])
			text[i] = ' ';
	return mem_strndup(text, len > 0 ? (size_t)len : 0);
}

const char *service_why_not_main(const struct service *service, pid_t pid)
{
	const struct service *owner = map_get(&service->keeper->started, slice_make(&pid, sizeof(pid)));

	if (pid <= 1 || pid == getpid())
		return "is not for units";
	if (pid == service->control_pid)
		return "is the control process";
	return owner && owner != service ? "belongs to another unit" : NULL;
}

void service_set_main(struct service *service, pid_t pid)
{
	struct map *started = &service->keeper->started;
	pid_t parent = 0;

	service->main_known = true;
	if (pid == service->main_pid)
		return;
	if (service->main_pid)
		service_unset_main(service);
	service->main_pid = pid;
	service->main_executed = service->main_adopted = true;
	if (!process_read(pid, &parent, &service->main_started))
		service->main_started = 0;
	service->main_alien = parent != getpid();
	/* Also an alien's end comes here once its parent has ended. */
	(void)map_put(started, slice_make(&pid, sizeof(pid)), service);
	free(service->main_exec.command);
	service->main_exec = (struct exec_record){
		.pid = pid, .start_us = time_wall_ns() / 1000, .command = command_line(pid)};
	service->dirty = true;
	if (service->main_alien)
		service_poll_begin(service);
}

void service_unset_main(struct service *service)
{
	struct map *started = &service->keeper->started;
	struct slice key = slice_make(&service->main_pid, sizeof(pid_t));

	/* A number that was given away may be another unit's by now. */
	if (map_get(started, key) == service)
		(void)map_remove(started, key);
	service->main_pid = 0;
	service->main_alien = false;
	service->dirty = true;
}

static bool has_processes(const struct service *service)
{
	struct pids pids = service_pids(service, true);
	bool any = pids.count > 0;

	pids_done(&pids);
	return any;
}

bool service_is_alive(const struct service *service)
{
	bool unknown = service->config.type == SERVICE_FORKING && !service->main_known;

	if (service->main_pid)
		return true;
	return (unknown || service->config.exit_type == EXIT_CGROUP) && has_processes(service);
}

/* *ret_direct: no link is on the way, which somebody else than the file's owner may have laid. */
static int open_pid_file(const char *path, bool *ret_direct)
{
	struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK,
		.resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
	long fd;

	if (strncmp(path, "/var/run/", 9) == 0)
		path += 4; /* the one link that every system has there */
	fd = syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
	*ret_direct = fd >= 0;
	if (fd < 0 && (errno == ELOOP || errno == ENOSYS))
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	return (int)fd;
}

/* Reads a number from the PID file; -EINVAL when it holds none, -errno. *ret_trusted: only root can have
 * written it, and put it there. */
static int read_pid_file(const char *path, pid_t *ret, bool *ret_trusted)
{
	bool direct;
	_cleanup_close_ int fd = open_pid_file(path, &direct);
	char text[64], *at = text;
	struct stat st;
	ssize_t len;
	long pid;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	len = read(fd, text, sizeof(text) - 1);
	if (len <= 0)
		return len < 0 ? -errno : -EINVAL;
	text[len] = 0;
	while (isspace((unsigned char)*at))
		at++;
	pid = strtol(at, &at, 10);
	if ((*at && !isspace((unsigned char)*at)) || pid <= 1 || pid > INT32_MAX)
		return -EINVAL;
	*ret = (pid_t)pid;
	*ret_trusted = direct && st.st_uid == 0 && st.st_nlink == 1;
	return 0;
}

static int load_pid_file(struct service *service, bool tell)
{
	const char *path = service->config.pid_file;
	uint64_t started;
	bool trusted = false;
	pid_t pid = 0, parent;
	int r = read_pid_file(path, &pid, &trusted);

	if (r < 0) {
		if (tell)
			service_say(service, "%s: Can't open PID file %s (yet?) after %s: %s", service->name,
				path, service_state_sub(service->state), strerror(-r));
		return r;
	}
	if (service_why_not_main(service, pid)) {
		service_say(service, "%s: PID file %s names process %d, which %s. Refusing.", service->name,
			path, (int)pid, service_why_not_main(service, pid));
		return -EPERM;
	}
	if (!process_read(pid, &parent, &started)) {
		if (tell)
			service_say(service, "%s: PID file %s names process %d, which does not exist.",
				service->name, path, (int)pid);
		return -ESRCH;
	}
	if (!service_owns(service, pid)) {
		if (!trusted) {
			service_say(service,
				"%s: New main PID %d does not belong to service, and PID file is not owned "
				"by root, or may be another's. Refusing.",
				service->name, (int)pid);
			return -EPERM;
		}
		service_say(service,
			"%s: New main PID %d does not belong to service, but we'll accept it since PID file "
			"is owned by root.",
			service->name, (int)pid);
	}
	service_set_main(service, pid);
	return 0;
}

/* The one that is left, if it is only one: what has several processes does not tell which of them counts. */
static void guess_main(struct service *service)
{
	struct pids pids = service_pids(service, true);
	pid_t found = 0, self = getpid();
	size_t count = 0;

	for (size_t i = 0; i < pids.count; i++) {
		uint64_t started;
		pid_t parent;

		if (process_read(pids.items[i], &parent, &started) && parent == self) {
			found = pids.items[i];
			count++;
		}
	}
	pids_done(&pids);
	if (count == 1)
		service_set_main(service, found);
}

int service_find_main(struct service *service, bool wait_for_file)
{
	int r;

	service->pid_file_awaited = false;
	if (!service->config.pid_file) {
		if (service->config.guess_main_pid && !service->main_known)
			guess_main(service);
		return 0;
	}
	r = load_pid_file(service, wait_for_file);
	if (r == 0 || !wait_for_file)
		return 0;
	if (!has_processes(service))
		return -EPROTO;
	service->pid_file_awaited = true;
	service_poll_begin(service);
	return -EAGAIN;
}

void service_poll_begin(struct service *service)
{
	uint64_t every_ms = service->pid_file_awaited		  ? POLL_FILE_MS
			    : service->main_alien		  ? POLL_ALIEN_MS
			    : service->limits.used[LIMITS_MEMORY] ? POLL_MEMORY_MS
								  : 0;

	if (every_ms)
		(void)uv_timer_start(&service->poll, service_poll_fired, every_ms, 0);
}

static void poll_alien(struct service *service)
{
	pid_t parent;
	uint64_t started;

	if (process_read(service->main_pid, &parent, &started) && started == service->main_started) {
		/* From now on the kernel tells of its end. */
		service->main_alien = parent != getpid();
		return;
	}
	service_main_vanished(service);
}

void service_poll_fired(uv_timer_t *timer)
{
	struct service *service = timer->data;

	if (service_is_dead(service) || service->state == STATE_AUTO_RESTART)
		return;
	tracker_turn(&service->keeper->tracker);
	if (service->state != STATE_START && service->state != STATE_START_POST)
		service->pid_file_awaited = false; /* a stop, or a time-out, came before */
	if (service->pid_file_awaited) {
		int r = load_pid_file(service, false);

		if (r == 0 || !has_processes(service)) {
			service->pid_file_awaited = false;
			service_main_found(service, r == 0 ? 0 : -EPROTO);
		}
	} else if (service->main_pid && service->main_alien) {
		poll_alien(service);
	}
	service_check_memory(service);
	service_poll_begin(service);
}

void service_check_memory(struct service *service)
{
	uint64_t kills;

	if (!service->limits.used[LIMITS_MEMORY])
		return;
	kills = limits_oom_kills(&service->keeper->limits, service->name, &service->limits);
	if (kills <= service->oom_kills)
		return;
	service->oom_kills = kills;
	service_say(service, "%s: A process of this unit has been killed by the OOM killer.", service->name);
	if (service->config.oom_policy == OOM_CONTINUE)
		return;
	if (service->state >= STATE_CONDITION && service->state <= STATE_START_POST)
		service_enter_signal(service,
			service->config.oom_policy == OOM_KILL ? STATE_STOP_SIGKILL : STATE_STOP_SIGTERM,
			RESULT_OOM_KILL);
	else if (service_is_active(service) && service->config.oom_policy == OOM_KILL)
		service_enter_signal(service, STATE_STOP_SIGKILL, RESULT_OOM_KILL);
	else if (service_is_active(service))
		service_enter_stop(service, RESULT_OOM_KILL);
	else
		service_add_result(service, RESULT_OOM_KILL);
}
