/* Messages are appended with one write each. When the file would grow past its bound it becomes the old one.
 */
#include "manager/unitlog.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/file.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

void unit_log_init(struct unit_log *log, const char *dir, const char *name, size_t max_bytes)
{
	*log = (struct unit_log){
		.path = mem_printf("%s/log/%s", dir, name),
		.old_path = mem_printf("%s/log/old/%s", dir, name),
		.fd = -1,
		.max_bytes = max_bytes,
	};
}

void unit_log_close(struct unit_log *log)
{
	if (log->fd >= 0)
		close(log->fd);
	log->fd = -1;
}

void unit_log_done(struct unit_log *log)
{
	unit_log_close(log);
	free(log->path);
	free(log->old_path);
	*log = (struct unit_log){.fd = -1};
}

static void log_open(struct unit_log *log)
{
	struct stat st;

	if (log->fd >= 0)
		return;
	log->fd = open(log->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
	log->size = log->fd >= 0 && fstat(log->fd, &st) == 0 ? (size_t)st.st_size : 0;
}

void unit_log_append(struct unit_log *log, int64_t wall_us, pid_t pid, const char *identifier,
	struct slice text, struct buf *ret_line)
{
	_cleanup_buf_ struct buf line = BUF_INIT(UNIT_LOG_LINE_MAX + 1024);

	buf_printf(&line, "%lld %d ", (long long)wall_us, (int)pid);
	for (size_t i = 0; identifier[i] && i < 128; i++)
		buf_add_char(&line,
			(unsigned char)identifier[i] > ' ' && identifier[i] != 127 ? identifier[i] : '_');
	if (!identifier[0])
		buf_add_char(&line, '_');
	buf_add_char(&line, ' ');
	buf_add_slice(&line, slice_make(text.data, MIN(text.len, (size_t)UNIT_LOG_LINE_MAX)));
	if (ret_line)
		buf_add_slice(ret_line, buf_slice(&line));
	buf_add_char(&line, '\n');
	log_open(log);
	if (log->fd >= 0 && log->size && log->size + line.len > log->max_bytes) {
		unit_log_close(log);
		(void)rename(log->path, log->old_path);
		log_open(log);
	}
	if (log->fd < 0)
		return;
	ssize_t written = write(log->fd, line.data, line.len);
	if (written > 0)
		log->size += (size_t)written;
}

int unit_log_tail(const struct unit_log *log, long lines, struct buf *ret_lines)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0); /* two bounded files */
	size_t start;
	int r = file_read(log->old_path, SIZE_MAX, &text);

	if (r == 0 || r == -ENOENT)
		r = file_read(log->path, SIZE_MAX, &text);
	if (r < 0 && r != -ENOENT)
		return r;
	if (text.len && text.data[text.len - 1] != '\n')
		buf_add_char(&text, '\n'); /* torn by a crash */
	start = lines < 0 ? 0 : text.len;
	for (long found = 0; lines >= 0 && start > 0; start--) {
		if (text.data[start - 1] == '\n' && found++ == lines)
			break;
	}
	if (text.len > start)
		buf_add(ret_lines, text.data + start, text.len - start);
	return 0;
}

/* Removes colours (ESC [ … letter) and expands tabs, as journalctl does; false when other bytes cannot be
 * printed. */
static bool add_printable(struct slice text, struct buf *out)
{
	for (size_t i = 0; i < text.len;) {
		unsigned char c = (unsigned char)text.data[i];
		uint32_t rune;
		size_t size;

		if (c == 27 && i + 1 < text.len && text.data[i + 1] == '[') {
			size_t end = i + 2;

			while (end < text.len && (unsigned char)text.data[end] >= 0x20 &&
				(unsigned char)text.data[end] < 0x40)
				end++;
			i = end + 1;
			continue;
		}
		if (c == '\t') {
			buf_add_str(out, "        ");
			i++;
			continue;
		}
		size = text_utf8_decode(slice_make(text.data + i, text.len - i), &rune);
		if (!size || rune < ' ' || (rune >= 0x7F && rune < 0xA0))
			return false;
		buf_add(out, text.data + i, size);
		i += size;
	}
	return true;
}

static void add_message(struct slice text, struct buf *out)
{
	size_t before = out->len;

	if (text.len && text.data[text.len - 1] == '\r')
		text.len--;
	if (add_printable(text, out))
		return;
	buf_truncate(out, before);
	if (text.len < 1024)
		buf_printf(out, "[%zuB blob data]", text.len);
	else
		buf_printf(out, "[%.1fK blob data]", (double)text.len / 1024);
}

void unit_log_format(struct slice line, enum unit_log_output output, const char *hostname, struct buf *out)
{
	struct slice when, pid, identifier, text, rest;
	uint64_t us = 0;
	struct tm tm;
	char stamp[32];
	time_t seconds;

	(void)text_cut(line, ' ', &when, &rest);
	(void)text_cut(rest, ' ', &pid, &rest);
	if (!text_cut(rest, ' ', &identifier, &text) || text_to_u64(when, &us) < 0)
		return; /* damaged */
	if (output == UNIT_LOG_SHORT) {
		seconds = (time_t)(us / 1000000);
		if (!localtime_r(&seconds, &tm) || !strftime(stamp, sizeof(stamp), "%b %d %H:%M:%S", &tm))
			return;
		buf_printf(out, "%s %s ", stamp, hostname);
		buf_add_slice(out, identifier);
		buf_printf(out, "[%.*s]: ", (int)pid.len, pid.data);
	}
	add_message(text, out);
	buf_add_char(out, '\n');
}
