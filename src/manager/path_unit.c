/* Paths: waiting for something in the file system, running while the unit they started does. inotify(7) tells
 * of changes; for what must exist each change is a reason to look again. A path is watched together with each
 * directory above it, so that it is found when it, or one of them, comes into being. */
#include "base/memory.h"
#include "manager/activation.h"
#include "manager/service_internal.h"
#include <dirent.h>
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#define WATCHES_MAX 4096 /* of one unit */

/* What may make a path come, go or be another one, seen from a directory above it. */
#define ABOVE_MASK \
	(IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF)

struct path_watch {
	int wd;
	size_t spec;
	char *name; /* the entry below it that matters; NULL: this is the path itself, or all entries do */
	bool is_path;
};
struct path_run {
	struct watch *inotify; /* NULL: not watching */
	struct path_watch *watches;
	size_t count, cap;
	struct trigger_count triggers;
	bool *existed; /* of each path, when it was last looked at */
};

static void forget_watches(struct path_run *run)
{
	for (size_t i = 0; i < run->count; i++)
		free(run->watches[i].name);
	run->count = 0;
}

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

static void add_watch(struct path_run *run, const char *path, size_t spec, uint32_t mask, const char *name,
	size_t name_len, bool is_path)
{
	int wd = inotify_add_watch(watch_fd(run->inotify), path, mask | IN_MASK_ADD);

	if (wd < 0 || run->count >= WATCHES_MAX)
		return; /* it is not there, yet; a directory above it is */
	if (run->count == run->cap) {
		run->cap = run->cap ? run->cap * 2 : 8;
		run->watches = mem_reallocarray(run->watches, run->cap, sizeof(*run->watches));
	}
	run->watches[run->count++] = (struct path_watch){.wd = wd,
		.spec = spec,
		.name = name ? mem_strndup(name, name_len) : NULL,
		.is_path = is_path};
}

/* "/a/b/c": / for a, /a for b, /a/b for c, and the path itself. Of a pattern what is in front of the first
 * wildcard's name. */
static void watch_spec(struct path_run *run, const struct path_spec *spec, size_t index)
{
	size_t literal = spec->type == PATH_EXISTS_GLOB ? strcspn(spec->path, "*?[") : strlen(spec->path);
	size_t start = 1;

	for (;;) {
		size_t end = start + strcspn(spec->path + start, "/");
		_cleanup_free_ char *above = mem_strndup(spec->path, start > 1 ? start - 1 : 1);

		if (!spec->path[start]) /* the root itself */
			break;
		if (end > literal) { /* a name with a wildcard: each entry may be it */
			add_watch(run, above, index, own_mask(spec->type), NULL, 0, true);
			return;
		}
		add_watch(run, above, index, ABOVE_MASK, spec->path + start, end - start, false);
		if (!spec->path[end])
			break;
		start = end + 1;
	}
	add_watch(run, spec->path, index, own_mask(spec->type), NULL, 0, true);
}

static int watch_all(struct service *service, void (*ready)(struct service *service))
{
	const struct path_config *config = &service->config.path;
	struct path_run *run = service->path_run;

	forget_watches(run);
	if (!run->inotify) {
		int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

		if (fd < 0)
			return -errno;
		run->inotify = watch_new(service, fd, ready);
		if (!run->inotify)
			return -ENOMEM;
	}
	for (size_t i = 0; i < config->count; i++)
		watch_spec(run, &config->specs[i], i);
	return 0;
}

static bool has_entries(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	bool found = false;

	while (dir && !found && (entry = readdir(dir))) {
		size_t len = strlen(entry->d_name);

		found = entry->d_name[0] != '.' && entry->d_name[len - 1] != '~'; /* hidden files, backups */
	}
	if (dir)
		closedir(dir);
	return found;
}

static bool glob_matches(const char *pattern)
{
	glob_t found = {0};
	bool any = glob(pattern, GLOB_NOSORT, NULL, &found) == 0 && found.gl_pathc;

	globfree(&found);
	return any;
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
			due = due || glob_matches(spec->path);
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
	if (service->job == JOB_STOP)
		return;
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

/* Whether the event is a change of a path that is watched for changes. *ret_concerns: it is of interest. */
static bool is_change(const struct service *service, const struct inotify_event *event, bool *ret_concerns)
{
	const struct path_run *run = service->path_run;
	bool change = false;

	if (event->mask & IN_Q_OVERFLOW)
		*ret_concerns = change = true; /* there may have been one */
	for (size_t i = 0; i < run->count; i++) {
		const struct path_watch *watch = &run->watches[i];
		enum path_type type = service->config.path.specs[watch->spec].type;

		if (watch->wd != event->wd ||
			(watch->name && event->len && strcmp(watch->name, event->name) != 0))
			continue;
		*ret_concerns = true;
		if (watch->is_path && (type == PATH_CHANGED || type == PATH_MODIFIED) &&
			(event->mask & own_mask(type)))
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

	while ((len = read(watch_fd(service->path_run->inotify), bytes, sizeof(bytes))) > 0) {
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

static void path_release(struct service *service)
{
	struct path_run *run = take_ptr(service->path_run);

	if (!run)
		return;
	forget_watches(run);
	free(run->watches);
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
	.release = path_release};
