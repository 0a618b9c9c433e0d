/* One directory at a time, depth first. */
#include "manager/path_glob.h"
#include "base/memory.h"
#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* `path` is what has been found so far, `rest` the pattern's parts behind it, with a slash in front. */
static int find(const char *path, const char *rest, size_t *left)
{
	size_t len = strcspn(rest + 1, "/");
	_cleanup_free_ char *part = mem_strndup(rest + 1, len);
	const char *behind = rest + 1 + len;
	struct dirent *entry;
	struct stat unused;
	int r = 0;
	DIR *dir;

	if (!strpbrk(part, "*?[\\")) {
		_cleanup_free_ char *next = mem_printf("%s/%s", path, part);

		if (lstat(next, &unused) < 0)
			return 0;
		return *behind ? find(next, behind, left) : 1;
	}
	dir = opendir(*path ? path : "/");
	while (dir && r == 0 && (entry = readdir(dir))) {
		_cleanup_free_ char *next = NULL;

		if (!*left) {
			r = -E2BIG;
			break;
		}
		--*left;
		if (fnmatch(part, entry->d_name, FNM_PERIOD) != 0)
			continue;
		if (!*behind) {
			r = 1;
			break;
		}
		next = mem_printf("%s/%s", path, entry->d_name);
		r = find(next, behind, left);
	}
	if (dir)
		closedir(dir);
	return r;
}

int path_glob(const char *pattern, size_t max)
{
	return find("", pattern, &max);
}
