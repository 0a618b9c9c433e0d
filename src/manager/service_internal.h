/* The states of a service that its events lead to: what service.c has for service_events.c. Each enters one
 * state, or the next one that applies. */
#pragma once
#include "manager/keeper.h"

/* service_events.c: the time of a state is up. */
void service_timer_fired(uv_timer_t *timer);

void service_enter_start_pre(struct service *service);
void service_enter_start(struct service *service);
void service_enter_start_post(struct service *service);
void service_enter_running(struct service *service, enum service_result result);
/* One of the four states that signal and wait. */
void service_enter_signal(struct service *service, enum service_state state, enum service_result result);
void service_enter_stop_post(struct service *service, enum service_result result);
void service_enter_dead(struct service *service, enum service_result result, bool may_restart);

/* The first result that is not success stays. */
void service_add_result(struct service *service, enum service_result result);
/* Start the command `index` of a kind as control process, or of ExecStart= as main process; false after
 * saying why not. */
bool service_run_control(struct service *service, enum exec_kind kind, size_t index);
bool service_run_main(struct service *service, size_t index);
