/* handover [--dir D] [--seconds S] [--bytes B]: what one durable write costs at least: a thread hands a
 * record to another one, which appends it to a file that has all its blocks already, syncs it and wakes the
 * first one. Prints one JSON line like bench_load's. Shares no code with the project. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { FILE_BYTES = 16 << 20, RECORD_MAX = 65536, TIMES_MAX = 1 << 20 };

static struct {
	pthread_mutex_t mutex;
	pthread_cond_t wake;
	bool full, stop;
	char record[RECORD_MAX];
	size_t record_len;
	int file, answer;
} shared = {.mutex = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static void die(const char *what)
{
	fprintf(stderr, "handover: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now_us(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

static void *writer(void *unused)
{
	off_t at = 0;
	uint64_t one = 1;

	(void)unused;
	for (;;) {
		pthread_mutex_lock(&shared.mutex);
		while (!shared.full && !shared.stop)
			pthread_cond_wait(&shared.wake, &shared.mutex);
		shared.full = false;
		pthread_mutex_unlock(&shared.mutex);
		if (shared.stop)
			return NULL;
		if (at + (off_t)shared.record_len > FILE_BYTES)
			at = 0;
		if (pwrite(shared.file, shared.record, shared.record_len, at) != (ssize_t)shared.record_len)
			die("pwrite");
		at += (off_t)shared.record_len;
		if (fdatasync(shared.file) < 0)
			die("fdatasync");
		if (write(shared.answer, &one, sizeof(one)) != sizeof(one))
			die("eventfd");
	}
}

static void open_file(const char *dir)
{
	char path[4096];
	char *zeros = calloc(1, FILE_BYTES);

	snprintf(path, sizeof(path), "%s/handover-XXXXXX", dir);
	shared.file = mkstemp(path);
	if (shared.file < 0)
		die(path);
	(void)unlink(path);
	if (!zeros || pwrite(shared.file, zeros, FILE_BYTES, 0) != FILE_BYTES || fsync(shared.file) < 0)
		die("preallocation");
	free(zeros);
}

static int by_value(const void *a, const void *b)
{
	float one = *(const float *)a, other = *(const float *)b;

	return (one > other) - (one < other);
}

static void measure(double seconds)
{
	float *times = malloc(TIMES_MAX * sizeof(*times));
	size_t count = 0;
	double begun = now_us(), before = begun, now;

	do {
		uint64_t answers;

		pthread_mutex_lock(&shared.mutex);
		memset(shared.record, (int)count, shared.record_len);
		shared.full = true;
		pthread_mutex_unlock(&shared.mutex);
		pthread_cond_signal(&shared.wake);
		if (read(shared.answer, &answers, sizeof(answers)) != sizeof(answers))
			die("eventfd");
		now = now_us();
		times[count++] = (float)(now - before);
		before = now;
	} while (now - begun < seconds * 1e6 && count < TIMES_MAX);
	qsort(times, count, sizeof(*times), by_value);
	printf("{\"requests\":%zu,\"errors\":0,\"per_second\":%.1f,\"p50_us\":%.1f,\"p99_us\":%.1f}\n", count,
		(double)count * 1e6 / (now - begun), (double)times[count / 2],
		(double)times[count * 99 / 100]);
	free(times);
}

int main(int argc, char **argv)
{
	static const struct option rows[] = {{"dir", required_argument, NULL, 'd'},
		{"seconds", required_argument, NULL, 's'}, {"bytes", required_argument, NULL, 'b'}, {0}};
	const char *dir = "/tmp";
	double seconds = 1;
	pthread_t thread;
	int option;

	shared.record_len = 350;
	while ((option = getopt_long(argc, argv, "", rows, NULL)) != -1) {
		if (option == 'd')
			dir = optarg;
		else if (option == 's')
			seconds = atof(optarg);
		else if (option == 'b')
			shared.record_len = strtoul(optarg, NULL, 10);
		else
			return 2;
	}
	if (!shared.record_len || shared.record_len > RECORD_MAX) {
		fprintf(stderr, "handover: --bytes must be a number from 1 to %d\n", RECORD_MAX);
		return 2;
	}
	shared.answer = eventfd(0, EFD_CLOEXEC);
	if (shared.answer < 0)
		die("eventfd");
	open_file(dir);
	if (pthread_create(&thread, NULL, writer, NULL) != 0)
		die("pthread_create");
	measure(seconds);
	pthread_mutex_lock(&shared.mutex);
	shared.stop = true;
	pthread_mutex_unlock(&shared.mutex);
	pthread_cond_signal(&shared.wake);
	pthread_join(thread, NULL);
	return 0;
}
