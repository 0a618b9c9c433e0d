/* Private to the room: writing to a connection that the other side closed must be an error, not the end of
 * the process. */
#pragma once
#include <signal.h>
#include <stddef.h>

/* Ignores SIGPIPE unless the program has chosen its own way to handle it. */
static inline void ignore_sigpipe(void)
{
	struct sigaction now;

	if (sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
		(void)signal(SIGPIPE, SIG_IGN);
}
