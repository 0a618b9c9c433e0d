/* What happens to a service: one of its processes ended, execve() worked, its timer fired. Each event leads
 * to a state (service.c). */
#include "base/time.h"
#include "manager/service_internal.h"
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

static void main_exited(struct service *service, int wait_status)
{
	const struct unit_commands *commands = &service->config.exec[EXEC_START];
	enum service_result result;

	record_exit(&service->main_exec, wait_status);
	service->main_pid = 0;
	service->dirty = true;
	result = exit_result(service, &service->main_exec, service->config.type != SERVICE_ONESHOT);
	if (commands->items[service->main_index].flags & UNIT_COMMAND_IGNORE_FAILURE)
		result = RESULT_SUCCESS;
	if (result != RESULT_SUCCESS)
		say_exit(service, "Main", &service->main_exec);
	service_add_result(service, result);
	if (service->state == STATE_START && result == RESULT_SUCCESS &&
		service->main_index + 1 < commands->count) {
		if (!service_run_main(service, service->main_index + 1))
			service_enter_signal(service, STATE_STOP_SIGTERM, RESULT_RESOURCES);
		return;
	}
	switch (service->state) {
	case STATE_START:
		if (result == RESULT_SUCCESS)
			service_enter_start_post(service);
		else
			service_enter_signal(service, STATE_STOP_SIGTERM, result);
		break;
	case STATE_RUNNING:
		service_enter_running(service, result);
		break;
	case STATE_START_POST:
	case STATE_STOP:
		if (!service->control_pid)
			service_enter_signal(service, STATE_STOP_SIGTERM, result);
		break;
	case STATE_STOP_SIGTERM:
	case STATE_STOP_SIGKILL:
		if (!service->control_pid)
			service_enter_stop_post(service, result);
		break;
	case STATE_FINAL_SIGTERM:
	case STATE_FINAL_SIGKILL:
		service_check_empty(service);
		break;
	default:
		break; /* a process that an earlier stop could not kill */
	}
}

static enum service_result control_result(struct service *service, const struct exec_record *record)
{
	unsigned flags = service->config.exec[service->control_kind].items[service->control_index].flags;
	enum service_result result = exit_result(service, record, false);

	/* ExecCondition=: 1 to 254 means "do not start", 255 and signals are failures. */
	if (flags & UNIT_COMMAND_IGNORE_FAILURE)
		return RESULT_SUCCESS;
	if (service->control_kind == EXEC_CONDITION && result == RESULT_EXIT_CODE && record->status < 255)
		return RESULT_SKIP_CONDITION;
	if (result != RESULT_SUCCESS)
		say_exit(service, "Control", record);
	return result;
}

static void control_exited(struct service *service, int wait_status)
{
	struct exec_record *record = &service->control_exec[service->control_kind];
	enum exec_kind kind = service->control_kind;
	enum service_result result;

	record_exit(record, wait_status);
	service->control_pid = 0;
	result = control_result(service, record);
	service_add_result(service, result);
	if (result == RESULT_SUCCESS && service->control_index + 1 < service->config.exec[kind].count &&
		service->state != STATE_STOP_SIGTERM && service->state != STATE_STOP_SIGKILL &&
		service->state != STATE_FINAL_SIGTERM && service->state != STATE_FINAL_SIGKILL) {
		if (!service_run_control(service, kind, service->control_index + 1))
			service_enter_signal(service,
				kind == EXEC_STOP_POST ? STATE_FINAL_SIGTERM : STATE_STOP_SIGTERM,
				RESULT_RESOURCES);
		return;
	}
	switch (service->state) {
	case STATE_CONDITION:
		if (result == RESULT_SUCCESS)
			service_enter_start_pre(service);
		else
			service_enter_signal(service, STATE_STOP_SIGTERM, result);
		break;
	case STATE_START_PRE:
		if (result == RESULT_SUCCESS)
			service_enter_start(service);
		else
			service_enter_signal(service, STATE_STOP_SIGTERM, result);
		break;
	case STATE_START_POST:
		if (result == RESULT_SUCCESS)
			service_enter_running(service, RESULT_SUCCESS);
		else
			service_enter_signal(service, STATE_STOP_SIGTERM, result);
		break;
	case STATE_STOP:
		service_enter_signal(service, STATE_STOP_SIGTERM, result);
		break;
	case STATE_STOP_SIGTERM:
	case STATE_STOP_SIGKILL:
		if (!service->main_pid)
			service_enter_stop_post(service, result);
		break;
	case STATE_STOP_POST:
		service_enter_signal(service, STATE_FINAL_SIGTERM, result);
		break;
	case STATE_FINAL_SIGTERM:
	case STATE_FINAL_SIGKILL:
		service_check_empty(service);
		break;
	default:
		break;
	}
}

void service_child_exited(struct service *service, pid_t pid, int wait_status)
{
	streams_drain(service); /* what it said last comes before the word of its end */
	if (pid == service->main_pid)
		main_exited(service, wait_status);
	else if (pid == service->control_pid)
		control_exited(service, wait_status);
}

void service_check_empty(struct service *service)
{
	bool stopping = service->state == STATE_STOP_SIGTERM || service->state == STATE_STOP_SIGKILL;
	bool ending = service->state == STATE_FINAL_SIGTERM || service->state == STATE_FINAL_SIGKILL;
	bool whole_group =
		service->config.kill_mode == KILL_CONTROL_GROUP || service->config.kill_mode == KILL_MIXED;

	if ((!stopping && !ending) || service->main_pid || service->control_pid)
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
	bool starting = service->state == STATE_RUNNING && service->config.type == SERVICE_SIMPLE;

	return starting && !service->main_executed ? STATE_START : service->state;
}

static void start_timed_out(struct service *service)
{
	service_say(service, "%s: %s operation timed out. Terminating.", service->name,
		service->state == STATE_CONDITION ? "condition" : service_state_sub(service->state));
	service_enter_signal(service, STATE_STOP_SIGTERM, RESULT_TIMEOUT);
}

static void sigterm_timed_out(struct service *service, bool ending)
{
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
	case STATE_STOP:
		service_say(service, "%s: Stopping timed out. Terminating.", service->name);
		service_enter_signal(service, STATE_STOP_SIGTERM, RESULT_TIMEOUT);
		break;
	case STATE_STOP_SIGTERM:
		sigterm_timed_out(service, false);
		break;
	case STATE_STOP_SIGKILL:
		service_say(service, "%s: Processes still around after SIGKILL. Ignoring.", service->name);
		service_enter_stop_post(service, RESULT_TIMEOUT);
		break;
	case STATE_STOP_POST:
		service_say(service, "%s: State 'stop-post' timed out. Terminating.", service->name);
		service_enter_signal(service, STATE_FINAL_SIGTERM, RESULT_TIMEOUT);
		break;
	case STATE_FINAL_SIGTERM:
		sigterm_timed_out(service, true);
		break;
	case STATE_FINAL_SIGKILL:
		service_say(service, "%s: Processes still around after final SIGKILL. Entering failed mode.",
			service->name);
		service_enter_dead(service, RESULT_TIMEOUT, true);
		break;
	case STATE_AUTO_RESTART:
		service->restarts++;
		service_say(service, "%s: Scheduled restart job, restart counter is at %llu.", service->name,
			(unsigned long long)service->restarts);
		jobs_auto_restart(service);
		break;
	default:
		break;
	}
}
