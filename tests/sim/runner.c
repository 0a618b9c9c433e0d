/* Jobs are processes; each writes its summary into a pipe when it is done. */
#include "runner.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/time.h"

#define JOBS_MAX 64

struct options {
	uint64_t seed, seeds, jobs;
	double minutes;
	const char *regress, *results, *version;
};

static int usage(const struct runner *runner)
{
	fprintf(stderr,
		"usage: %s [--seed S] [--seeds N] [--minutes M] [--jobs J] [--regress FILE]\n"
		"           [--results FILE] [--version NAME]",
		runner->name);
	for (const struct runner_switch *it = runner->switches; it->name; it++)
		fprintf(stderr, " [%s]", it->name);
	fputc('\n', stderr);
	return 2;
}

static bool take_switch(const struct runner *runner, const char *text)
{
	for (const struct runner_switch *it = runner->switches; it->name; it++)
		if (strcmp(text, it->name) == 0) {
			*it->value = true;
			return true;
		}
	return false;
}

static bool take_option(struct options *options, const char *name, const char *value)
{
	const struct {
		const char *name;
		uint64_t *number;
		const char **text;
	} known[] = {
		{"--seed", &options->seed, NULL},
		{"--seeds", &options->seeds, NULL},
		{"--jobs", &options->jobs, NULL},
		{"--regress", NULL, &options->regress},
		{"--results", NULL, &options->results},
		{"--version", NULL, &options->version},
	};

	if (strcmp(name, "--minutes") == 0) {
		options->minutes = strtod(value, NULL);
		return true;
	}
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(name, known[i].name) == 0) {
			if (known[i].number)
				*known[i].number = strtoull(value, NULL, 10);
			else
				*known[i].text = value;
			return true;
		}
	return false;
}

static int parse(const struct runner *runner, int argc, char **argv, struct options *options)
{
	for (int i = 1; i < argc; i++) {
		if (take_switch(runner, argv[i]))
			continue;
		if (i + 1 == argc || !take_option(options, argv[i], argv[i + 1]))
			return -1;
		i++;
	}
	return options->jobs >= 1 && options->jobs <= JOBS_MAX ? 0 : -1;
}

static int run_regress(const struct runner *runner, const char *path)
{
	char line[256];
	FILE *file = fopen(path, "re");

	if (!file) {
		perror(path);
		return -1;
	}
	while (fgets(line, sizeof(line), file))
		if (line[0] >= '0' && line[0] <= '9')
			runner->run_seed(strtoull(line, NULL, 10), runner->summary);
	(void)fclose(file);
	return 0;
}

/* The seeds of one job: each jobs-th. */
static void run_seeds(const struct runner *runner, const struct options *options, uint64_t job, void *summary)
{
	int64_t began_ns = time_mono_ns();

	for (uint64_t i = job; options->minutes > 0 || i < options->seeds; i += options->jobs) {
		if (options->minutes > 0 && (double)(time_mono_ns() - began_ns) > options->minutes * 60e9)
			break;
		if (runner->stop && *runner->stop && runner->is_found(summary))
			break;
		runner->run_seed(options->seed + i, summary);
	}
	*(int64_t *)summary += (int64_t)clock() * (INT64_C(1000000000) / CLOCKS_PER_SEC);
}

static void add_up(const struct runner *runner, const void *part)
{
	uint64_t *to = runner->summary;
	const uint64_t *from = part;

	assert(runner->summary_size % sizeof(uint64_t) == 0);
	for (size_t i = 0; i < runner->summary_size / sizeof(*to); i++)
		to[i] += from[i];
}

static int run_jobs(const struct runner *runner, const struct options *options)
{
	_cleanup_free_ void *part = mem_calloc(1, runner->summary_size);
	ssize_t size = (ssize_t)runner->summary_size;
	int ends[JOBS_MAX], failed = 0, pair[2];

	for (uint64_t job = 0; job < options->jobs; job++) {
		pid_t pid;

		fflush(stdout);
		if (pipe(pair) < 0 || (pid = fork()) < 0) {
			perror(runner->name);
			return -1;
		}
		if (pid == 0) {
			run_seeds(runner, options, job, part);
			fflush(stdout);
			_exit(write(pair[1], part, runner->summary_size) == size ? 0 : 1);
		}
		(void)close(pair[1]);
		ends[job] = pair[0];
	}
	for (uint64_t job = 0; job < options->jobs; job++) {
		if (read(ends[job], part, runner->summary_size) == size)
			add_up(runner, part);
		else
			failed = -1;
		(void)close(ends[job]);
		(void)wait(NULL);
	}
	return failed;
}

/* One run after another adds a section. */
static int add_results(const struct runner *runner, const struct options *options, int64_t ran_ns)
{
	FILE *file = fopen(options->results, "ae");

	if (!file) {
		perror(options->results);
		return -1;
	}
	fprintf(file, "\n## %s%sseeds from %" PRIu64 " on", options->version ? options->version : "",
		options->version ? ", " : "", options->seed);
	for (const struct runner_switch *it = runner->switches; it->name; it++)
		if (*it->value && it->title)
			fprintf(file, ", %s", it->title);
	fputs("\n\n```\n", file);
	runner->print(file, runner->summary, ran_ns);
	fputs("```\n", file);
	return fclose(file) == 0 ? 0 : -1;
}

int runner_main(const struct runner *runner, int argc, char **argv)
{
	struct options options = {.seed = 1, .seeds = 1000, .jobs = 1};
	int64_t began_ns = time_mono_ns();
	int r = 0;

	if (parse(runner, argc, argv, &options) < 0)
		return usage(runner);
	if (options.regress && run_regress(runner, options.regress) < 0)
		return 2;
	if (options.jobs > 1)
		r = run_jobs(runner, &options);
	else
		run_seeds(runner, &options, 0, runner->summary);
	runner->print(stdout, runner->summary, time_mono_ns() - began_ns);
	if (options.results && add_results(runner, &options, time_mono_ns() - began_ns) < 0)
		return 2;
	return r < 0 ? 2 : runner->is_found(runner->summary);
}
