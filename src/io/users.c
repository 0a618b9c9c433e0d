/* Reads the two files line by line (fgetpwent(3), fgetgrent(3)). */
#include "io/users.h"
#include "base/text.h"
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

int users_find(const char *name, uid_t *ret_uid, gid_t *ret_gid)
{
	uint64_t number;
	struct passwd *entry;
	FILE *file;
	int r = -ESRCH;

	if (text_to_u64(slice_str(name), &number) == 0 && number < UINT32_MAX) {
		*ret_uid = (uid_t)number;
		return 0;
	}
	file = fopen("/etc/passwd", "re");
	while (file && r < 0 && (entry = fgetpwent(file))) {
		if (strcmp(entry->pw_name, name) != 0)
			continue;
		*ret_uid = entry->pw_uid;
		if (ret_gid)
			*ret_gid = entry->pw_gid;
		r = 0;
	}
	if (file)
		fclose(file);
	return r;
}

int users_find_group(const char *name, gid_t *ret)
{
	uint64_t number;
	struct group *entry;
	FILE *file;
	int r = -ESRCH;

	if (text_to_u64(slice_str(name), &number) == 0 && number < UINT32_MAX) {
		*ret = (gid_t)number;
		return 0;
	}
	file = fopen("/etc/group", "re");
	while (file && r < 0 && (entry = fgetgrent(file))) {
		if (strcmp(entry->gr_name, name) != 0)
			continue;
		*ret = entry->gr_gid;
		r = 0;
	}
	if (file)
		fclose(file);
	return r;
}
