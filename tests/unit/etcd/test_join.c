#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
/* cmocka needs the headers above first. */
#include "base/memory.h"
#include "etcd/join.h"
#include <cmocka.h>

#define A "{\"id\":\"f8a415c17347da82\",\"started\":true,\"peerURLs\":[\"http://a:1\",\"http://a:2\"]}"
#define B "{\"id\":\"b\",\"started\":true,\"peerURLs\":[\"http://b:1\"]}"
#define NEW "{\"id\":\"c\",\"started\":false,\"peerURLs\":[\"http://c:1\"]}"
#define OLD "{\"id\":\"d\",\"started\":true,\"peerURLs\":[\"http://c:1\"]}"
#define OLDER "{\"id\":\"e\",\"started\":true,\"peerURLs\":[\"http://c:1\"]}"
#define NEWER "{\"id\":\"f\",\"started\":false,\"peerURLs\":[\"http://c:1\"]}"
#define LIST(members) "{\"cluster\":\"4d\",\"members\":[" members "]}"
#define INITIAL "a=http://a:2,a=http://a:1,b=http://b:1,c=http://c:1"

static uint64_t not_id;

/* What member c makes of an answer: 0 or the error, whose text holds `part`. */
static int read_answer(const char *initial, const char *body, struct datadir *datadir, const char *part)
{
	static char url[] = "http://c:1";
	struct config config = {.name = "c", .data_dir = "c.etcd", .advertise_peer_urls = {url}};
	_cleanup_buf_ struct buf why = BUF_INIT(0);
	int r;

	*datadir = (struct datadir){.lock_fd = -1, .member_id = not_id};
	assert_int_equal(identity_parse(initial, "", &config.cluster, &why), 0);
	r = join_read(&config, slice_str(body), "http://a:1", datadir, &why);
	if (part && !strstr(buf_text(&why), part))
		fail_msg("%s: lacks %s", buf_text(&why), part);
	identity_cluster_done(&config.cluster);
	return r;
}

static void a_new_member_finds_itself_by_its_urls(void **state)
{
	struct datadir datadir;

	(void)state;
	assert_int_equal(read_answer(INITIAL, LIST(A "," B "," NEW), &datadir, NULL), 0);
	assert_int_equal(datadir.cluster_id, 0x4d);
	assert_int_equal(datadir.member_id, 0xc);
	assert_int_equal(datadir.seeds_len, 3);
	assert_true(datadir.seeds[0].id == UINT64_C(0xf8a415c17347da82));
	assert_string_equal(datadir.seeds[0].urls[1], "http://a:2");
	datadir_done(&datadir);
}

static void one_that_takes_the_place_of_another_may_have_its_urls(void **state)
{
	struct datadir datadir;

	(void)state;
	assert_int_equal(read_answer(INITIAL, LIST(A "," B "," OLD "," NEW), &datadir, NULL), 0);
	assert_int_equal(datadir.member_id, 0xc);
	datadir_done(&datadir);
	assert_int_equal(read_answer(INITIAL, LIST(A "," B "," NEW "," OLD), &datadir, NULL), 0);
	assert_int_equal(datadir.member_id, 0xc);
	datadir_done(&datadir);
}

static void who_lost_its_log_is_not_found_again(void **state)
{
	struct datadir datadir;

	(void)state;
	not_id = 0xc;
	assert_true(read_answer(INITIAL, LIST(A "," B "," NEW), &datadir, "no member of the running") < 0);
	assert_int_equal(read_answer(INITIAL, LIST(A "," B "," NEW "," NEWER), &datadir, NULL), 0);
	assert_int_equal(datadir.member_id, 0xf);
	datadir_done(&datadir);
	not_id = 0;
}

static void what_does_not_fit_is_refused(void **state)
{
	static const struct {
		const char *initial, *body, *part;
	} cases[] = {
		{INITIAL, LIST(A "," B), "etcdctl member add c http://c:1"},
		{INITIAL, LIST(A "," B "," OLD), "etcdctl member replace d c http://c:1"},
		{INITIAL, LIST(A "," B "," OLD "," OLDER), "members d and e of the running"},
		{INITIAL, LIST(A "," B "," OLD "," OLDER), "etcdctl member replace ID c http://c:1"},
		{"b=http://b:1,c=http://c:1", LIST(A "," B "," NEW), "does not name member f8a415c17347da82"},
		{INITIAL ",x=http://x:1", LIST(A "," B "," NEW), "has the peer URLs of x"},
		{INITIAL, "", "no list of members"},
		{INITIAL, "[]", "no list of members"},
		{INITIAL, LIST(""), "no list of members"},
		{INITIAL, LIST("{}"), "no list of members"},
		{INITIAL, LIST("{\"id\":\"0\",\"peerURLs\":[\"http://a:1\"]}"), "no list of members"},
		{INITIAL, LIST("{\"id\":\"1\",\"peerURLs\":[]}"), "no list of members"},
		{INITIAL, LIST("{\"id\":\"1\",\"peerURLs\":[\"http://a:1\\nmember 7\"]}"),
			"no list of members"},
		{INITIAL, "{\"members\":[" A "," B "," NEW "]}", "no list of members"},
	};
	struct datadir datadir;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_true(read_answer(cases[i].initial, cases[i].body, &datadir, cases[i].part) < 0);
		assert_int_equal(datadir.seeds_len, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_new_member_finds_itself_by_its_urls),
		cmocka_unit_test(one_that_takes_the_place_of_another_may_have_its_urls),
		cmocka_unit_test(who_lost_its_log_is_not_found_again),
		cmocka_unit_test(what_does_not_fit_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
