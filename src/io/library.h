/* Shared libraries that are opened when they are first needed, so that a program which never needs them does
 * not pay for them: with OpenSSL linked in, the dynamic linker was half of the start of fleetctl. */
#pragma once
#include "base/buf.h"

/* A table of a library's functions, made of a list of their names:
 * #define FOO_FUNCTIONS(X) X(foo_new) X(foo_free)
 * struct foo { FOO_FUNCTIONS(LIBRARY_POINTER) };
 * static const char *const names[] = {FOO_FUNCTIONS(LIBRARY_NAME)}; */
#define LIBRARY_POINTER(name) __typeof__(name) *name;
#define LIBRARY_NAME(name) #name,

/* Opens `file` ("libfoo.so.1") for good and fills `functions`, a struct of `count` pointers in the order of
 * `names`; does nothing when it is filled. All of them are NULL before, and after -errno with a message that
 * names the file: -ENOENT it cannot be opened, -ENOSYS it has not all of them. `reterr` may be NULL. */
int library_open(const char *file, const char *const *names, size_t count, void *functions,
	struct buf *reterr) _must_check_;
