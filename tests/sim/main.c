/* sim [--seed S] [--seeds N] [--minutes M] [--regress FILE] [--contradict] [--verbose] [--trace]
 *
 * Runs N seeds from S on (or as many as go into M minutes) and prints a summary. Exit status 1 when there was
 * a finding. With --contradict one member's state is falsified in each run, and it is a finding when that
 * member does not notice, or another one stops. */
#include "sim.h"
#include "base/memory.h"
#include "base/time.h"
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

struct options {
	uint64_t seed, seeds;
	double minutes;
	const char *regress;
	bool verbose, trace, contradict;
};

static int usage(void)
{
	fputs("usage: sim [--seed S] [--seeds N] [--minutes M] [--regress FILE] [--contradict] [--verbose] "
	      "[--trace]\n",
		stderr);
	return 2;
}

static bool take_switch(const char *text, struct options *options)
{
	bool *found = strcmp(text, "--verbose") == 0	  ? &options->verbose
		      : strcmp(text, "--trace") == 0	  ? &options->trace
		      : strcmp(text, "--contradict") == 0 ? &options->contradict
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
		else if (strcmp(argv[i - 1], "--regress") == 0)
			options->regress = value;
		else
			return -1;
	}
	return 0;
}

static void run_seed(uint64_t seed, const struct options *options, struct summary *summary)
{
	uint64_t trace;
	_cleanup_free_ char *finding =
		world_run(seed, options->verbose, options->contradict, summary, &trace);

	if (options->trace)
		printf("seed %" PRIu64 ": trace %016" PRIx64 "\n", seed, trace);
	if (!finding)
		return;
	printf("seed %" PRIu64 ": %s\n  replay: scripts/sim --seed %" PRIu64 " --seeds 1 --verbose\n", seed,
		finding, seed);
	fflush(stdout);
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

static void print_summary(const struct summary *summary, int64_t ran_ns)
{
	double seconds = (double)ran_ns / 1e9;

	printf("%" PRIu64
	       " seeds, %.1f hours simulated in %.1f s (%.1f core-minutes, %.0f seeds per minute), %" PRIu64
	       " findings, %" PRIu64 " histories undecided\n",
		summary->seeds, (double)summary->simulated_ns / 3.6e12, seconds,
		(double)clock() / CLOCKS_PER_SEC / 60, (double)summary->seeds / seconds * 60,
		summary->findings, summary->undecided);
	printf("  %" PRIu64 " requests answered (%" PRIu64 " linearizable reads), %" PRIu64
	       " of unknown outcome, %" PRIu64 " refused, %" PRIu64 " expiries seen\n",
		summary->ops_ok, summary->reads, summary->ops_unknown, summary->ops_refused,
		summary->expired);
	printf("  %" PRIu64 " starts of members, %" PRIu64 " terms, %" PRIu64 " log entries, %" PRIu64
	       " messages\n",
		summary->restarts, summary->terms, summary->entries, summary->messages);
	printf("  %" PRIu64 " checkpoints written, %" PRIu64 " received, %" PRIu64 " sent; %" PRIu64
	       " runs of the log read back\n",
		summary->checkpoints_written, summary->checkpoints_received, summary->checkpoints_sent,
		summary->log_reads);
	for (unsigned i = 0; i < FAULT_MAX; i++)
		printf("  %10" PRIu64 " %s\n", summary->faults[i], fault_names[i]);
}

int main(int argc, char **argv)
{
	struct options options = {.seed = 1, .seeds = 1000};
	struct summary summary = {0};
	int64_t began_ns = time_mono_ns();

	if (parse(argc, argv, &options) < 0)
		return usage();
	if (options.regress && run_regress(&options, &summary) < 0)
		return 2;
	for (uint64_t i = 0; options.minutes > 0 || i < options.seeds; i++) {
		if (options.minutes > 0 && (double)(time_mono_ns() - began_ns) > options.minutes * 60e9)
			break;
		run_seed(options.seed + i, &options, &summary);
	}
	print_summary(&summary, time_mono_ns() - began_ns);
	return summary.findings || summary.undecided ? 1 : 0;
}
