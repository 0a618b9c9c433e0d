/* Bytes of segment and frame headers. */
#include "base/macros.h"
#include "wal/format.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const struct wal_segment_header header = {
	.version = WAL_FORMAT_VERSION,
	.cluster_id = 0x1122334455667788,
	.member_id = 0x99aabbccddeeff00,
	.number = 7,
	.seed = 42,
	.first_index = 1000,
	.first_sequence = 77,
	.chain = 0xcafe,
};

static void segment_header_round_trips(void **state)
{
	char bytes[WAL_SEGMENT_HEADER_BYTES], again[WAL_SEGMENT_HEADER_BYTES];
	struct wal_segment_header back;

	(void)state;
	wal_segment_header_encode(bytes, &header);
	assert_int_equal(
		wal_segment_header_decode(slice_make(bytes, sizeof(bytes)), &back), WAL_HEADER_VALID);
	assert_int_equal(back.number, 7);
	assert_int_equal(back.chain, 0xcafe);
	wal_segment_header_encode(again, &back);
	assert_memory_equal(again, bytes, sizeof(bytes));
}

static void segment_header_with_any_bit_flipped_is_refused(void **state)
{
	char bytes[WAL_SEGMENT_HEADER_BYTES];
	struct wal_segment_header back;

	(void)state;
	for (size_t bit = 0; bit < sizeof(bytes) * 8; bit++) {
		wal_segment_header_encode(bytes, &header);
		bytes[bit / 8] ^= (char)(1 << bit % 8);
		assert_int_not_equal(
			wal_segment_header_decode(slice_make(bytes, sizeof(bytes)), &back), WAL_HEADER_VALID);
	}
	assert_int_equal(wal_segment_header_decode(slice_make(bytes, 95), &back), WAL_HEADER_INVALID);
}

static void segment_header_of_a_newer_format_is_told_apart(void **state)
{
	char bytes[WAL_SEGMENT_HEADER_BYTES];
	struct wal_segment_header newer = header, back;

	(void)state;
	newer.version = WAL_FORMAT_VERSION + 1;
	wal_segment_header_encode(bytes, &newer);
	assert_int_equal(
		wal_segment_header_decode(slice_make(bytes, sizeof(bytes)), &back), WAL_HEADER_NEWER);
	assert_int_equal(back.version, WAL_FORMAT_VERSION + 1);
}

static void frame_header_checks_only_at_its_offset_and_in_its_life(void **state)
{
	char bytes[64] = {0};
	struct wal_frame_header frame = {.payload_len = 5,
					.segment = 3,
					.sequence = 9,
					.payload_crc = 0x1234},
				back;

	(void)state;
	wal_frame_header_encode(bytes + 8, 42, 8, &frame);
	assert_true(wal_frame_header_decode(slice_make(bytes, sizeof(bytes)), 8, 42, &back));
	assert_int_equal(back.payload_len, 5);
	assert_int_equal(back.segment, 3);
	assert_int_equal(back.sequence, 9);
	assert_int_equal(back.payload_crc, 0x1234);
	assert_false(wal_frame_header_decode(slice_make(bytes, sizeof(bytes)), 8, 43, &back));
	assert_false(wal_frame_header_decode(slice_make(bytes, sizeof(bytes)), 0, 42, &back));
	assert_false(wal_frame_header_decode(slice_make(bytes, 39), 8, 42, &back));
	assert_false(wal_frame_header_decode(slice_make(bytes + 8, sizeof(bytes) - 8), 0, 42, &back));
	for (size_t bit = 0; bit < WAL_FRAME_HEADER_BYTES * 8; bit++) {
		bytes[8 + bit / 8] ^= (char)(1 << bit % 8);
		assert_false(wal_frame_header_decode(slice_make(bytes, sizeof(bytes)), 8, 42, &back));
		bytes[8 + bit / 8] ^= (char)(1 << bit % 8);
	}
}

static void segment_names_round_trip_and_others_are_refused(void **state)
{
	char name[WAL_NAME_MAX];
	uint64_t number;

	(void)state;
	wal_segment_name(name, 0xabcdef);
	assert_string_equal(name, "0000000000abcdef.wal");
	assert_true(wal_segment_number(name, &number));
	assert_int_equal(number, 0xabcdef);
	assert_false(wal_segment_number("0000000000000000.wal", &number));
	assert_false(wal_segment_number("0000000000ABCDEF.wal", &number));
	assert_false(wal_segment_number("0000000000abcdef.wal~", &number));
	assert_false(wal_segment_number("0000000000abcdef", &number));
	assert_false(wal_segment_number("1.wal", &number));
	assert_false(wal_segment_number("", &number));
	assert_false(wal_segment_number(WAL_SPARE_NAME, &number));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(segment_header_round_trips),
		cmocka_unit_test(segment_header_with_any_bit_flipped_is_refused),
		cmocka_unit_test(segment_header_of_a_newer_format_is_told_apart),
		cmocka_unit_test(frame_header_checks_only_at_its_offset_and_in_its_life),
		cmocka_unit_test(segment_names_round_trip_and_others_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
