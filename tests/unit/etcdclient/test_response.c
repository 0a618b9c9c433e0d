#include "etcdclient/response.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static struct etcd_response *parse(enum response_kind kind, int status, const char *body, int expected)
{
	struct response *response = response_new();

	response->pub.status = status;
	assert_int_equal(response_parse(response, kind, slice_str(body)), expected);
	return &response->pub;
}

static void an_event_has_all_its_fields(void **state _unused_)
{
	struct etcd_response *r = parse(RESPONSE_KEYS, 200,
		"{\"action\":\"update\",\"node\":{\"key\":\"/"
		"k\",\"value\":\"a\\u0000b\",\"expiration\":\"2026-01-01T00:00:00Z\","
		"\"ttl\":-1,\"modifiedIndex\":9,\"createdIndex\":7},\"prevNode\":{\"key\":\"/"
		"k\",\"value\":\"\","
		"\"modifiedIndex\":7,\"createdIndex\":7}}\n",
		0);

	assert_int_equal(r->outcome, ETCD_OK);
	assert_string_equal(r->action, "update");
	assert_string_equal(r->node->key, "/k");
	assert_int_equal(r->node->value_len, 3);
	assert_memory_equal(r->node->value, "a\0b", 3);
	assert_string_equal(r->node->expiration, "2026-01-01T00:00:00Z");
	assert_int_equal(r->node->ttl_s, -1);
	assert_int_equal(r->node->modified_index, 9);
	assert_int_equal(r->node->created_index, 7);
	assert_false(r->node->dir);
	assert_string_equal(r->prev_node->value, "");
	assert_string_equal(r->error_text, "");
	etcd_response_unref(r);
}

static void a_listing_is_a_tree(void **state _unused_)
{
	struct etcd_response *r = parse(RESPONSE_KEYS, 200,
		"{\"action\":\"get\",\"node\":{\"dir\":true,\"nodes\":[{\"key\":\"/"
		"a\",\"dir\":true,\"nodes\":[{\"key\":"
		"\"/a/b\",\"value\":\"1\"}]},{\"key\":\"/c\",\"value\":\"2\"}]}}",
		0);
	const struct etcd_node *a = etcd_node_child(r->node, "a");

	assert_string_equal(r->node->key, "");
	assert_null(r->node->value);
	assert_int_equal(r->node->node_count, 2);
	assert_string_equal(etcd_node_name(a), "a");
	assert_string_equal(etcd_node_child(a, "b")->value, "1");
	assert_null(etcd_node_child(a, "c"));
	assert_null(r->prev_node);
	etcd_response_unref(r);
}

static void etcds_errors_are_told_in_one_line(void **state _unused_)
{
	struct etcd_response *r = parse(RESPONSE_KEYS, 404,
		"{\"errorCode\":100,\"message\":\"Key not found\",\"cause\":\"/foo\",\"index\":17}\n", 0);

	assert_int_equal(r->outcome, ETCD_REFUSED);
	assert_true(etcd_response_is(r, ETCD_KEY_NOT_FOUND));
	assert_false(etcd_response_is(r, ETCD_KEY_EXISTS));
	assert_string_equal(r->cause, "/foo");
	assert_int_equal(r->error_index, 17);
	assert_string_equal(r->error_text, "100: Key not found (/foo) [17]");
	etcd_response_unref(r);
}

static void errors_of_other_paths_have_a_message_or_a_status(void **state _unused_)
{
	struct etcd_response *r = parse(RESPONSE_MEMBERS, 409, "{\"message\":\"peerURL exists\"}", 0);

	assert_int_equal(r->outcome, ETCD_REFUSED);
	assert_string_equal(r->error_text, "peerURL exists");
	etcd_response_unref(r);
	r = parse(RESPONSE_RAW, 404, "404 page not found\n", 0);
	assert_int_equal(r->outcome, ETCD_REFUSED);
	assert_string_equal(r->error_text, "unexpected status code 404");
	assert_string_equal(r->body, "404 page not found\n");
	etcd_response_unref(r);
}

static void members_are_listed_and_one_alone_is_a_list_of_one(void **state _unused_)
{
	struct etcd_response *r = parse(RESPONSE_MEMBERS, 200,
		"{\"members\":[{\"id\":\"a1\",\"name\":\"n\",\"peerURLs\":[\"http://"
		"p:1\"],\"clientURLs\":[\"http://c:1\",5,"
		"\"http://c:2\"]},{\"id\":\"b2\",\"name\":\"\",\"peerURLs\":null}]}",
		0);

	assert_int_equal(r->member_count, 2);
	assert_string_equal(r->members[0].id, "a1");
	assert_int_equal(r->members[0].client_url_count, 2);
	assert_string_equal(r->members[0].client_urls[1], "http://c:2");
	assert_int_equal(r->members[1].peer_url_count, 0);
	etcd_response_unref(r);
	r = parse(
		RESPONSE_MEMBERS, 201, "{\"id\":\"c3\",\"name\":\"\",\"peerURLs\":[],\"clientURLs\":[]}", 0);
	assert_int_equal(r->member_count, 1);
	assert_string_equal(r->members[0].id, "c3");
	etcd_response_unref(r);
}

static void what_is_not_etcd_is_a_bad_answer(void **state _unused_)
{
	static const struct {
		enum response_kind kind;
		int status;
		const char *body;
	} cases[] = {
		{RESPONSE_KEYS, 200, ""},
		{RESPONSE_KEYS, 200, "<html>"},
		{RESPONSE_KEYS, 200, "[]"},
		{RESPONSE_KEYS, 200, "{\"action\":\"get\"}"},
		{RESPONSE_KEYS, 200, "{\"action\":1,\"node\":{}}"},
		{RESPONSE_KEYS, 200, "{\"action\":\"get\",\"node\":[]}"},
		{RESPONSE_KEYS, 200, "{\"action\":\"get\",\"node\":{\"nodes\":[7]}}"},
		{RESPONSE_KEYS, 200,
			"{\"action\":\"get\",\"node\":{\"modifiedIndex\":99999999999999999999}}"},
		{RESPONSE_KEYS, 404, "404 page not found\n"},
		{RESPONSE_MEMBERS, 200, "{}"},
		{RESPONSE_MEMBERS, 200, "null"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct etcd_response *r = parse(cases[i].kind, cases[i].status, cases[i].body, -EBADMSG);
		assert_int_equal(r->outcome, ETCD_BAD_ANSWER);
		assert_true(r->error_text[0]);
		etcd_response_unref(r);
	}
}

static void deep_nesting_is_refused_and_not_followed(void **state _unused_)
{
	_cleanup_buf_ struct buf body = BUF_INIT(0);

	buf_add_str(&body, "{\"action\":\"get\",\"node\":");
	for (int i = 0; i < 100000; i++)
		buf_add_str(&body, "{\"nodes\":[");
	etcd_response_unref(parse(RESPONSE_KEYS, 200, buf_text(&body), -EBADMSG));
}

static void headers_are_read_in_any_case(void **state _unused_)
{
	struct response *r = response_new();

	response_set_header(r, SLICE_LITERAL("x-etcd-index"), SLICE_LITERAL("12"));
	response_set_header(r, SLICE_LITERAL("X-RAFT-INDEX"), SLICE_LITERAL("34"));
	response_set_header(r, SLICE_LITERAL("X-Raft-Term"), SLICE_LITERAL("many"));
	response_set_header(r, SLICE_LITERAL("X-Etcd-Cluster-Id"), SLICE_LITERAL("abc"));
	assert_int_equal(r->pub.etcd_index, 12);
	assert_int_equal(r->pub.raft_index, 34);
	assert_int_equal(r->pub.raft_term, 0);
	assert_string_equal(r->pub.cluster_id, "abc");
	etcd_response_unref(&r->pub);
}

static void a_reference_keeps_the_response(void **state _unused_)
{
	struct etcd_response *r = parse(RESPONSE_RAW, 200, "text", 0), *kept = etcd_response_ref(r);

	assert_null(etcd_response_unref(r));
	assert_string_equal(kept->body, "text");
	assert_null(etcd_response_unref(kept));
	assert_null(etcd_response_unref(NULL));
}

static void a_failure_names_every_endpoint(void **state _unused_)
{
	struct response *r = response_new();

	response_add_attempt(r, "http://a:1", "dial tcp a:1: connect: connection refused", false);
	response_add_attempt(r, "http://b:1", "too slow", true);
	response_set_failure(r, ETCD_UNREACHABLE);
	assert_string_equal(r->pub.error_text,
		"no endpoint answers: http://a:1: dial tcp a:1: connect: connection "
		"refused; http://b:1: too slow");
	assert_int_equal(r->pub.attempt_count, 2);
	assert_true(r->pub.attempts[1].timed_out);
	etcd_response_unref(&r->pub);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_event_has_all_its_fields),
		cmocka_unit_test(a_listing_is_a_tree),
		cmocka_unit_test(etcds_errors_are_told_in_one_line),
		cmocka_unit_test(errors_of_other_paths_have_a_message_or_a_status),
		cmocka_unit_test(members_are_listed_and_one_alone_is_a_list_of_one),
		cmocka_unit_test(what_is_not_etcd_is_a_bad_answer),
		cmocka_unit_test(deep_nesting_is_refused_and_not_followed),
		cmocka_unit_test(headers_are_read_in_any_case),
		cmocka_unit_test(a_reference_keeps_the_response),
		cmocka_unit_test(a_failure_names_every_endpoint),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
