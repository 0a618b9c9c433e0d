/* Child processes: what they print, how they end, and what may not hold a run up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "base/memory.h"
#include "base/time.h"
#include "io/process.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

struct ran {
	struct process_result result;
	struct buf output, errors, why;
	int error;
	int64_t took_ms;
};

static void run(struct ran *ran, struct process_options options, const char *script)
{
	const char *argv[] = {"sh", "-c", script, NULL};
	int64_t begin = time_mono_ms();

	*ran = (struct ran){0};
	if (!options.argv)
		options.argv = argv;
	ran->error = process_run(&options, &ran->result, &ran->output, &ran->errors, &ran->why);
	ran->took_ms = time_mono_ms() - begin;
}

static void ran_done(struct ran *ran)
{
	buf_done(&ran->output);
	buf_done(&ran->errors);
	buf_done(&ran->why);
}

static void output_is_captured_together_or_apart(void **state)
{
	struct ran ran;

	(void)state;
	run(&ran, (struct process_options){0}, "echo one; echo two >&2; echo three");
	assert_int_equal(ran.error, 0);
	assert_string_equal(buf_text(&ran.output), "one\ntwo\nthree\n");
	assert_int_equal(ran.result.exit_code, 0);
	ran_done(&ran);
	run(&ran, (struct process_options){.separate_errors = true}, "echo one; echo two >&2");
	assert_string_equal(buf_text(&ran.output), "one\n");
	assert_string_equal(buf_text(&ran.errors), "two\n");
	ran_done(&ran);
}

static void ends_are_told_in_go_words(void **state)
{
	struct buf text = BUF_INIT(0);
	struct ran ran;

	(void)state;
	run(&ran, (struct process_options){0}, "exit 3");
	assert_int_equal(ran.result.exit_code, 3);
	process_add_status(&text, &ran.result);
	assert_string_equal(buf_text(&text), "exit status 3");
	ran_done(&ran);
	buf_clear(&text);
	run(&ran, (struct process_options){0}, "kill -9 $$");
	assert_int_equal(ran.result.exit_code, -1);
	assert_int_equal(ran.result.signal, SIGKILL);
	process_add_status(&text, &ran.result);
	assert_string_equal(buf_text(&text), "signal: killed");
	ran_done(&ran);
	buf_done(&text);
}

static void input_environment_and_directory_are_given(void **state)
{
	const char *const env[] = {"NAME=value", "PATH=/usr/bin:/bin", NULL};
	struct ran ran;

	(void)state;
	run(&ran, (struct process_options){.input = SLICE_LITERAL("from stdin\n"), .env = env, .cwd = "/usr"},
		"cat; echo $NAME; pwd");
	assert_string_equal(buf_text(&ran.output), "from stdin\nvalue\n/usr\n");
	ran_done(&ran);
}

static void a_child_that_ignores_a_large_input_is_no_problem(void **state)
{
	struct buf input = BUF_INIT(0);
	struct ran ran;

	(void)state;
	buf_add_fill(&input, 'x', 4 * 1000 * 1000);
	run(&ran, (struct process_options){.input = buf_slice(&input)}, "echo done");
	assert_string_equal(buf_text(&ran.output), "done\n");
	ran_done(&ran);
	run(&ran, (struct process_options){.input = buf_slice(&input)}, "wc -c");
	assert_string_equal(buf_text(&ran.output), "4000000\n");
	ran_done(&ran);
	buf_done(&input);
}

static void output_has_a_ceiling(void **state)
{
	struct ran ran;

	(void)state;
	run(&ran, (struct process_options){.max_output_bytes = 1000}, "yes | head -c 3000000; exit 4");
	assert_int_equal(ran.output.len, 1000);
	assert_true(ran.result.output_cut);
	assert_int_equal(ran.result.exit_code, 4);
	ran_done(&ran);
}

static void a_time_out_kills_the_whole_group(void **state)
{
	struct ran ran;

	(void)state;
	run(&ran, (struct process_options){.timeout_ms = 100, .kill_grace_ms = 100},
		"trap '' TERM; sleep 60 & echo $!; while :; do sleep 0.05; done");
	assert_true(ran.result.timed_out);
	assert_int_equal(ran.result.signal, SIGKILL);
	assert_true(ran.took_ms < 5000);
	{
		pid_t grandchild = (pid_t)atoi(buf_text(&ran.output));
		int r = 0;

		assert_true(grandchild > 1);
		for (int i = 0; i < 500 && (r = kill(grandchild, 0)) == 0; i++) {
			/* An orphan whose new parent does not wait stays as a zombie: that is dead enough. */
			char path[64], state_text[256] = "";
			FILE *file;

			snprintf(path, sizeof(path), "/proc/%d/stat", grandchild);
			file = fopen(path, "r");
			if (file) {
				(void)!fgets(state_text, sizeof(state_text), file);
				fclose(file);
			}
			if (strstr(state_text, ") Z")) {
				r = -1;
				break;
			}
			usleep(2000);
		}
		assert_int_equal(r, -1);
	}
	ran_done(&ran);
}

static void a_grandchild_that_keeps_the_pipe_does_not_hold_the_run_up(void **state)
{
	struct ran ran;

	(void)state;
	run(&ran, (struct process_options){0}, "sleep 20 & echo $!; echo end");
	assert_true(ran.took_ms < 5000);
	assert_non_null(strstr(buf_text(&ran.output), "end\n"));
	kill((pid_t)atoi(buf_text(&ran.output)), SIGKILL);
	ran_done(&ran);
}

static void what_cannot_be_started_is_named(void **state)
{
	static const struct {
		const char *file, *cwd;
		int error;
		const char *why;
	} cases[] = {
		{"no-such-program-here", NULL, -ENOENT,
			"exec: \"no-such-program-here\": executable file not found in $PATH"},
		{"/no/such/program", NULL, -ENOENT, "fork/exec /no/such/program: no such file or directory"},
		{"/etc/passwd", NULL, -EACCES, "fork/exec /etc/passwd: permission denied"},
		{"/bin/true", "/no/such/dir", -ENOENT, "chdir /no/such/dir: no such file or directory"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *argv[] = {cases[i].file, NULL};
		struct ran ran;

		run(&ran, (struct process_options){.argv = argv, .cwd = cases[i].cwd}, NULL);
		assert_int_equal(ran.error, cases[i].error);
		assert_string_equal(buf_text(&ran.why), cases[i].why);
		ran_done(&ran);
	}
}

static void count_done(struct process *process, const struct process_result *result, void *user)
{
	(void)process;
	(void)result;
	(*(int *)user)++;
}

static void a_cancelled_run_tells_nothing_and_leaves_no_zombie(void **state)
{
	const char *argv[] = {"sleep", "30", NULL};
	struct process_options options = {.argv = argv};
	struct process *process;
	uv_loop_t loop;
	int done = 0;
	pid_t pid;

	(void)state;
	uv_loop_init(&loop);
	assert_int_equal(process_start(&loop, &options, count_done, &done, &process, NULL), 0);
	pid = process_pid(process);
	process_cancel(process);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&loop), 0);
	assert_int_equal(done, 0);
	assert_int_equal(kill(pid, 0), -1);
}

struct pieces {
	struct buf text;
	size_t cancel_at; /* 0: never */
	bool done;
};

static void take_piece(struct process *process, struct slice piece, void *user)
{
	struct pieces *pieces = user;

	buf_add_slice(&pieces->text, piece);
	if (pieces->cancel_at && pieces->text.len >= pieces->cancel_at)
		process_cancel(process);
}

static void pieces_done(struct process *process, const struct process_result *result, void *user)
{
	(void)process;
	assert_int_equal(result->output.len, 0);
	((struct pieces *)user)->done = true;
}

static void output_comes_piece_by_piece_until_it_is_cancelled(void **state)
{
	(void)state;
	for (size_t cancel_at = 0; cancel_at <= 4; cancel_at += 4) {
		const char *argv[] = {
			"sh", "-c", "echo one; sleep 0.1; echo two; sleep 0.1; echo three", NULL};
		struct process_options options = {.argv = argv, .on_output = take_piece};
		struct pieces pieces = {.text = BUF_INIT(0), .cancel_at = cancel_at};
		struct process *process;
		uv_loop_t loop;

		uv_loop_init(&loop);
		assert_int_equal(process_start(&loop, &options, pieces_done, &pieces, &process, NULL), 0);
		uv_run(&loop, UV_RUN_DEFAULT);
		assert_int_equal(uv_loop_close(&loop), 0);
		assert_int_equal(pieces.done, cancel_at == 0);
		assert_string_equal(buf_text(&pieces.text), cancel_at ? "one\n" : "one\ntwo\nthree\n");
		buf_done(&pieces.text);
	}
}

/* Its words are read after its end, and there are more of them than one piece. */
static void a_run_may_be_cancelled_in_its_last_words(void **state)
{
	const char *argv[] = {"sh", "-c", "head -c 60000 /dev/zero; kill -STOP $$", NULL};
	struct process_options options = {.argv = argv, .on_output = take_piece};
	struct pieces pieces = {.text = BUF_INIT(0), .cancel_at = 1};
	struct process *process;
	uv_loop_t loop;
	siginfo_t info;

	(void)state;
	uv_loop_init(&loop);
	assert_int_equal(process_start(&loop, &options, pieces_done, &pieces, &process, NULL), 0);
	/* Stopped with all of it in the pipe, then killed: the loop meets both at once. */
	assert_int_equal(waitid(P_PID, (id_t)process_pid(process), &info, WSTOPPED | WNOWAIT), 0);
	assert_int_equal(kill(process_pid(process), SIGKILL), 0);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&loop), 0);
	assert_false(pieces.done);
	assert_true(pieces.text.len > 0);
	buf_done(&pieces.text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(output_is_captured_together_or_apart),
		cmocka_unit_test(ends_are_told_in_go_words),
		cmocka_unit_test(input_environment_and_directory_are_given),
		cmocka_unit_test(a_child_that_ignores_a_large_input_is_no_problem),
		cmocka_unit_test(output_has_a_ceiling),
		cmocka_unit_test(a_time_out_kills_the_whole_group),
		cmocka_unit_test(a_grandchild_that_keeps_the_pipe_does_not_hold_the_run_up),
		cmocka_unit_test(what_cannot_be_started_is_named),
		cmocka_unit_test(a_cancelled_run_tells_nothing_and_leaves_no_zombie),
		cmocka_unit_test(output_comes_piece_by_piece_until_it_is_cancelled),
		cmocka_unit_test(a_run_may_be_cancelled_in_its_last_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
