/* Allocation. What a user can grow is bounded by named ceilings (struct buf, queue limits), so that memory
 * running out is a fault of the host and not a state to limp on in: these functions never return NULL, they
 * end the process with a message (docs/decisions/001-out-of-memory.md). Any thread. */
#pragma once
#include "base/macros.h"
#include <stdlib.h>

void *mem_alloc(size_t size_bytes) __attribute__((malloc, returns_nonnull));
void *mem_calloc(size_t count, size_t size_bytes)
	__attribute__((malloc, returns_nonnull)); /* zeroed; checks overflow */
void *mem_realloc(void *ptr, size_t size_bytes) __attribute__((returns_nonnull));
void *mem_reallocarray(void *ptr, size_t count, size_t size_bytes) __attribute__((returns_nonnull));
void *mem_dup(const void *data, size_t size_bytes) __attribute__((malloc, returns_nonnull));
char *mem_strdup(const char *text) __attribute__((malloc, returns_nonnull));
char *mem_strndup(const char *text, size_t len)
	__attribute__((malloc, returns_nonnull)); /* NUL-terminated copy */
char *mem_printf(const char *format, ...) __attribute__((malloc, returns_nonnull)) _printf_(1, 2);

#define mem_new(type) ((type *)mem_calloc(1, sizeof(type)))
#define mem_new_array(type, count) ((type *)mem_calloc((count), sizeof(type)))

/* free() that answers NULL, and its cleanup form for char pointers and other plain blocks. */
static inline void *mem_free(void *ptr)
{
	free(ptr);
	return NULL;
}
static inline void mem_freep(void *ptr_to_ptr)
{
	free(*(void **)ptr_to_ptr);
}
#define _cleanup_free_ _cleanup_(mem_freep)

void closep(int *fd);
#define _cleanup_close_ _cleanup_(closep)

/* For a program that may come to hold much for long: once its heap is above some megabytes it grows in larger
 * steps, and in pages of 2 MB where the system has them. A heap of a gigabyte then costs a few hundred page
 * faults instead of a quarter of a million, and a look at a random place of it fewer walks through page
 * tables. Small heaps are left as they are. Call once, from the main thread, at the start. */
void mem_expect_much(void);

/* An arena: everything that lives as long as one request or one turn, freed at once. One owner, one thread.
 */
struct arena {
	struct arena_block *blocks; /* newest first */
	size_t used_bytes, block_bytes, total_bytes;
};
void arena_init(struct arena *arena);
/* For one that lasts, by the thousand: its first block has room for so much and no more. */
void arena_init_sized(struct arena *arena, size_t room_bytes);
void arena_done(struct arena *arena);
void arena_reset(struct arena *arena); /* frees all but one block */
void *arena_alloc(struct arena *arena, size_t size_bytes)
	__attribute__((returns_nonnull)); /* zeroed, 16-aligned */
char *arena_strndup(struct arena *arena, const char *text, size_t len) __attribute__((returns_nonnull));
char *arena_printf(struct arena *arena, const char *format, ...) __attribute__((returns_nonnull))
_printf_(2, 3);
