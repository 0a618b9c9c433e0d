/* TOML 0.5: confd's configuration and template resources. Everything lives in the caller's arena. Pure, any
 * thread. Limits: TOML_TEXT_MAX bytes, arrays and tables nested TOML_DEPTH_MAX deep. */
#pragma once
#include "base/buf.h"
#include "base/memory.h"

#define TOML_TEXT_MAX (1u << 20)
#define TOML_DEPTH_MAX 100

enum toml_type {
	TOML_STRING,
	TOML_INTEGER,
	TOML_FLOAT,
	TOML_BOOL,
	TOML_TIME, /* date, time or both, as text */
	TOML_ARRAY,
	TOML_TABLE,
	TOML_TYPE_MAX,
};

struct toml {
	enum toml_type type;
	unsigned line;		   /* where the value (for tables: the header) stands, from 1 */
	struct slice key;	   /* its name in the table that holds it */
	struct toml *next;	   /* in the table or array that holds it, in order of appearance */
	struct toml *first, *last; /* arrays, tables */
	size_t count;
	struct slice text; /* strings (NUL-terminated), times */
	int64_t integer;
	double number;
	bool boolean;
	bool defined;	/* tables: closed to a second [header] */
	bool is_inline; /* tables and arrays written in place: closed to any addition */
};

/* -EINVAL with a message without the file's name: `line 3 (last key "mode"): expected a value but found
 * "rw"`. */
int toml_parse(
	struct slice text, struct arena *arena, struct toml **ret_root, struct buf *reterr) _must_check_;
/* The value of that name, or NULL; fold: an entry that differs only in case is found too when none is exact.
 */
struct toml *toml_get(const struct toml *table, const char *name, bool fold);
const char *toml_type_phrase(enum toml_type type); /* "a string", "an array" */
