/* sim [--seed S] [--seeds N] [--minutes M] [--jobs J] [--regress FILE] [--every-step] [--contradict]
 *     [--results FILE] [--version NAME] [--verbose] [--trace]
 *
 * Runs N seeds from S on (or as many as go into M minutes), J at a time, and prints a summary. Exit status 1
 * when there was a finding. With --every-step each seed is a run without faults, done again with a crash at
 * the first step of the first member's disk, the second, the third and so on, then of the next member. With
 * --contradict one member's state is falsified in each run, and it is a finding when that member does not
 * notice, or another one stops. --results also adds the summary to a file, under the name of what ran
 * (--version). */
#include "sim.h"
#include "base/memory.h"
#include "base/time.h"
#include <inttypes.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define JOBS_MAX 64

struct options {
	uint64_t seed, seeds, jobs;
	double minutes;
	const char *regress, *results, *version;
	bool verbose, trace, contradict, every_step, stop;
};

static int usage(void)
{
	fputs("usage: sim [--seed S] [--seeds N] [--minutes M] [--jobs J] [--regress FILE] [--every-step]\n"
	      "           [--contradict] [--results FILE] [--version NAME] [--stop] [--verbose] [--trace]\n",
		stderr);
	return 2;
}

static bool take_switch(const char *text, struct options *options)
{
	bool *found = strcmp(text, "--verbose") == 0	  ? &options->verbose
		      : strcmp(text, "--trace") == 0	  ? &options->trace
		      : strcmp(text, "--contradict") == 0 ? &options->contradict
		      : strcmp(text, "--every-step") == 0 ? &options->every_step
		      : strcmp(text, "--stop") == 0	  ? &options->stop
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
		printf("seed %" PRIu64 ", crash at step %" PRIu64 " of member %u: %s\n", run->seed,
			run->crash_step, run->crash_member, finding);
	else if (finding)
		printf("seed %" PRIu64 ": %s\n  replay: scripts/sim --seed %" PRIu64 " --seeds 1 --verbose\n",
			run->seed, finding, run->seed);
	fflush(stdout);
	return result.crashed;
}

static void run_seed(uint64_t seed, const struct options *options, struct summary *summary)
{
	struct run_options run = {
		.seed = seed, .verbose = options->verbose, .contradict = options->contradict};

	if (!options->every_step) {
		(void)run_once(options, &run, summary);
		return;
	}
	for (run.crash_member = 0; run.crash_member < 3; run.crash_member++) {
		run.crash_step = 0;
		do
			run.crash_step++;
		while (run_once(options, &run, summary) && !(options->stop && summary->findings));
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
		if (options->stop && summary->findings)
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
			perror("sim");
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

static void print_summary(FILE *out, const struct summary *summary, int64_t ran_ns)
{
	double seconds = (double)ran_ns / 1e9, minutes = (double)summary->cpu_ns / 60e9;

	fprintf(out,
		"%" PRIu64
		" seeds, %.1f hours simulated in %.1f s (%.1f core-minutes, %.0f seeds and %.1f hours "
		"per core-minute), %" PRIu64 " findings, %" PRIu64 " histories undecided\n",
		summary->seeds, (double)summary->simulated_ns / 3.6e12, seconds, minutes,
		(double)summary->seeds / minutes, (double)summary->simulated_ns / 3.6e12 / minutes,
		summary->findings, summary->undecided);
	fprintf(out,
		"  %" PRIu64 " requests answered (%" PRIu64 " linearizable reads), %" PRIu64
		" of unknown outcome, %" PRIu64 " refused, %" PRIu64 " expiries seen\n",
		summary->ops_ok, summary->reads, summary->ops_unknown, summary->ops_refused,
		summary->expired);
	fprintf(out,
		"  %" PRIu64 " starts of members, %" PRIu64 " terms, %" PRIu64 " log entries, %" PRIu64
		" messages, %" PRIu64 " starts refused because of rotten bits\n",
		summary->restarts, summary->terms, summary->entries, summary->messages, summary->rot_refused);
	fprintf(out,
		"  %" PRIu64 " checkpoints written, %" PRIu64 " received, %" PRIu64 " sent; %" PRIu64
		" runs of the log read back\n",
		summary->checkpoints_written, summary->checkpoints_received, summary->checkpoints_sent,
		summary->log_reads);
	fprintf(out,
		"  %" PRIu64 " events by streams, %" PRIu64 " by polls, %" PRIu64
		" polls of a cleared history, %" PRIu64 " watches ended\n",
		summary->stream_events, summary->poll_events, summary->polls_cleared, summary->watches_ended);
	fprintf(out,
		"  %" PRIu64 " seeds with the server's transport, %.0f MB of entries sent in them; %" PRIu64
		" snapshots of %.0f MB taken, %" PRIu64 " restored\n",
		summary->wire_runs, (double)summary->bulk_bytes / 1e6, summary->exports,
		(double)summary->export_bytes / 1e6, summary->restores);
	if (summary->found_false)
		fprintf(out, "  %" PRIu64 " members of false state stopped themselves\n",
			summary->found_false);
	for (unsigned i = 0; i < FAULT_MAX; i++)
		fprintf(out, "  %10" PRIu64 " %s\n", summary->faults[i], fault_names[i]);
	fputs("  crashes inside:   create  rename   write    sync sync-dir remove    read\n", out);
	for (unsigned i = 0; i < WORK_MAX; i++) {
		const uint64_t *row = summary->crashes[i];

		fprintf(out,
			"  %8" PRIu64 " %7" PRIu64 " %7" PRIu64 " %7" PRIu64 " %7" PRIu64 " %7" PRIu64
			" %7" PRIu64 "  %s\n",
			row[WAL_STEP_CREATE], row[WAL_STEP_RENAME], row[WAL_STEP_WRITE], row[WAL_STEP_SYNC],
			row[WAL_STEP_SYNC_DIR], row[WAL_STEP_REMOVE], row[WAL_STEP_READ], work_names[i]);
	}
}

/* One run after another adds a section. */
static int add_results(const struct options *options, const struct summary *summary, int64_t ran_ns)
{
	FILE *file = fopen(options->results, "ae");

	if (!file) {
		perror(options->results);
		return -1;
	}
	fprintf(file, "\n## %s%sseeds from %" PRIu64 " on%s%s\n\n```\n",
		options->version ? options->version : "", options->version ? ", " : "", options->seed,
		options->every_step ? ", a crash at every step" : "",
		options->contradict ? ", a falsified member" : "");
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
	return r < 0 ? 2 : summary.findings || summary.undecided ? 1 : 0;
}
