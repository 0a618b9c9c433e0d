/* The state machine of a service, after systemd's: start goes condition -> start-pre -> start -> start-post
 * -> running or exited, and between running and reload; an end goes stop -> stop-watchdog or stop-sigterm ->
 * stop-sigkill -> stop-post -> final-watchdog or final-sigterm -> final-sigkill -> dead or failed, skipping
 * what has nothing to do, and from there perhaps to auto-restart. Each enter_x() function enters one of these
 * states or the next one that applies. Events: a process ended, execve() worked, the timer fired
 * (service_events.c), the service spoke (service_notify.c), a request. */
#include "base/memory.h"
#include "base/rng.h"
#include "base/time.h"
#include "io/file.h"
#include "manager/activation.h"
#include "manager/directives.h"
#include "manager/service_internal.h"
#include "unit/environment.h"
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static const struct {
	const char *sub, *active;
	uint32_t next; /* states that may follow */
} states[STATE_MAX] = {
#define TO(state) (UINT32_C(1) << STATE_##state)
#define TO_END                                                                                          \
	(TO(STOP_WATCHDOG) | TO(STOP_SIGTERM) | TO(STOP_SIGKILL) | TO(STOP_POST) | TO(FINAL_WATCHDOG) | \
		TO(FINAL_SIGTERM) | TO(FINAL_SIGKILL) | TO(DEAD) | TO(FAILED))
#define TO_TRIGGER (TO(ACTIVE) | TO(WAITING) | TO(LISTENING))
#define TO_OVER (TO(DEAD) | TO(FAILED))
	[STATE_DEAD] = {"dead", "inactive",
		TO(CONDITION) | TO(START_PRE) | TO(START) | TO(START_POST) | TO(RUNNING) | TO(EXITED) |
			TO(AUTO_RESTART) | TO_TRIGGER | TO_END},
	[STATE_CONDITION] = {"condition", "activating",
		TO(START_PRE) | TO(START) | TO(START_POST) | TO(RUNNING) | TO(EXITED) | TO(STOP) | TO_END},
	[STATE_START_PRE] = {"start-pre", "activating",
		TO(START) | TO(START_POST) | TO(RUNNING) | TO(EXITED) | TO(STOP) | TO_END},
	[STATE_START] = {"start", "activating",
		TO(START_POST) | TO(RUNNING) | TO(EXITED) | TO(STOP) | TO_END},
	[STATE_START_POST] = {"start-post", "activating", TO(RUNNING) | TO(EXITED) | TO(STOP) | TO_END},
	[STATE_RUNNING] = {"running", "active", TO(RELOAD) | TO(EXITED) | TO(STOP) | TO_END},
	[STATE_RELOAD] = {"reload", "reloading", TO(RUNNING) | TO(EXITED) | TO(STOP) | TO_END},
	[STATE_EXITED] = {"exited", "active", TO(RELOAD) | TO(STOP) | TO_END},
	[STATE_ACTIVE] = {"active", "active", TO_OVER},
	[STATE_WAITING] = {"waiting", "active", TO(TRIGGERED) | TO(ELAPSED) | TO_OVER},
	[STATE_LISTENING] = {"listening", "active", TO(TRIGGERED) | TO_OVER},
	[STATE_TRIGGERED] = {"running", "active", TO(WAITING) | TO(LISTENING) | TO(ELAPSED) | TO_OVER},
	[STATE_ELAPSED] = {"elapsed", "active", TO(WAITING) | TO_OVER},
	[STATE_STOP] = {"stop", "deactivating", TO_END},
	[STATE_STOP_WATCHDOG] = {"stop-watchdog", "deactivating", TO_END},
	[STATE_STOP_SIGTERM] = {"stop-sigterm", "deactivating", TO_END},
	[STATE_STOP_SIGKILL] = {"stop-sigkill", "deactivating", TO_END},
	[STATE_STOP_POST] = {"stop-post", "deactivating", TO_END},
	[STATE_FINAL_WATCHDOG] = {"final-watchdog", "deactivating", TO_END},
	[STATE_FINAL_SIGTERM] = {"final-sigterm", "deactivating", TO_END},
	[STATE_FINAL_SIGKILL] = {"final-sigkill", "deactivating", TO_END},
	[STATE_FAILED] = {"failed", "failed",
		TO(CONDITION) | TO(START_PRE) | TO(START) | TO(START_POST) | TO(RUNNING) | TO(EXITED) |
			TO(AUTO_RESTART) | TO_TRIGGER | TO(DEAD) | TO_END},
	[STATE_AUTO_RESTART] = {"auto-restart", "activating",
		TO(CONDITION) | TO(START_PRE) | TO(START) | TO(START_POST) | TO(RUNNING) | TO(EXITED) |
			TO_END},
};

static const char *const result_names[] = {
	[RESULT_SUCCESS] = "success",
	[RESULT_RESOURCES] = "resources",
	[RESULT_TIMEOUT] = "timeout",
	[RESULT_EXIT_CODE] = "exit-code",
	[RESULT_SIGNAL] = "signal",
	[RESULT_CORE_DUMP] = "core-dump",
	[RESULT_START_LIMIT] = "start-limit-hit",
	[RESULT_SKIP_CONDITION] = "exec-condition",
	[RESULT_PROTOCOL] = "protocol",
	[RESULT_WATCHDOG] = "watchdog",
	[RESULT_OOM_KILL] = "oom-kill",
	[RESULT_TRIGGER_LIMIT] = "trigger-limit-hit",
	[RESULT_SERVICE_START_LIMIT] = "service-start-limit-hit",
	[RESULT_UNIT_START_LIMIT] = "unit-start-limit-hit",
};

const char *service_state_sub(enum service_state state)
{
	return states[state].sub;
}

const char *service_state_active(enum service_state state)
{
	return states[state].active;
}

const char *service_result_name(enum service_result result)
{
	return result_names[result];
}

const char *service_load_name(const struct service *service)
{
	if (!service->config.error)
		return "loaded";
	return service->config.unsupported_type ? "error" : "bad-setting";
}

bool service_is_active(const struct service *service)
{
	return service->state >= STATE_RUNNING && service->state <= STATE_ELAPSED;
}

bool service_is_dead(const struct service *service)
{
	return (service->state == STATE_DEAD || service->state == STATE_FAILED) && !service->will_restart;
}

bool service_is_stopping(const struct service *service)
{
	return service->state >= STATE_STOP && service->state <= STATE_FINAL_SIGKILL;
}

void service_title(const struct service *service, struct buf *out)
{
	const char *description = service->config.description;

	buf_add_str(out, service->name);
	if (description && strcmp(description, service->name) != 0)
		buf_printf(out, " - %s", description);
}

void service_say(struct service *service, const char *format, ...)
{
	char text[4096];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	for (char *at = text; *at; at++)
		if (*at == '\n')
			*at = ' ';
	keeper_say(service, text);
}

void service_warn(struct service *service, const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (strings_have(&service->run_warnings, text))
		return; /* each of its commands finds the same */
	strings_add(&service->run_warnings, text);
	service->dirty = true;
	service_say(service, "%s", text);
}

void service_set_state(struct service *service, enum service_state state)
{
	enum service_state before = service->state;
	int64_t now_us = time_wall_ns() / 1000;
	bool was_active = service_is_active(service),
	     was_over = before == STATE_DEAD || before == STATE_FAILED;

	if (before == state)
		return;
	assert(states[before].next >> state & 1);
	service->state = state;
	service->state_changed_us = now_us;
	if (!was_active && service_is_active(service))
		service->active_enter_us = now_us;
	if (was_active && !service_is_active(service))
		service->active_exit_us = now_us;
	if (state == STATE_DEAD || state == STATE_FAILED) {
		service->inactive_enter_us = now_us;
		service->inactive_enter_ns = time_mono_ns();
	} else if (was_over) {
		service->inactive_exit_us = now_us;
		service->inactive_exit_ns = time_mono_ns();
	}
	if (state != STATE_START_POST && state != STATE_RUNNING && state != STATE_RELOAD)
		(void)uv_timer_stop(&service->watchdog);
	service->dirty = service->store_dirty = true;
	activation_changed(service);
	jobs_state_changed(service, before);
}

void service_arm(struct service *service, int64_t ns)
{
	int64_t now = time_mono_ns();

	service->deadline_ns = INT64_MAX;
	if (ns == UNIT_SPAN_INFINITY || __builtin_add_overflow(now, ns, &service->deadline_ns)) {
		service->deadline_ns = INT64_MAX;
		(void)uv_timer_stop(&service->timer);
		return;
	}
	/* The loop's idea of now is as old as its turn: it may come early by as much. */
	(void)uv_timer_start(
		&service->timer, service_timer_fired, (uint64_t)(ns / NS_PER_MS + (ns % NS_PER_MS != 0)), 0);
}

static void disarm(struct service *service)
{
	service_arm(service, UNIT_SPAN_INFINITY);
}

void service_extend(struct service *service, int64_t ns)
{
	int64_t until;

	if (service->deadline_ns == INT64_MAX || __builtin_add_overflow(time_mono_ns(), ns, &until))
		return;
	if (until <= service->deadline_ns)
		return;
	service_arm(service, ns);
	if (service->state == STATE_RUNNING)
		service->runtime_end_ns = until;
}

void service_add_result(struct service *service, enum service_result result)
{
	if (service->result == RESULT_SUCCESS)
		service->result = result;
}

static const char *task_name(const struct service *service)
{
	static const char *const names[] = {
		[EXEC_CONDITION] = "condition",
		[EXEC_START_PRE] = "start-pre",
		[EXEC_START] = "start",
		[EXEC_START_POST] = "start-post",
		[EXEC_RELOAD] = "reload",
		[EXEC_STOP] = "stop",
		[EXEC_STOP_POST] = "stop-post",
	};

	return names[service->control_kind];
}

/* Starts the command `index` of a kind as the control process. */
bool service_run_control(struct service *service, enum exec_kind kind, size_t index)
{
	int r;

	service->control_kind = kind;
	service->control_index = index;
	r = spawn_command(service, kind, index, &service->control_pid);
	if (r == 0)
		return true;
	service->control_pid = 0;
	service_say(
		service, "%s: Failed to run '%s' task: %s", service->name, task_name(service), strerror(-r));
	return false;
}

bool service_run_main(struct service *service, size_t index)
{
	int r;

	service->main_index = index;
	service->main_executed = service->main_adopted = false;
	r = spawn_command(service, EXEC_START, index, &service->main_pid);
	if (r == 0)
		return true;
	service->main_pid = 0;
	service_say(service, "%s: Failed to run 'start' task: %s", service->name, strerror(-r));
	return false;
}

static bool shall_restart(const struct service *service)
{
	const struct service_config *config = &service->config;
	const struct exec_record *main = &service->main_exec;
	bool ended = main->pid && main->exited && service->result != RESULT_SKIP_CONDITION;

	if (service->forbid_restart)
		return false;
	if (ended && status_set_has(&config->restart_prevent, main->by_signal, main->status))
		return false;
	if (ended && status_set_has(&config->restart_force, main->by_signal, main->status))
		return true;
	switch (config->restart) {
	case RESTART_ALWAYS:
		return service->result != RESULT_SKIP_CONDITION;
	case RESTART_ON_SUCCESS:
		return service->result == RESULT_SUCCESS;
	case RESTART_ON_FAILURE:
		return service->result != RESULT_SUCCESS && service->result != RESULT_SKIP_CONDITION;
	case RESTART_ON_ABNORMAL:
		return service->result != RESULT_SUCCESS && service->result != RESULT_EXIT_CODE &&
		       service->result != RESULT_SKIP_CONDITION;
	case RESTART_ON_ABORT:
		return service->result == RESULT_SIGNAL || service->result == RESULT_CORE_DUMP;
	case RESTART_ON_WATCHDOG:
		return service->result == RESULT_WATCHDOG;
	default:
		return false;
	}
}

/* What the run had is given back. */
static void end_run(struct service *service)
{
	const struct process_config *process = &service->config.process;
	bool keep = process->runtime_preserve == PRESERVE_YES ||
		    (process->runtime_preserve == PRESERVE_RESTART &&
			    (service->will_restart || service->killed_for_restart));

	if (service->main_pid && service->main_alien)
		service_unset_main(service);
	service->main_pid = service->control_pid = 0; /* what KillMode= let live is not the unit's any more */
	service->main_known = service->main_alien = service->pid_file_awaited = false;
	service->killed_for_restart = false;
	service->session_count = 0;
	(void)uv_timer_stop(&service->poll);
	notify_close(service);
	tracker_unit_remove(&service->keeper->tracker, service->name);
	limits_unit_remove(&service->keeper->limits, service->name, &service->limits);
	if (service->config.pid_file) /* it names a process that is not any more */
		(void)unlink(service->config.pid_file);
	for (size_t i = 0; i < process->directories[DIRECTORY_RUNTIME].names.count && !keep; i++) {
		const char *name = process->directories[DIRECTORY_RUNTIME].names.items[i];
		int r = file_remove_below("/run", name);

		if (r < 0)
			service_say(
				service, "%s: Cannot remove /run/%s: %s", service->name, name, strerror(-r));
	}
}

void service_enter_dead(struct service *service, enum service_result result, bool may_restart)
{
	enum service_state end = STATE_FAILED;

	service_add_result(service, result);
	disarm(service);
	if (service->kind->release)
		service->kind->release(service);
	if (service->result == RESULT_SUCCESS) {
		service_say(service, "%s: Deactivated successfully.", service->name);
		end = STATE_DEAD;
	} else if (service->result == RESULT_SKIP_CONDITION) {
		service_say(service, "%s: Skipped due to 'exec-condition'.", service->name);
		end = STATE_DEAD;
	} else {
		service_say(service, "%s: Failed with result '%s'.", service->name,
			result_names[service->result]);
	}
	service->will_restart = may_restart && shall_restart(service);
	service_set_state(service, end);
	end_run(service);
	if (service->will_restart) {
		service->will_restart = false;
		service_set_state(service, STATE_AUTO_RESTART);
		service_arm(service, service->config.restart_ns);
	} else {
		service->forbid_restart = false;
	}
}

void service_enter_signal(struct service *service, enum service_state state, enum service_result result)
{
	bool aborts = state == STATE_STOP_WATCHDOG || state == STATE_FINAL_WATCHDOG;

	service_add_result(service, result);
	if (service_kill_processes(service, state)) {
		service_arm(
			service, aborts ? service->config.timeout_abort_ns : service->config.timeout_stop_ns);
		service_set_state(service, state);
		return;
	}
	if ((state == STATE_STOP_WATCHDOG || state == STATE_STOP_SIGTERM) && service->config.send_sigkill)
		service_enter_signal(service, STATE_STOP_SIGKILL, RESULT_SUCCESS);
	else if (state == STATE_STOP_WATCHDOG || state == STATE_STOP_SIGTERM || state == STATE_STOP_SIGKILL)
		service_enter_stop_post(service, RESULT_SUCCESS);
	else if ((state == STATE_FINAL_WATCHDOG || state == STATE_FINAL_SIGTERM) &&
		 service->config.send_sigkill)
		service_enter_signal(service, STATE_FINAL_SIGKILL, RESULT_SUCCESS);
	else
		service_enter_dead(service, RESULT_SUCCESS, true);
}

/* Until when it may run: RuntimeMaxSec= and a part of RuntimeRandomizedExtraSec= from now on. */
static int64_t runtime_end(const struct service *service)
{
	int64_t extra = service->config.runtime_extra_ns, max = service->config.runtime_max_ns, end;
	uint64_t random;

	if (max == UNIT_SPAN_INFINITY || extra == UNIT_SPAN_INFINITY)
		return INT64_MAX;
	rng_system(&random, sizeof(random));
	if (extra > 0 && __builtin_add_overflow(max, (int64_t)(random % (uint64_t)extra), &max))
		return INT64_MAX;
	return __builtin_add_overflow(time_mono_ns(), max, &end) ? INT64_MAX : end;
}

/* The time goes on while it reloads. */
static void arm_runtime(struct service *service)
{
	if (!service->runtime_end_ns)
		service->runtime_end_ns = runtime_end(service);
	service_arm(service, service->runtime_end_ns == INT64_MAX
				     ? UNIT_SPAN_INFINITY
				     : MAX(service->runtime_end_ns - time_mono_ns(), INT64_C(1)));
}

void service_enter_running(struct service *service, enum service_result result)
{
	service_add_result(service, result);
	if (service->result != RESULT_SUCCESS) {
		service_enter_signal(service, STATE_STOP_SIGTERM, result);
	} else if (service_is_alive(service)) {
		arm_runtime(service);
		service_set_state(service, STATE_RUNNING);
		/* It may have said more than that it is ready. */
		if (service->notify_state == NOTIFY_STATE_RELOADING)
			service_enter_reload_by_notify(service);
		else if (service->notify_state == NOTIFY_STATE_STOPPING)
			service_enter_stop_by_notify(service);
	} else if (service->config.remain_after_exit) {
		disarm(service);
		service_set_state(service, STATE_EXITED);
	} else {
		service_enter_stop(service, RESULT_SUCCESS);
	}
}

/* A phase runs the commands of one kind, one after the other, as the control process. */
struct phase {
	enum exec_kind kind;
	enum service_state state;
	void (*next)(struct service *service); /* where there is nothing to run */
	enum service_state give_up;	       /* where a command cannot be run */
};

static void enter_phase(struct service *service, const struct phase *phase)
{
	const struct service_config *config = &service->config;

	if (!config->exec[phase->kind].count) {
		phase->next(service);
		return;
	}
	if (!service_run_control(service, phase->kind, 0)) {
		service_enter_signal(service, phase->give_up, RESULT_RESOURCES);
		return;
	}
	service_set_state(service, phase->state);
	service_arm(
		service, phase->state < STATE_RUNNING ? config->timeout_start_ns : config->timeout_stop_ns);
}

static void enter_final_signal(struct service *service)
{
	service_enter_signal(service, STATE_FINAL_SIGTERM, RESULT_SUCCESS);
}

void service_enter_stop_post(struct service *service, enum service_result result)
{
	static const struct phase phase = {
		EXEC_STOP_POST, STATE_STOP_POST, enter_final_signal, STATE_FINAL_SIGTERM};

	service_add_result(service, result);
	enter_phase(service, &phase);
}

static void enter_stop_signal(struct service *service)
{
	service_enter_signal(service, STATE_STOP_SIGTERM, RESULT_SUCCESS);
}

void service_enter_stop(struct service *service, enum service_result result)
{
	static const struct phase phase = {EXEC_STOP, STATE_STOP, enter_stop_signal, STATE_STOP_SIGTERM};

	service_add_result(service, result);
	if (service->control_pid) /* a reload is under way: there is one control process at a time */
		service_enter_signal(service, STATE_STOP_SIGTERM, RESULT_SUCCESS);
	else
		enter_phase(service, &phase);
}

static void enter_up(struct service *service)
{
	service_enter_running(service, RESULT_SUCCESS);
}

void service_enter_start_post(struct service *service)
{
	static const struct phase phase = {EXEC_START_POST, STATE_START_POST, enter_up, STATE_STOP_SIGTERM};

	service_watchdog_begin(service);
	enter_phase(service, &phase);
}

void service_enter_start(struct service *service)
{
	enum service_type type = service->config.type;
	bool begun;

	if (!service->config.exec[EXEC_START].count) {
		service_enter_start_post(service);
		return;
	}
	/* What forks is over once its first process has ended; that one is not the main process. */
	if (type == SERVICE_FORKING)
		begun = service_run_control(service, EXEC_START, 0);
	else
		begun = service_run_main(service, 0);
	if (!begun) {
		service_enter_signal(service, STATE_STOP_SIGTERM, RESULT_RESOURCES);
		return;
	}
	if (type == SERVICE_SIMPLE || type == SERVICE_IDLE) {
		service_enter_start_post(service);
		return;
	}
	service_set_state(service, STATE_START);
	service_arm(service, service->config.timeout_start_ns);
}

void service_enter_start_pre(struct service *service)
{
	static const struct phase phase = {
		EXEC_START_PRE, STATE_START_PRE, service_enter_start, STATE_STOP_SIGTERM};

	enter_phase(service, &phase);
}

static void enter_condition(struct service *service)
{
	static const struct phase phase = {
		EXEC_CONDITION, STATE_CONDITION, service_enter_start_pre, STATE_STOP_SIGTERM};

	enter_phase(service, &phase);
}

/* True when this start is within StartLimitBurst= per StartLimitIntervalSec=. The interval begins with the
 * first start in it. */
static bool within_start_limit(struct service *service)
{
	const struct service_config *config = &service->config;
	int64_t now = time_mono_ns();

	if (unit_kind_is_target(service->kind)) /* as in systemd: it is but a name */
		return true;
	if (config->start_limit_interval_ns == 0 || config->start_limit_burst == 0)
		return true;
	if (!service->start_window_ns || now - service->start_window_ns > config->start_limit_interval_ns) {
		service->start_window_ns = now;
		service->start_count = 0;
	}
	return ++service->start_count <= config->start_limit_burst;
}

static void forget_run(struct service *service)
{
	uint8_t random[16];

	free(service->main_exec.command);
	service->main_exec = (struct exec_record){0};
	for (size_t i = 0; i < EXEC_KIND_MAX; i++) {
		free(service->control_exec[i].command);
		service->control_exec[i] = (struct exec_record){0};
	}
	service->main_index = 0;
	service->runtime_end_ns = 0;
	service->notify_state = NOTIFY_STATE_UNKNOWN;
	service->notify_text = mem_free(service->notify_text);
	service->notify_errno = 0;
	service->watchdog_ns = service->config.watchdog_ns;
	service->oom_kills = UINT64_MAX; /* nothing opened yet */
	strings_done(&service->run_warnings);
	rng_system(random, sizeof(random));
	for (size_t i = 0; i < sizeof(random); i++)
		(void)snprintf(service->invocation + 2 * i, 3, "%02x", random[i]);
	/* Before anything runs: a keeper that takes over must know whom to look for. */
	store_write_state(service);
}

int service_start(struct service *service, bool automatic)
{
	enum service_result before = service->result;

	service_apply_text(service);
	if (service->config.error) {
		service_say(service, "%s: %s", service->name, service->config.error);
		if (service->state == STATE_AUTO_RESTART)
			service_enter_dead(service, RESULT_RESOURCES, false);
		return -EBADMSG;
	}
	disarm(service);
	if (!within_start_limit(service)) {
		service_say(service, "%s: Start request repeated too quickly.", service->name);
		service->result = RESULT_SUCCESS;
		service->forbid_restart = true;
		service_enter_dead(service, RESULT_START_LIMIT, false);
		return -ECANCELED;
	}
	service->result = RESULT_SUCCESS;
	service->forbid_restart = false;
	if (!automatic)
		service->restarts = 0;
	forget_run(service);
	if (service->kind->start) {
		int r = service->kind->start(service);

		if (r < 0 && service->state == STATE_FAILED && service->result == RESULT_SUCCESS)
			service->result = before; /* nothing was begun: it is as failed as it was */
		return r;
	}
	enter_condition(service);
	return 0;
}

void service_stop(struct service *service)
{
	service->forbid_restart = true;
	service->killed_for_restart = service->job == JOB_RESTART;
	switch (service->state) {
	case STATE_DEAD:
	case STATE_FAILED:
		service->forbid_restart = false;
		break;
	case STATE_AUTO_RESTART:
		disarm(service);
		service->forbid_restart = false;
		service_set_state(service, STATE_DEAD);
		break;
	case STATE_CONDITION:
	case STATE_START_PRE:
	case STATE_START:
	case STATE_START_POST:
		service_enter_signal(service, STATE_STOP_SIGTERM, RESULT_SUCCESS);
		break;
	case STATE_RUNNING:
	case STATE_RELOAD:
	case STATE_EXITED:
		service_enter_stop(service, RESULT_SUCCESS);
		break;
	case STATE_ACTIVE:
	case STATE_WAITING:
	case STATE_LISTENING:
	case STATE_TRIGGERED:
	case STATE_ELAPSED:
		service->kind->stop(service);
		break;
	default:
		break; /* it stops already */
	}
}
