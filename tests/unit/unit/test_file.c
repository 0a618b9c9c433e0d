#include "unit/unit.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

/* Texts with the hashes that fleet 1.0 computed for them (recorded; some only in their short form). */
static const struct {
	const char *text, *hash;
} recorded[] = {
	{"[Service]\nExecStart=/bin/sleep 100000\n\n[Install]\nWantedBy=multi-user.target\n\n[X-Fleet]\n"
	 "MachineMetadata=hostname=n1\n",
		"96c76973548b0aae4395572065aaceff5123f956"},
	{"[Unit]\nDescription=Hello\n\n[Service]\nExecStart=/bin/sleep 100000\n",
		"b0ae5a47fd8991a7655e3660c89736dce908c978"},
	{"[Service]\nExecStart=/bin/sleep 100000\n\n[X-Fleet]\nGlobal=true\n",
		"c8249a246e4a4c730c7a72660cf9cd501b7f76dc"},
	{"[Service]\nExecStart=/bin/sleep 100000\n", "f2c95611864379c4747edbab79167477cc7566d3"},
	{"[Unit]\nDescription=Hello World\n\n[Service]\nExecStart=/bin/bash -c \"while true; do echo Hello, "
	 "World; "
	 "sleep 1; done\"\n",
		"d0f1bb94f38559963fff501aa63f3e0180727651"},
	{"[Unit]\nDescription=Hello World\n\n[Service]\nExecStart=/bin/bash -c \"while true; do echo Hello, "
	 "World %i; "
	 "sleep 1; done\"\n",
		"ffa53b9"},
};

static struct unit_file *parse(const char *text)
{
	struct unit_file *file = NULL;
	struct unit_error error;

	if (unit_file_parse(slice_str(text), &file, &error) < 0)
		fail_msg("%s", error.text);
	return file;
}

static void hashes_equal_those_fleet_computed(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(recorded); i++) {
		_cleanup_(unit_file_freep) struct unit_file *file = parse(recorded[i].text);
		_cleanup_buf_ struct buf text = BUF_INIT(0);
		uint8_t hash[UNIT_HASH_SIZE], back[UNIT_HASH_SIZE];
		char hex[UNIT_HASH_HEX_SIZE];

		unit_file_serialise(file, &text);
		assert_string_equal(buf_text(&text), recorded[i].text);
		unit_file_hash(file, hash);
		unit_hash_hex(hash, hex);
		assert_memory_equal(hex, recorded[i].hash, strlen(recorded[i].hash));
		assert_int_equal(unit_hash_from_hex(slice_str(hex), back), 0);
		assert_memory_equal(hash, back, sizeof(hash));
	}
}

static void layout_and_comments_do_not_change_the_hash(void **state)
{
	_cleanup_(unit_file_freep) struct unit_file *a = parse("[S]\nA=1\nB=2\n"),
						    *b = parse("# c\n\n[S]\n A = 1\n\n;\nB=2");
	uint8_t hash_a[UNIT_HASH_SIZE], hash_b[UNIT_HASH_SIZE];

	(void)state;
	unit_file_hash(a, hash_a);
	unit_file_hash(b, hash_b);
	assert_memory_equal(hash_a, hash_b, sizeof(hash_a));
}

static void repeated_sections_are_merged_into_the_first(void **state)
{
	_cleanup_(unit_file_freep) struct unit_file *file = parse("[A]\nx=1\n[B]\ny=2\n[A]\nz=3\n");
	_cleanup_buf_ struct buf text = BUF_INIT(0);

	(void)state;
	unit_file_serialise(file, &text);
	assert_string_equal(buf_text(&text), "[A]\nx=1\nz=3\n\n[B]\ny=2\n");
}

static void options_are_found_in_order(void **state)
{
	_cleanup_(unit_file_freep) struct unit_file *file =
		parse("[Unit]\nDescription=one\n[S]\nDescription=no\n[Unit]\nDescription=two\n");
	const struct unit_option *option;
	size_t position = 0;

	(void)state;
	option = unit_file_next(file, "Unit", "Description", &position);
	assert_true(slice_is(option->value, "one"));
	option = unit_file_next(file, "Unit", NULL, &position);
	assert_true(slice_is(option->value, "two"));
	assert_null(unit_file_next(file, "Unit", NULL, &position));
	assert_true(slice_is(unit_file_description(file), "one"));
}

static void malformed_hashes_are_refused(void **state)
{
	uint8_t hash[UNIT_HASH_SIZE];

	(void)state;
	assert_int_equal(unit_hash_from_hex(slice_str("d0f1bb9"), hash), -EINVAL);
	assert_int_equal(
		unit_hash_from_hex(slice_str("g0f1bb94f38559963fff501aa63f3e0180727651"), hash), -EINVAL);
	assert_int_equal(unit_hash_from_hex(slice_str("D0F1bb94f38559963fff501aa63f3e0180727651"), hash), 0);
	assert_int_equal(hash[0], 0xd0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hashes_equal_those_fleet_computed),
		cmocka_unit_test(layout_and_comments_do_not_change_the_hash),
		cmocka_unit_test(repeated_sections_are_merged_into_the_first),
		cmocka_unit_test(options_are_found_in_order),
		cmocka_unit_test(malformed_hashes_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
