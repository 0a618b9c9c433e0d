/* Log lines as they reach standard error, and the clocks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "base/log.h"
#include "base/slice.h"
#include "base/time.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char text[200000];

/* Runs `say` with standard error on a file, and answers what was written. */
static const char *captured(void (*say)(void))
{
	FILE *file = tmpfile();
	int saved = dup(STDERR_FILENO);
	size_t len;

	assert_non_null(file);
	dup2(fileno(file), STDERR_FILENO);
	say();
	dup2(saved, STDERR_FILENO);
	close(saved);
	rewind(file);
	len = fread(text, 1, sizeof(text) - 1, file);
	text[len] = '\0';
	fclose(file);
	return text;
}

static void say_some(void)
{
	log_init("prog", LOG_LEVEL_INFO);
	log_error("first %d", 1);
	log_debug("not shown");
	log_set_level(LOG_LEVEL_DEBUG);
	log_debug("shown");
	errno = EINTR;
	log_info("two\nlines\n");
	assert_int_equal(errno, EINTR);
	assert_int_equal(log_errno(-ENOENT, "cannot open %s", "x"), -ENOENT);
	assert_int_equal(log_errno(EIO, "cannot read"), -EIO);
}

static void lines_have_time_program_and_level(void **state)
{
	const char *got = captured(say_some), *at = got;
	static const char *const ends[] = {" prog: error: first 1\n", " prog: debug: shown\n",
		" prog: info: two lines\n", " prog: error: cannot open x: No such file or directory\n",
		" prog: error: cannot read: Input/output error\n"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		int year, month, day, hour, minute, second, ms, used = 0;

		assert_int_equal(sscanf(at, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ%n", &year, &month, &day, &hour,
					 &minute, &second, &ms, &used),
			7);
		assert_int_equal(used, strlen("2006-01-02T15:04:05.000Z"));
		at = strchr(at, ' ');
		assert_non_null(at);
		assert_memory_equal(at, ends[i], strlen(ends[i]));
		at += strlen(ends[i]);
	}
	assert_string_equal(at, "");
}

static void say_to_journal(void)
{
	struct stat st;
	char stream[64];

	assert_int_equal(fstat(STDERR_FILENO, &st), 0);
	snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
		(unsigned long long)st.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
	log_init("prog", LOG_LEVEL_INFO);
	log_warning("careful");
	setenv("JOURNAL_STREAM", "1:1", 1); /* another stream */
	log_init("prog", LOG_LEVEL_INFO);
	log_notice("plain");
	unsetenv("JOURNAL_STREAM");
}

static void the_journal_gets_priorities(void **state)
{
	const char *got = captured(say_to_journal);

	(void)state;
	assert_memory_equal(got, "<4>careful\n", 11);
	assert_non_null(strstr(got, "prog: notice: plain\n"));
}

static void say_much(void)
{
	char *big = malloc(150001);

	memset(big, 'x', 150000);
	big[150000] = '\0';
	log_init("prog", LOG_LEVEL_INFO);
	log_info("%s", big);
	free(big);
}

static void a_line_is_bounded_and_still_ends(void **state)
{
	const char *got = captured(say_much);
	size_t len = strlen(got);

	(void)state;
	assert_true(len > 60000 && len < 66000);
	assert_int_equal(got[len - 1], '\n');
}

static void clocks_agree_with_the_system(void **state)
{
	int64_t mono = time_mono_ns(), mono_ms = time_mono_ms(), wall = time_wall_ns();

	(void)state;
	assert_true(llabs((long long)(wall / NS_PER_S) - (long long)time(NULL)) <= 1);
	usleep(2000);
	assert_true(time_mono_ns() - mono >= 2 * NS_PER_MS);
	assert_true(time_mono_ms() - mono_ms >= 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_have_time_program_and_level),
		cmocka_unit_test(the_journal_gets_priorities),
		cmocka_unit_test(a_line_is_bounded_and_still_ends),
		cmocka_unit_test(clocks_agree_with_the_system),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
