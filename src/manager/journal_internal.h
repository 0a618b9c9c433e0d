/* What the parts of the journal share: journal.c (files and appending), journal_format.c (bytes),
 * journal_reader.c (queries), journal_index.c (the index of a sealed file). */
#pragma once
#include "manager/journal.h"

#define JOURNAL_HEADER_BYTES 64u
#define JOURNAL_HEAD_BYTES 48u
#define JOURNAL_FOOTER_BYTES 48u
#define JOURNAL_INDEX_FIXED 8u	  /* bytes before its tables: how many contexts, how many hashes */
#define JOURNAL_INDEX_CONTEXT 12u /* offset, last entry, count */
#define JOURNAL_INDEX_HASH 8u	  /* hash, which context */
#define JOURNAL_SEQUENCE_MAX (UINT64_C(1) << 60) /* never reached; beyond it is damage */
#define JOURNAL_PADDED(len) (((len) + 7u) & ~7u)

struct journal_header {
	uint64_t number, seed, first_sequence;
	uint8_t id[16];
};
enum journal_kind { JOURNAL_KIND_CONTEXT = 1, JOURNAL_KIND_ENTRY, JOURNAL_KIND_INDEX };
struct journal_head {
	enum journal_kind kind;
	uint32_t len, payload_crc;
	uint32_t context, previous; /* offsets; 0: none */
	uint64_t sequence;
	int64_t realtime_us, monotonic_us;
};
struct journal_footer {
	uint32_t index; /* its offset */
	int64_t min_us, max_us;
	uint64_t next_sequence;
};

/* journal_format.c */
void journal_header_encode(char *at, const struct journal_header *header);
bool journal_header_decode(const char *at, struct journal_header *ret);
void journal_head_encode(char *at, uint32_t seed, uint32_t offset, const struct journal_head *head);
/* Whether it checks and can be of a file of that size. */
bool journal_head_decode(
	const char *at, uint32_t seed, uint32_t offset, uint32_t file_size, struct journal_head *ret);
void journal_footer_encode(char *at, uint32_t seed, const struct journal_footer *footer);
bool journal_footer_decode(const char *at, uint32_t seed, struct journal_footer *ret);
uint32_t journal_payload_crc(uint32_t seed, uint32_t offset, struct slice padded);
uint32_t journal_record_bytes(uint32_t payload_len);
uint32_t journal_seed_crc(uint64_t seed);		       /* what all checksums of a file begin with */
uint32_t journal_field_hash(uint32_t seed, struct slice pair); /* "NAME=VALUE" */
/* -EINVAL beyond the bounds. */
int journal_context_encode(const struct journal_field *fields, size_t count, struct buf *out) _must_check_;
/* The names are copied to `names`, which must live as long as the fields. False: it is none. */
struct journal_names {
	char text[JOURNAL_FIELDS_MAX][JOURNAL_NAME_MAX + 1];
};
bool journal_context_decode(struct slice bytes, struct journal_names *names,
	struct journal_field ret_fields[static JOURNAL_FIELDS_MAX], size_t *ret_count);

/* journal.c */
struct journal_file {
	uint64_t number, first_sequence;
	uint32_t size;	/* without what was cut off */
	uint32_t seed;	/* journal_seed_crc() */
	uint32_t index; /* offset of the index; 0: there is none (the newest, or it does not check) */
	bool sound;	/* the header checks; else nothing of it can be read */
	int64_t min_us, max_us;
};
struct journal_context { /* of the newest file */
	uint64_t hash[2];
	uint32_t offset, last, count;
};
struct journal {
	int dir_fd;
	uint64_t max_bytes, total_bytes, next_sequence, lost;
	uint32_t file_bytes;
	uint8_t id[16];
	uint64_t hash_seed[2];
	struct journal_file *files; /* by number */
	size_t file_count, file_cap;
	int fd; /* of the newest, when it is appended to; -1: the next entry begins a file */
	struct journal_context *contexts;
	size_t context_count, context_cap, pair_count; /* pairs: fields of all contexts */
	uint16_t *table;			       /* hash table of the contexts: position + 1 */
	struct buf record;
	/* What readers share. */
	size_t reader_count;
	int read_fd;
	uint64_t read_number;
	char *window;
	uint64_t window_number;
	uint32_t window_offset, window_len;
};
struct journal_file *journal_live_file(const struct journal *journal); /* NULL: none is appended to */
/* Bytes of a file, NULL when they are not all there or cannot be read. Borrowed until the next call, of at
 * most JOURNAL_WINDOW_BYTES. */
#define JOURNAL_WINDOW_BYTES (64u * 1024)
const char *journal_window(
	struct journal *journal, const struct journal_file *file, uint32_t offset, uint32_t len);
/* The same into the caller's memory, past the window: for single places. */
bool journal_read(
	struct journal *journal, const struct journal_file *file, uint32_t offset, void *to, size_t len);
void journal_reading_done(struct journal *journal); /* gives back what reading holds */
/* The head at `offset`, and with `ret_payload` its payload too, checked and without its padding. False: it
 * does not check. */
bool journal_read_head(
	struct journal *journal, const struct journal_file *file, uint32_t offset, struct journal_head *ret);
bool journal_read_record(struct journal *journal, const struct journal_file *file, uint32_t offset,
	struct journal_head *ret, struct slice *ret_payload);
/* The next offset from `offset` on at which a head checks; the file's size when there is none. */
uint32_t journal_resync(struct journal *journal, const struct journal_file *file, uint32_t offset);

/* journal_index.c */
uint32_t journal_index_bytes(size_t contexts, size_t pairs); /* with head and footer */
/* The index of the newest file and its footer, as they stand at its end. */
int journal_index_build(struct journal *journal, struct buf *out) _must_check_;
struct journal_index {
	struct buf bytes;
	uint32_t context_count, hash_count;
};
bool journal_index_load(struct journal *journal, const struct journal_file *file, struct journal_index *ret);
struct journal_context journal_index_context(
	const struct journal_index *index, uint32_t at); /* without hash */
/* The positions of the contexts with that hash: from the answer on, as long as journal_index_hash() says so.
 */
uint32_t journal_index_find(const struct journal_index *index, uint32_t hash);
bool journal_index_hash(const struct journal_index *index, uint32_t at, uint32_t hash, uint32_t *ret_context);
