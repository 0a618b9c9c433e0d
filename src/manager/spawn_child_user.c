/* Who a process of a unit is: its user, groups and capabilities, and the directories that are that user's. */
#include "base/memory.h"
#include "base/text.h"
#include "io/file.h"
#include "manager/spawn_internal.h"
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GROUPS_MAX 256

struct identity {
	uid_t uid;		   /* -1: stays */
	gid_t gid;		   /* -1: stays */
	char *name, *home, *shell; /* NULL: unknown */
};

static void find_user(struct spawn *spawn, struct identity *identity)
{
	const char *wanted = spawn->service->config.process.user;
	const struct passwd *user;
	uint64_t uid;

	if (!wanted || !wanted[0])
		return;
	if (text_to_u64(slice_str(wanted), &uid) < 0)
		user = getpwnam(wanted);
	else
		user = uid < (uid_t)-1 ? getpwuid((uid_t)uid) : NULL;
	if (!user) { /* a number, too: its groups would be unknown */
		spawn_report(
			spawn, "WFailed to determine user credentials: user %s does not exist\n", wanted);
		spawn_fail(spawn, 217, ESRCH);
	}
	identity->uid = user->pw_uid;
	identity->gid = user->pw_gid;
	identity->name = mem_strdup(user->pw_name);
	identity->home = mem_strdup(user->pw_dir);
	identity->shell = mem_strdup(user->pw_shell);
	spawn_set(spawn, "HOME", identity->home, true);
	spawn_set(spawn, "LOGNAME", identity->name, true);
	spawn_set(spawn, "USER", identity->name, true);
	spawn_set(spawn, "SHELL", identity->shell, true);
}

static gid_t find_group(const struct spawn *spawn, const char *wanted)
{
	const struct group *group;
	uint64_t gid;

	if (text_to_u64(slice_str(wanted), &gid) == 0 && gid < (gid_t)-1)
		return (gid_t)gid;
	group = getgrnam(wanted);
	if (group)
		return group->gr_gid;
	spawn_report(spawn, "WFailed to determine group credentials: group %s does not exist\n", wanted);
	spawn_fail(spawn, 216, ESRCH);
}

static bool is_directory(const char *root, const char *name)
{
	_cleanup_free_ char *path = mem_printf("%s/%s", root, name);
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* No part of the name may be a link: who owns a directory of the unit could lead the change of owner
 * anywhere. */
static int make_directory(const struct spawn *spawn, const struct identity *identity,
	enum directory_kind kind, const char *name)
{
	const char *root = spawn_directory_root(kind);
	unsigned mode = spawn->service->config.process.directories[kind].mode;
	bool configuration = kind == DIRECTORY_CONFIGURATION, made = false;
	_cleanup_close_ int fd = -1;
	struct stat st;
	uid_t uid;
	gid_t gid;

	if (access(root, F_OK) < 0) {
		int r = file_mkdir_all(root, 0755);

		if (r < 0)
			return r;
	}
	if (configuration && is_directory(root, name))
		return 0; /* what is in /etc is the administrator's, and a link there may be, too */
	fd = file_make_below(root, name, mode, &made);
	if (fd == -ELOOP)
		spawn_report(spawn, "W%s/%s is a symbolic link, or below one, which is not followed\n", root,
			name);
	if (fd < 0)
		return fd;
	if (fchmod(fd, mode) < 0 || fstat(fd, &st) < 0)
		return -errno;
	uid = identity->uid == (uid_t)-1 ? geteuid() : identity->uid;
	gid = identity->gid == (gid_t)-1 ? getegid() : identity->gid;
	/* What another user of the unit left there changes hands with the directory. */
	if (configuration || (st.st_uid == uid && st.st_gid == gid) || geteuid() != 0)
		return 0;
	return file_chown_all(fd, uid, gid);
}

static void make_directories(const struct spawn *spawn, const struct identity *identity)
{
	static const int exit_statuses[] = {[DIRECTORY_RUNTIME] = 233,
		[DIRECTORY_STATE] = 238,
		[DIRECTORY_CACHE] = 239,
		[DIRECTORY_LOGS] = 240,
		[DIRECTORY_CONFIGURATION] = 241};
	mode_t before = umask(0);

	for (int kind = 0; kind < DIRECTORY_KIND_MAX; kind++) {
		const struct strings *names = &spawn->service->config.process.directories[kind].names;

		for (size_t i = 0; i < names->count; i++) {
			int r = make_directory(spawn, identity, (enum directory_kind)kind, names->items[i]);

			if (r < 0)
				spawn_fail(spawn, exit_statuses[kind], -r);
		}
	}
	(void)umask(before);
}

static void become_groups(const struct spawn *spawn, const struct identity *identity)
{
	const struct strings *more = &spawn->service->config.process.groups;
	gid_t groups[GROUPS_MAX] = {0};
	int count = GROUPS_MAX / 2;

	if (identity->name || more->count) {
		if (!identity->name)
			count = getgroups(count, groups);
		else if (getgrouplist(identity->name, identity->gid, groups, &count) < 0)
			count = -1;
		if (count < 0)
			spawn_fail(spawn, 216, EINVAL);
		for (size_t i = 0; i < more->count; i++) {
			if (count >= GROUPS_MAX)
				spawn_fail(spawn, 216, E2BIG);
			groups[count++] = find_group(spawn, more->items[i]);
		}
		if (setgroups((size_t)count, groups) < 0)
			spawn_fail(spawn, 216, errno);
	} else if (identity->uid != (uid_t)-1 && setgroups(0, groups) < 0) {
		spawn_fail(spawn, 216, errno);
	}
	if (identity->gid != (gid_t)-1 && setresgid(identity->gid, identity->gid, identity->gid) < 0)
		spawn_fail(spawn, 216, errno);
}

/* What execve() adds of the inheritable set is not limited by the bounds. */
static void drop_inheritable(const struct spawn *spawn, uint64_t bounds)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data) < 0)
		spawn_fail(spawn, 218, errno);
	data[0].inheritable &= (uint32_t)bounds;
	data[1].inheritable &= (uint32_t)(bounds >> 32);
	if (syscall(SYS_capset, &header, data) < 0)
		spawn_fail(spawn, 218, errno);
}

static void drop_bounds(const struct spawn *spawn)
{
	uint64_t bounds = spawn->service->config.process.capability_bounds;

	if (bounds != UINT64_MAX)
		drop_inheritable(spawn, bounds);
	for (int number = 0; number < 64 && bounds != UINT64_MAX; number++) {
		if (prctl(PR_CAPBSET_READ, number, 0, 0, 0) != 1 || (bounds >> number & 1))
			continue;
		if (prctl(PR_CAPBSET_DROP, number, 0, 0, 0) < 0)
			spawn_fail(spawn, 218, errno);
	}
}

/* Capabilities that survive execve() of a program that is not root's. */
static void raise_ambient(const struct spawn *spawn, bool only_these)
{
	uint64_t ambient = spawn->service->config.process.ambient_capabilities;
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data) < 0)
		spawn_fail(spawn, 218, errno);
	/* What the kernel does not know, or the bounds took, cannot be had: as much as there is. */
	ambient &= data[0].permitted | (uint64_t)data[1].permitted << 32;
	for (int half = 0; half < 2; half++) {
		uint32_t bits = (uint32_t)(ambient >> (32 * half));

		if (only_these)
			data[half].permitted = data[half].effective = bits;
		data[half].inheritable |= bits;
	}
	if (syscall(SYS_capset, &header, data) < 0)
		spawn_fail(spawn, 218, errno);
	for (int number = 0; number < 64; number++)
		if ((ambient >> number & 1) && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0) < 0)
			spawn_fail(spawn, 218, errno);
}

static void become_user(const struct spawn *spawn, const struct identity *identity)
{
	const struct process_config *process = &spawn->service->config.process;
	bool changes = identity->uid != (uid_t)-1 && identity->uid != geteuid();

	if (process->ambient_capabilities && changes && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		spawn_fail(spawn, 218, errno);
	if (identity->uid != (uid_t)-1 && setresuid(identity->uid, identity->uid, identity->uid) < 0)
		spawn_fail(spawn, 217, errno);
	if (process->ambient_capabilities)
		raise_ambient(spawn, changes);
}

const char *spawn_child_user(struct spawn *spawn)
{
	const struct process_config *process = &spawn->service->config.process;
	bool full = spawn->command->flags & UNIT_COMMAND_FULL;
	bool stays = full || (spawn->command->flags & UNIT_COMMAND_NO_SETUID);
	struct identity identity = {.uid = (uid_t)-1, .gid = (gid_t)-1};
	const char *home;

	find_user(spawn, &identity);
	if (process->group && process->group[0])
		identity.gid = find_group(spawn, process->group);
	home = identity.home ? identity.home : "/root";
	make_directories(spawn, &identity);
	spawn_child_limits(
		spawn); /* users and groups were looked up without them, and may still be gone beyond */
	/* Without privileges only "become who I am" works, and needs none of these calls. */
	if (geteuid() != 0 && !process->groups.count &&
		(identity.uid == (uid_t)-1 || identity.uid == geteuid()) &&
		(identity.gid == (gid_t)-1 || identity.gid == getegid()))
		stays = true;
	if (!stays && (identity.uid != (uid_t)-1 || identity.gid != (gid_t)-1 || process->groups.count))
		become_groups(spawn, &identity);
	if (!full)
		drop_bounds(spawn);
	if (!stays)
		become_user(spawn, &identity);
	if (process->no_new_privileges && !full && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		spawn_fail(spawn, 227, errno);
	return home;
}
