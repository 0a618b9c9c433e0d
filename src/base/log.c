/* A line is put together in a buffer of its own and leaves in one write(), so that lines of several threads
 * and processes do not mix. Whether stderr is the journal is asked once, in log_init(): JOURNAL_STREAM names
 * the device and inode of the stream, and a stderr that was redirected later no longer matches. */
#include "base/log.h"
#include "base/buf.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/time.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 64 * 1024 };

static const char *log_program = "flotilla";
static _Atomic int log_max_level = LOG_LEVEL_INFO;
static bool log_to_journal;

static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat st;

	if (!stream || sscanf(stream, "%llu:%llu", &device, &inode) != 2 || fstat(STDERR_FILENO, &st) < 0)
		return false;
	return st.st_dev == (dev_t)device && st.st_ino == (ino_t)inode;
}

void log_init(const char *program, enum log_level max_level)
{
	log_program = program;
	log_max_level = (int)max_level;
	log_to_journal = stderr_is_journal();
}

void log_set_level(enum log_level max_level)
{
	log_max_level = (int)max_level;
}

bool log_enabled(enum log_level level)
{
	return (int)level <= log_max_level;
}

static const char *level_name(enum log_level level)
{
	switch (level) {
	case LOG_LEVEL_ERROR:
		return "error";
	case LOG_LEVEL_WARNING:
		return "warning";
	case LOG_LEVEL_NOTICE:
		return "notice";
	case LOG_LEVEL_INFO:
		return "info";
	case LOG_LEVEL_DEBUG:
	default:
		return "debug";
	}
}

static void write_all(const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(STDERR_FILENO, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return; /* nobody is left to be told */
		data += n;
		len -= (size_t)n;
	}
}

/* With milliseconds of fixed width, so that columns stay in line. */
static void add_time(struct buf *line, int64_t now_ns)
{
	text_add_rfc3339(line, now_ns / NS_PER_S * NS_PER_S);
	assert(line->data[line->len - 1] == 'Z');
	line->len--;
	buf_printf(line, ".%03dZ", (int)(now_ns % NS_PER_S / NS_PER_MS));
}

static void __attribute__((format(printf, 2, 0)))
write_line(enum log_level level, const char *format, va_list args, const char *suffix)
{
	_cleanup_buf_ struct buf line = BUF_INIT(LINE_MAX_BYTES);
	_cleanup_free_ char *text = NULL;
	struct slice shown;
	size_t text_at;

	if (vasprintf(&text, format, args) < 0) {
		text = NULL;
		return;
	}
	if (log_to_journal) {
		buf_printf(&line, "<%d>", (int)level);
	} else {
		add_time(&line, time_wall_ns());
		buf_printf(&line, " %s: %s: ", log_program, level_name(level));
	}
	text_at = line.len;
	shown = slice_str(text);
	while (shown.len && shown.data[shown.len - 1] == '\n')
		shown.len--;
	shown.len = MIN(shown.len, (size_t)LINE_MAX_BYTES - 1024);
	buf_add_slice(&line, shown);
	if (suffix)
		buf_printf(&line, ": %s", suffix);
	/* One call is one line: what came from outside cannot forge another one or steer a terminal. */
	for (size_t i = text_at; i < line.len; i++)
		if ((unsigned char)line.data[i] < 0x20 && line.data[i] != '\t')
			line.data[i] = ' ';
	buf_add_char(&line, '\n');
	write_all(line.data, line.len);
}

void log_write(enum log_level level, const char *format, ...)
{
	int saved = errno;
	va_list args;

	if (!log_enabled(level))
		return;
	va_start(args, format);
	write_line(level, format, args, NULL);
	va_end(args);
	errno = saved;
}

int log_errno(int error, const char *format, ...)
{
	int saved = errno;
	char room[128];
	va_list args;

	va_start(args, format);
	write_line(LOG_LEVEL_ERROR, format, args, strerror_r(error < 0 ? -error : error, room, sizeof(room)));
	va_end(args);
	errno = saved;
	return error < 0 ? error : -error;
}
