/* Every allocation goes through must(), which ends the process when the host has no memory left. */
#include "base/memory.h"
#include <errno.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct arena_block {
	struct arena_block *next;
	size_t size_bytes;
	char data[] __attribute__((aligned(16)));
};

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* linux/mman.h; the C library has no name for it yet */
#endif

enum { ARENA_BLOCK_BYTES = 4096 - sizeof(struct arena_block) };

/* ---- large heaps ---- */

#define SMALL_HEAP_BYTES (16u << 20)
#define PAGE_BYTES ((uintptr_t)4 << 10)
#define LARGE_PAGE_BYTES ((uintptr_t)2 << 20)
/* Of a large heap: how it grows, and how much may be free at its end. */
#define HEAP_STEP_BYTES (8 << 20)
#define HEAP_KEEP_BYTES (16 << 20)
/* Mappings lie far above the heap: a pointer that is less than this above the heap's known end is in its new
 * part. */
#define HEAP_REACH_BYTES ((uintptr_t)1 << 40)

/* As last seen; UINTPTR_MAX: not watched. One thread may see what another saw before: then it looks itself.
 */
static _Atomic(uintptr_t) heap_end = UINTPTR_MAX;
static uintptr_t heap_large; /* from here on it has large pages */

/* At start, before there are other threads. */
void mem_expect_much(void)
{
	uintptr_t end = (uintptr_t)sbrk(0);

	heap_large = (end + SMALL_HEAP_BYTES) & ~(LARGE_PAGE_BYTES - 1);
	atomic_store_explicit(&heap_end, end, memory_order_relaxed);
}

/* The heap has a new part. Threads that come here at the same time do the same. */
static void heap_grew(void)
{
	uintptr_t end = (uintptr_t)sbrk(0), before, from;

	before = atomic_exchange_explicit(&heap_end, end, memory_order_relaxed);
	from = MAX(heap_large, before) & ~(LARGE_PAGE_BYTES - 1);
	if (end < heap_large)
		return;
	/* malloc() asks for what it lacks, in pages, and for so much more: the next step ends with a large
	 * page. */
	(void)mallopt(M_TOP_PAD, (int)(HEAP_STEP_BYTES + (-end & (LARGE_PAGE_BYTES - 1)) - PAGE_BYTES));
	(void)mallopt(M_TRIM_THRESHOLD, HEAP_KEEP_BYTES);
	if (from >= end)
		return;
	/* Both fail where there are no large pages, the second one also before Linux 6.1. */
	(void)madvise((void *)from, end - from, MADV_HUGEPAGE);
	/* Its first words were written before it was advised, so that its first page is a small one. */
	(void)madvise((void *)from, LARGE_PAGE_BYTES, MADV_COLLAPSE);
}

static void *must(void *ptr)
{
	static const char message[] = "out of memory, stopping\n";

	if (unlikely((uintptr_t)ptr - atomic_load_explicit(&heap_end, memory_order_relaxed) <
		     HEAP_REACH_BYTES))
		heap_grew();
	if (unlikely(!ptr)) {
		(void)!write(STDERR_FILENO, message, sizeof(message) - 1);
		abort();
	}
	return ptr;
}

void *mem_alloc(size_t size_bytes)
{
	return must(malloc(size_bytes ? size_bytes : 1));
}

void *mem_calloc(size_t count, size_t size_bytes)
{
	return must(calloc(count ? count : 1, size_bytes ? size_bytes : 1));
}

void *mem_realloc(void *ptr, size_t size_bytes)
{
	return must(realloc(ptr, size_bytes ? size_bytes : 1));
}

void *mem_reallocarray(void *ptr, size_t count, size_t size_bytes)
{
	return must(reallocarray(ptr, count ? count : 1, size_bytes ? size_bytes : 1));
}

void *mem_dup(const void *data, size_t size_bytes)
{
	void *copy = mem_alloc(size_bytes);

	if (size_bytes)
		memcpy(copy, data, size_bytes);
	return copy;
}

char *mem_strdup(const char *text)
{
	return mem_strndup(text, strlen(text));
}

char *mem_strndup(const char *text, size_t len)
{
	char *copy = mem_alloc(len + 1);

	if (len)
		memcpy(copy, text, len);
	copy[len] = '\0';
	return copy;
}

char *mem_printf(const char *format, ...)
{
	char *text = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	return must(text);
}

void closep(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
	errno = saved;
}

void arena_init(struct arena *arena)
{
	*arena = (struct arena){0};
}

static void add_block(struct arena *arena, size_t block_bytes)
{
	struct arena_block *block = mem_alloc(sizeof(*block) + block_bytes);

	block->next = arena->blocks;
	block->size_bytes = block_bytes;
	arena->blocks = block;
	arena->block_bytes = block_bytes;
	arena->used_bytes = 0;
	arena->total_bytes += block_bytes;
}

void arena_init_sized(struct arena *arena, size_t room_bytes)
{
	arena_init(arena);
	if (room_bytes)
		add_block(arena, room_bytes);
}

void arena_done(struct arena *arena)
{
	while (arena->blocks) {
		struct arena_block *block = arena->blocks;

		arena->blocks = block->next;
		free(block);
	}
	*arena = (struct arena){0};
}

void arena_reset(struct arena *arena)
{
	struct arena_block *keep = arena->blocks;

	/* Only a block of the ordinary size is worth keeping: one large request must not pin its memory for
	 * ever. */
	if (keep && keep->size_bytes == ARENA_BLOCK_BYTES) {
		arena->blocks = keep->next;
		arena_done(arena);
		keep->next = NULL;
		arena->blocks = keep;
		arena->block_bytes = arena->total_bytes = keep->size_bytes;
	} else {
		arena_done(arena);
	}
}

void *arena_alloc(struct arena *arena, size_t size_bytes)
{
	size_t rounded = (size_bytes + 15) & ~(size_t)15;
	void *ptr;

	assert(rounded >= size_bytes);
	if (!arena->blocks || arena->block_bytes - arena->used_bytes < rounded)
		add_block(arena, MAX(rounded, (size_t)ARENA_BLOCK_BYTES));
	ptr = arena->blocks->data + arena->used_bytes;
	arena->used_bytes += rounded;
	memset(ptr, 0, rounded);
	return ptr;
}

char *arena_strndup(struct arena *arena, const char *text, size_t len)
{
	char *copy = arena_alloc(arena, len + 1);

	if (len)
		memcpy(copy, text, len);
	return copy;
}

char *arena_printf(struct arena *arena, const char *format, ...)
{
	va_list args, again;
	char *text;
	int len;

	assert(format);
	va_start(args, format);
	va_copy(again, args);
	len = vsnprintf(NULL, 0, format, args);
	va_end(args);
	assert(len >= 0);
	text = arena_alloc(arena, (size_t)len + 1);
	(void)vsnprintf(text, (size_t)len + 1, format, again);
	va_end(again);
	return text;
}
