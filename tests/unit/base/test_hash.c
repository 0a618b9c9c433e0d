/* Known checksums, and what the generator promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "base/hash.h"
#include "base/rng.h"
#include <string.h>

static void checksums_equal_rfc_3720(void **state)
{
	unsigned char bytes[32];

	(void)state;
	memset(bytes, 0, sizeof(bytes));
	assert_int_equal(crc32c(0, bytes, 32), 0x8a9136aa);
	memset(bytes, 0xff, sizeof(bytes));
	assert_int_equal(crc32c(0, bytes, 32), 0x62a8ab43);
	for (unsigned char i = 0; i < 32; i++)
		bytes[i] = i;
	assert_int_equal(crc32c(0, bytes, 32), 0x46dd794e);
	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
	assert_int_equal(crc32c(0, "", 0), 0);
}

static void checksums_may_be_taken_in_pieces(void **state)
{
	unsigned char bytes[300];
	struct rng rng;

	(void)state;
	rng_seed(&rng, 1);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)rng_next(&rng);
	for (size_t cut = 0; cut <= sizeof(bytes); cut++)
		assert_int_equal(crc32c(crc32c(0, bytes, cut), bytes + cut, sizeof(bytes) - cut),
			crc32c(0, bytes, sizeof(bytes)));
}

static void hashes_depend_on_every_byte_and_the_seed(void **state)
{
	unsigned char bytes[100] = {0};
	uint64_t plain;

	(void)state;
	for (size_t len = 0; len <= sizeof(bytes); len++) {
		plain = hash_bytes(bytes, len, 1);
		assert_true(plain == hash_bytes(bytes, len, 1));
		assert_true(plain != hash_bytes(bytes, len, 2));
		if (len < sizeof(bytes))
			assert_true(plain != hash_bytes(bytes, len + 1, 1));
		for (size_t i = 0; i < len; i++) {
			bytes[i] ^= 0x10;
			assert_true(plain != hash_bytes(bytes, len, 1));
			bytes[i] ^= 0x10;
		}
	}
	assert_true(hash_u64(1) != hash_u64(2));
}

static void the_same_seed_gives_the_same_numbers(void **state)
{
	struct rng a, b, c;
	bool differs = false;

	(void)state;
	rng_seed(&a, 5);
	rng_seed(&b, 5);
	rng_seed(&c, 6);
	for (int i = 0; i < 100; i++) {
		uint64_t number = rng_next(&a);

		assert_true(number == rng_next(&b));
		differs = differs || number != rng_next(&c);
	}
	assert_true(differs);
}

static void numbers_stay_below_their_bound_and_are_even(void **state)
{
	unsigned int counts[10] = {0}, hits = 0;
	struct rng rng;

	(void)state;
	rng_seed(&rng, 9);
	for (int i = 0; i < 100000; i++) {
		counts[rng_below(&rng, 10)]++;
		hits += rng_chance(&rng, 250000);
		assert_int_equal(rng_below(&rng, 1), 0);
	}
	for (size_t i = 0; i < 10; i++)
		assert_in_range(counts[i], 9500, 10500);
	assert_in_range(hits, 24000, 26000);
	assert_false(rng_chance(&rng, 0));
	assert_true(rng_chance(&rng, 1000000));
}

static void the_kernel_gives_different_bytes_each_time(void **state)
{
	unsigned char a[16], b[16];

	(void)state;
	rng_system(a, sizeof(a));
	rng_system(b, sizeof(b));
	assert_memory_not_equal(a, b, sizeof(a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(checksums_equal_rfc_3720),
		cmocka_unit_test(checksums_may_be_taken_in_pieces),
		cmocka_unit_test(hashes_depend_on_every_byte_and_the_seed),
		cmocka_unit_test(the_same_seed_gives_the_same_numbers),
		cmocka_unit_test(numbers_stay_below_their_bound_and_are_even),
		cmocka_unit_test(the_kernel_gives_different_bytes_each_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
