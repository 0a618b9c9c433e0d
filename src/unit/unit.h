/* Unit files as fleet 1.0 sees them: text <-> ordered options, the hash, names, and the [X-Fleet]
 * requirements. Error texts are the original's, word for word; the line stands beside them for our own tools.
 * Pure, any thread. What systemd makes of the values (quoting, specifiers, time spans) is in unit/words.h and
 * unit/specifier.h. */
#pragma once
#include "base/buf.h"
#include "base/memory.h"
#include "base/slice.h"

#define UNIT_TEXT_MAX (1024 * 1024) /* ceiling of one unit file in bytes */
#define UNIT_OPTIONS_MAX 16384	    /* options in one unit file */
#define UNIT_NAME_MAX 256	    /* bytes in a unit's name */
#define UNIT_HASH_SIZE 20
#define UNIT_HASH_HEX_SIZE 41 /* with the NUL */

/* One `name=value` line. Texts are owned by the file, and a NUL stands behind each (values may also hold
 * NULs). */
struct unit_option {
	struct slice section, name, value;
	unsigned line; /* where the option began, 1-based; 0: not from a text */
};
struct unit_file {
	struct arena arena;
	struct unit_option *options; /* in order of appearance, sections not merged */
	size_t count, cap;
};
/* Why something was refused. `text` is fleet's message; `line` is 0 when no line is to blame. */
struct unit_error {
	char text[640];
	unsigned line;
};

struct unit_file *unit_file_new(void);
struct unit_file *unit_file_free(struct unit_file *file);
DEFINE_CLEANUP(struct unit_file *, unit_file_free)
/* Parses `text` as go-systemd's lexer does (text before the first '[' is skipped; an empty result is no
 * error). -EINVAL with `reterr` filled (may be NULL); -E2BIG past UNIT_TEXT_MAX or UNIT_OPTIONS_MAX. */
int unit_file_parse(struct slice text, struct unit_file **ret, struct unit_error *reterr) _must_check_;
/* Appends one option, copied and not checked. -E2BIG past UNIT_OPTIONS_MAX. */
int unit_file_add(
	struct unit_file *file, struct slice section, struct slice name, struct slice value) _must_check_;
/* Appends the canonical text: sections merged into their first appearance, one empty line between them. */
void unit_file_serialise(const struct unit_file *file, struct buf *out);
/* SHA-1 of the canonical text. Two files with equal hashes are the same unit to fleet. */
void unit_file_hash(const struct unit_file *file, uint8_t ret_hash[static UNIT_HASH_SIZE]);
void unit_hash_hex(const uint8_t hash[static UNIT_HASH_SIZE], char ret_hex[static UNIT_HASH_HEX_SIZE]);
/* The reverse; either case. -EINVAL unless 40 hexadecimal digits. */
int unit_hash_from_hex(struct slice hex, uint8_t ret_hash[static UNIT_HASH_SIZE]) _must_check_;
/* The next option of that section and name from *position on (start with 0), or NULL. name NULL: any name. */
const struct unit_option *unit_file_next(
	const struct unit_file *file, const char *section, const char *name, size_t *position);
/* The first [Unit] Description=, or "". */
struct slice unit_file_description(const struct unit_file *file);
/* "PATH:LINE: TEXT", or "PATH: TEXT" without a line. */
void unit_error_format(const struct unit_error *error, const char *path, struct buf *out);

/* A name's parts, borrowed from the name: "web@1.service" is prefix "web", instance "1", type "service". */
struct unit_name {
	struct slice full;     /* %n */
	struct slice stem;     /* %N: without the last suffix */
	struct slice prefix;   /* %p: before the first '@', or the stem */
	struct slice instance; /* %i: between the first '@' and the last '.' */
	struct slice type;     /* after the last '.' */
	bool has_at;
};
/* The types that an agent runs and fleetctl knows as suffixes, as "service" …; ends in NULL. Fleet 1.0's
 * seven, and those of systemd's that it stumbled over: target, swap, slice. */
extern const char *const unit_agent_types[];

/* fleet's rules for names in fleet's order. 0, or -EINVAL with fleet's text in `reterr` (may be NULL). */
int unit_name_validate(struct slice name, struct unit_error *reterr) _must_check_;
/* Cuts a name (no validation beyond a '.'). -EINVAL without one. */
int unit_name_parse(struct slice name, struct unit_name *ret) _must_check_;
bool unit_name_is_template(struct slice name); /* has '@' and an empty instance: "web@.service" */
bool unit_name_is_instance(struct slice name); /* has '@' and an instance */
/* Appends the template of an instance ("web@.service" for "web@1.service"); -EINVAL when `name` has no '@'.
 */
int unit_name_template(struct slice name, struct buf *out) _must_check_;
/* True when the suffix is one of unit_agent_types. */
bool unit_name_has_agent_type(struct slice name);
/* fleetctl's argument -> unit name: base name of the path, ".service" appended unless it has an agent type.
 */
void unit_name_mangle(struct slice argument, struct buf *out);
/* Appends `value` with %n %N %p %i replaced in this order, textually, as fleet does in [X-Fleet]. */
void unit_name_expand(const struct unit_name *name, struct slice value, struct buf *out);

/* What a unit demands of its machine. */
struct unit_metadata {
	struct slice key, value;
};
struct unit_slices {
	struct slice *items;
	size_t count, cap;
};
struct unit_requirements {
	struct arena arena;
	bool has_machine_id;
	struct slice machine_id;	/* full id or exactly its first 8 characters */
	struct unit_slices machine_of;	/* exact unit names; all must be on the machine */
	struct unit_slices conflicts;	/* globs */
	struct unit_slices replaces;	/* globs */
	struct unit_metadata *metadata; /* same key: any of the values; different keys: all of them */
	size_t metadata_count, metadata_cap;
	bool global;
	/* What fleet ignores without a word; fleetctl warns: metadata that are not KEY=VALUE, values of
	 * Global= that count as false and say something else. */
	struct unit_slices odd_metadata, odd_global;
};
/* Reads [X-Fleet], with the legacy X- names. Values are expanded with `name`'s parts; an empty name leaves
 * specifiers as they are (validation does that). Release with unit_requirements_done(). */
void unit_requirements_read(const struct unit_file *file, struct slice name, struct unit_requirements *ret);
void unit_requirements_done(struct unit_requirements *requirements);
/* The checks fleet makes when a unit is created: re-parse, then pairs that exclude each other. -EINVAL with
 * fleet's text in `reterr` (may be NULL). */
int unit_file_validate(const struct unit_file *file, struct unit_error *reterr) _must_check_;
/* Collects the [X-Fleet] keys that fleet does not know (borrowed from the file; fleetctl warns of each);
 * answers how many. Release with unit_slices_done(). */
size_t unit_file_unknown_fleet_keys(const struct unit_file *file, struct unit_slices *ret_keys);
void unit_slices_done(struct unit_slices *slices);
/* Go's path.Match; a malformed pattern never matches. */
bool unit_glob_match(struct slice pattern, struct slice name);
/* True when `id` is the machine that `wanted` names: the full id or exactly its first 8 characters. */
bool unit_machine_id_match(struct slice wanted, struct slice id);
/* True when the machine's metadata satisfies the requirement: `get` answers a key's value, or a slice with
 * data NULL. */
bool unit_metadata_match(const struct unit_requirements *requirements,
	struct slice (*get)(void *userdata, struct slice key), void *userdata);
/* fleet's reading of a Global= value: true, yes, 1, on, t in any case. */
bool unit_bool_is_true(struct slice value);
