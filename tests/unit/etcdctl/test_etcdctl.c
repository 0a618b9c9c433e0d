/* What needs no server: the rows, the help made from them, JSON, and the exit statuses of usage errors. The
 * rest is covered by replaying recorded invocations (tests/system/test_etcdctl_golden.py). */
#include "base/programs.h"
#include "etcdctl/ctl.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

enum { WORDS_MAX = 16 };

struct outcome {
	int status;
	char out[8192], err[8192];
};

/* Runs etcdctl with the words of `line`, its output going to files. */
static struct outcome run(const char *line)
{
	struct outcome outcome = {0};
	FILE *files[2] = {tmpfile(), tmpfile()};
	int saved[2] = {dup(1), dup(2)};
	char *copy = strdup(line), *words[WORDS_MAX + 1] = {0}, *save = NULL;
	int count = 0;

	for (char *word = strtok_r(copy, " ", &save); word && count < WORDS_MAX;
		word = strtok_r(NULL, " ", &save))
		words[count++] = word;
	fflush(stdout);
	dup2(fileno(files[0]), 1);
	dup2(fileno(files[1]), 2);
	outcome.status = etcdctl_main(count, words);
	fflush(stdout);
	dup2(saved[0], 1);
	dup2(saved[1], 2);
	for (int i = 0; i < 2; i++) {
		char *text = i ? outcome.err : outcome.out;
		rewind(files[i]);
		text[fread(text, 1, sizeof(outcome.out) - 1, files[i])] = 0;
		fclose(files[i]);
		close(saved[i]);
	}
	free(copy);
	return outcome;
}

static void every_command_can_be_run_or_says_that_it_cannot(void **state _unused_)
{
	for (const struct ctl_command *command = ctl_commands; command->name; command++) {
		char line[128];
		struct outcome outcome;
		if (command->run || command->sub)
			continue;
		snprintf(line, sizeof(line), "etcdctl %s", command->name);
		outcome = run(line);
		assert_int_equal(outcome.status, CTL_BAD_ARGS);
		snprintf(line, sizeof(line), "etcdctl: %s is not supported by this version\n", command->name);
		assert_string_equal(outcome.err, line);
		assert_string_equal(outcome.out, "");
	}
}

static void columns_are_padded_with_tabs(void **state _unused_)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0);
	static const struct flag flags[] = {
		{.name = "sort", .type = FLAG_BOOL, .help = "a"},
		{.name = "p", .type = FLAG_BOOL, .help = "b"},
		{.name = "with-value", .type = FLAG_STRING, .help = "c"},
		{.name = "count,c", .type = FLAG_INT, .help = "d", .help_value = "0"},
		{.name = "hidden", .type = FLAG_BOOL},
		{0},
	};
	struct ctl_command command = {.name = "x", .help = "does x", .args = "<key>", .flags = flags};

	ctl_add_command_help(&text, NULL, &command);
	assert_string_equal(buf_text(&text),
		"NAME:\n   etcdctl x - does x\n\nUSAGE:\n   etcdctl x [command options] <key>\n"
		"\nOPTIONS:\n   --sort\t\ta\n   -p\t\t\tb\n   --with-value \tc\n"
		"   --count, -c \"0\"\td\n   \n");
}

static void json_has_the_originals_field_order_and_escapes(void **state _unused_)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0);
	struct etcd_node child = {
		.key = "/d/k", .value = "<&\n", .value_len = 3, .created_index = 1, .modified_index = 2};
	struct etcd_node node = {.key = "/d",
		.dir = true,
		.nodes = &child,
		.node_count = 1,
		.ttl_s = 5,
		.expiration = "2026-01-01T00:00:00Z",
		.created_index = 3,
		.modified_index = 4};
	struct etcd_response response = {.action = "get", .node = &node};

	ctl_add_json(&text, &response);
	assert_string_equal(buf_text(&text),
		"{\"action\":\"get\",\"node\":{\"key\":\"/"
		"d\",\"dir\":true,\"value\":\"\",\"nodes\":[{\"key\":\"/d/k\",\"value\":"
		"\"\\u003c\\u0026\\n\",\"nodes\":null,\"createdIndex\":1,\"modifiedIndex\":2}],"
		"\"createdIndex\":3,"
		"\"modifiedIndex\":4,\"expiration\":\"2026-01-01T00:00:00Z\",\"ttl\":5},\"prevNode\":null}");
}

static void usage_errors_end_with_status_0_and_help_on_stdout(void **state _unused_)
{
	static const char *const lines[] = {"etcdctl --bogus", "etcdctl set /k -v", "etcdctl get --ttl 5 /k",
		"etcdctl --timeout 2 ls", "etcdctl member --bogus", "etcdctl watch --after-index x /k"};

	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		struct outcome outcome = run(lines[i]);
		assert_int_equal(outcome.status, 0);
		assert_non_null(strstr(outcome.out, "Incorrect Usage.\n\nNAME:\n"));
		assert_string_equal(outcome.err, "");
	}
}

static void what_cannot_be_is_refused(void **state _unused_)
{
	static const struct {
		const char *line, *error;
	} cases[] = {
		{"etcdctl --ca-file /dev/null get /k", "certificate authority /dev/null: "},
		{"etcdctl --ca-file /nowhere get /k", "open /nowhere: no such file or directory"},
		{"etcdctl --cert-file /dev/null --key-file /dev/null get /k", "certificate /dev/null: "},
		{"etcdctl --cert-file /x get /k",
			"KeyFile and CertFile must both be present[key: , cert: /x]"},
		{"etcdctl --discovery-srv example.com get /k", "--discovery-srv is not supported"},
		{"etcdctl --endpoints http://127.0.0.1:1/path get /k", "not of the form http://host:port"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct outcome outcome = run(cases[i].line);
		assert_int_equal(outcome.status, CTL_BAD_ARGS);
		assert_non_null(strstr(outcome.err, cases[i].error));
		assert_string_equal(outcome.out, "");
	}
}

static void member_commands_check_their_words(void **state _unused_)
{
	static const struct {
		const char *line, *error;
	} cases[] = {
		{"etcdctl member list x", "No arguments accepted\n"},
		{"etcdctl member add a", "Provide a name and a single member peerURL\n"},
		{"etcdctl member remove", "Provide a single member ID\n"},
		{"etcdctl --no-sync --endpoints http://127.0.0.1:1 member add a bad",
			"URL scheme must be http or https: bad\n"},
		{"etcdctl --no-sync --endpoints http://127.0.0.1:1 member add a http://h",
			"URL address does not have the form \"host:port\": http://h\n"},
		{"etcdctl --no-sync --endpoints http://127.0.0.1:1 member update 1 http://h:1/p",
			"URL must not contain a path: http://h:1/p\n"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct outcome outcome = run(cases[i].line);
		assert_int_equal(outcome.status, CTL_BAD_ARGS);
		assert_string_equal(outcome.err, cases[i].error);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_command_can_be_run_or_says_that_it_cannot),
		cmocka_unit_test(columns_are_padded_with_tabs),
		cmocka_unit_test(json_has_the_originals_field_order_and_escapes),
		cmocka_unit_test(usage_errors_end_with_status_0_and_help_on_stdout),
		cmocka_unit_test(what_cannot_be_is_refused),
		cmocka_unit_test(member_commands_check_their_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
