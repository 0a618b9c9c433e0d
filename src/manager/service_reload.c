/* Reloading: by ExecReload=, by a signal (Type=notify-reload), or because the service says that it does so.
 * However it ends, the service goes on: a reload that fails or takes too long is told, and is no reason to
 * stop it. */
#include "manager/service_internal.h"
#include <errno.h>
#include <signal.h>

static void say_reload(struct service *service, const char *verb, const char *after)
{
	_cleanup_buf_ struct buf title = BUF_INIT(0);

	service_title(service, &title);
	service_say(service, "%s %s%s", verb, buf_text(&title), after);
}

static void enter_reload(struct service *service)
{
	service_set_state(service, STATE_RELOAD);
	service_arm(service, service->config.timeout_start_ns);
}

int service_reload(struct service *service)
{
	const struct service_config *config = &service->config;
	bool by_signal = config->type == SERVICE_NOTIFY_RELOAD;

	if (service->state == STATE_RELOAD || (service_is_active(service) && service->job != JOB_NONE) ||
		service->control_pid)
		return -EBUSY;
	if (!service_is_active(service))
		return -ESRCH;
	if (!by_signal && !config->exec[EXEC_RELOAD].count)
		return -EOPNOTSUPP;
	say_reload(service, "Reloading", "...");
	if (by_signal && service->main_pid) {
		service->notify_state = NOTIFY_STATE_UNKNOWN; /* its next READY=1 is the end of this one */
		if (service_main_is_itself(service))
			(void)kill(service->main_pid, config->reload_signal);
		enter_reload(service);
	}
	if (config->exec[EXEC_RELOAD].count) {
		if (service_run_control(service, EXEC_RELOAD, 0))
			enter_reload(service);
		else if (service->state == STATE_RELOAD && !by_signal)
			service_reload_finished(service);
	}
	return 0;
}

void service_reload_finished(struct service *service)
{
	/* The one that says itself when it is done has not, yet. */
	if (service->config.type == SERVICE_NOTIFY_RELOAD && service->notify_state != NOTIFY_STATE_READY &&
		service->main_pid)
		return;
	say_reload(service, "Reloaded", ".");
	service_enter_running(service, RESULT_SUCCESS);
}

void service_enter_reload_by_notify(struct service *service)
{
	enter_reload(service);
}

void service_enter_stop_by_notify(struct service *service)
{
	service_arm(service, service->config.timeout_stop_ns);
	service_set_state(service, STATE_STOP_SIGTERM);
}
