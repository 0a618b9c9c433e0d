/* A unit's environment: assignments, EnvironmentFile= contents, and the expansion of $VAR and ${VAR} in
 * commands, as systemd.exec(5) and systemd.service(5) have them. Pure, any thread. */
#pragma once
#include "base/buf.h"
#include "base/slice.h"

#define UNIT_ENVIRONMENT_MAX 4096		/* variables */
#define UNIT_ENVIRONMENT_VALUE_MAX (128 * 1024) /* bytes of one "NAME=value": the kernel takes no more */

struct unit_environment {
	char **items; /* "NAME=value", owned, ends in NULL once something was set */
	size_t count, cap;
};
void unit_environment_done(struct unit_environment *environment);
/* Sets one variable, replacing what was there. -EINVAL for a bad name or a value with control bytes, -E2BIG.
 */
int unit_environment_set(
	struct unit_environment *environment, struct slice name, struct slice value) _must_check_;
/* The same from "NAME=value". */
int unit_environment_assign(struct unit_environment *environment, struct slice assignment) _must_check_;
const char *unit_environment_get(
	const struct unit_environment *environment, struct slice name); /* NULL: not set */
/* Sets what an environment file holds; lines that are no assignments are skipped, answers how many were. */
size_t unit_environment_read(struct unit_environment *environment, struct slice text);
/* Expands a command's words: a word that is $VAR becomes the words of its value (none when unset or empty),
 * ${VAR} inside a word its value, $$ a dollar. Answers an argv that ends in NULL; free with unit_argv_free().
 * The names of variables that are not set are appended to `unset` (may be NULL), separated by blanks. NULL:
 * too long. */
char **unit_argv_expand(char *const *words, const struct unit_environment *environment, struct buf *unset);
void unit_argv_free(char **argv);
