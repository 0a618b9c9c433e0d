/* How systemd reads the values of a unit file: continuation lines, quoting and escapes (systemd.syntax(7)),
 * commands (systemd.service(5), COMMAND LINES), booleans and time spans (systemd.time(7)). Pure, any thread.
 */
#pragma once
#include "base/buf.h"
#include "base/slice.h"

#define UNIT_SPAN_INFINITY INT64_MAX

/* Appends the value with each backslash-newline turned into a blank and comment lines between dropped. */
void unit_value_join(struct slice value, struct buf *out);

/* Cuts the next word off *text, unquoted and unescaped, into `out` (cleared first). 1: a word; 0: none is
 * left; -EINVAL: an unbalanced quote. An unknown escape keeps its backslash and sets *ret_odd (may be NULL).
 * Without `escapes` a backslash only protects the byte after it (as systemd splits the value of $FOO). */
int unit_word_next(struct slice *text, bool escapes, struct buf *out, bool *ret_odd) _must_check_;

enum unit_command_flags {
	UNIT_COMMAND_IGNORE_FAILURE = 1, /* - */
	UNIT_COMMAND_ARGV0 = 2,		 /* @: the second word becomes argv[0] */
	UNIT_COMMAND_NO_ENV = 4,	 /* : no variables are expanded */
	UNIT_COMMAND_FULL = 8,		 /* + runs with full privileges */
	UNIT_COMMAND_NO_SETUID = 16,	 /* ! and !! */
};
/* One command of an Exec*= line. words[0] is the executable, then argv[0] if UNIT_COMMAND_ARGV0, then
 * arguments. */
struct unit_command {
	unsigned flags;
	char **words; /* owned, end in NULL */
	size_t count;
};
struct unit_commands {
	struct unit_command *items;
	size_t count, cap;
};
/* Expands one word's specifiers: appends to `out`; 0 or -errno. */
typedef int (*unit_expand_fn)(void *userdata, struct slice word, struct buf *out);
/* Adds the commands of one (joined) Exec*= value: words split, specifiers expanded per word, `;` separates
 * commands. An empty value clears the list, as in systemd. -EINVAL with the reason in `reterr`. */
int unit_commands_parse(struct unit_commands *commands, struct slice value, unit_expand_fn expand,
	void *userdata, struct buf *reterr) _must_check_;
void unit_commands_clear(struct unit_commands *commands);

int unit_parse_bool(struct slice text, bool *ret) _must_check_; /* systemd's words; -EINVAL */
/* "5", "1min 30s", "500ms", "infinity" in nanoseconds, UNIT_SPAN_INFINITY for infinity; -EINVAL, -ERANGE. */
int unit_parse_span(struct slice text, int64_t *ret_ns) _must_check_;
/* "SIGTERM", "TERM" or "15" -> number; -EINVAL. And back: "TERM"; NULL when unknown (real-time signals). */
int unit_parse_signal(struct slice text, int *ret) _must_check_;
const char *unit_signal_name(int signal_number);
