/* Both questions are answered by files of /proc; nothing is cached, they are asked once per keeper. */
#include "manager/cgroup.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/file.h"
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#define FILE_MAX (4u * 1024 * 1024)

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

void cgroup_remove_tree(const char *base)
{
	DIR *dir = opendir(base);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
			(void)unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR);
	if (dir)
		closedir(dir);
	(void)rmdir(base);
}
