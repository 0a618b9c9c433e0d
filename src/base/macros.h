/* The few words every room uses: cleanup attributes, ownership transfer, small arithmetic. */
#pragma once
#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Calls fn(&variable) when the variable goes out of scope. */
#define _cleanup_(fn) __attribute__((cleanup(fn)))
#define _printf_(format_at, first_at) __attribute__((format(printf, format_at, first_at)))
#define _must_check_ __attribute__((warn_unused_result))
#define _unused_ __attribute__((unused))
#define _noreturn_ __attribute__((noreturn))

/* Moves ownership out of a pointer in one visible word: `*ret = take_ptr(foo);` leaves foo NULL. */
#define take_ptr(ptr)                                  \
	__extension__({                                \
		__typeof__(ptr) *taken_from_ = &(ptr); \
		__typeof__(ptr) taken_ = *taken_from_; \
		*taken_from_ = NULL;                   \
		taken_;                                \
	})

#define take_fd(fd)                    \
	__extension__({                \
		int *fd_from_ = &(fd); \
		int fd_ = *fd_from_;   \
		*fd_from_ = -1;        \
		fd_;                   \
	})

/* Defines x_freep() for `_cleanup_(x_freep)` from a destructor that returns NULL or void. */
#define DEFINE_CLEANUP(type, destructor)               \
	static inline void destructor##p(type *object) \
	{                                              \
		if (*object)                           \
			(void)destructor(*object);     \
	}

#define ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))
#define container_of(ptr, type, member)                                            \
	__extension__({                                                            \
		const __typeof__(((type *)0)->member) *member_ptr_ = (ptr);        \
		(type *)((char *)(uintptr_t)member_ptr_ - offsetof(type, member)); \
	})
/* <sys/param.h>, which <uv.h> brings in, has its own. */
#undef MIN
#undef MAX
#define MIN(a, b)                                  \
	__extension__({                            \
		__typeof__(a) min_a_ = (a);        \
		__typeof__(b) min_b_ = (b);        \
		min_a_ < min_b_ ? min_a_ : min_b_; \
	})
#define MAX(a, b)                                  \
	__extension__({                            \
		__typeof__(a) max_a_ = (a);        \
		__typeof__(b) max_b_ = (b);        \
		max_a_ > max_b_ ? max_a_ : max_b_; \
	})
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
