/* Buffers, slices, arenas, and the ownership words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "base/buf.h"
#include "base/memory.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

static void a_buffer_grows_and_stays_a_string(void **state)
{
	_cleanup_buf_ struct buf buf = BUF_INIT(0);
	size_t len;
	char *taken;

	(void)state;
	assert_string_equal(buf_text(&buf), "");
	buf_add_str(&buf, "abc");
	buf_add_char(&buf, 'd');
	buf_add_fill(&buf, 'x', 3);
	buf_add_u64(&buf, UINT64_MAX);
	buf_add_i64(&buf, INT64_MIN);
	buf_add_i64(&buf, 7);
	buf_printf(&buf, "[%s %d]", "fmt", 5);
	buf_add(&buf, NULL, 0);
	assert_string_equal(buf_text(&buf), "abcdxxx18446744073709551615-92233720368547758087[fmt 5]");
	buf_truncate(&buf, 4);
	assert_string_equal(buf_text(&buf), "abcd");
	buf_consume(&buf, 3);
	assert_string_equal(buf_text(&buf), "d");
	for (int i = 0; i < 100000; i++)
		buf_add_char(&buf, 'y');
	assert_int_equal(buf.len, 100001);
	assert_int_equal(buf.data[buf.len], '\0');
	taken = buf_take(&buf, &len);
	assert_int_equal(len, 100001);
	assert_int_equal(buf.len, 0);
	free(taken);
	taken = buf_take(&buf, NULL);
	assert_string_equal(taken, "");
	free(taken);
}

static void a_ceiling_sticks_until_the_buffer_is_cleared(void **state)
{
	_cleanup_buf_ struct buf buf = BUF_INIT(10);

	(void)state;
	buf_add_str(&buf, "12345");
	assert_int_equal(buf_error(&buf), 0);
	buf_add_str(&buf, "678901");
	assert_int_equal(buf_error(&buf), -ENOBUFS);
	buf_add_char(&buf, 'x'); /* there would be room, but the contents are incomplete already */
	assert_string_equal(buf_text(&buf), "12345");
	assert_null(buf_reserve(&buf, 1));
	buf_clear(&buf);
	buf_printf(&buf, "%d", 1234567890);
	assert_int_equal(buf_error(&buf), 0);
	assert_string_equal(buf_text(&buf), "1234567890");
	buf_printf(&buf, "%d", 1);
	assert_int_equal(buf_error(&buf), -ENOBUFS);
	assert_null(buf_reserve(&(struct buf){0}, SIZE_MAX));
}

static void slices_compare_bytewise(void **state)
{
	(void)state;
	assert_true(slice_equal(slice_make(NULL, 0), SLICE_LITERAL("")));
	assert_true(slice_compare(SLICE_LITERAL("a"), SLICE_LITERAL("ab")) < 0);
	assert_true(slice_compare(SLICE_LITERAL("\xff"), SLICE_LITERAL("a")) > 0);
	assert_int_equal(slice_compare(SLICE_LITERAL("a\0b"), SLICE_LITERAL("a\0b")), 0);
	assert_true(slice_starts_with(SLICE_LITERAL("abc"), SLICE_LITERAL("ab")));
	assert_false(slice_starts_with(SLICE_LITERAL("a"), SLICE_LITERAL("ab")));
	assert_true(slice_ends_with(SLICE_LITERAL("abc"), SLICE_LITERAL("bc")));
	assert_true(slice_ends_with(SLICE_LITERAL("abc"), SLICE_LITERAL("")));
	assert_false(slice_is(SLICE_LITERAL("abc"), "abd"));
}

static void an_arena_gives_zeroed_aligned_memory(void **state)
{
	struct arena arena;

	(void)state;
	arena_init(&arena);
	for (int round = 0; round < 3; round++) {
		for (size_t size = 0; size < 10000; size += 37) {
			unsigned char *at = arena_alloc(&arena, size);

			assert_int_equal((uintptr_t)at % 16, 0);
			for (size_t i = 0; i < size; i++)
				assert_int_equal(at[i], 0);
			memset(at, 0xaa, size);
		}
		assert_string_equal(arena_printf(&arena, "%s-%d", "x", 5), "x-5");
		assert_string_equal(arena_strndup(&arena, "abcdef", 3), "abc");
		arena_reset(&arena);
		assert_true(arena.total_bytes < 8192);
	}
	arena_done(&arena);
	arena_done(&arena);
}

static void a_sized_arena_takes_what_it_was_made_for_and_grows_past_it(void **state)
{
	struct arena arena;

	(void)state;
	arena_init_sized(&arena, 48);
	assert_string_equal(arena_strndup(&arena, "0123456789", 10), "0123456789");
	assert_non_null(arena_alloc(&arena, 32));
	assert_int_equal(arena.total_bytes, 48);
	assert_non_null(arena_alloc(&arena, 1));
	assert_true(arena.total_bytes > 48);
	arena_done(&arena);
	arena_init_sized(&arena, 0);
	assert_int_equal(arena.total_bytes, 0);
	arena_done(&arena);
}

static void ownership_moves_in_one_word(void **state)
{
	char *text = mem_printf("%s", "owned");
	_cleanup_free_ char *moved = take_ptr(text);
	_cleanup_free_ char *copy = mem_strndup("abcdef", 2);
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), copy_fd = take_fd(fd);

	(void)state;
	assert_null(text);
	assert_string_equal(moved, "owned");
	assert_string_equal(copy, "ab");
	assert_int_equal(fd, -1);
	closep(&copy_fd);
	assert_int_equal(copy_fd, -1);
	closep(&copy_fd);
}

/* Whether the system has large pages or not: blocks hold what was put into them while the heap grows, shrinks
 * and grows again. Where it is the C library's it grows by whole large pages. */
static void a_large_heap_holds_what_it_was_given(void **state)
{
	enum { BLOCKS = 60000, BLOCK_BYTES = 1000, LARGE_PAGE_BYTES = 2 << 20 };
	char **blocks = mem_new_array(char *, BLOCKS);
	uintptr_t begin = (uintptr_t)sbrk(0), end;

	(void)state;
	mem_expect_much();
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < BLOCKS; i++) {
			blocks[i] = mem_alloc(BLOCK_BYTES);
			memset(blocks[i], i + round, BLOCK_BYTES);
		}
		end = (uintptr_t)sbrk(0);
		if (round == 0 && end - begin > BLOCKS * BLOCK_BYTES / 2)
			assert_int_equal(end % LARGE_PAGE_BYTES, 0);
		for (int i = 0; i < BLOCKS; i++) {
			assert_int_equal((unsigned char)blocks[i][0], (unsigned char)(i + round));
			assert_int_equal(
				(unsigned char)blocks[i][BLOCK_BYTES - 1], (unsigned char)(i + round));
			blocks[i] = mem_free(blocks[i]);
		}
	}
	free(blocks);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_buffer_grows_and_stays_a_string),
		cmocka_unit_test(a_ceiling_sticks_until_the_buffer_is_cleared),
		cmocka_unit_test(slices_compare_bytewise),
		cmocka_unit_test(an_arena_gives_zeroed_aligned_memory),
		cmocka_unit_test(a_sized_arena_takes_what_it_was_made_for_and_grows_past_it),
		cmocka_unit_test(ownership_moves_in_one_word),
		cmocka_unit_test(a_large_heap_holds_what_it_was_given),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
