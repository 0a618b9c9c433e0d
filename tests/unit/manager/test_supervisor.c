/* The client's side against a real keeper: this executable is its own keeper program. */
#include "manager/manager.h"
#include "base/memory.h"
#include "base/programs.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#define LIMIT_MS 10000

struct fixture {
	uv_loop_t loop;
	char dir[64];
	struct manager *manager;
	bool ready, closed, done, last, timed_out;
	int ready_count, lost_count, unloaded_count, change_count, result;
	char sub[32], message[256];
	struct buf text;
};

static void on_ready(void *userdata)
{
	struct fixture *fixture = userdata;

	fixture->ready = true;
	fixture->ready_count++;
}

static void on_state(void *userdata, const struct manager_unit_state *state)
{
	struct fixture *fixture = userdata;

	fixture->change_count++;
	(void)snprintf(fixture->sub, sizeof(fixture->sub), "%s", state->sub);
}

static void on_unloaded(void *userdata, const char *name)
{
	struct fixture *fixture = userdata;

	assert_string_equal(name, "web.service");
	fixture->unloaded_count++;
}

static void on_lost(void *userdata, const char *why)
{
	struct fixture *fixture = userdata;

	assert_true(why[0] != 0);
	fixture->ready = false;
	fixture->lost_count++;
}

static void on_done(void *userdata, int result, const char *message)
{
	struct fixture *fixture = userdata;

	fixture->done = true;
	fixture->result = result;
	(void)snprintf(fixture->message, sizeof(fixture->message), "%s", message);
}

static void on_text(void *userdata, int result, const char *message, struct slice text, bool last)
{
	struct fixture *fixture = userdata;

	buf_add_slice(&fixture->text, text);
	fixture->last = last;
	fixture->result = result;
	(void)snprintf(fixture->message, sizeof(fixture->message), "%s", message);
}

static void on_closed(void *userdata)
{
	((struct fixture *)userdata)->closed = true;
}

static void on_limit(uv_timer_t *timer)
{
	((struct fixture *)timer->data)->timed_out = true;
}

/* Runs the loop until *flag (or, with a text, until the last told sub state is that). */
static void run_until(struct fixture *fixture, const bool *flag, const char *sub)
{
	uv_timer_t limit;

	(void)uv_timer_init(&fixture->loop, &limit);
	limit.data = fixture;
	fixture->timed_out = false;
	(void)uv_timer_start(&limit, on_limit, LIMIT_MS, 0);
	while (!fixture->timed_out && !(flag ? *flag : strcmp(fixture->sub, sub) == 0))
		(void)uv_run(&fixture->loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)&limit, NULL);
	while (uv_is_active((uv_handle_t *)&limit))
		(void)uv_run(&fixture->loop, UV_RUN_NOWAIT);
	(void)uv_run(&fixture->loop, UV_RUN_NOWAIT);
	if (fixture->timed_out)
		fail_msg("timed out waiting for %s; it is %s", flag ? "a call" : sub, fixture->sub);
}

static void open_manager(struct fixture *fixture)
{
	_cleanup_buf_ struct buf error = BUF_INIT(1024);
	struct manager_config config = {
		.kind = MANAGER_SUPERVISOR,
		.loop = &fixture->loop,
		.state_dir = fixture->dir,
		.events = {on_ready, on_state, on_unloaded, on_lost},
		.userdata = fixture,
	};

	fixture->ready = fixture->closed = false;
	if (manager_new(&config, &fixture->manager, &error) < 0)
		fail_msg("%s", buf_text(&error));
	run_until(fixture, &fixture->ready, NULL);
	assert_true(manager_is_ready(fixture->manager));
}

static void close_manager(struct fixture *fixture)
{
	manager_close(fixture->manager, on_closed, fixture);
	while (!fixture->closed)
		(void)uv_run(&fixture->loop, UV_RUN_ONCE);
}

static int act(struct fixture *fixture,
	void (*verb)(struct manager *manager, const char *name, manager_done_fn done, void *userdata),
	const char *name)
{
	fixture->done = false;
	verb(fixture->manager, name, on_done, fixture);
	assert_false(fixture->done); /* never from inside the call */
	run_until(fixture, &fixture->done, NULL);
	return fixture->result;
}

static int load(struct fixture *fixture, const char *text)
{
	fixture->done = false;
	manager_load(fixture->manager, "web.service", slice_str(text), "abc", on_done, fixture);
	run_until(fixture, &fixture->done, NULL);
	return fixture->result;
}

static int main_pid(struct fixture *fixture)
{
	struct manager_unit_state state;

	assert_true(manager_state(fixture->manager, "web.service", &state));
	return state.main_pid;
}

static int setup(void **state)
{
	struct fixture *fixture = mem_new(struct fixture);

	(void)snprintf(fixture->dir, sizeof(fixture->dir), "/tmp/flotilla-manager-XXXXXX");
	assert_non_null(mkdtemp(fixture->dir));
	assert_int_equal(uv_loop_init(&fixture->loop), 0);
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_free_ char *call = mem_printf("%s/keeper.sock", fixture->dir);
	_cleanup_free_ char *remove = mem_printf("rm -rf %s", fixture->dir);
	_cleanup_free_ char *shutdown = mem_printf(
		"/proc/%d/exe keeper --socket %s call '{\"id\":1,\"op\":\"shutdown\"}' > /dev/null",
		(int)getpid(), call);
	int r = system(shutdown);

	for (int i = 0; i < 500 && access(call, F_OK) == 0; i++)
		(void)usleep(10000);
	r |= system(remove);
	if (!fixture->closed)
		return -1; /* the case failed on its way: what is open stays open */
	assert_int_equal(uv_run(&fixture->loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(uv_loop_close(&fixture->loop), 0);
	buf_done(&fixture->text);
	free(fixture);
	return r;
}

/* A process that runs; one that nobody has waited for yet does not. */
static bool is_alive(int pid)
{
	char path[64], text[512] = "";
	const char *after;
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "r");
	if (!file)
		return false;
	if (fread(text, 1, sizeof(text) - 1, file) == 0)
		text[0] = 0;
	(void)fclose(file);
	after = strrchr(text, ')');
	return after && after[2] != 'Z' && after[2] != 'X';
}

static void units_are_loaded_started_seen_and_unloaded(void **state)
{
	struct fixture *fixture = *state;
	struct manager_unit_state unit;

	open_manager(fixture);
	assert_int_equal(manager_count(fixture->manager), 0);
	assert_int_equal(act(fixture, manager_start, "web.service"), -ENOENT);
	assert_string_equal(fixture->message, "Unit web.service not loaded.");
	assert_int_equal(load(fixture, "[Service]\nExecStart=/bin/sleep 1000\nPrivateTmp=yes\n"), 0);
	assert_int_equal(act(fixture, manager_start, "web.service"), 0);
	assert_true(
		manager_state(fixture->manager, "web.service", &unit) && unit.wanted); /* with the answer */
	run_until(fixture, NULL, "running");
	assert_true(manager_state(fixture->manager, "web.service", &unit));
	assert_string_equal(unit.hash, "abc");
	assert_string_equal(unit.load, "loaded");
	assert_string_equal(unit.active, "active");
	assert_true(unit.main_pid > 0 && unit.wanted);
	assert_int_equal(unit.warning_count, 1);
	assert_int_equal(manager_status_exit(&unit), 0);
	assert_int_equal(manager_status_exit(NULL), 4);
	assert_int_equal(act(fixture, manager_unload, "web.service"), 0);
	assert_false(is_alive(unit.main_pid));
	assert_int_equal(fixture->unloaded_count, 1);
	assert_int_equal(manager_count(fixture->manager), 0);
	close_manager(fixture);
}

static void a_new_client_finds_units_running_and_touches_nothing(void **state)
{
	struct fixture *fixture = *state;
	int pid;

	open_manager(fixture);
	assert_int_equal(load(fixture, "[Service]\nExecStart=/bin/sleep 1000\n"), 0);
	assert_int_equal(act(fixture, manager_start, "web.service"), 0);
	run_until(fixture, NULL, "running");
	pid = main_pid(fixture);
	close_manager(fixture);
	assert_true(is_alive(pid));
	open_manager(fixture);
	assert_int_equal(main_pid(fixture), pid);
	assert_int_equal(act(fixture, manager_stop, "web.service"), 0);
	run_until(fixture, NULL, "dead");
	close_manager(fixture);
}

static void texts_come_whole_and_streams_can_be_cancelled(void **state)
{
	struct fixture *fixture = *state;
	struct manager_stream *stream;

	open_manager(fixture);
	manager_status(fixture->manager, "web.service", on_text, fixture);
	run_until(fixture, &fixture->last, NULL);
	assert_int_equal(fixture->result, -ENOENT);
	assert_string_equal(fixture->message, "Unit web.service could not be found.");
	assert_int_equal(load(fixture, "[Service]\nType=oneshot\nExecStart=/bin/echo hello\n"), 0);
	assert_int_equal(act(fixture, manager_start, "web.service"), 0);
	fixture->sub[0] = 0;
	run_until(fixture, NULL, "dead");
	fixture->last = false;
	buf_clear(&fixture->text);
	(void)manager_journal(fixture->manager, "web.service",
		&(struct manager_journal_options){.lines = -1, .output = "cat"}, on_text, fixture);
	run_until(fixture, &fixture->last, NULL);
	assert_non_null(strstr(buf_text(&fixture->text), "hello\n"));
	assert_non_null(strstr(buf_text(&fixture->text), "Finished web.service.\n"));
	fixture->last = false;
	buf_clear(&fixture->text);
	stream = manager_journal(fixture->manager, "web.service",
		&(struct manager_journal_options){.follow = true}, on_text, fixture);
	assert_int_equal(act(fixture, manager_start, "web.service"), 0);
	fixture->sub[0] = 0;
	run_until(fixture, NULL, "dead");
	assert_non_null(strstr(buf_text(&fixture->text), "]: hello\n"));
	manager_stream_cancel(stream);
	buf_clear(&fixture->text);
	assert_int_equal(act(fixture, manager_start, "web.service"), 0);
	fixture->sub[0] = 0;
	run_until(fixture, NULL, "dead");
	assert_int_equal(fixture->text.len, 0);
	assert_false(fixture->last);
	close_manager(fixture);
}

/* What the status of a unit that is not there says. */
static const char *status_message(struct fixture *fixture, const char *name)
{
	fixture->last = false;
	manager_status(fixture->manager, name, on_text, fixture);
	run_until(fixture, &fixture->last, NULL);
	assert_int_equal(fixture->result, -ENOENT);
	return fixture->message;
}

static void why_a_load_failed_is_told_until_one_succeeds(void **state)
{
	static const struct slice text = SLICE_LITERAL("[Service]\nExecStart=/bin/true\n");
	struct fixture *fixture = *state;
	_cleanup_free_ char *long_hash = mem_printf("%0100d", 0);

	open_manager(fixture);
	fixture->done = false;
	manager_load(fixture->manager, "web.service", text, long_hash, on_done, fixture);
	run_until(fixture, &fixture->done, NULL);
	assert_int_equal(fixture->result, -EINVAL);
	assert_int_equal(manager_count(fixture->manager), 0);
	assert_string_equal(status_message(fixture, "web.service"),
		"Unit web.service could not be loaded: load needs a text (at most 1 MiB) and a hash");
	assert_string_equal(
		status_message(fixture, "other.service"), "Unit other.service could not be found.");
	assert_int_equal(act(fixture, manager_unload, "web.service"), 0);
	assert_string_equal(status_message(fixture, "web.service"), "Unit web.service could not be found.");
	/* One that is remembered when the manager is closed, and one that is under way. */
	manager_load(fixture->manager, "web.service", text, long_hash, on_done, fixture);
	assert_non_null(strstr(status_message(fixture, "web.service"), "could not be found"));
	assert_non_null(strstr(status_message(fixture, "web.service"), "could not be loaded"));
	fixture->done = false;
	manager_load(fixture->manager, "web.service", text, "abc", on_done, fixture);
	close_manager(fixture);
	assert_true(fixture->done && fixture->result == -ECANCELED);
}

static void a_dead_keeper_is_started_again_and_requests_wait_for_it(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_free_ char *kill_keeper =
		mem_printf("kill -9 $(grep -oE '\"pid\":[0-9]+' < %s/hello | cut -d: -f2)", fixture->dir);
	_cleanup_free_ char *hello = mem_printf(
		"/proc/%d/exe keeper --socket %s/keeper.sock call '{\"id\":1,\"op\":\"hello\"}' > %s/hello",
		(int)getpid(), fixture->dir, fixture->dir);
	int pid;

	open_manager(fixture);
	assert_int_equal(load(fixture, "[Service]\nExecStart=/bin/sleep 1000\n"), 0);
	assert_int_equal(act(fixture, manager_start, "web.service"), 0);
	run_until(fixture, NULL, "running");
	pid = main_pid(fixture);
	assert_int_equal(system(hello), 0);
	assert_int_equal(system(kill_keeper), 0);
	/* Sent into a connection that is dead already: it is repeated on the next one. */
	assert_int_equal(act(fixture, manager_start, "web.service"), 0);
	assert_int_equal(fixture->lost_count, 1);
	assert_int_equal(fixture->ready_count, 2);
	fixture->sub[0] = 0;
	if (main_pid(fixture) == 0)
		run_until(fixture, NULL, "running");
	assert_true(main_pid(fixture) != pid && main_pid(fixture) != 0);
	assert_false(is_alive(pid)); /* what the dead keeper left was killed */
	close_manager(fixture);
}

static void closing_ends_what_waits(void **state)
{
	struct fixture *fixture = *state;

	open_manager(fixture);
	fixture->done = false;
	manager_start(fixture->manager, "web.service", on_done, fixture);
	close_manager(fixture);
	assert_true(fixture->done);
	assert_int_equal(fixture->result, -ECANCELED);
}

static void what_is_not_there_says_so(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_buf_ struct buf error = BUF_INIT(1024), other = BUF_INIT(1024);
	struct manager_config config = {
		.kind = MANAGER_SYSTEMD, .loop = &fixture->loop, .state_dir = fixture->dir, .user = true};
	struct manager *manager;

	assert_int_equal(manager_kind_from_name("systemd"), MANAGER_SYSTEMD);
	assert_int_equal(manager_kind_from_name("auto"), MANAGER_AUTO);
	assert_int_equal(manager_kind_from_name("runit"), MANAGER_KIND_INVALID);
	assert_int_equal(setenv("XDG_RUNTIME_DIR", fixture->dir, 1), 0); /* no systemd there */
	assert_int_equal(manager_new(&config, &manager, &error), -EHOSTDOWN);
	assert_non_null(strstr(buf_text(&error), "is not running here"));
	config.kind = MANAGER_SUPERVISOR;
	config.state_dir = "relative";
	assert_int_equal(manager_new(&config, &manager, &other), -EINVAL);
	assert_non_null(strstr(buf_text(&other), "absolute"));
	open_manager(fixture); /* so that there is a keeper to end */
	close_manager(fixture);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(units_are_loaded_started_seen_and_unloaded, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_new_client_finds_units_running_and_touches_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(
			texts_come_whole_and_streams_can_be_cancelled, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_dead_keeper_is_started_again_and_requests_wait_for_it, setup, teardown),
		cmocka_unit_test_setup_teardown(
			why_a_load_failed_is_told_until_one_succeeds, setup, teardown),
		cmocka_unit_test_setup_teardown(closing_ends_what_waits, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_not_there_says_so, setup, teardown),
	};

	if (argc > 1 && strcmp(argv[1], "keeper") == 0)
		return keeper_main(argc - 1, argv + 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
