/* A unit's log: one line per message with time, process and identifier, in at most two files (the current one
 * and the one before it), each bounded in bytes. Lines on disk: "MICROSECONDS PID IDENTIFIER TEXT". Shell
 * code, one thread. */
#pragma once
#include "base/buf.h"
#include "base/slice.h"

#define UNIT_LOG_LINE_MAX (48u * 1024) /* bytes of one message; longer ones are cut into several */

struct unit_log {
	char *path, *old_path; /* owned */
	int fd;		       /* -1: not open; opened at the first message */
	size_t size, max_bytes;
};

void unit_log_init(struct unit_log *log, const char *dir, const char *name, size_t max_bytes);
void unit_log_done(struct unit_log *log);
void unit_log_close(struct unit_log *log); /* gives the descriptor back until the next message */
/* Appends one line (no newline in text) and answers it in `ret_line` as it stands on disk, without its
 * newline. A full disk loses the message. */
void unit_log_append(struct unit_log *log, int64_t wall_us, pid_t pid, const char *identifier,
	struct slice text, struct buf *ret_line);
/* Reads the raw lines of the last `lines` messages (negative: all), oldest first, each with its newline. 0
 * without any. */
int unit_log_tail(const struct unit_log *log, long lines, struct buf *ret_lines);

enum unit_log_output { UNIT_LOG_SHORT, UNIT_LOG_CAT };
/* Prints one raw line as journalctl does: "Nov 22 08:05:30 host sleep[12]: text\n", or the text alone. */
void unit_log_format(struct slice line, enum unit_log_output output, const char *hostname, struct buf *out);
