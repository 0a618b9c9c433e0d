/* PID 1 of a dev machine. One wait with a timeout carries everything: children that end, services due for a
 * restart, and the request to shut down. */
#include "dev/dev.h"
#include "base/time.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	SERVICES_MAX = 8,
	RESTART_DELAY_MS = 1000,
	STOP_TIMEOUT_MS = 10000,
};

struct running {
	const struct service *service;
	pid_t pid; /* 0: not running */
	int64_t restart_at_ms;
};

struct init {
	struct running services[SERVICES_MAX];
	size_t count;
	int log_dir_fd;
};

static void service_start(struct init *init, struct running *running)
{
	char name[64];
	pid_t pid = fork();

	if (pid < 0) {
		running->restart_at_ms = time_mono_ms() + RESTART_DELAY_MS;
		return;
	}
	if (pid > 0) {
		running->pid = pid;
		return;
	}
	sigset_t none;
	int log_fd, null_fd;

	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)setsid();
	(void)snprintf(name, sizeof(name), "%s.log", running->service->name);
	log_fd = openat(init->log_dir_fd, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (log_fd >= 0 && null_fd >= 0 && dup2(null_fd, 0) >= 0 && dup2(log_fd, 1) >= 0 &&
		dup2(log_fd, 2) >= 0)
		(void)execv(running->service->argv[0], running->service->argv);
	_exit(127);
}

static void child_ended(struct init *init, pid_t pid)
{
	for (size_t i = 0; i < init->count; i++) {
		if (init->services[i].pid != pid)
			continue;
		init->services[i].pid = 0;
		init->services[i].restart_at_ms = time_mono_ms() + RESTART_DELAY_MS;
	}
}

static void reap(struct init *init)
{
	for (;;) {
		pid_t pid = waitpid(-1, NULL, WNOHANG);

		if (pid <= 0)
			return;
		child_ended(init, pid);
	}
}

/* Starts what is due and answers how long nothing will be, in milliseconds. */
static int64_t start_due(struct init *init)
{
	int64_t now_ms = time_mono_ms(), wait_ms = 60000;

	for (size_t i = 0; i < init->count; i++) {
		struct running *running = &init->services[i];

		if (running->pid)
			continue;
		if (running->restart_at_ms <= now_ms)
			service_start(init, running);
		else
			wait_ms = MIN(wait_ms, running->restart_at_ms - now_ms);
	}
	return wait_ms;
}

static void stop_all(struct init *init, const sigset_t *signals)
{
	int64_t deadline_ms = time_mono_ms() + STOP_TIMEOUT_MS;

	/* Last started, first stopped: fleetd hands its units over while the store is still there. */
	for (size_t i = init->count; i-- > 0;) {
		struct running *running = &init->services[i];

		if (running->pid)
			(void)kill(running->pid, SIGTERM);
		while (running->pid && time_mono_ms() < deadline_ms) {
			struct timespec tenth = {.tv_nsec = 100 * NS_PER_MS};

			(void)sigtimedwait(signals, NULL, &tenth);
			reap(init);
		}
	}
}

void init_run(const struct service *services, size_t count, int log_dir_fd)
{
	struct init init = {.count = count, .log_dir_fd = log_dir_fd};
	sigset_t signals;

	assert(count <= SERVICES_MAX);
	for (size_t i = 0; i < count; i++)
		init.services[i].service = &services[i];
	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	(void)sigprocmask(SIG_BLOCK, &signals, NULL);
	for (;;) {
		int64_t wait_ms = start_due(&init);
		struct timespec timeout = {.tv_sec = wait_ms / 1000, .tv_nsec = wait_ms % 1000 * NS_PER_MS};
		int signo = sigtimedwait(&signals, NULL, &timeout);

		if (signo == SIGTERM || signo == SIGINT)
			break;
		reap(&init);
	}
	stop_all(&init, &signals);
}
