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

/* The format with %s filled in. */
static void add_filled(struct buf *out, const char *format, const char *text)
{
	const char *at = strstr(format, "%s");

	buf_add(out, format, (size_t)(at - format));
	buf_add_str(out, text);
	buf_add_str(out, at + 2);
}

static void urls_are_bounded(void **state)
{
	static const struct {
		const char *format;
		int host_len;
		const char *why; /* NULL: it is good */
	} cases[] = {
		{"https://%s:65535", IDENTITY_HOST_BYTES_MAX, NULL},
		{"http://[%s]:1", 39, NULL},
		{"http://%s:1", IDENTITY_HOST_BYTES_MAX + 1,
			"URL's host has 256 bytes, at most 255 are allowed: http://1"},
		{"http://%s:1", 65000,
			"URL is too long (65009 bytes; a scheme, a host of at most 255 bytes and a port are"},
		{"http://a:1#%s", 300, "URL is too long"},
		{"ftp://%s", 10, "URL scheme must be http or https"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_buf_ struct buf host = BUF_INIT(0), url = BUF_INIT(0), why = BUF_INIT(0);

		buf_add_fill(&host, '1', (size_t)cases[i].host_len);
		if (strchr(cases[i].format, '['))
			for (int at = 4; at < cases[i].host_len; at += 5)
				host.data[at] = ':';
		add_filled(&url, cases[i].format, buf_text(&host));
		assert_int_equal(identity_check_url(buf_text(&url), &why), cases[i].why ? -EINVAL : 0);
		assert_true(why.len < 600);
		if (cases[i].why)
			assert_ptr_equal(strstr(buf_text(&why), cases[i].why), buf_text(&why));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(default_settings_give_the_ids_of_the_original),
		cmocka_unit_test(members_are_ordered_by_id_whatever_the_order_given),
		cmocka_unit_test(bad_clusters_are_refused_with_a_reason),
		cmocka_unit_test(more_members_than_can_vote_are_refused),
		cmocka_unit_test(urls_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
