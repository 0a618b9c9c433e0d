/* Command-line flags from one table per program, in the dialects of the originals: parsing, environment, and
 * the flag part of --help come from the same rows. Main thread.
 *
 *   FLAGS_GO      Go's flag package (etcd, etcdctl's commands, confd): -x = --x, -x v or -x=v, booleans only
 * -x or -x=true, stops at the first word that is no flag or after "--" FLAGS_ANYWHERE  like Go's, but flags
 * may also follow words (etcdctl, fleetctl: every word that begins with a dash before a "--" is a flag)
 */
#pragma once
#include "base/buf.h"

enum flag_type {
	FLAG_BOOL,
	FLAG_STRING,
	FLAG_LIST,
	FLAG_INT,
	FLAG_UINT,
	FLAG_FLOAT,
	FLAG_DURATION,
	FLAG_IGNORED
};
enum flags_dialect { FLAGS_GO, FLAGS_ANYWHERE };

struct flag_list {
	const char **items; /* borrowed texts, in order of appearance */
	size_t count;
};

struct flag {
	const char *name; /* without dashes; further spellings separated by commas ("total-timeout,t") */
	enum flag_type type;
	void *value;	  /* bool, const char * (borrowed from argv/env), struct flag_list, int64_t, uint64_t,
			     double, int64_t ns */
	const char *help; /* one line for --help; NULL: hidden */
	const char *help_value; /* what stands for the value in --help, e.g. "URL" */
	const char *env;	/* environment variable, or NULL; a flag beats the environment */
	bool set;		/* out: given on the command line or by the environment */
	bool from_env;		/* out */
};

/* Parses argv[1..argc) against `flags` (ends in a row with name NULL). The words that are no flags are moved
 * to argv[1..], *ret_count of them and a NULL, and argv stays borrowed. The environment counts for rows that
 * the command line did not set; an empty variable is none; a list in the environment is separated by commas.
 * `value` may be NULL: the value is checked and dropped. FLAG_IGNORED takes a value of any kind. A list is
 * empty when parsing begins. -EINVAL with a one-line message in `reterr`: an unknown flag (with the nearest
 * known one), a bad or missing value; Go's texts ("flag provided but not defined: -x"; "invalid value \"x\"
 * for flag -interval: parse error"). */
int flags_parse(struct flag *flags, enum flags_dialect dialect, int argc, char **argv, int *ret_count,
	struct buf *reterr) _must_check_;
/* Appends one aligned line per row that has help. */
void flags_add_help(struct buf *out, const struct flag *flags);
void flags_done(struct flag *flags); /* frees the lists */
