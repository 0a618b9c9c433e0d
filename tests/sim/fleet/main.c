/* fleet-sim [--seed S] [--seeds N] [--minutes M] [--jobs J] [--regress FILE] [--every-step] [--results FILE]
 *     [--version NAME] [--verbose] [--trace]
 *
 * Runs N seeds from S on (or as many as go into M minutes), J at a time, and prints a summary. Exit status 1
 * when there was a finding. With --every-step each seed is a run without faults, done again with the end of a
 * daemon at its first request or order, its second, and so on, one machine after the other. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "world.h"

#define JOBS_MAX 64
#define STEPS_MAX 400

struct options {
	uint64_t seed, seeds, jobs;
	double minutes;
	const char *regress, *results, *version;
	bool verbose, trace, every_step;
};

static int usage(void)
{
	fputs("usage: fleet-sim [--seed S] [--seeds N] [--minutes M] [--jobs J] [--regress FILE] "
	      "[--every-step]\n"
	      "                 [--results FILE] [--version NAME] [--verbose] [--trace]\n",
		stderr);
	return 2;
}

static bool take_switch(const char *text, struct options *options)
{
	bool *found = strcmp(text, "--verbose") == 0	  ? &options->verbose
		      : strcmp(text, "--trace") == 0	  ? &options->trace
		      : strcmp(text, "--every-step") == 0 ? &options->every_step
							  : NULL;

	if (found)
		*found = true;
	return found != NULL;
}

static int parse(int argc, char **argv, struct options *options)
{
	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;

		if (take_switch(argv[i], options))
			continue;
		if (!value)
			return -1;
		i++;
		if (strcmp(argv[i - 1], "--seed") == 0)
			options->seed = strtoull(value, NULL, 10);
		else if (strcmp(argv[i - 1], "--seeds") == 0)
			options->seeds = strtoull(value, NULL, 10);
		else if (strcmp(argv[i - 1], "--minutes") == 0)
			options->minutes = strtod(value, NULL);
		else if (strcmp(argv[i - 1], "--jobs") == 0)
			options->jobs = strtoull(value, NULL, 10);
		else if (strcmp(argv[i - 1], "--regress") == 0)
			options->regress = value;
		else if (strcmp(argv[i - 1], "--results") == 0)
			options->results = value;
		else if (strcmp(argv[i - 1], "--version") == 0)
			options->version = value;
		else
			return -1;
	}
	return options->jobs >= 1 && options->jobs <= JOBS_MAX ? 0 : -1;
}

static bool run_once(const struct options *options, const struct run_options *run, struct summary *summary)
{
	struct run_result result;
	_cleanup_free_ char *finding = world_run(run, summary, &result);

	if (options->trace)
		printf("seed %" PRIu64 ": trace %016" PRIx64 "\n", run->seed, result.trace);
	if (finding && options->every_step)
		printf("seed %" PRIu64 ", step %" PRIu64 " of machine %u: %s\n", run->seed, run->crash_step,
			run->crash_host, finding);
	else if (finding)
		printf("seed %" PRIu64 ": %s\n  replay: scripts/sim --fleet --seed %" PRIu64
		       " --seeds 1 --verbose\n",
			run->seed, finding, run->seed);
	fflush(stdout);
	return result.reached;
}

static void run_seed(uint64_t seed, const struct options *options, struct summary *summary)
{
	struct run_options run = {.seed = seed, .verbose = options->verbose};

	if (!options->every_step) {
		(void)run_once(options, &run, summary);
		return;
	}
	for (run.crash_host = 0; run.crash_host < 3; run.crash_host++) {
		run.crash_step = 0;
		do
			run.crash_step++;
		while (run_once(options, &run, summary) && run.crash_step < STEPS_MAX);
	}
}

static int run_regress(const struct options *options, struct summary *summary)
{
	char line[256];
	FILE *file = fopen(options->regress, "re");

	if (!file) {
		perror(options->regress);
		return -1;
	}
	while (fgets(line, sizeof(line), file))
		if (line[0] >= '0' && line[0] <= '9')
			run_seed(strtoull(line, NULL, 10), options, summary);
	(void)fclose(file);
	return 0;
}

/* The seeds of one job: each jobs-th. */
static void run_seeds(const struct options *options, uint64_t job, struct summary *summary)
{
	int64_t began_ns = time_mono_ns();

	for (uint64_t i = job; options->minutes > 0 || i < options->seeds; i += options->jobs) {
		if (options->minutes > 0 && (double)(time_mono_ns() - began_ns) > options->minutes * 60e9)
			break;
		run_seed(options->seed + i, options, summary);
	}
	summary->cpu_ns += (int64_t)clock() * (INT64_C(1000000000) / CLOCKS_PER_SEC);
}

/* A summary is numbers of eight bytes only. */
static void add_up(struct summary *sum, const struct summary *part)
{
	uint64_t *to = (uint64_t *)sum;
	const uint64_t *from = (const uint64_t *)part;

	static_assert(sizeof(*sum) % sizeof(uint64_t) == 0, "only numbers");
	for (size_t i = 0; i < sizeof(*sum) / sizeof(*to); i++)
		to[i] += from[i];
}

/* Jobs are processes; each writes its summary into a pipe when it is done. */
static int run_jobs(const struct options *options, struct summary *summary)
{
	int ends[JOBS_MAX], failed = 0, pair[2];

	for (uint64_t job = 0; job < options->jobs; job++) {
		struct summary part = {0};
		pid_t pid;

		fflush(stdout);
		if (pipe(pair) < 0 || (pid = fork()) < 0) {
			perror("fleet-sim");
			return -1;
		}
		if (pid == 0) {
			run_seeds(options, job, &part);
			fflush(stdout);
			_exit(write(pair[1], &part, sizeof(part)) == sizeof(part) ? 0 : 1);
		}
		(void)close(pair[1]);
		ends[job] = pair[0];
	}
	for (uint64_t job = 0; job < options->jobs; job++) {
		struct summary part;

		if (read(ends[job], &part, sizeof(part)) == sizeof(part))
			add_up(summary, &part);
		else
			failed = -1;
		(void)close(ends[job]);
		(void)wait(NULL);
	}
	return failed;
}

static void print_summary(FILE *out, const struct summary *s, int64_t ran_ns)
{
	double minutes = (double)s->cpu_ns / 60e9;

	fprintf(out,
		"%" PRIu64
		" runs, %.1f hours simulated in %.1f s (%.1f core-minutes, %.0f runs per core-minute), "
		"%" PRIu64 " findings\n",
		s->seeds, (double)s->simulated_ns / 3.6e12, (double)ran_ns / 1e9, minutes,
		(double)s->seeds / minutes, s->findings);
	fprintf(out, "  %" PRIu64 " writes, %" PRIu64 " reads, %" PRIu64 " streams with %" PRIu64 " events\n",
		s->writes, s->reads, s->watches, s->stream_events);
	fprintf(out,
		"  %" PRIu64 " units placed, %" PRIu64 " moved, %" PRIu64 " processes started, %" PRIu64
		" stopped; came to rest %" PRIu64 " times\n",
		s->placed, s->moved, s->started, s->stopped, s->rests);
	for (unsigned i = 0; i < ACT_MAX; i++)
		fprintf(out, "  %10" PRIu64 " %s\n", s->acts[i], act_names[i]);
	for (unsigned i = 0; i < FAULT_MAX; i++)
		fprintf(out, "  %10" PRIu64 " %s\n", s->faults[i], fault_names[i]);
}

/* One run after another adds a section. */
static int add_results(const struct options *options, const struct summary *summary, int64_t ran_ns)
{
	FILE *file = fopen(options->results, "ae");

	if (!file) {
		perror(options->results);
		return -1;
	}
	fprintf(file, "\n## %s%sseeds from %" PRIu64 " on%s\n\n```\n",
		options->version ? options->version : "", options->version ? ", " : "", options->seed,
		options->every_step ? ", the end of a daemon at every step" : "");
	print_summary(file, summary, ran_ns);
	fputs("```\n", file);
	return fclose(file) == 0 ? 0 : -1;
}

int main(int argc, char **argv)
{
	struct options options = {.seed = 1, .seeds = 1000, .jobs = 1};
	struct summary summary = {0};
	int64_t began_ns = time_mono_ns();
	int r = 0;

	if (parse(argc, argv, &options) < 0)
		return usage();
	if (options.regress && run_regress(&options, &summary) < 0)
		return 2;
	if (options.jobs > 1)
		r = run_jobs(&options, &summary);
	else
		run_seeds(&options, 0, &summary);
	print_summary(stdout, &summary, time_mono_ns() - began_ns);
	if (options.results && add_results(&options, &summary, time_mono_ns() - began_ns) < 0)
		return 2;
	return r < 0 ? 2 : summary.findings ? 1 : 0;
}
