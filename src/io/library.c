/* By dlopen(3). dlsym(3) looks in the library and in those that it needs itself, in the order in which they
 * are named: libssl stands for libcrypto, too. */
#include "io/library.h"
#include <dlfcn.h>
#include <errno.h>
#include <string.h>

int library_open(
	const char *file, const char *const *names, size_t count, void *functions, struct buf *reterr)
{
	void **pointers = functions, *handle;

	if (pointers[0])
		return 0;
	handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
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
		(void)memset(pointers, 0, count * sizeof(*pointers));
		return -ENOSYS;
	}
	return 0;
}
