/* Where cgroups are is told by files of /proc; nothing is cached, it is asked once per keeper. */
#include "manager/cgroup.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/file.h"
#include "manager/tracker.h"
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#define FILE_MAX (4u * 1024 * 1024)
#define ID_LEN 32
#define CGROUP_DEPTH_MAX 128 /* below a unit's own: a descriptor each while it is looked at */

static bool has_word(struct slice list, const char *word)
{
	while (list.len) {
		struct slice part;

		(void)text_cut(list, ',', &part, &list);
		if (slice_is(part, word))
			return true;
	}
	return !*word;
}

char *cgroup_own(const char *controller)
{
	_cleanup_buf_ struct buf text = BUF_INIT(FILE_MAX);
	struct slice rest;

	if (file_read("/proc/self/cgroup", FILE_MAX, &text) < 0)
		return NULL;
	rest = buf_slice(&text);
	while (rest.len) {
		struct slice line, number, tail, names, path;
		char *own, *nested;

		(void)text_cut(rest, '\n', &line, &rest);
		if (!text_cut(line, ':', &number, &tail) || !text_cut(tail, ':', &names, &path) ||
			(*controller ? !has_word(names, controller) : names.len != 0))
			continue;
		own = mem_strndup(path.data, path.len);
		/* A keeper that was started by a process in an earlier keeper's cgroup does not nest. */
		nested = strstr(own, "/flotilla-");
		if (nested)
			*nested = 0;
		if (!*own) {
			free(own);
			own = mem_strdup("/");
		}
		return own;
	}
	return NULL;
}

char *cgroup_mount(const char *type, const char *option)
{
	_cleanup_buf_ struct buf text = BUF_INIT(FILE_MAX);
	struct slice rest;

	if (file_read("/proc/self/mounts", FILE_MAX, &text) < 0)
		return NULL;
	rest = buf_slice(&text);
	while (rest.len) {
		struct slice line, fields[4] = {0};

		(void)text_cut(rest, '\n', &line, &rest);
		for (size_t i = 0; i < 4; i++)
			(void)text_cut(line, ' ', &fields[i], &line);
		if (slice_is(fields[2], type) && (!option || has_word(fields[3], option)))
			return mem_strndup(fields[1].data, fields[1].len);
	}
	return NULL;
}

bool cgroup_is_keepers(const char *name)
{
	static const char prefix[] = "flotilla-";
	const char *id = name + sizeof(prefix) - 1;

	return strncmp(name, prefix, sizeof(prefix) - 1) == 0 && strlen(id) == ID_LEN &&
	       strspn(id, "0123456789abcdef") == ID_LEN;
}

/* ---- a cgroup and those below it ---- */

/* Units of root may change the tree meanwhile: it is gone down by descriptors, and no link is followed. */
static DIR *open_below(int parent_fd, const char *name)
{
	int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (fd >= 0 && !dir)
		close(fd);
	return dir;
}

/* Of the next directory in it; NULL at the end. */
static const char *next_directory(DIR *dir)
{
	const struct dirent *entry;

	do {
		entry = readdir(dir);
	} while (entry && (entry->d_type != DT_DIR || strcmp(entry->d_name, ".") == 0 ||
				  strcmp(entry->d_name, "..") == 0));
	return entry ? entry->d_name : NULL;
}

static void add_pids(int dir_fd, struct pids *ret)
{
	_cleanup_buf_ struct buf text = BUF_INIT(FILE_MAX);
	struct slice rest;

	if (file_read_at(dir_fd, "cgroup.procs", FILE_MAX, &text) < 0)
		return;
	rest = buf_slice(&text);
	while (rest.len) {
		struct slice line;
		uint64_t pid;

		(void)text_cut(rest, '\n', &line, &rest);
		if (text_to_u64(line, &pid) == 0 && pid > 0) /* 0: a process outside this PID namespace */
			pids_add(ret, (pid_t)pid);
	}
}

static void pids_below(int parent_fd, const char *name, int depth, struct pids *ret)
{
	DIR *dir = depth > CGROUP_DEPTH_MAX ? NULL : open_below(parent_fd, name);
	const char *entry;

	if (!dir)
		return;
	add_pids(dirfd(dir), ret);
	while ((entry = next_directory(dir)))
		pids_below(dirfd(dir), entry, depth + 1, ret);
	closedir(dir);
}

void cgroup_pids(const char *path, struct pids *ret)
{
	pids_below(AT_FDCWD, path, 0, ret);
}

static void remove_below(int parent_fd, const char *name, int depth)
{
	DIR *dir = depth > CGROUP_DEPTH_MAX ? NULL : open_below(parent_fd, name);
	const char *entry;

	while (dir && (entry = next_directory(dir)))
		remove_below(dirfd(dir), entry, depth + 1);
	if (dir)
		closedir(dir);
	(void)unlinkat(parent_fd, name, AT_REMOVEDIR);
}

void cgroup_remove_tree(const char *path)
{
	remove_below(AT_FDCWD, path, 0);
}

void cgroup_kill(const char *path)
{
	_cleanup_free_ char *file = mem_printf("%s/cgroup.kill", path);
	_cleanup_close_ int fd = open(file, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd >= 0 && write(fd, "1", 1) < 0)
		return; /* who asked has killed them one by one */
}
