#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
/* cmocka needs the headers above first. */
#include "etcd/identity.h"
#include <cmocka.h>
#include <errno.h>

/* The ids that an original etcd prints in its log with default settings. */
static void default_settings_give_the_ids_of_the_original(void **state)
{
	struct identity_cluster cluster;
	_cleanup_buf_ struct buf why = BUF_INIT(0);

	(void)state;
	assert_int_equal(identity_parse("default=http://localhost:2380,default=http://localhost:7001",
				 "etcd-cluster", &cluster, &why),
		0);
	assert_int_equal(cluster.count, 1);
	assert_true(cluster.members[0].id == 0xce2a822cea30bfca);
	assert_true(cluster.id == 0x7e27652122e8b2ae);
	identity_cluster_done(&cluster);
	assert_int_equal(identity_parse("default=http://localhost:2380", "etcd-cluster", &cluster, &why), 0);
	assert_true(cluster.members[0].id == 0x8e9e05c52164694d);
	assert_true(cluster.id == 0xcdf818194e3a8c32);
	identity_cluster_done(&cluster);
}

static void members_are_ordered_by_id_whatever_the_order_given(void **state)
{
	struct identity_cluster one, other;
	_cleanup_buf_ struct buf why = BUF_INIT(0);

	(void)state;
	assert_int_equal(
		identity_parse("a=http://10.0.0.1:2380,b=http://10.0.0.2:2380,c=http://10.0.0.3:2380", "t",
			&one, &why),
		0);
	assert_int_equal(
		identity_parse("c=http://10.0.0.3:2380,a=http://10.0.0.1:2380,b=http://10.0.0.2:2380,", "t",
			&other, &why),
		0);
	assert_true(one.id == other.id);
	for (size_t i = 0; i < 3; i++) {
		assert_string_equal(one.members[i].name, other.members[i].name);
		assert_true(i == 0 || one.members[i - 1].id < one.members[i].id);
	}
	assert_non_null(identity_find(&one, "b"));
	assert_null(identity_find(&one, "d"));
	identity_cluster_done(&one);
	identity_cluster_done(&other);
}

static void bad_clusters_are_refused_with_a_reason(void **state)
{
	static const struct {
		const char *text, *why;
	} cases[] = {
		{"", "the initial cluster is empty (expected name=URL,...)"},
		{"a", "incomplete entry \"a\" (expected name=URL)"},
		{"a=", "incomplete entry \"a=\" (expected name=URL)"},
		{"=http://x:1", "incomplete entry \"=http://x:1\" (expected name=URL)"},
		{"a=x:1", "URL scheme must be http or https: x:1"},
		{"a=http://x", "URL address does not have the form \"host:port\": http://x"},
		{"a=http://x:1/y", "URL must not contain a path: http://x:1/y"},
		{"a=http://x:1,b=http://x:1",
			"members a and b of the initial cluster have the same peer URLs"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct identity_cluster cluster;
		_cleanup_buf_ struct buf why = BUF_INIT(0);

		assert_int_equal(identity_parse(cases[i].text, "t", &cluster, &why), -EINVAL);
		if (i + 1 < ARRAY_LEN(cases))
			assert_string_equal(buf_text(&why), cases[i].why);
		identity_cluster_done(&cluster);
	}
}

static void more_members_than_can_vote_are_refused(void **state)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0), why = BUF_INIT(0);
	struct identity_cluster cluster;

	(void)state;
	for (int i = 0; i <= IDENTITY_MEMBERS_MAX; i++) {
		if (i == IDENTITY_MEMBERS_MAX) {
			assert_int_equal(identity_parse(buf_text(&text), "t", &cluster, &why), 0);
			assert_int_equal(cluster.count, IDENTITY_MEMBERS_MAX);
			identity_cluster_done(&cluster);
		}
		buf_printf(&text, "%sm%d=http://10.0.0.%d:2380", i ? "," : "", i, i + 1);
	}
	assert_int_equal(identity_parse(buf_text(&text), "t", &cluster, &why), -EINVAL);
	assert_string_equal(buf_text(&why), "more than 31 members in the initial cluster");
	identity_cluster_done(&cluster);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(default_settings_give_the_ids_of_the_original),
		cmocka_unit_test(members_are_ordered_by_id_whatever_the_order_given),
		cmocka_unit_test(bad_clusters_are_refused_with_a_reason),
		cmocka_unit_test(more_members_than_can_vote_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
