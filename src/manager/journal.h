/* The embedded supervisor's journal: what units print and what the keeper says of them, as entries of fields
 * with journald's names. One journal per keeper (docs/decisions/010-journal.md says why not one per unit), in
 * a directory of its own that nobody else writes to.
 *
 * An entry is a message, two times, a sequence number, and a *context*: all its other fields, which are the
 * same for line after line of a process and are therefore written once per file. Messages and values are any
 * bytes. Entries come back in the order in which they were appended.
 *
 * On disk: files NUMBER.journal (16 hex digits), appended to until they are full, then sealed with an index.
 * Little-endian; checksums are CRC-32C, and those of records begin with the file's random seed and the
 * record's offset, so that neither another record nor what a unit prints can be taken for one.
 *
 *   header   64 bytes: magic, version, number, seed, id of the journal, first sequence number, checksum
 *   record   48 bytes of head with a checksum of its own, then the payload, filled up with zeros to 8 bytes.
 *            A head names kind, length and checksum of the payload, and of an entry: its context, the entry
 *            before it with the same context (offsets in the file), sequence number, and both times.
 *     context  payload: pairs of name and value, each with a varint of its length before it
 *     entry    payload: the message
 *     index    payload: all contexts with their last entry and count; hashes of NAME=VALUE, sorted, with the
 *              contexts that have it
 *   footer   48 bytes, behind the index: its place, first and last times, next sequence number, checksum
 *
 * A query reads the index of each file whose times fit, the contexts that it names, and the chains of their
 * entries: what does not match is not read. A file without a sound index is read as a whole.
 *
 * Damage. Nothing is synced: logs live on /run as a rule, and are no data that a promise depends on. A torn
 * tail (the keeper or the machine died in a write) is cut off when the journal is opened. What does not check
 * anywhere else is skipped, told to the query that met it, and never served; behind it reading goes on with
 * the next head that checks. A byte may cost an entry; in a context the entries of that process in one file;
 * in the header the file (1 MiB). Sealing against one who may write the files (journald's FSS) is not done.
 *
 * Bounds: the files together (the oldest goes when a new one is begun), each file, message, context, fields,
 * contexts per file, readers. Memory: 48 bytes a file and 32 a context of the newest, and 64 kB while anybody
 * reads.
 *
 * Pure shell code over the file system, no loop; one thread. Errors are -errno. */
#pragma once
#include "base/buf.h"
#include "base/slice.h"

#define JOURNAL_MESSAGE_MAX (48u * 1024) /* bytes; longer ones are cut */
#define JOURNAL_FIELDS_MAX 32u		 /* of a context */
#define JOURNAL_NAME_MAX 64u		 /* bytes of a field's name */
#define JOURNAL_VALUE_MAX 1024u		 /* bytes of a value in a context; longer ones are cut */
#define JOURNAL_CONTEXT_MAX 8192u	 /* bytes of one as it stands in the file */
#define JOURNAL_CONTEXTS_MAX 1024u	 /* per file; one more begins another file */
#define JOURNAL_FILE_MAX (1024u * 1024)
#define JOURNAL_FILE_MIN (64u * 1024)
#define JOURNAL_BYTES_MIN (4u * JOURNAL_FILE_MIN) /* of all files */
#define JOURNAL_BYTES_MAX (UINT64_C(1) << 30)
#define JOURNAL_READERS_MAX 256u
#define JOURNAL_MATCHES_MAX 16u

struct journal;
struct journal_field {
	const char *name; /* upper case letters, digits and '_'; not MESSAGE */
	struct slice value;
};

/* Opens the journal in `dir`, which is there; the newest file goes on where it ends. max_bytes: of all files,
 * brought into JOURNAL_BYTES_MIN … MAX. Cost: two reads a file, and the newest one as a whole. */
int journal_open(const char *dir, uint64_t max_bytes, struct journal **ret) _must_check_;
/* Closes what journal_open() answered, or NULL; all readers have been freed. Answers NULL. */
struct journal *journal_close(struct journal *journal);
/* Appends an entry: one write, of some microseconds. -EINVAL for fields beyond the bounds; -ENOSPC (where
 * removing the oldest file did not help) and the like lose the entry and leave the journal as it was
 * (journal_lost() counts them). */
int journal_append(struct journal *journal, int64_t realtime_us, int64_t monotonic_us,
	const struct journal_field *fields, size_t count, struct slice message);
uint64_t journal_lost(const struct journal *journal);
uint64_t journal_bytes(const struct journal *journal); /* of all files now */

/* ---- Reading ---- */

struct journal_query {
	/* Those of the unit: what it printed (_SYSTEMD_UNIT=) and what the keeper said of it (UNIT=). NULL:
	 * any. */
	const char *unit;
	/* "NAME=VALUE": of those with the same name one must hold, of different names all, as journalctl has
	 * it. */
	const struct slice *matches;
	size_t match_count;	    /* at most JOURNAL_MATCHES_MAX */
	int64_t since_us, until_us; /* CLOCK_REALTIME, both included; 0: no bound */
	long lines;		    /* the last so many of what matches; negative: all */
	bool follow;		    /* the end is not the end: later entries come too */
};
struct journal_entry {
	uint64_t sequence;
	int64_t realtime_us, monotonic_us;
	struct slice message;
	struct journal_field fields[JOURNAL_FIELDS_MAX];
	size_t field_count;
	const uint8_t *journal_id; /* 16 bytes */
};
/* The value of a field of the context; "" when it is not there. */
struct slice journal_entry_value(const struct journal_entry *entry, const char *name);

enum journal_step {
	JOURNAL_END,	/* that is all (for now, with follow: ask again when something was appended) */
	JOURNAL_ENTRY,	/* an entry was answered */
	JOURNAL_DAMAGE, /* so many bytes did not check and were skipped */
	JOURNAL_WORK,	/* nothing yet: at most one file was looked through (some ms); ask again */
};

struct journal_reader;
/* A reader may be kept across appends and across the removal of old files, whose entries it then misses.
 * -EMFILE when there are too many, -EINVAL for a match that is none. The query is copied. */
int journal_reader_new(
	struct journal *journal, const struct journal_query *query, struct journal_reader **ret) _must_check_;
struct journal_reader *journal_reader_free(struct journal_reader *reader); /* or NULL; answers NULL */
DEFINE_CLEANUP(struct journal_reader *, journal_reader_free)
/* What the entry points to is valid until the next call on any reader of the journal, or an append. */
enum journal_step journal_reader_next(
	struct journal_reader *reader, struct journal_entry *ret_entry, uint64_t *ret_damaged_bytes);

/* ---- Printing (journal_print.c): as journalctl --output does ---- */

enum journal_output {
	JOURNAL_SHORT, /* "Nov 22 08:05:30 host sleep[12]: text" */
	JOURNAL_CAT,   /* the text alone */
	JOURNAL_JSON,  /* an object a line; what is no printable UTF-8 is an array of its bytes */
	JOURNAL_OUTPUT_MAX,
	JOURNAL_OUTPUT_INVALID = -22
};
enum journal_output journal_output_from_name(struct slice name); /* short, cat, json; "": short */
void journal_print(const struct journal_entry *entry, enum journal_output output, struct buf *out);
void journal_print_damage(uint64_t bytes, enum journal_output output, struct buf *out);
