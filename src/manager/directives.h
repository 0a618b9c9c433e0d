/* Words of systemd that the supervisor knows of: all directives of units, what becomes of each, and the names
 * of exit statuses. docs/supervisor.md shows the same table; a test holds them together. Pure. */
#pragma once
#include "base/slice.h"

enum directive_state {
	DIRECTIVE_DONE,
	DIRECTIVE_IGNORED, /* a warning names it; `why` says the reason */
	DIRECTIVE_REFUSED, /* it would mislead: the value, or the unit, is not taken */
	DIRECTIVE_STATE_MAX
};
struct directive_row {
	const char *section, *name;
	enum directive_state state;
	const char *why; /* NULL for those that are done */
};

/* NULL: no directive of systemd's there. */
const struct directive_row *directive_find(struct slice section, struct slice name);
/* The row at a place, for going through all; NULL behind the last. */
const struct directive_row *directive_at(size_t index);
/* "FAILURE" for 1, "EXEC" for 203 …; NULL without a name. */
const char *exit_status_name(int status);
int exit_status_from_name(const char *name); /* -1: none */
