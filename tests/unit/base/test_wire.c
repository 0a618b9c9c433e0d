/* Wire fields: what is written is read back, and no input makes the reader run past its end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "base/rng.h"
#include "base/wire.h"
#include <errno.h>

static void fields_come_back_as_written(void **state)
{
	static const uint64_t varints[] = {
		0, 1, 127, 128, 300, 16383, 16384, UINT32_MAX, INT64_MAX, UINT64_MAX};
	_cleanup_buf_ struct buf out = BUF_INIT(0);
	struct wire_reader reader;

	(void)state;
	wire_add_u8(&out, 0xfe);
	wire_add_u16(&out, 0x1234);
	wire_add_u32(&out, 0xdeadbeef);
	wire_add_u64(&out, UINT64_C(0x0102030405060708));
	for (size_t i = 0; i < ARRAY_LEN(varints); i++)
		wire_add_varint(&out, varints[i]);
	wire_add_bytes(&out, SLICE_LITERAL("bytes"));
	wire_add_bytes(&out, slice_make(NULL, 0));
	assert_memory_equal(out.data, "\xfe\x34\x12\xef\xbe\xad\xde\x08\x07\x06\x05\x04\x03\x02\x01", 15);
	reader = wire_reader_make(buf_slice(&out));
	assert_int_equal(wire_read_u8(&reader), 0xfe);
	assert_int_equal(wire_read_u16(&reader), 0x1234);
	assert_int_equal(wire_read_u32(&reader), 0xdeadbeef);
	assert_true(wire_read_u64(&reader) == UINT64_C(0x0102030405060708));
	for (size_t i = 0; i < ARRAY_LEN(varints); i++)
		assert_true(wire_read_varint(&reader) == varints[i]);
	assert_int_equal(wire_finish(&reader), -EBADMSG); /* not used up */
	assert_true(slice_is(wire_read_bytes(&reader), "bytes"));
	assert_int_equal(wire_read_bytes(&reader).len, 0);
	assert_int_equal(wire_left(&reader), 0);
	assert_int_equal(wire_finish(&reader), 0);
	assert_int_equal(wire_read_u8(&reader), 0);
	assert_int_equal(wire_finish(&reader), -EBADMSG);
}

static void malformed_varints_are_refused(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
	} cases[] = {
		{"\x80", 1},
		{"\x80\x00", 2}, /* a second spelling of zero */
		{"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10},
		{"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11},
		{"", 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct wire_reader reader = wire_reader_make(slice_make(cases[i].bytes, cases[i].len));

		assert_true(wire_read_varint(&reader) == 0);
		assert_true(reader.failed);
		assert_int_equal(wire_left(&reader), 0);
	}
}

static void lengths_beyond_the_input_are_refused(void **state)
{
	struct wire_reader reader = wire_reader_make(SLICE_LITERAL("\x05"
								   "abcd"));

	(void)state;
	assert_int_equal(wire_read_bytes(&reader).len, 0);
	assert_int_equal(wire_finish(&reader), -EBADMSG);
	reader = wire_reader_make(SLICE_LITERAL("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
						"x"));
	assert_int_equal(wire_read_bytes(&reader).len, 0);
	assert_int_equal(wire_finish(&reader), -EBADMSG);
	reader = wire_reader_make(slice_make(NULL, 0));
	assert_int_equal(wire_finish(&reader), 0);
}

static void random_bytes_never_lead_past_the_end(void **state)
{
	struct rng rng;

	(void)state;
	rng_seed(&rng, 1);
	for (int round = 0; round < 20000; round++) {
		char bytes[24];
		size_t len = rng_below(&rng, sizeof(bytes));
		struct wire_reader reader;

		for (size_t i = 0; i < len; i++)
			bytes[i] = (char)rng_next(&rng);
		reader = wire_reader_make(slice_make(bytes, len));
		while (!reader.failed && wire_left(&reader)) {
			struct slice got;

			switch (rng_below(&rng, 4)) {
			case 0:
				(void)wire_read_u16(&reader);
				break;
			case 1:
				(void)wire_read_u64(&reader);
				break;
			case 2:
				(void)wire_read_varint(&reader);
				break;
			default:
				got = wire_read_bytes(&reader);
				assert_true(
					!got.len || (got.data >= bytes && got.data + got.len <= bytes + len));
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fields_come_back_as_written),
		cmocka_unit_test(malformed_varints_are_refused),
		cmocka_unit_test(lengths_beyond_the_input_are_refused),
		cmocka_unit_test(random_bytes_never_lead_past_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
