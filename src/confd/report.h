/* confd's own log lines on standard error: "2006-01-02T15:04:05Z HOST ARGV0[PID]: LEVEL message". One thread.
 */
#pragma once
#include "base/macros.h"

enum report_level { REPORT_FATAL, REPORT_ERROR, REPORT_WARNING, REPORT_INFO, REPORT_DEBUG };

void report_init(const char *argv0);
/* panic fatal error warn warning info debug trace, in any case; -EINVAL. */
int report_set_level(const char *name) _must_check_;
void report(enum report_level level, const char *format, ...) _printf_(2, 3);
#define report_fatal(...) report(REPORT_FATAL, __VA_ARGS__)
#define report_error(...) report(REPORT_ERROR, __VA_ARGS__)
#define report_warning(...) report(REPORT_WARNING, __VA_ARGS__)
#define report_info(...) report(REPORT_INFO, __VA_ARGS__)
#define report_debug(...) report(REPORT_DEBUG, __VA_ARGS__)
