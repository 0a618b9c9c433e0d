/* What happens to a service: one of its processes ended, execve() worked, its timer fired. Each event leads
 * to a state (service.c). */
#include "base/time.h"
#include "manager/activation.h"
#include "manager/service_internal.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

static enum service_result exit_result(
	const struct service *service, const struct exec_record *record, bool daemon)
{
	bool clean;

	if (record->by_signal)
		clean = status_set_has(&service->config.success, true, record->status) ||
			(daemon && !record->dumped &&
				(record->status == SIGHUP || record->status == SIGINT ||
					record->status == SIGTERM || record->status == SIGPIPE));
	else
		clean = record->status == 0 ||
			status_set_has(&service->config.success, false, record->status);
	if (clean)
		return RESULT_SUCCESS;
	if (!record->by_signal)
		return RESULT_EXIT_CODE;
	return record->dumped ? RESULT_CORE_DUMP : RESULT_SIGNAL;
}

static void record_exit(struct exec_record *record, int wait_status)
{
	record->exited = true;
	record->exit_us = time_wall_ns() / 1000;
	record->by_signal = WIFSIGNALED(wait_status);
	record->dumped = record->by_signal && WCOREDUMP(wait_status);
	record->status = record->by_signal ? WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

static void say_exit(struct service *service, const char *which, const struct exec_record *record)
{
	_cleanup_buf_ struct buf how = BUF_INIT(0);

	status_describe_exit(record, &how);
	service_say(service, "%s: %s process exited, %s", service->name, which, buf_text(&how));
}

/* The main process ended while the service was starting. */
static void main_exited_in_start(struct service *service, enum service_result result)
{
	const struct service_config *config = &service->config;
	bool notifies = config->type == SERVICE_NOTIFY || config->type == SERVICE_NOTIFY_RELOAD;

	if (result != RESULT_SUCCESS) {
		service_enter_signal(service, STATE_STOP_SIGTERM, result);
	} else if (service->main_index + 1 < config->exec[EXEC_START].count) {
		if (!service_run_main(service, service->main_index + 1))
			service_enter_signal(service, STATE_STOP_SIGTERM, RESULT_RESOURCES);
	} else if (!notifies) {
		service_enter_start_post(service);
	} else if (!config->remain_after_exit || config->notify_access == NOTIFY_MAIN) {
		/* It has never said that it is ready, and nobody is left who might. */
		service_enter_signal(service, STATE_STOP_SIGTERM, RESULT_PROTOCOL);
	}
}

static void main_ended(struct service *service, enum service_result result)
{
	switch (service->state) {
	case STATE_START:
		main_exited_in_start(service, result);
		break;
	case STATE_RUNNING:
		service_enter_running(service, result);
		break;
	case STATE_START_POST:
	case STATE_STOP:
		if (!service->control_pid)
			service_enter_signal(service, STATE_STOP_SIGTERM, result);
		break;
	case STATE_RELOAD:
		if (!service->control_pid)
			service_enter_running(service, result);
		break;
	case STATE_STOP_WATCHDOG:
	case STATE_STOP_SIGTERM:
	case STATE_STOP_SIGKILL:
		if (!service->control_pid)
			service_enter_stop_post(service, result);
		break;
	case STATE_FINAL_WATCHDOG:
	case STATE_FINAL_SIGTERM:
	case STATE_FINAL_SIGKILL:
		service_check_empty(service);
		break;
	default:
		break; /* a process that an earlier stop could not kill */
	}
}

static void main_exited(struct service *service, int wait_status)
{
	const struct unit_commands *commands = &service->config.exec[EXEC_START];
	enum service_result result;

	record_exit(&service->main_exec, wait_status);
	service_unset_main(service);
	result = exit_result(service, &service->main_exec, service->config.type != SERVICE_ONESHOT);
	if (service->config.type != SERVICE_FORKING && !service->main_adopted &&
		service->main_index < commands->count &&
		(commands->items[service->main_index].flags & UNIT_COMMAND_IGNORE_FAILURE))
		result = RESULT_SUCCESS;
	if (result != RESULT_SUCCESS)
		say_exit(service, "Main", &service->main_exec);
	service_add_result(service, result);
	main_ended(service, result);
}

void service_main_vanished(struct service *service)
{
	service->main_exec.exited = true;
	service->main_exec.exit_us = time_wall_ns() / 1000;
	service_say(service, "%s: Main process %d has ended; how is not known, as it was started by another.",
		service->name, (int)service->main_pid);
	service_unset_main(service);
	main_ended(service, RESULT_SUCCESS);
}

static enum service_result control_result(struct service *service, const struct exec_record *record)
{
	unsigned flags = service->config.exec[service->control_kind].items[service->control_index].flags;
	/* ExecStart= is a control process of a service that forks only: a daemon, until it has forked. */
	enum service_result result = exit_result(service, record, service->control_kind == EXEC_START);

	/* ExecCondition=: 1 to 254 means "do not start", 255 and signals are failures. */
	if (flags & UNIT_COMMAND_IGNORE_FAILURE)
		return RESULT_SUCCESS;
	if (service->control_kind == EXEC_CONDITION && result == RESULT_EXIT_CODE && record->status < 255)
		return RESULT_SKIP_CONDITION;
	if (result != RESULT_SUCCESS)
		say_exit(service, "Control", record);
	return result;
}

static bool is_signalled(enum service_state state)
{
	return state == STATE_STOP_WATCHDOG || state == STATE_STOP_SIGTERM || state == STATE_STOP_SIGKILL ||
	       state == STATE_FINAL_WATCHDOG || state == STATE_FINAL_SIGTERM || state == STATE_FINAL_SIGKILL;
}

/* The PID file may also be written by ExecStartPost=: it is due when those have run. */
static void main_due(struct service *service)
{
	bool last = service->state == STATE_START_POST || !service->config.exec[EXEC_START_POST].count;
	bool forks = service->config.type == SERVICE_FORKING || service->config.pid_file;
	int r = forks ? service_find_main(service, last) : 0;

	if (r != -EAGAIN)
		service_main_found(service, r);
}

void service_main_found(struct service *service, int result)
{
	if (result < 0)
		service_enter_signal(service, STATE_STOP_SIGTERM, RESULT_PROTOCOL);
	else if (service->state == STATE_START)
		service_enter_start_post(service);
	else if (service->state == STATE_START_POST)
		service_enter_running(service, RESULT_SUCCESS);
}

static void reload_ended(struct service *service, enum service_result result)
{
	if (service->config.pid_file)
		(void)service_find_main(service, false);
	if (result == RESULT_SUCCESS) {
		service_reload_finished(service);
		return;
	}
	service_say(
		service, "%s: Reload failed with result '%s'.", service->name, service_result_name(result));
	service_enter_running(service, RESULT_SUCCESS);
}

/* The last command of a phase has ended. */
static void phase_ended(struct service *service, enum service_result result)
{
	bool good = result == RESULT_SUCCESS;

	switch (service->state) {
	case STATE_CONDITION:
		if (good)
			service_enter_start_pre(service);
		else
			service_enter_signal(service, STATE_STOP_SIGTERM, result);
		break;
	case STATE_START_PRE:
		if (good)
			service_enter_start(service);
		else
			service_enter_signal(service, STATE_STOP_SIGTERM, result);
		break;
	case STATE_START: /* Type=forking */
	case STATE_START_POST:
		if (good)
			main_due(service);
		else
			service_enter_signal(service, STATE_STOP_SIGTERM, result);
		break;
	case STATE_RELOAD:
		reload_ended(service, result);
		break;
	case STATE_STOP:
		service_enter_signal(service, STATE_STOP_SIGTERM, result);
		break;
	case STATE_STOP_WATCHDOG:
	case STATE_STOP_SIGTERM:
	case STATE_STOP_SIGKILL:
		if (!service->main_pid)
			service_enter_stop_post(service, result);
		break;
	case STATE_STOP_POST:
		service_enter_signal(service, STATE_FINAL_SIGTERM, result);
		break;
	case STATE_FINAL_WATCHDOG:
	case STATE_FINAL_SIGTERM:
	case STATE_FINAL_SIGKILL:
		service_check_empty(service);
		break;
	default:
		break;
	}
}

static void control_exited(struct service *service, int wait_status)
{
	struct exec_record *record = &service->control_exec[service->control_kind];
	enum exec_kind kind = service->control_kind;
	enum service_result result;

	record_exit(record, wait_status);
	service->control_pid = 0;
	service->dirty = true;
	result = control_result(service, record);
	if (kind == EXEC_RELOAD && service->state != STATE_RELOAD) {
		/* A reload that was given up, or overtaken by a stop: its end says nothing of the service. */
		if (!is_signalled(service->state))
			return;
		result = RESULT_SUCCESS;
	}
	if (kind != EXEC_RELOAD)
		service_add_result(service, result);
	if (result == RESULT_SUCCESS && service->control_index + 1 < service->config.exec[kind].count &&
		!is_signalled(service->state)) {
		if (service_run_control(service, kind, service->control_index + 1))
			return;
		if (kind == EXEC_RELOAD)
			phase_ended(service, RESULT_RESOURCES);
		else
			service_enter_signal(service,
				kind == EXEC_STOP_POST ? STATE_FINAL_SIGTERM : STATE_STOP_SIGTERM,
				RESULT_RESOURCES);
		return;
	}
	phase_ended(service, result);
}

void service_child_exited(struct service *service, pid_t pid, int wait_status)
{
	streams_drain(service); /* what it said last comes before the word of its end */
	service_check_memory(service);
	assert(!service->main_pid || service->main_pid != service->control_pid);
	if (pid == service->main_pid)
		main_exited(service, wait_status);
	else if (pid == service->control_pid)
		control_exited(service, wait_status);
}

void service_check_empty(struct service *service)
{
	enum service_state state = service->state;
	bool stopping =
		state == STATE_STOP_WATCHDOG || state == STATE_STOP_SIGTERM || state == STATE_STOP_SIGKILL;
	bool whole_group =
		service->config.kill_mode == KILL_CONTROL_GROUP || service->config.kill_mode == KILL_MIXED;

	if (service->main_pid || service->control_pid)
		return;
	if (state == STATE_RUNNING) {
		/* Whose main process is unknown, or does not matter, runs as long as any does. */
		if (!service_is_alive(service))
			service_enter_running(service, RESULT_SUCCESS);
		return;
	}
	if (!is_signalled(state))
		return;
	if (whole_group) {
		struct pids pids = service_pids(service, true);
		size_t left = pids.count;

		pids_done(&pids);
		if (left)
			return;
	}
	if (stopping)
		service_enter_stop_post(service, RESULT_SUCCESS);
	else
		service_enter_dead(service, RESULT_SUCCESS, true);
}

void service_exec_done(struct service *service, pid_t pid)
{
	if (pid != service->main_exec.pid)
		return;
	service->main_executed = service->dirty = true;
	if (service->state == STATE_START && service->config.type == SERVICE_EXEC)
		service_enter_start_post(service);
}

enum service_state service_told_state(const struct service *service)
{
	bool starting = service->state == STATE_RUNNING && service->config.type == SERVICE_SIMPLE &&
			service->main_pid;

	return starting && !service->main_executed ? STATE_START : service->state;
}

/* By which signal a time-out ends the processes. */
static enum service_state timeout_state(const struct service *service, enum failure_mode mode)
{
	if (mode == FAILURE_ABORT)
		return STATE_STOP_WATCHDOG;
	return mode == FAILURE_KILL && service->config.send_sigkill ? STATE_STOP_SIGKILL : STATE_STOP_SIGTERM;
}

static const char *timeout_word(enum failure_mode mode)
{
	return mode == FAILURE_ABORT ? "Aborting" : mode == FAILURE_KILL ? "Killing" : "Terminating";
}

static void start_timed_out(struct service *service)
{
	enum failure_mode mode = service->config.start_failure_mode;

	service_say(service, "%s: %s operation timed out. %s.", service->name,
		service->state == STATE_CONDITION ? "condition" : service_state_sub(service->state),
		timeout_word(mode));
	service_enter_signal(service, timeout_state(service, mode), RESULT_TIMEOUT);
}

static void stop_timed_out(struct service *service)
{
	enum failure_mode mode = service->config.stop_failure_mode;

	service_say(service, "%s: Stopping timed out. %s.", service->name, timeout_word(mode));
	service_enter_signal(service, timeout_state(service, mode), RESULT_TIMEOUT);
}

/* A state that has sent a signal which asks: now comes the one that does not. */
static void signal_timed_out(struct service *service, bool ending)
{
	bool asked = service->state == STATE_STOP_SIGTERM || service->state == STATE_FINAL_SIGTERM;

	if (asked && service->config.stop_failure_mode == FAILURE_ABORT) {
		service_say(service, "%s: State '%s' timed out. Aborting.", service->name,
			service_state_sub(service->state));
		service_enter_signal(
			service, ending ? STATE_FINAL_WATCHDOG : STATE_STOP_WATCHDOG, RESULT_TIMEOUT);
		return;
	}
	if (service->config.send_sigkill) {
		service_say(service, "%s: State '%s' timed out. Killing.", service->name,
			service_state_sub(service->state));
		service_enter_signal(
			service, ending ? STATE_FINAL_SIGKILL : STATE_STOP_SIGKILL, RESULT_TIMEOUT);
		return;
	}
	service_say(service, "%s: State '%s' timed out. Skipping SIGKILL.", service->name,
		service_state_sub(service->state));
	if (ending)
		service_enter_dead(service, RESULT_TIMEOUT, false);
	else
		service_enter_stop_post(service, RESULT_TIMEOUT);
}

static void reload_timed_out(struct service *service)
{
	service_say(service, "%s: Reload operation timed out. Killing reload process.", service->name);
	if (service->control_pid)
		(void)kill(service->control_pid, SIGKILL);
	service->notify_state = NOTIFY_STATE_UNKNOWN;
	service_enter_running(service, RESULT_SUCCESS);
}

static void stop_post_timed_out(struct service *service)
{
	enum failure_mode mode = service->config.stop_failure_mode;

	service_say(service, "%s: State 'stop-post' timed out. %s.", service->name, timeout_word(mode));
	service_enter_signal(service,
		mode == FAILURE_ABORT				       ? STATE_FINAL_WATCHDOG
		: mode == FAILURE_KILL && service->config.send_sigkill ? STATE_FINAL_SIGKILL
								       : STATE_FINAL_SIGTERM,
		RESULT_TIMEOUT);
}

static void restart_due(struct service *service)
{
	service->restarts++;
	service_say(service, "%s: Scheduled restart job, restart counter is at %llu.", service->name,
		(unsigned long long)service->restarts);
	jobs_auto_restart(service);
}

void service_timer_fired(uv_timer_t *timer)
{
	struct service *service = timer->data;

	switch (service->state) {
	case STATE_CONDITION:
	case STATE_START_PRE:
	case STATE_START:
	case STATE_START_POST:
		start_timed_out(service);
		break;
	case STATE_RUNNING:
		service_say(service, "%s: Service reached runtime time limit. Stopping.", service->name);
		service_enter_stop(service, RESULT_TIMEOUT);
		break;
	case STATE_RELOAD:
		reload_timed_out(service);
		break;
	case STATE_STOP:
		stop_timed_out(service);
		break;
	case STATE_STOP_WATCHDOG:
	case STATE_STOP_SIGTERM:
		signal_timed_out(service, false);
		break;
	case STATE_STOP_SIGKILL:
		service_say(service, "%s: Processes still around after SIGKILL. Ignoring.", service->name);
		service_enter_stop_post(service, RESULT_TIMEOUT);
		break;
	case STATE_STOP_POST:
		stop_post_timed_out(service);
		break;
	case STATE_FINAL_WATCHDOG:
	case STATE_FINAL_SIGTERM:
		signal_timed_out(service, true);
		break;
	case STATE_FINAL_SIGKILL:
		service_say(service, "%s: Processes still around after final SIGKILL. Entering failed mode.",
			service->name);
		service_enter_dead(service, RESULT_TIMEOUT, true);
		break;
	case STATE_AUTO_RESTART:
		restart_due(service);
		break;
	case STATE_WAITING:
		service->kind->timer_fired(service);
		break;
	default:
		break;
	}
}
