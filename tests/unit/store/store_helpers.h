/* What the store's tests share: commands in one line, and what came of them as text. */
#pragma once
#include "base/memory.h"
#include "base/time.h"
#include "store/store.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
/* cmocka needs the headers above first. */
#include <cmocka.h>

#define NOW (INT64_C(1700000000) * NS_PER_S)

static inline struct store_command command_make(enum store_op op, const char *path, const char *value)
{
	return (struct store_command){
		.op = op, .path = slice_str(path), .value = slice_str(value), .time_ns = NOW};
}

/* Applies and answers the event's JSON, or the error's, as one owned string without the newline. */
static inline char *apply_text(struct store *store, struct store_command command)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT(0), out = BUF_INIT(0);
	struct store_result result;

	store_command_encode(&command, &bytes);
	assert_int_equal(store_apply(store, buf_slice(&bytes), &result), 0);
	if (result.error)
		store_error_add_json(&out, result.error, result.cause, result.index);
	else if (result.event)
		buf_add_slice(&out, store_event_json(result.event));
	else
		buf_printf(&out, "expired %u\n", result.expired);
	buf_truncate(&out, out.len - 1);
	store_result_done(&result);
	return buf_take(&out, NULL);
}

static inline void apply_is(struct store *store, struct store_command command, const char *expected)
{
	_cleanup_free_ char *text = apply_text(store, command);

	assert_string_equal(text, expected);
}

static inline void apply_ok(struct store *store, struct store_command command)
{
	_cleanup_free_ char *text = apply_text(store, command);

	assert_null(strstr(text, "errorCode"));
}

static inline void get_is(struct store *store, const char *path, bool recursive, const char *expected)
{
	_cleanup_buf_ struct buf out = BUF_INIT(0);
	struct store_result result;

	store_get(store, slice_str(path), recursive, NOW, &out, &result);
	if (result.error)
		store_error_add_json(&out, result.error, result.cause, result.index);
	buf_truncate(&out, out.len - 1);
	assert_string_equal(buf_text(&out), expected);
	store_result_done(&result);
}
