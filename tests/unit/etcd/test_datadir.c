#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* cmocka needs the headers above first. */
#include "base/memory.h"
#include "etcd/datadir.h"
#include "io/file.h"
#include <cmocka.h>
#include <errno.h>

static int make_dir(void **state)
{
	char path[] = "/tmp/flotilla-test-XXXXXX";

	if (!mkdtemp(path))
		return -1;
	*state = mem_strdup(path);
	return 0;
}

static int remove_dir(void **state)
{
	int r = file_remove_all(*state);

	free(*state);
	return r;
}

static void put(const char *dir, const char *name, const char *text)
{
	_cleanup_free_ char *path = mem_printf("%s/%s", dir, name), *parent = mem_strdup(path);

	*strrchr(parent, '/') = '\0';
	assert_int_equal(file_mkdir_all(parent, 0700), 0);
	assert_int_equal(file_write_atomic(path, slice_str(text), NULL), 0);
}

static void refused(const char *dir, int error, const char *part)
{
	_cleanup_buf_ struct buf why = BUF_INIT(0);
	struct datadir datadir;

	assert_int_equal(datadir_open(dir, &datadir, &why), error);
	assert_non_null(strstr(buf_text(&why), part));
	assert_non_null(strstr(buf_text(&why), dir));
}

static void a_new_directory_is_fresh_and_remembers_who_lives_there(void **state)
{
	_cleanup_free_ char *dir = mem_printf("%s/new/deep", (char *)*state);
	_cleanup_buf_ struct buf why = BUF_INIT(0);
	struct datadir datadir;

	assert_int_equal(datadir_open(dir, &datadir, &why), 0);
	assert_true(datadir.fresh);
	refused(dir, -EWOULDBLOCK, "in use by another process");
	datadir.member_id = 0xabc;
	datadir.cluster_id = 0xdef;
	assert_int_equal(datadir_set_identity(dir, "infra0", &datadir, &why), 0);
	datadir_done(&datadir);
	assert_int_equal(datadir_open(dir, &datadir, &why), 0);
	assert_true(!datadir.fresh && datadir.member_id == 0xabc && datadir.cluster_id == 0xdef);
	datadir_done(&datadir);
}

static void data_of_the_original_is_recognised_and_left_alone(void **state)
{
	_cleanup_free_ char *own = mem_printf("%s/flotilla", (char *)*state);

	put(*state, "member/wal/0.wal", "x");
	refused(*state, -EEXIST, "original etcd");
	assert_false(file_exists(own));
}

static void damage_is_told_apart_from_a_new_member(void **state)
{
	put(*state, "flotilla/log/1.log", "x");
	refused(*state, -EBADMSG, "is missing");
	put(*state, "flotilla/identity", "version 2\nsomething else\n");
	refused(*state, -EPROTONOSUPPORT, "format 2, this program knows up to 1");
	put(*state, "flotilla/identity", "version 100000000000000000000000001\nsomething else\n");
	refused(*state, -EPROTONOSUPPORT, "format 100000000000000000000000001, this program knows up to 1");
	put(*state, "flotilla/identity", "version 1x\nmember 1\ncluster 2\n");
	refused(*state, -EBADMSG, "is damaged");
	put(*state, "flotilla/identity", "version 1\nmember zz\n");
	refused(*state, -EBADMSG, "is damaged");
}

static void an_identity_without_its_log_does_not_start(void **state)
{
	_cleanup_buf_ struct buf why = BUF_INIT(0);
	struct datadir datadir;

	assert_int_equal(datadir_open(*state, &datadir, &why), 0);
	datadir.member_id = 1;
	datadir.cluster_id = 2;
	datadir.has_log = true;
	assert_int_equal(datadir_set_identity(*state, "n", &datadir, &why), 0);
	datadir_done(&datadir);
	refused(*state, -EBADMSG, "says that there is a log");
}

static void seeds_of_one_that_joins_and_its_removal_are_kept(void **state)
{
	_cleanup_buf_ struct buf why = BUF_INIT(0);
	struct datadir datadir;

	assert_int_equal(datadir_open(*state, &datadir, &why), 0);
	datadir.member_id = 1;
	datadir.cluster_id = 2;
	datadir.seeds[0] = (struct datadir_seed){
		.id = 0xa, .urls = {mem_strdup("http://10.0.0.1:1"), mem_strdup("http://10.0.0.1:2")}};
	datadir.seeds[1] = (struct datadir_seed){.id = 0xb, .urls = {mem_strdup("http://10.0.0.2:1")}};
	datadir.seeds_len = 2;
	assert_int_equal(datadir_set_identity(*state, "n", &datadir, &why), 0);
	datadir_done(&datadir);
	assert_int_equal(datadir_open(*state, &datadir, &why), 0);
	assert_int_equal(datadir.seeds_len, 2);
	assert_int_equal(datadir.seeds[1].id, 0xb);
	assert_string_equal(datadir.seeds[0].urls[1], "http://10.0.0.1:2");
	assert_null(datadir.seeds[0].urls[2]);
	assert_false(datadir.removed);
	datadir_forget_seeds(&datadir);
	datadir.removed = true;
	assert_int_equal(datadir_set_identity(*state, "n", &datadir, &why), 0);
	datadir_done(&datadir);
	assert_int_equal(datadir_open(*state, &datadir, &why), 0);
	assert_true(datadir.removed && !datadir.seeds_len);
	datadir_done(&datadir);
	put(*state, "flotilla/identity",
		"version 1\nmember 1\ncluster 2\nname n\nlog no\npeer zz http://x\n");
	refused(*state, -EBADMSG, "is damaged");
}

static void a_name_cannot_pass_for_another_line(void **state)
{
	_cleanup_buf_ struct buf why = BUF_INIT(0);
	struct datadir datadir;

	assert_int_equal(datadir_open(*state, &datadir, &why), 0);
	datadir.member_id = 1;
	datadir.cluster_id = 2;
	assert_int_equal(datadir_set_identity(*state, "n", &datadir, &why), 0);
	assert_int_equal(datadir_set_identity(*state, "n\nmember 7\rx", &datadir, &why), -EINVAL);
	assert_non_null(strstr(buf_text(&why), "control characters"));
	datadir_done(&datadir);
	buf_clear(&why);
	assert_int_equal(datadir_open(*state, &datadir, &why), 0);
	assert_int_equal(datadir.member_id, 1);
	assert_string_equal(datadir.name, "n");
	datadir_done(&datadir);
}

static void a_file_in_the_place_of_the_directory_is_refused(void **state)
{
	_cleanup_free_ char *path = mem_printf("%s/file", (char *)*state);

	put(*state, "file", "x");
	refused(path, -ENOTDIR, "is not a directory");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			a_new_directory_is_fresh_and_remembers_who_lives_there, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(
			data_of_the_original_is_recognised_and_left_alone, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(damage_is_told_apart_from_a_new_member, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(a_name_cannot_pass_for_another_line, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(
			an_identity_without_its_log_does_not_start, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(
			seeds_of_one_that_joins_and_its_removal_are_kept, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(
			a_file_in_the_place_of_the_directory_is_refused, make_dir, remove_dir),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
