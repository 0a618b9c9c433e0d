/* Words of systemd that the supervisor knows of: directives it does not implement, and the names of exit
 * statuses. Pure. */
#pragma once
#include "base/slice.h"

/* True for a directive of systemd 252 in [Unit] or [Service]; what is no directive at all is "unknown"
 * instead. */
bool directive_is_known(struct slice section, struct slice name);
/* "FAILURE" for 1, "EXEC" for 203 …; NULL without a name. */
const char *exit_status_name(int status);
int exit_status_from_name(const char *name); /* -1: none */
