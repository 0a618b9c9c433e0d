/* What may be left in the registry without a meaning: directories of units with nothing in them, states that
 * nobody understands, the index of machines. Sets of paths, kept by the same keys as everything else. */
#include <stdlib.h>
#include <string.h>

#include "fleet/cluster_internal.h"

size_t cluster_cut_path(const char *path, struct slice *parts, size_t max)
{
	size_t count = 0;

	while (*path && count < max) {
		const char *slash = count + 1 < max ? strchr(path, '/') : NULL;
		size_t len = slash ? (size_t)(slash - path) : strlen(path);

		parts[count++] = slice_make(path, len);
		path += len + (slash ? 1 : 0);
	}
	return count;
}

/* "job/NAME" or "states/NAME". */
static bool is_unit_directory(const struct slice *parts, size_t count)
{
	return count == 2 && (slice_is(parts[0], "job") || slice_is(parts[0], "states"));
}

/* The first two parts of a path that is cut. */
static struct slice directory_of(const char *path, const struct slice *parts)
{
	return slice_make(path, (size_t)(parts[1].data + parts[1].len - path));
}

static bool is_below(struct slice path, struct slice directory)
{
	return path.len > directory.len && slice_starts_with(path, directory) &&
	       path.data[directory.len] == '/';
}

static bool directory_holds(
	const struct cluster *c, struct slice directory, struct slice top, struct slice name)
{
	const struct cluster_unit *unit = map_get(&c->units, name);
	size_t position = 0;
	struct slice path;

	while (c->garbage.count && map_next(&c->garbage, &position, &path, NULL))
		if (is_below(path, directory))
			return true;
	if (!unit)
		return false;
	if (slice_is(top, "states"))
		return unit->state_count > 0;
	return unit->hash[0] || unit->has_desired || unit->target || unit->heartbeat;
}

void cluster_note_set(struct cluster *c, const char *path, const struct slice *parts, size_t count)
{
	if (count > 2 && is_unit_directory(parts, 2))
		map_remove(&c->bare, directory_of(path, parts));
	if (count > 2 && slice_is(parts[0], "assigned"))
		map_put(&c->indexed, parts[1], c);
}

void cluster_note_epoch(struct cluster *c, struct slice machine, struct slice epoch)
{
	free(map_put(&c->epochs, machine, mem_strndup(epoch.data, epoch.len)));
}

/* machine empty: of all. */
static void remove_epochs(struct cluster *c, struct slice machine)
{
	size_t position = 0;
	struct slice one;

	while (map_next(&c->epochs, &position, &one, NULL))
		if ((!machine.len || slice_equal(machine, one)) &&
			!cluster_part_is_outdated(c, "assigned", one, "epoch"))
			free(map_remove(&c->epochs, one));
}

void cluster_note_garbage(struct cluster *c, const char *path, uint64_t index)
{
	if (index)
		map_put(&c->garbage, slice_str(path), (void *)(uintptr_t)index);
}

void cluster_note_sound(struct cluster *c, const char *path)
{
	map_remove(&c->garbage, slice_str(path));
}

static void remove_garbage(struct cluster *c, const char *path)
{
	size_t position = 0;
	struct slice one, removed = slice_str(path);

	while (c->garbage.count && map_next(&c->garbage, &position, &one, NULL))
		if (slice_equal(one, removed) || is_below(one, removed))
			map_remove(&c->garbage, one);
}

static void note_bare(struct cluster *c, struct slice directory)
{
	map_put(&c->bare, directory, (void *)(uintptr_t)MAX(c->index, (uint64_t)1));
}

/* A key that goes leaves its directory behind. */
void cluster_note_removed(struct cluster *c, const char *path, const struct slice *parts, size_t count)
{
	remove_garbage(c, path);
	if (slice_is(parts[0], "assigned") && (count < 3 || slice_is(parts[2], "epoch")))
		remove_epochs(c, parts[1]);
	if (count < 2)
		return;
	if (count == 2 && slice_is(parts[0], "assigned"))
		map_remove(&c->indexed, parts[1]);
	if (!is_unit_directory(parts, 2))
		return;
	if (count == 2)
		map_remove(&c->bare, directory_of(path, parts));
	else if (!directory_holds(c, directory_of(path, parts), parts[0], parts[1]))
		note_bare(c, directory_of(path, parts));
}

void cluster_set_empty(struct cluster *c, const char *path)
{
	struct slice parts[3] = {0};
	size_t count = cluster_cut_path(path, parts, 3);

	if (is_unit_directory(parts, count))
		note_bare(c, slice_str(path));
	if (count == 2 && slice_is(parts[0], "assigned"))
		map_put(&c->indexed, parts[1], c);
}

static void set_clear(struct map *set)
{
	map_done(set);
	map_init(set, 0);
}

void cluster_leftovers_clear(struct cluster *c)
{
	set_clear(&c->bare);
	set_clear(&c->indexed);
	set_clear(&c->garbage);
	remove_epochs(c, (struct slice){0});
}

/* ---- questions ---- */

bool cluster_is_bare(const struct cluster *c, const char *path)
{
	return map_get(&c->bare, slice_str(path));
}

void cluster_not_bare(struct cluster *c, const char *path, uint64_t index)
{
	if ((uintptr_t)map_get(&c->bare, slice_str(path)) <= index)
		map_remove(&c->bare, slice_str(path));
}

uint64_t cluster_garbage_index(const struct cluster *c, const char *path)
{
	return (uintptr_t)map_get(&c->garbage, slice_str(path));
}

const char *cluster_epoch(const struct cluster *c, const char *machine)
{
	return map_get(&c->epochs, slice_str(machine));
}

static int by_path(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static char **sorted_paths(const struct map *set, size_t *ret_count)
{
	size_t count = 0, position = 0, bytes = 0;
	struct slice path;
	char **paths, *at;

	while (map_next(set, &position, &path, NULL))
		bytes += path.len + 1;
	paths = mem_alloc(set->count * sizeof(*paths) + bytes + 1);
	at = (char *)(paths + set->count);
	for (position = 0; map_next(set, &position, &path, NULL); at += path.len + 1) {
		memcpy(at, path.data, path.len);
		at[path.len] = '\0';
		paths[count++] = at;
	}
	qsort(paths, count, sizeof(*paths), by_path);
	*ret_count = count;
	return paths;
}

char **cluster_bare_paths(const struct cluster *c, size_t *ret_count)
{
	return sorted_paths(&c->bare, ret_count);
}

char **cluster_garbage_paths(const struct cluster *c, size_t *ret_count)
{
	return sorted_paths(&c->garbage, ret_count);
}

char **cluster_indexed_machines(const struct cluster *c, size_t *ret_count)
{
	return sorted_paths(&c->indexed, ret_count);
}
