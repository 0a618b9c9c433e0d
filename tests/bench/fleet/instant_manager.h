/* A unit manager without processes, for machines that are simulated by the thousand: what is started runs at
 * once. Calls back from the loop, as the real ones. */
#pragma once
#include "manager/implementation.h"

/* `running` is told each unit that begins (+1) or ends (-1) to run. */
struct manager *instant_manager_new(uv_loop_t *loop, const struct manager_events *events, void *userdata,
	void (*running)(void *userdata, const char *name, int change), void *running_userdata);
