/* sim [--seed S] [--seeds N] [--minutes M] [--jobs J] [--regress FILE] [--every-step] [--contradict]
 *     [--results FILE] [--version NAME] [--verbose] [--trace]
 *
 * Runs N seeds from S on (or as many as go into M minutes), J at a time, and prints a summary. Exit status 1
 * when there was a finding. With --every-step each seed is a run without faults, done again with a crash at
 * the first step of the first member's disk, the second, the third and so on, then of the next member. With
 * --contradict one member's state is falsified in each run, and it is a finding when that member does not
 * notice, or another one stops. --results also adds the summary to a file, under the name of what ran
 * (--version). */
#include <inttypes.h>
#include <stdio.h>

#include "base/memory.h"
#include "runner.h"
#include "sim.h"

static bool verbose, trace, contradict, every_step, stop;

static bool run_once(const struct run_options *run, struct summary *summary)
{
	struct run_result result;
	_cleanup_free_ char *finding = world_run(run, summary, &result);

	if (trace)
		printf("seed %" PRIu64 ": trace %016" PRIx64 "\n", run->seed, result.trace);
	if (finding && every_step)
		printf("seed %" PRIu64 ", crash at step %" PRIu64 " of member %u: %s\n", run->seed,
			run->crash_step, run->crash_member, finding);
	else if (finding)
		printf("seed %" PRIu64 ": %s\n  replay: scripts/sim --seed %" PRIu64 " --seeds 1 --verbose\n",
			run->seed, finding, run->seed);
	fflush(stdout);
	return result.crashed;
}

static void run_seed(uint64_t seed, void *user)
{
	struct summary *summary = user;
	struct run_options run = {.seed = seed, .verbose = verbose, .contradict = contradict};

	if (!every_step) {
		(void)run_once(&run, summary);
		return;
	}
	for (run.crash_member = 0; run.crash_member < 3; run.crash_member++) {
		run.crash_step = 0;
		do
			run.crash_step++;
		while (run_once(&run, summary) && !(stop && summary->findings));
	}
}

static void print_summary(FILE *out, const void *user, int64_t ran_ns)
{
	const struct summary *summary = user;
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

static bool is_found(const void *user)
{
	const struct summary *summary = user;

	return summary->findings || summary->undecided;
}

int main(int argc, char **argv)
{
	static struct summary summary;
	static const struct runner_switch switches[] = {{"--verbose", NULL, &verbose},
		{"--trace", NULL, &trace}, {"--contradict", "a falsified member", &contradict},
		{"--every-step", "a crash at every step", &every_step}, {"--stop", NULL, &stop},
		{NULL, NULL, NULL}};
	const struct runner runner = {.name = "sim",
		.switches = switches,
		.summary = &summary,
		.summary_size = sizeof(summary),
		.run_seed = run_seed,
		.is_found = is_found,
		.print = print_summary,
		.stop = &stop};

	return runner_main(&runner, argc, argv);
}
