/* By dlopen(3). dlsym(3) looks in the library and in those that it needs itself, in the order in which they
 * are named: libssl stands for libcrypto, too. */
#include "io/library.h"
#include <dlfcn.h>
#include <errno.h>

int library_open(
	const char *file, const char *const *names, size_t count, void *functions, struct buf *reterr)
{
	void *handle = dlopen(file, RTLD_NOW | RTLD_LOCAL), **pointers = functions;

	if (!handle) {
		if (reterr)
			buf_add_str(reterr, dlerror());
		return -ENOENT;
	}
	for (size_t i = 0; i < count; i++) {
		pointers[i] = dlsym(handle, names[i]);
		if (pointers[i])
			continue;
		if (reterr)
			buf_printf(reterr, "%s has no %s(): it is too old", file, names[i]);
		(void)dlclose(handle);
		return -ENOSYS;
	}
	return 0;
}
