/* Logging for programs (library and pure rooms never log). Lines go to stderr; under journald
 * (JOURNAL_STREAM) with a priority prefix <N> and no time, else as "TIME PROGRAM: LEVEL: text". Any thread.
 * Never pass passwords or keys. */
#pragma once
#include "base/macros.h"

enum log_level {
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_NOTICE = 5,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7
};

void log_init(const char *program,
	enum log_level max_level); /* before any thread; program must outlive the process */
void log_set_level(enum log_level max_level);
bool log_enabled(enum log_level level);
void log_write(enum log_level level, const char *format, ...) _printf_(2, 3);
/* Logs "text: strerror" and answers `error` (a negative errno): `return log_errno(r, "cannot open %s",
 * path);` */
int log_errno(int error, const char *format, ...) _printf_(2, 3);

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...) log_write(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                                           \
	do {                                                     \
		if (log_enabled(LOG_LEVEL_DEBUG))                \
			log_write(LOG_LEVEL_DEBUG, __VA_ARGS__); \
	} while (0)
