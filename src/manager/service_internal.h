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
/* One of the states that signal and wait. */
void service_enter_signal(struct service *service, enum service_state state, enum service_result result);
/* Runs ExecStop=, then ends the processes. */
void service_enter_stop(struct service *service, enum service_result result);
void service_enter_stop_post(struct service *service, enum service_result result);
void service_enter_dead(struct service *service, enum service_result result, bool may_restart);

/* Only for a state that the table of service.c lets follow. */
void service_set_state(struct service *service, enum service_state state);
void service_arm(struct service *service, int64_t ns); /* the state's timer; UNIT_SPAN_INFINITY: none */
/* The state's timer fires at the earliest this late from now. */
void service_extend(struct service *service, int64_t ns);

/* service_kill.c: does what KillMode= says for this state; true when there is something to wait for. */
bool service_kill_processes(struct service *service, enum service_state state);

/* service_main.c: main processes that were not started as such. */
/* Makes it the main process. */
/* Why that process cannot be the unit's main one, whoever says so; NULL: it can. */
const char *service_why_not_main(const struct service *service, pid_t pid);
void service_set_main(struct service *service, pid_t pid);
/* Whether the main process is still the one that was meant: an alien's number may have been given away. */
bool service_main_is_itself(const struct service *service);
void service_unset_main(struct service *service); /* it has ended */
/* Finds the main process of a service that forked: 0; -EAGAIN: its PID file is not there (yet), and is looked
 * for; -EPROTO: no process is left that could write it. */
int service_find_main(struct service *service, bool wait_for_file);
/* True while the service runs: by its main process, or by any where that is unknown or does not matter. */
bool service_is_alive(const struct service *service);
void service_poll_begin(struct service *service); /* starts looking, if there is anything to look for */
void service_poll_fired(uv_timer_t *timer);
/* Tells of kills by the kernel for lack of memory, and does what OOMPolicy= says. */
void service_check_memory(struct service *service);

/* service_events.c: the main process has ended in a way that is not known. */
void service_main_vanished(struct service *service);
/* The PID file that was awaited in STATE_START or STATE_START_POST is there (0), or cannot come (-EPROTO). */
void service_main_found(struct service *service, int result);

/* service_reload.c */
void service_reload_finished(struct service *service);
void service_enter_reload_by_notify(struct service *service);
void service_enter_stop_by_notify(struct service *service);

/* service_notify.c */
void service_watchdog_begin(struct service *service); /* from now on it counts */
void service_watchdog_fired(uv_timer_t *timer);

/* The first result that is not success stays. */
void service_add_result(struct service *service, enum service_result result);
/* Start the command `index` of a kind as control process, or of ExecStart= as main process; false after
 * saying why not. */
bool service_run_control(struct service *service, enum exec_kind kind, size_t index);
bool service_run_main(struct service *service, size_t index);
