#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
/* cmocka needs the headers above first. */
#include "etcd/keys_request.h"
#include <cmocka.h>

#define FORM "application/x-www-form-urlencoded"

static enum store_error parse(struct arena *arena, const char *method, const char *query, const char *type,
	const char *body, struct keys_request *ret_request, const char **ret_cause)
{
	struct slice content_type = slice_str(type ? type : "");
	struct keys_input input = {.method = slice_str(method),
		.key = slice_str("/k/"),
		.query = slice_str(query),
		.content_type = type ? &content_type : NULL,
		.body = slice_str(body)};

	return keys_request_parse(arena, &input, ret_request, ret_cause);
}

static void the_first_bad_parameter_is_the_answer(void **state)
{
	static const struct {
		const char *method, *query;
		enum store_error error;
		const char *cause;
	} cases[] = {
		{"GET", "wait=%zz&prevIndex=x", STORE_INVALID_FORM, "invalid URL escape \"%zz\""},
		{"GET", "sorted=x&prevIndex=x", STORE_INDEX_NAN, "invalid value for \"prevIndex\""},
		{"GET", "waitIndex=", STORE_INDEX_NAN, "invalid value for \"waitIndex\""},
		{"GET", "prevIndex=%2B5", STORE_INDEX_NAN, "invalid value for \"prevIndex\""},
		{"GET", "prevIndex=18446744073709551616", STORE_INDEX_NAN, "invalid value for \"prevIndex\""},
		{"GET", "recursive=", STORE_INVALID_FIELD, "invalid value for \"recursive\""},
		{"PUT", "stream=yes", STORE_INVALID_FIELD, "invalid value for \"stream\""},
		{"HEAD", "wait=true", STORE_INVALID_FIELD, "\"wait\" can only be used with GET requests"},
		{"PUT", "prevValue=&ttl=x", STORE_PREV_VALUE_REQUIRED, "\"prevValue\" cannot be empty"},
		{"PUT", "ttl=-1&prevExist=x", STORE_TTL_NAN, "invalid value for \"ttl\""},
		{"PUT", "prevExist=", STORE_INVALID_FIELD, "invalid value for prevExist"},
		{"GET", "refresh=maybe", STORE_INVALID_FIELD, "invalid value for refresh"},
		{"PUT", "refresh=true&value=x", STORE_REFRESH_VALUE, "A value was provided on a refresh"},
		{"PUT", "refresh=true&value=", STORE_REFRESH_TTL_REQUIRED, "No TTL value set"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct arena arena;
		struct keys_request request;
		const char *cause = NULL;

		arena_init(&arena);
		assert_int_equal(parse(&arena, cases[i].method, cases[i].query, NULL, "", &request, &cause),
			cases[i].error);
		assert_string_equal(cause, cases[i].cause);
		arena_done(&arena);
	}
}

static void methods_and_parameters_choose_the_operation(void **state)
{
	static const struct {
		const char *method, *query;
		enum keys_kind kind;
		enum store_op op;
	} cases[] = {
		{"PUT", "", KEYS_WRITE, STORE_OP_SET},
		{"PUT", "prevExist=true", KEYS_WRITE, STORE_OP_UPDATE},
		{"PUT", "prevExist=true&prevIndex=0", KEYS_WRITE, STORE_OP_UPDATE},
		{"PUT", "prevExist=1&prevIndex=4", KEYS_WRITE, STORE_OP_COMPARE_AND_SWAP},
		{"PUT", "prevExist=false&prevValue=x", KEYS_WRITE, STORE_OP_CREATE},
		{"PUT", "prevValue=x", KEYS_WRITE, STORE_OP_COMPARE_AND_SWAP},
		{"POST", "prevExist=true&prevValue=x", KEYS_WRITE, STORE_OP_CREATE},
		{"DELETE", "", KEYS_WRITE, STORE_OP_DELETE},
		{"DELETE", "prevIndex=3", KEYS_WRITE, STORE_OP_COMPARE_AND_DELETE},
		{"GET", "", KEYS_READ, STORE_OP_NONE},
		{"GET", "wait=true", KEYS_WATCH, STORE_OP_NONE},
		{"GET", "wait=true&quorum=true", KEYS_READ, STORE_OP_NONE},
		{"HEAD", "", KEYS_READ, STORE_OP_NONE},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct arena arena;
		struct keys_request request;
		const char *cause = NULL;

		arena_init(&arena);
		assert_int_equal(
			parse(&arena, cases[i].method, cases[i].query, NULL, "", &request, &cause), STORE_OK);
		assert_int_equal(request.kind, cases[i].kind);
		assert_int_equal(request.command.op, cases[i].op);
		assert_true(slice_is(request.command.path, "/1/k"));
		assert_int_equal(request.command.in_order, slice_is(slice_str(cases[i].method), "POST"));
		arena_done(&arena);
	}
}

static void a_body_counts_only_as_a_form_and_before_the_query(void **state)
{
	static const struct {
		const char *method, *type, *body, *value;
	} cases[] = {
		{"PUT", FORM, "value=body", "body"},
		{"PUT", FORM "; charset=utf-8", "value=body&value=second", "body"},
		{"PUT", "APPLICATION/X-WWW-FORM-URLENCODED;", "value=a+b%20c", "a b c"},
		{"PUT", FORM, "other=1", "query"},
		{"PUT", "text/plain", "value=body", "query"},
		{"PUT", NULL, "value=body", "query"},
		{"DELETE", FORM, "value=%zz", "query"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct arena arena;
		struct keys_request request;
		const char *cause = NULL;

		arena_init(&arena);
		assert_int_equal(parse(&arena, cases[i].method, "value=query", cases[i].type, cases[i].body,
					 &request, &cause),
			STORE_OK);
		assert_true(slice_is(request.command.value, cases[i].value));
		arena_done(&arena);
	}
}

static void content_types_that_do_not_parse_are_refused_as_go_words_it(void **state)
{
	static const struct {
		const char *type, *cause;
	} cases[] = {
		{"bad;;;", "mime: invalid media parameter"},
		{";", "mime: no media type"},
		{"a b", "mime: expected slash after first token"},
		{"a/", "mime: expected token after slash"},
		{"a/b c", "mime: unexpected content after media subtype"},
		{"a/b; c=\"d", "mime: invalid media parameter"},
		{"a/b; c=\"d\" ; e=f;", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct arena arena;
		struct keys_request request;
		const char *cause = NULL;
		enum store_error error;

		arena_init(&arena);
		error = parse(&arena, "PUT", "", cases[i].type, "", &request, &cause);
		assert_int_equal(error, cases[i].cause ? STORE_INVALID_FORM : STORE_OK);
		if (cases[i].cause)
			assert_string_equal(cause, cases[i].cause);
		arena_done(&arena);
	}
}

static void a_ttl_becomes_an_absolute_expiry(void **state)
{
	struct arena arena;
	struct keys_request request;
	const char *cause = NULL;

	(void)state;
	arena_init(&arena);
	assert_int_equal(parse(&arena, "PUT", "ttl=5", NULL, "", &request, &cause), STORE_OK);
	keys_request_stamp(&request, 1000);
	assert_true(request.command.has_expiry && request.command.expires_ns == 5000001000 &&
		    request.command.time_ns == 1000);
	assert_int_equal(parse(&arena, "PUT", "ttl=", NULL, "", &request, &cause), STORE_OK);
	keys_request_stamp(&request, 1000);
	assert_false(request.command.has_expiry);
	arena_done(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_bad_parameter_is_the_answer),
		cmocka_unit_test(methods_and_parameters_choose_the_operation),
		cmocka_unit_test(a_body_counts_only_as_a_form_and_before_the_query),
		cmocka_unit_test(content_types_that_do_not_parse_are_refused_as_go_words_it),
		cmocka_unit_test(a_ttl_becomes_an_absolute_expiry),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
