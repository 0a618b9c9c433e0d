/* Paths: waiting for something in the file system, running while the unit they started does. inotify(7) tells
 * of changes; for what must exist each change is a reason to look again. A path is watched together with each
 * directory above it, so that it is found when it, or one of them, comes into being. */
#include "base/memory.h"
#include "manager/activation.h"
#include "manager/path_glob.h"
#include "manager/service_internal.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#define WATCHES_MAX 4096   /* of one unit */
#define GLOB_ENTRIES 20000 /* looked at for one pattern at a time */
#define READS_PER_TURN 8

/* What may make a path come, go or be another one, seen from a directory above it. */
#define ABOVE_MASK \
	(IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF)

struct path_watch {
	int wd;
	size_t spec;
	const char *name; /* the entry below it that matters (up to a slash); NULL: this is the path, or any
			     may */
	bool is_path;
};
struct watches {
	struct path_watch *items;
	size_t count, cap;
};
struct path_run {
	struct watch *inotify; /* NULL: not watching */
	struct watches watches;
	struct trigger_count triggers;
	bool glob_told; /* that a pattern has too much to look at */
	bool *existed;	/* of each path, when it was last looked at */
};

static uint32_t own_mask(enum path_type type)
{
	static const uint32_t masks[] = {
		[PATH_EXISTS] = IN_DELETE_SELF | IN_MOVE_SELF | IN_ATTRIB,
		[PATH_EXISTS_GLOB] = ABOVE_MASK,
		[PATH_CHANGED] = ABOVE_MASK | IN_CLOSE_WRITE,
		[PATH_MODIFIED] = ABOVE_MASK | IN_CLOSE_WRITE | IN_MODIFY,
		[PATH_DIRECTORY_NOT_EMPTY] = ABOVE_MASK,
	};

	return masks[type];
}

/* 0: it is not there, or may not be seen; 1: it is watched; -errno: it cannot be. */
static int add_watch(struct path_run *run, const char *path, uint32_t mask, const struct path_watch *what)
{
	struct watches *watches = &run->watches;
	int wd;

	if (watches->count >= WATCHES_MAX)
		return -E2BIG;
	wd = inotify_add_watch(watch_fd(run->inotify), path, mask | IN_MASK_ADD);
	if (wd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == EACCES || errno == ELOOP ||
			      errno == ENAMETOOLONG))
		return 0;
	if (wd < 0)
		return -errno;
	if (watches->count == watches->cap) {
		watches->cap = watches->cap ? watches->cap * 2 : 8;
		watches->items = mem_reallocarray(watches->items, watches->cap, sizeof(*watches->items));
	}
	watches->items[watches->count] = *what;
	watches->items[watches->count++].wd = wd;
	return 1;
}

/* "/a/b/c": / for a, /a for b, /a/b for c, and the path itself, as far as they are there: what is missing is
 * told by the last one that is not. Of a pattern what is in front of the first name with a wildcard. */
static int watch_spec(struct path_run *run, const struct path_spec *spec, size_t index)
{
	size_t literal = spec->type == PATH_EXISTS_GLOB ? strcspn(spec->path, "*?[\\") : strlen(spec->path);
	const struct path_watch itself = {.spec = index, .is_path = true};
	size_t start = 1;
	int r = 1;

	while (r > 0 && spec->path[start]) {
		size_t end = start + strcspn(spec->path + start, "/");
		_cleanup_free_ char *above = mem_strndup(spec->path, start > 1 ? start - 1 : 1);
		const struct path_watch entry = {.spec = index, .name = spec->path + start};

		if (end > literal) /* a name with a wildcard: each entry may be it */
			return add_watch(run, above, own_mask(spec->type), &itself);
		r = add_watch(run, above, ABOVE_MASK, &entry);
		start = end + (spec->path[end] == '/');
	}
	return r > 0 ? add_watch(run, spec->path, own_mask(spec->type), &itself) : r;
}

static bool watches_have(const struct watches *watches, int wd)
{
	for (size_t i = 0; i < watches->count; i++)
		if (watches->items[i].wd == wd)
			return true;
	return false;
}

/* Watches what there is now, and nothing else any more. */
static int watch_all(struct service *service, void (*ready)(struct service *service))
{
	const struct path_config *config = &service->config.path;
	struct path_run *run = service->path_run;
	struct watches before = run->watches;
	int r = 0;

	run->watches = (struct watches){0};
	if (!run->inotify) {
		int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

		before.count = 0; /* they went with the instance */
		r = fd < 0 ? -errno : 0;
		run->inotify = fd < 0 ? NULL : watch_new(service, fd, ready);
		if (r == 0 && !run->inotify)
			r = -ENOMEM;
	}
	for (size_t i = 0; i < config->count && r >= 0; i++)
		r = watch_spec(run, &config->specs[i], i);
	for (size_t i = 0; i < before.count && r >= 0; i++)
		if (!watches_have(&run->watches, before.items[i].wd))
			(void)inotify_rm_watch(watch_fd(run->inotify), before.items[i].wd);
	free(before.items);
	return MIN(r, 0);
}

/* As systemd: hidden files, backups, and what a file system or package manager puts there by itself. */
static bool counts_as_entry(const char *name)
{
	static const char *const ignored[] = {"lost+found", "aquota.user", "aquota.group"};
	static const char *const endings[] = {".rpmnew", ".rpmsave", ".rpmorig", ".dpkg-old", ".dpkg-new",
		".dpkg-tmp", ".dpkg-dist", ".dpkg-bak", ".dpkg-backup", ".dpkg-remove", ".ucf-new",
		".ucf-old", ".ucf-dist", ".swp", ".bak", ".old", ".new", "~"};
	size_t len = strlen(name);

	if (name[0] == '.')
		return false;
	for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
		if (strcmp(name, ignored[i]) == 0)
			return false;
	for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
		size_t end = strlen(endings[i]);

		if (len >= end && strcmp(name + len - end, endings[i]) == 0)
			return false;
	}
	return true;
}

static bool has_entries(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	bool found = false;

	while (dir && !found && (entry = readdir(dir)))
		found = counts_as_entry(entry->d_name);
	if (dir)
		closedir(dir);
	return found;
}

static bool glob_matches(struct service *service, const char *pattern)
{
	int r = path_glob(pattern, GLOB_ENTRIES);

	if (r == -E2BIG && !service->path_run->glob_told) {
		service->path_run->glob_told = true;
		service_warn(service,
			"%s: PathExistsGlob=%s has more than %d entries to look at, the others are ignored.",
			service->name, pattern, GLOB_ENTRIES);
	}
	return r > 0;
}

/* Whether the unit is to be started for how things are. `fresh`: what has come or gone since the last look is
 * a change. */
static bool is_due(struct service *service, bool fresh)
{
	const struct path_config *config = &service->config.path;
	bool due = false;

	for (size_t i = 0; i < config->count; i++) {
		const struct path_spec *spec = &config->specs[i];
		bool *existed = &service->path_run->existed[i], exists;

		switch (spec->type) {
		case PATH_EXISTS:
			due = due || access(spec->path, F_OK) == 0;
			break;
		case PATH_EXISTS_GLOB:
			due = due || glob_matches(service, spec->path);
			break;
		case PATH_DIRECTORY_NOT_EMPTY:
			due = due || has_entries(spec->path);
			break;
		default:
			exists = access(spec->path, F_OK) == 0;
			due = due || (fresh && exists != *existed);
			*existed = exists;
			break;
		}
	}
	return due;
}

static void fire(struct service *service)
{
	if (service->job == JOB_STOP) {
		service->trigger_missed = true;
		return;
	}
	if (!trigger_within(&service->path_run->triggers, &service->config.trigger_limit)) {
		service_say(service, "%s: Trigger limit hit, refusing further activation.", service->name);
		service_enter_dead(service, RESULT_TRIGGER_LIMIT, false);
	} else if (activation_trigger(service) < 0) {
		service_enter_dead(service, RESULT_RESOURCES, false);
	} else {
		service->path_run->inotify = watch_free(service->path_run->inotify);
		service_set_state(service, STATE_TRIGGERED);
	}
}

static void inotify_ready(struct service *service);

static void enter_waiting(struct service *service, bool fresh)
{
	int r;

	if (is_due(service, fresh)) {
		fire(service);
		return;
	}
	r = watch_all(service, inotify_ready);
	if (r < 0) {
		service_say(service, "%s: Failed to watch: %s", service->name, strerror(-r));
		service_enter_dead(service, RESULT_RESOURCES, false);
	} else if (is_due(service, fresh)) { /* between the look and the watch */
		fire(service);
	} else {
		service_set_state(service, STATE_WAITING);
	}
}

static bool names(const struct path_watch *watch, const struct inotify_event *event)
{
	size_t len = watch->name ? strcspn(watch->name, "/") : 0;

	return !watch->name || !event->len ||
	       (strncmp(watch->name, event->name, len) == 0 && !event->name[len]);
}

/* Whether the event is a change of a path that is watched for changes. *ret_concerns: it is of interest. */
static bool is_change(const struct service *service, const struct inotify_event *event, bool *ret_concerns)
{
	const struct path_run *run = service->path_run;
	bool change = false;

	for (size_t i = 0; i < run->watches.count; i++) {
		const struct path_watch *watch = &run->watches.items[i];
		enum path_type type = service->config.path.specs[watch->spec].type;
		bool lost = event->mask & IN_Q_OVERFLOW; /* it may have been anything */

		if (!lost && (watch->wd != event->wd || !names(watch, event)))
			continue;
		*ret_concerns = true;
		if (watch->is_path && (type == PATH_CHANGED || type == PATH_MODIFIED) &&
			(lost || (event->mask & own_mask(type))))
			change = true;
	}
	return change;
}

static void inotify_ready(struct service *service)
{
	/* The kernel writes whole events, each with a name of up to NAME_MAX bytes. */
	_Alignas(struct inotify_event) char bytes[16384];
	bool changed = false, concerns = false;
	ssize_t len;

	for (int reads = 0; reads < READS_PER_TURN; reads++) {
		len = read(watch_fd(service->path_run->inotify), bytes, sizeof(bytes));
		if (len <= 0)
			break;
		for (ssize_t at = 0; at < len;) {
			const struct inotify_event *event = (const void *)(bytes + at);

			changed = is_change(service, event, &concerns) || changed;
			at += (ssize_t)(sizeof(*event) + event->len);
		}
	}
	if (changed)
		fire(service);
	else if (concerns)
		enter_waiting(service, true);
}

static void make_directories(const struct service *service)
{
	const struct path_config *config = &service->config.path;

	for (size_t i = 0; i < config->count; i++) {
		_cleanup_free_ char *copy = mem_strdup(config->specs[i].path);
		bool may = config->specs[i].type != PATH_EXISTS && config->specs[i].type != PATH_EXISTS_GLOB;

		for (char *at = copy + 1; may; at++) {
			char c = *at;

			if (c && c != '/')
				continue;
			*at = 0;
			if (mkdir(copy, config->directory_mode) == 0)
				(void)chmod(
					copy, config->directory_mode); /* as it says, whatever the umask */
			else if (errno != EEXIST)
				break;
			*at = c;
			if (!c)
				break;
		}
	}
}

static int path_start(struct service *service)
{
	struct path_run *run = mem_new(struct path_run);

	run->existed = mem_reallocarray(NULL, service->config.path.count, sizeof(bool));
	memset(run->existed, 0, service->config.path.count * sizeof(bool));
	service->path_run = run;
	if (service->config.path.make_directory)
		make_directories(service);
	service_set_state(service, STATE_WAITING);
	enter_waiting(service, false);
	return 0;
}

static void path_stop(struct service *service)
{
	service_enter_dead(service, RESULT_SUCCESS, false);
}

static void path_triggered_changed(struct service *service, const struct service *triggered)
{
	if (service->state != STATE_TRIGGERED || triggered->job != JOB_NONE || !service_is_dead(triggered))
		return;
	if (triggered->result == RESULT_START_LIMIT)
		service_enter_dead(service, RESULT_UNIT_START_LIMIT, false);
	else
		enter_waiting(service, false);
}

static void path_look_again(struct service *service)
{
	if (service->state == STATE_WAITING)
		enter_waiting(service, true);
	else if (service->state == STATE_TRIGGERED && activation_target(service))
		path_triggered_changed(service, activation_target(service));
}

static void path_release(struct service *service)
{
	struct path_run *run = take_ptr(service->path_run);

	if (!run)
		return;
	free(run->watches.items);
	free(run->existed);
	(void)watch_free(run->inotify);
	free(run);
}

const struct unit_kind unit_kind_path = {.type = "path",
	.started = "Started",
	.stopped = "Stopped",
	.start = path_start,
	.stop = path_stop,
	.triggered_changed = path_triggered_changed,
	.look_again = path_look_again,
	.release = path_release};
