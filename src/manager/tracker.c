/* The cgroup side needs only a directory that can be made: cgroup v2 where it is mounted, else systemd's
 * named v1 hierarchy. No controllers are used here (limits.c does). The other side reads /proc/PID/stat of
 * all processes once, and goes up from each one to a child of this process: that is the unit's main or
 * control process, or an orphan, which is known by its session or by the invocation id in its environment. */
#include "manager/tracker.h"
#include "base/buf.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/file.h"
#include "manager/cgroup.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX (4u * 1024 * 1024)
#define DEPTH_MAX 4096 /* of a process tree, for going up it */
#define JOIN_TRIES_MAX 100

void pids_add(struct pids *pids, pid_t pid)
{
	if (pids->count == pids->cap) {
		pids->cap = pids->cap ? pids->cap * 2 : 16;
		pids->items = mem_reallocarray(pids->items, pids->cap, sizeof(pid_t));
	}
	pids->items[pids->count++] = pid;
}

void pids_done(struct pids *pids)
{
	free(pids->items);
	*pids = (struct pids){0};
}

static int compare_pids(const void *a, const void *b)
{
	pid_t left = *(const pid_t *)a, right = *(const pid_t *)b;

	return left < right ? -1 : left > right;
}

static int write_pid(const char *dir, pid_t pid)
{
	_cleanup_free_ char *path = mem_printf("%s/cgroup.procs", dir);
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
	char text[24];
	int len = snprintf(text, sizeof(text), "%d\n", (int)pid);

	if (fd < 0)
		return -errno;
	return write(fd, text, (size_t)len) == len ? 0 : -errno;
}

/* Makes the keeper's cgroups and joins the one of its own. Until it has, another keeper may take them for
 * abandoned and remove them: then once more. */
static int join_base(const char *base)
{
	_cleanup_free_ char *keeper = mem_printf("%s/keeper", base);
	int r = -ENOENT;

	for (int tries = 0; tries < JOIN_TRIES_MAX && (r == -ENOENT || r == -ENODEV); tries++) {
		if (mkdir(base, 0755) < 0 && errno != EEXIST)
			return -errno;
		r = mkdir(keeper, 0755) < 0 && errno != EEXIST ? -errno : write_pid(keeper, getpid());
	}
	if (r < 0)
		cgroup_remove_tree(base);
	return r;
}

static bool try_base(struct tracker *tracker, const char *root, const char *own, const char *id)
{
	_cleanup_free_ char *base =
		mem_printf("%s%s/flotilla-%s", root, strcmp(own, "/") == 0 ? "" : own, id);

	if (join_base(base) < 0)
		return false;
	tracker->base = take_ptr(base);
	return true;
}

/* A machine whose power went leaves its keeper's empty cgroups behind on the host, and a keeper that ended
 * those of processes that KillMode= let live. They are removed where the keeper is gone (processes of other
 * PID namespaces count, they show as 0), or has left; what still holds a process cannot be. */
static void remove_abandoned(const struct tracker *tracker)
{
	size_t parent_len = (size_t)(strrchr(tracker->base, '/') - tracker->base);
	_cleanup_free_ char *parent = mem_strndup(tracker->base, parent_len);
	DIR *dir = opendir(parent);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		_cleanup_free_ char *base = mem_printf("%s/%s", parent, entry->d_name);
		_cleanup_free_ char *procs = mem_printf("%s/keeper/cgroup.procs", base);
		_cleanup_buf_ struct buf text = BUF_INIT(FILE_MAX);
		int r;

		if (!cgroup_is_keepers(entry->d_name) || strcmp(base, tracker->base) == 0)
			continue;
		r = file_read(procs, FILE_MAX, &text);
		if ((r == 0 && !text.len) || r == -ENOENT)
			cgroup_remove_tree(base);
	}
	if (dir)
		closedir(dir);
}

void tracker_open(struct tracker *tracker, const char *id, bool allow_cgroups)
{
	static const struct {
		const char *type, *option, *controllers;
	} hierarchies[] = {{"cgroup2", NULL, ""}, {"cgroup", "name=systemd", "name=systemd"}};

	*tracker = (struct tracker){0};
	for (size_t i = 0; i < ARRAY_LEN(hierarchies) && allow_cgroups && !tracker->base; i++) {
		_cleanup_free_ char *root = cgroup_mount(hierarchies[i].type, hierarchies[i].option);
		_cleanup_free_ char *own = cgroup_own(hierarchies[i].controllers);

		if (root && own && !try_base(tracker, root, own, id))
			(void)try_base(tracker, root, "/", id);
		tracker->unified = tracker->base && i == 0;
	}
	if (tracker->base)
		remove_abandoned(tracker);
}

void tracker_done(struct tracker *tracker)
{
	if (tracker->base) {
		const char *slash = strrchr(tracker->base, '/');
		_cleanup_free_ char *parent = mem_strndup(tracker->base, (size_t)(slash - tracker->base));

		/* A cgroup that holds a process cannot be removed: back to the parent first. */
		(void)write_pid(parent, getpid());
		cgroup_remove_tree(tracker->base);
	}
	free(tracker->base);
	free(tracker->recent.items);
	*tracker = (struct tracker){0};
}

int tracker_unit_open(const struct tracker *tracker, const char *name)
{
	_cleanup_free_ char *dir = NULL, *path = NULL;
	int fd;

	if (!tracker->base)
		return -ENOTSUP;
	dir = mem_printf("%s/%s", tracker->base, name);
	if (mkdir(dir, 0755) < 0 && errno != EEXIST)
		return -errno;
	path = mem_printf("%s/cgroup.procs", dir);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

void tracker_unit_remove(const struct tracker *tracker, const char *name)
{
	if (tracker->base) {
		_cleanup_free_ char *dir = mem_printf("%s/%s", tracker->base, name);

		cgroup_remove_tree(dir);
	}
}

void tracker_unit_kill(const struct tracker *tracker, const char *name)
{
	if (tracker->base) {
		_cleanup_free_ char *dir = mem_printf("%s/%s", tracker->base, name);

		cgroup_kill(dir);
	}
}

char *tracker_unit_path(const struct tracker *tracker, const char *name)
{
	return tracker->base ? mem_printf("%s/%s", strrchr(tracker->base, '/'), name) : NULL;
}

struct process {
	pid_t pid, parent, session;
};

static bool read_process(pid_t pid, bool dead_too, struct process *ret)
{
	char path[64], text[1024], state;
	const char *after;
	int fd, parent, group, session;
	ssize_t len;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (len <= 0)
		return false;
	text[len] = 0;
	after = strrchr(text, ')'); /* the name may hold anything */
	if (!after || sscanf(after + 1, " %c %d %d %d", &state, &parent, &group, &session) != 4)
		return false;
	if (!dead_too && (state == 'Z' || state == 'X'))
		return false;
	*ret = (struct process){pid, parent, session};
	return true;
}

static void read_processes(struct process_list *ret)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		struct process process;
		uint64_t pid;

		if (text_to_u64(slice_str(entry->d_name), &pid) < 0 ||
			!read_process((pid_t)pid, false, &process))
			continue;
		if (ret->count == ret->cap) {
			ret->cap = ret->cap ? ret->cap * 2 : 256;
			ret->items = mem_reallocarray(ret->items, ret->cap, sizeof(*ret->items));
		}
		ret->items[ret->count++] = process;
	}
	if (dir)
		closedir(dir);
}

#define INVOCATION_NAME "INVOCATION_ID="

/* The next one that the environment holds; *position begins at 0. NULL: there is none left. */
static const char *next_invocation(const struct buf *environment, size_t *position)
{
	const char *text = buf_text(environment);

	while (*position < environment->len) {
		const char *at = text + *position;

		*position += strlen(at) + 1;
		if (strncmp(at, INVOCATION_NAME, sizeof(INVOCATION_NAME) - 1) == 0)
			return at + sizeof(INVOCATION_NAME) - 1;
	}
	return NULL;
}

static void read_environment(pid_t pid, struct buf *out)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
	if (file_read(path, FILE_MAX, out) < 0)
		buf_clear(out);
}

static bool environment_has(pid_t pid, const char *invocation)
{
	_cleanup_buf_ struct buf text = BUF_INIT(FILE_MAX);
	const char *found;
	size_t position = 0;

	read_environment(pid, &text);
	while ((found = next_invocation(&text, &position)))
		if (strcmp(found, invocation) == 0)
			return true;
	return false;
}

static bool environment_has_any(pid_t pid, const struct map *invocations)
{
	_cleanup_buf_ struct buf text = BUF_INIT(FILE_MAX);
	const char *found;
	size_t position = 0;

	read_environment(pid, &text);
	while ((found = next_invocation(&text, &position)))
		if (map_get(invocations, slice_str(found)))
			return true;
	return false;
}

static bool owns_root(const struct tracker_unit *unit, const struct process *process)
{
	pid_t pid = process->pid;

	if (pid == unit->main_pid || pid == unit->control_pid)
		return true;
	if (unit->started && map_get(unit->started, slice_make(&pid, sizeof(pid))))
		return false; /* another unit's, or one of an earlier run */
	for (size_t i = 0; i < unit->session_count; i++)
		if (process->session == unit->sessions[i])
			return true;
	return unit->invocation[0] && environment_has(process->pid, unit->invocation);
}

static const struct process *find_process(const struct process_list *processes, pid_t pid)
{
	for (size_t i = 0; i < processes->count; i++)
		if (processes->items[i].pid == pid)
			return &processes->items[i];
	return NULL;
}

static bool holds(const struct pids *pids, pid_t pid)
{
	for (size_t i = 0; i < pids->count; i++)
		if (pids->items[i] == pid)
			return true;
	return false;
}

/* Goes down from the roots: the set only grows, and each round adds the children of what was found. */
static void tree_pids(const struct process_list *all, const struct tracker_unit *unit, struct pids *ret)
{
	pid_t self = getpid();
	size_t before;

	for (size_t i = 0; i < all->count; i++)
		if (all->items[i].parent == self && owns_root(unit, &all->items[i]))
			pids_add(ret, all->items[i].pid);
	do {
		before = ret->count;
		for (size_t i = 0; i < all->count; i++)
			if (holds(ret, all->items[i].parent) && !holds(ret, all->items[i].pid))
				pids_add(ret, all->items[i].pid);
	} while (ret->count > before);
}

void tracker_turn(struct tracker *tracker)
{
	tracker->recent_valid = false;
}

void tracker_pids(struct tracker *tracker, const struct tracker_unit *unit, bool by_cgroup, bool fresh,
	struct pids *ret)
{
	*ret = (struct pids){0};
	if (by_cgroup && tracker->base) {
		_cleanup_free_ char *dir = mem_printf("%s/%s", tracker->base, unit->name);

		cgroup_pids(dir, ret);
	} else {
		if (fresh || !tracker->recent_valid) {
			tracker->recent.count = 0;
			read_processes(&tracker->recent);
			tracker->recent_valid = true;
		}
		tree_pids(&tracker->recent, unit, ret);
	}
	if (ret->count)
		qsort(ret->items, ret->count, sizeof(pid_t), compare_pids);
}

/* The first part of a path that is called as the keeper's cgroup is that one; below it comes the unit's, and
 * perhaps some that the unit made. */
static bool path_is_unit(struct slice path, struct slice unit_path)
{
	size_t keeper_len = (size_t)((const char *)memchr(unit_path.data + 1, '/', unit_path.len - 1) + 1 -
				     unit_path.data);
	const char *at = memmem(path.data, path.len, unit_path.data, keeper_len);
	size_t left = at ? (size_t)(path.data + path.len - at) : 0;

	return left >= unit_path.len && memcmp(at, unit_path.data, unit_path.len) == 0 &&
	       (left == unit_path.len || at[unit_path.len] == '/');
}

static bool cgroup_holds(const struct tracker *tracker, const char *name, pid_t pid)
{
	_cleanup_free_ char *unit_path = tracker_unit_path(tracker, name);
	_cleanup_buf_ struct buf text = BUF_INIT(FILE_MAX);
	char path[64];
	struct slice rest;

	(void)snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
	if (file_read(path, FILE_MAX, &text) < 0)
		return false;
	rest = buf_slice(&text);
	while (rest.len) {
		struct slice line;

		(void)text_cut(rest, '\n', &line, &rest);
		if (path_is_unit(line, slice_str(unit_path)))
			return true;
	}
	return false;
}

bool tracker_owns(const struct tracker *tracker, const struct tracker_unit *unit, bool by_cgroup, pid_t pid)
{
	struct process process;
	pid_t self = getpid();

	if (pid <= 1 || pid == self)
		return false;
	if (pid == unit->main_pid || pid == unit->control_pid)
		return true;
	if (by_cgroup && tracker->base)
		return cgroup_holds(tracker, unit->name, pid);
	for (int depth = 0; depth < DEPTH_MAX && read_process(pid, true, &process); depth++) {
		if (process.parent == self)
			return owns_root(unit, &process);
		pid = process.parent;
	}
	return false;
}

bool process_read(pid_t pid, pid_t *ret_parent, uint64_t *ret_start)
{
	_cleanup_buf_ struct buf text = BUF_INIT(FILE_MAX);
	char path[64], state;
	const char *after;
	int parent;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (file_read(path, FILE_MAX, &text) < 0)
		return false;
	after = strrchr(buf_text(&text), ')');
	if (!after || sscanf(after + 1, " %c %d", &state, &parent) != 2 || state == 'Z' || state == 'X')
		return false;
	*ret_parent = parent;
	*ret_start = 0;
	after += 1; /* the state is field 3, the start time field 22 */
	for (int field = 3; field <= 22; field++) {
		after += strspn(after, " ");
		if (field == 22)
			*ret_start = strtoull(after, NULL, 10);
		after += strcspn(after, " ");
	}
	return true;
}

static void leftover_cgroups(const struct tracker *tracker, struct pids *ret)
{
	DIR *dir = tracker->base ? opendir(tracker->base) : NULL;
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		_cleanup_free_ char *path = mem_printf("%s/%s", tracker->base, entry->d_name);

		if (entry->d_type != DT_DIR || entry->d_name[0] == '.' ||
			strcmp(entry->d_name, "keeper") == 0)
			continue;
		cgroup_pids(path, ret);
		cgroup_remove_tree(path);
	}
	if (dir)
		closedir(dir);
}

static void leftovers(const struct tracker *tracker, const struct map *invocations, struct pids *ret)
{
	struct process_list all = {0};
	struct pids found = {0};

	leftover_cgroups(tracker, &found);
	read_processes(&all);
	for (size_t i = 0; i < all.count && invocations->count; i++)
		if (all.items[i].pid != getpid() && environment_has_any(all.items[i].pid, invocations))
			pids_add(&found, all.items[i].pid);
	*ret = (struct pids){0};
	for (size_t i = 0; i < found.count; i++)
		if (find_process(&all, found.items[i])) /* zombies are not waited for */
			pids_add(ret, found.items[i]);
	pids_done(&found);
	free(all.items);
}

size_t tracker_kill_leftovers(
	const struct tracker *tracker, const char *const *invocations, size_t count, int timeout_ms)
{
	struct map wanted;
	size_t killed = 0;

	map_init(&wanted, 0);
	for (size_t i = 0; i < count; i++)
		(void)map_put(&wanted, slice_str(invocations[i]), &wanted);
	for (int waited_ms = 0; waited_ms <= timeout_ms; waited_ms += 10) {
		struct pids pids;

		leftovers(tracker, &wanted, &pids);
		for (size_t i = 0; i < pids.count; i++)
			(void)kill(pids.items[i], SIGKILL);
		killed = MAX(killed, pids.count);
		if (!pids.count)
			break;
		pids_done(&pids);
		(void)poll(NULL, 0, 10);
	}
	if (killed)
		leftover_cgroups(tracker, &(struct pids){0});
	map_done(&wanted);
	return killed;
}

void process_name(pid_t pid, char *ret, size_t size)
{
	char path[64];
	ssize_t len;
	int fd;

	ret[0] = 0;
	(void)snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	len = read(fd, ret, size - 1);
	close(fd);
	if (len > 0 && ret[len - 1] == '\n')
		len--;
	ret[len > 0 ? len : 0] = 0;
}
