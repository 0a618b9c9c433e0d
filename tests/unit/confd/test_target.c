/* Files are put into place at once, compared before, and taken back when a trial fails. */
#include "base/memory.h"
#include "confd/target.h"
#include "io/file.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

struct place {
	char directory[64];
	char *dest;
};

static int place_make(void **state)
{
	struct place *place = mem_new(struct place);

	snprintf(place->directory, sizeof(place->directory), "/tmp/flotilla-test-XXXXXX");
	if (!mkdtemp(place->directory))
		return -1;
	place->dest = mem_printf("%s/app.conf", place->directory);
	*state = place;
	return 0;
}

static int place_remove(void **state)
{
	struct place *place = *state;
	int r = file_remove_all(place->directory);

	free(place->dest);
	free(place);
	return r;
}

static void assert_file(const struct place *place, const char *contents, mode_t mode)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0);
	struct stat status;

	assert_int_equal(file_read(place->dest, 1 << 20, &text), 0);
	assert_string_equal(buf_text(&text), contents);
	assert_int_equal(stat(place->dest, &status), 0);
	assert_int_equal(status.st_mode & 07777, mode);
}

static void stage(
	const struct place *place, struct target *target, const char *contents, bool has_mode, mode_t mode)
{
	_cleanup_buf_ struct buf error = BUF_INIT(0);
	int owner_error = 1;

	assert_int_equal(target_stage(target, place->dest, slice_str(contents), has_mode, mode, (uid_t)-1,
				 (gid_t)-1, &owner_error, &error),
		0);
	assert_int_equal(owner_error, 0);
	assert_true(slice_starts_with(slice_str(strrchr(target->stage, '/')), SLICE_LITERAL("/.app.conf")));
}

static size_t files_in(const char *directory)
{
	struct dirent **entries;
	int count = scandir(directory, &entries, NULL, NULL);

	assert_true(count >= 2);
	for (int i = 0; i < count; i++)
		free(entries[i]);
	free(entries);
	return (size_t)count - 2; /* without . and .. */
}

static void a_new_file_gets_its_mode_and_replaces_the_old_at_once(void **state)
{
	_cleanup_buf_ struct buf error = BUF_INIT(0);
	struct place *place = *state;
	struct target target;
	struct target_difference difference;

	stage(place, &target, "one", false, 0);
	assert_int_equal(target_compare(&target, SLICE_LITERAL("one"), &difference, &error), 1);
	assert_true(difference.missing && difference.contents);
	assert_int_equal(target_replace(&target, SLICE_LITERAL("one"), &error), 0);
	target_done(&target, false);
	assert_file(place, "one", 0644);
	assert_int_equal(chmod(place->dest, 0600), 0);
	stage(place, &target, "two", false, 0);
	assert_int_equal(target_compare(&target, SLICE_LITERAL("two"), &difference, &error), 1);
	assert_true(!difference.missing && difference.contents && !difference.mode && !difference.owner);
	assert_int_equal(target_replace(&target, SLICE_LITERAL("two"), &error), 0);
	target_done(&target, false);
	assert_file(place, "two", 0600);
}

static void what_is_the_same_is_left_alone(void **state)
{
	_cleanup_buf_ struct buf error = BUF_INIT(0);
	struct place *place = *state;
	struct target target;
	struct target_difference difference;
	char *staged;

	assert_int_equal(file_write_atomic(place->dest, SLICE_LITERAL("same"), NULL), 0);
	stage(place, &target, "same", true, 0644);
	staged = mem_strdup(target.stage);
	assert_int_equal(target_compare(&target, SLICE_LITERAL("same"), &difference, &error), 0);
	target_done(&target, false);
	assert_int_equal(access(staged, F_OK), -1);
	free(staged);
	stage(place, &target, "same", true, 0640);
	assert_int_equal(target_compare(&target, SLICE_LITERAL("same"), &difference, &error), 1);
	assert_true(difference.mode && !difference.contents);
	assert_int_equal(difference.old_mode, 0644);
	target_done(&target, false);
	assert_int_equal(files_in(place->directory), 1);
}

static void a_trial_is_taken_back(void **state)
{
	_cleanup_buf_ struct buf error = BUF_INIT(0);
	struct place *place = *state;
	struct target target;

	assert_int_equal(file_write_atomic(place->dest, SLICE_LITERAL("old"), NULL), 0);
	stage(place, &target, "new", true, 0600);
	assert_int_equal(target_try(&target, &error), 0);
	assert_file(place, "new", 0600);
	assert_int_equal(target_revert(&target, &error), 0);
	assert_file(place, "old", 0644);
	target_done(&target, false);
	stage(place, &target, "new", true, 0600);
	assert_int_equal(target_try(&target, &error), 0);
	target_keep(&target);
	target_done(&target, false);
	assert_file(place, "new", 0600);
	/* A pass that is broken off takes its trial back too. */
	stage(place, &target, "third", true, 0600);
	assert_int_equal(target_try(&target, &error), 0);
	target_done(&target, false);
	assert_file(place, "new", 0600);
}

static void a_trial_without_an_old_file_leaves_none(void **state)
{
	_cleanup_buf_ struct buf error = BUF_INIT(0);
	struct place *place = *state;
	struct target target;

	stage(place, &target, "new", true, 0600);
	assert_int_equal(target_try(&target, &error), 0);
	assert_file(place, "new", 0600);
	assert_int_equal(target_revert(&target, &error), 0);
	assert_int_equal(access(place->dest, F_OK), -1);
	target_done(&target, false);
	assert_int_equal(files_in(place->directory), 0);
}

static void a_missing_directory_is_named(void **state)
{
	_cleanup_buf_ struct buf error = BUF_INIT(0);
	struct target target;
	int owner_error;

	(void)state;
	assert_int_equal(target_stage(&target, "/no/such/dir/app.conf", SLICE_LITERAL("x"), false, 0,
				 (uid_t)-1, (gid_t)-1, &owner_error, &error),
		-ENOENT);
	assert_string_equal(buf_text(&error),
		"Cannot create a file beside /no/such/dir/app.conf: No such file or directory");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			a_new_file_gets_its_mode_and_replaces_the_old_at_once, place_make, place_remove),
		cmocka_unit_test_setup_teardown(what_is_the_same_is_left_alone, place_make, place_remove),
		cmocka_unit_test_setup_teardown(a_trial_is_taken_back, place_make, place_remove),
		cmocka_unit_test_setup_teardown(
			a_trial_without_an_old_file_leaves_none, place_make, place_remove),
		cmocka_unit_test(a_missing_directory_is_named),
	};

	return cmocka_run_group_tests_name("target", tests, NULL, NULL);
}
