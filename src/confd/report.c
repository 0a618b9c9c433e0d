/* Each line is put together first and written at once, so that lines of several programs do not mix. */
#include "confd/report.h"
#include "base/buf.h"
#include "base/memory.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

static struct {
	const char *argv0;
	char host[256];
	enum report_level level;
} reporter = {.argv0 = "confd", .host = "localhost", .level = REPORT_INFO};

void report_init(const char *argv0)
{
	reporter.argv0 = argv0;
	if (gethostname(reporter.host, sizeof(reporter.host)) < 0)
		memcpy(reporter.host, "localhost", sizeof("localhost"));
	reporter.host[sizeof(reporter.host) - 1] = '\0';
}

int report_set_level(const char *name)
{
	static const struct {
		const char *name;
		enum report_level level;
	} levels[] = {
		{"panic", REPORT_FATAL},
		{"fatal", REPORT_FATAL},
		{"error", REPORT_ERROR},
		{"warn", REPORT_WARNING},
		{"warning", REPORT_WARNING},
		{"info", REPORT_INFO},
		{"debug", REPORT_DEBUG},
		{"trace", REPORT_DEBUG},
	};

	for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
		if (strcasecmp(name, levels[i].name) != 0)
			continue;
		reporter.level = levels[i].level;
		return 0;
	}
	return -EINVAL;
}

static void add_time(struct buf *out)
{
	time_t now = time(NULL);
	struct tm local;
	char text[64];
	long offset;

	if (!localtime_r(&now, &local))
		return;
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &local);
	buf_add_str(out, text);
	offset = local.tm_gmtoff / 60;
	if (!offset)
		buf_add_char(out, 'Z');
	else
		buf_printf(
			out, "%c%02ld:%02ld", offset < 0 ? '-' : '+', labs(offset) / 60, labs(offset) % 60);
}

void report(enum report_level level, const char *format, ...)
{
	static const char *const names[] = {"FATAL", "ERROR", "WARNING", "INFO", "DEBUG"};
	_cleanup_buf_ struct buf line = BUF_INIT(1 << 20);
	_cleanup_free_ char *text = NULL;
	va_list args;

	if (level > reporter.level)
		return;
	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	add_time(&line);
	buf_printf(&line, " %s %s[%d]: %s ", reporter.host, reporter.argv0, (int)getpid(), names[level]);
	buf_add_str(&line, text ? text : format);
	buf_add_char(&line, '\n');
	fwrite(line.data, 1, line.len, stderr);
}
