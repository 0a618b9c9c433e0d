/* fleet-sim [--seed S] [--seeds N] [--minutes M] [--jobs J] [--regress FILE] [--every-step] [--results FILE]
 *     [--version NAME] [--verbose] [--trace]
 *
 * Runs N seeds from S on (or as many as go into M minutes), J at a time, and prints a summary. Exit status 1
 * when there was a finding. With --every-step each seed is a run without faults, done again with the end of a
 * daemon at its first request or order, its second, and so on, one machine after the other. */
#include <inttypes.h>
#include <stdio.h>

#include "runner.h"
#include "world.h"

#define STEPS_MAX 400

static bool verbose, trace, every_step;

static bool run_once(const struct run_options *run, struct summary *summary)
{
	struct run_result result;
	_cleanup_free_ char *finding = world_run(run, summary, &result);

	if (trace)
		printf("seed %" PRIu64 ": trace %016" PRIx64 "\n", run->seed, result.trace);
	if (finding && every_step)
		printf("seed %" PRIu64 ", step %" PRIu64 " of machine %u: %s\n", run->seed, run->crash_step,
			run->crash_host, finding);
	else if (finding)
		printf("seed %" PRIu64 ": %s\n  replay: scripts/sim --fleet --seed %" PRIu64
		       " --seeds 1 --verbose\n",
			run->seed, finding, run->seed);
	fflush(stdout);
	return result.reached;
}

static void run_seed(uint64_t seed, void *summary)
{
	struct run_options run = {.seed = seed, .verbose = verbose};

	if (!every_step) {
		(void)run_once(&run, summary);
		return;
	}
	for (run.crash_host = 0; run.crash_host < 3; run.crash_host++) {
		run.crash_step = 0;
		do
			run.crash_step++;
		while (run_once(&run, summary) && run.crash_step < STEPS_MAX);
		if (run.crash_step == STEPS_MAX)
			printf("seed %" PRIu64 ": machine %u has more steps than the %d that were tried\n",
				seed, run.crash_host, STEPS_MAX);
	}
}

static void print_summary(FILE *out, const void *summary, int64_t ran_ns)
{
	const struct summary *s = summary;
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
	fprintf(out,
		"  of running units looked at among faults, %.0f %% would be found when stopped or moved, "
		"%.0f %% when "
		"started twice\n",
		100.0 * (double)s->stop_found / (double)MAX(s->looked_at, (uint64_t)1),
		100.0 * (double)s->copy_found / (double)MAX(s->looked_at, (uint64_t)1));
	for (unsigned i = 0; i < ACT_MAX; i++)
		fprintf(out, "  %10" PRIu64 " %s\n", s->acts[i], act_names[i]);
	for (unsigned i = 0; i < FAULT_MAX; i++)
		fprintf(out, "  %10" PRIu64 " %s\n", s->faults[i], fault_names[i]);
}

static bool is_found(const void *summary)
{
	return ((const struct summary *)summary)->findings > 0;
}

int main(int argc, char **argv)
{
	static struct summary summary;
	static const struct runner_switch switches[] = {{"--verbose", NULL, &verbose},
		{"--trace", NULL, &trace}, {"--every-step", "the end of a daemon at every step", &every_step},
		{NULL, NULL, NULL}};
	const struct runner runner = {.name = "fleet-sim",
		.switches = switches,
		.summary = &summary,
		.summary_size = sizeof(summary),
		.run_seed = run_seed,
		.is_found = is_found,
		.print = print_summary};

	return runner_main(&runner, argc, argv);
}
