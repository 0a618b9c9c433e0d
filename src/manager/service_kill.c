/* The processes of a service: which they are, and signalling them as KillMode= says. */
#include "manager/service_internal.h"
#include <errno.h>
#include <signal.h>

#define KILL_ROUNDS_MAX 32 /* who forks faster than this is caught by cgroup.kill only */

static struct tracker_unit tracked(const struct service *service)
{
	return (struct tracker_unit){
		.name = service->name,
		.invocation = service->invocation,
		.main_pid = service->main_pid,
		.control_pid = service->control_pid,
		.sessions = service->sessions,
		.session_count = service->session_count,
		.started = &service->keeper->started,
	};
}

struct pids service_pids(const struct service *service, bool fresh)
{
	struct tracker_unit unit = tracked(service);
	struct pids pids;

	tracker_pids(&service->keeper->tracker, &unit, service->uses_cgroup, fresh, &pids);
	return pids;
}

bool service_owns(const struct service *service, pid_t pid)
{
	struct tracker_unit unit = tracked(service);

	return tracker_owns(&service->keeper->tracker, &unit, service->uses_cgroup, pid);
}

/* Sends one signal to one process; SIGCONT follows, so that a stopped process can act on it. */
static bool send_signal(struct service *service, pid_t pid, int number, bool tell)
{
	if (tell) {
		char name[64];

		process_name(pid, name, sizeof(name));
		service_say(service, "%s: Killing process %d (%s) with signal SIG%s.", service->name,
			(int)pid, name[0] ? name : "n/a",
			unit_signal_name(number) ? unit_signal_name(number) : "RTMIN");
	}
	if (kill(pid, number) < 0)
		return errno == EPERM;
	if (number != SIGKILL && number != SIGCONT)
		(void)kill(pid, SIGCONT);
	if (service->config.send_sighup && number != SIGKILL)
		(void)kill(pid, SIGHUP);
	return true;
}

static int state_signal(const struct service *service, enum service_state state)
{
	const struct service_config *config = &service->config;

	switch (state) {
	case STATE_STOP_SIGKILL:
	case STATE_FINAL_SIGKILL:
		return config->final_kill_signal;
	case STATE_STOP_WATCHDOG:
	case STATE_FINAL_WATCHDOG:
		return config->watchdog_signal;
	default:
		if (service->killed_for_restart && config->restart_kill_signal)
			return config->restart_kill_signal;
		return config->kill_signal;
	}
}

/* An alien that ended may have given its number to another process, which is nobody's business here. */
bool service_main_is_itself(const struct service *service)
{
	uint64_t started;
	pid_t parent;

	if (!service->main_pid)
		return false;
	return !service->main_alien ||
	       (process_read(service->main_pid, &parent, &started) && started == service->main_started);
}

static bool holds(const struct pids *pids, pid_t pid)
{
	for (size_t i = 0; i < pids->count; i++)
		if (pids->items[i] == pid)
			return true;
	return false;
}

/* All processes of the unit but the main and the control one. Some may fork while they are looked at: one
 * that has its signal forks no more when it is killed, and so the search ends when it finds nobody new. */
static bool signal_all(struct service *service, enum service_state state, int number, bool tell)
{
	bool final_signal = state == STATE_STOP_SIGKILL || state == STATE_FINAL_SIGKILL, waiting = false;
	struct pids done = {0};
	size_t before = 0;

	for (int round = 0; round < KILL_ROUNDS_MAX && (round == 0 || done.count > before); round++) {
		/* The last look before the end is a fresh one. */
		struct pids pids = service_pids(service, round ? final_signal : state == STATE_FINAL_SIGKILL);

		before = done.count;
		for (size_t i = 0; i < pids.count; i++) {
			if (pids.items[i] == service->main_pid || pids.items[i] == service->control_pid ||
				holds(&done, pids.items[i]))
				continue;
			waiting = send_signal(service, pids.items[i], number, tell) || waiting;
			pids_add(&done, pids.items[i]);
		}
		pids_done(&pids);
	}
	pids_done(&done);
	if (number == SIGKILL && service->uses_cgroup)
		tracker_unit_kill(&service->keeper->tracker, service->name);
	return waiting;
}

bool service_kill_processes(struct service *service, enum service_state state)
{
	const struct service_config *config = &service->config;
	int number = state_signal(service, state);
	bool final_signal = state == STATE_STOP_SIGKILL || state == STATE_FINAL_SIGKILL;
	bool aborts = state == STATE_STOP_WATCHDOG || state == STATE_FINAL_WATCHDOG;
	bool tell = final_signal || aborts, waiting = false;

	if (config->kill_mode == KILL_NONE)
		return false;
	if (service_main_is_itself(service))
		waiting = send_signal(service, service->main_pid, number, tell) || waiting;
	if (service->control_pid)
		waiting = send_signal(service, service->control_pid, number, tell) || waiting;
	if (config->kill_mode == KILL_CONTROL_GROUP || (config->kill_mode == KILL_MIXED && final_signal))
		waiting = signal_all(service, state, number, tell) || waiting;
	return waiting;
}
