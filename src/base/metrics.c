/* Prometheus' text format; the prices of memory and processor from /proc. */
#include "base/metrics.h"
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

void metrics_add_head(struct buf *out, const char *name, const char *type, const char *help)
{
	buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void metrics_add(struct buf *out, const char *name, const char *type, const char *help, uint64_t value)
{
	metrics_add_head(out, name, type, help);
	buf_printf(out, "%s %llu\n", name, (unsigned long long)value);
}

void metrics_add_labelled(
	struct buf *out, const char *name, const char *label, const char *label_value, uint64_t value)
{
	buf_printf(out, "%s{%s=\"%s\"} %llu\n", name, label, label_value, (unsigned long long)value);
}

static uint64_t resident_bytes(void)
{
	unsigned long long size = 0, resident = 0;
	FILE *file = fopen("/proc/self/statm", "re");

	if (file) {
		if (fscanf(file, "%llu %llu", &size, &resident) != 2)
			resident = 0;
		(void)fclose(file);
	}
	return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

void metrics_add_process(struct buf *out, uint64_t start_s)
{
	struct rusage used;

	metrics_add(out, "process_resident_memory_bytes", "gauge", "Resident memory.", resident_bytes());
	if (getrusage(RUSAGE_SELF, &used) == 0) {
		metrics_add_head(out, "process_cpu_seconds_total", "counter", "Processor time.");
		buf_printf(out, "process_cpu_seconds_total %ld.%06ld\n",
			(long)(used.ru_utime.tv_sec + used.ru_stime.tv_sec +
				(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1000000),
			(long)((used.ru_utime.tv_usec + used.ru_stime.tv_usec) % 1000000));
	}
	metrics_add(out, "process_start_time_seconds", "gauge", "Start, Unix time.", start_s);
}
