/* What this process has written itself, until the mirror has come so far: the answer to a write may overtake
 * the events of what came before it, which then say nothing new about that key. */
#include <string.h>

#include "fleet/cluster_internal.h"

static void forget_written(struct cluster *c)
{
	map_done(&c->written);
	map_init(&c->written, 0);
	c->written_last = 0;
}

void cluster_written_begin(struct cluster *c, uint64_t index)
{
	/* A store that begins anew: what was written went with the old one. */
	if (index < c->applied || index >= c->written_last)
		forget_written(c);
	c->applied = c->index = index;
}

void cluster_written_event(struct cluster *c, uint64_t index)
{
	if (c->reading)
		return;
	c->index = index;
	c->applied = MAX(c->applied, index);
	if (c->written.count && index >= c->written_last)
		forget_written(c);
}

void cluster_written_clear(struct cluster *c)
{
	forget_written(c);
	c->applied = c->index = 0;
}

bool cluster_is_outdated(const struct cluster *c, const char *path)
{
	if (!c->written.count || !c->index)
		return false;
	for (size_t len = strlen(path); len;) {
		if ((uintptr_t)map_get(&c->written, slice_make(path, len)) > c->index)
			return true;
		/* What removed a directory removed what was in it. */
		while (len && path[--len] != '/')
			;
	}
	return false;
}

bool cluster_part_is_outdated(
	const struct cluster *c, const char *top, struct slice directory, const char *name)
{
	_cleanup_free_ char *path = NULL;

	if (!c->written.count)
		return false;
	path = mem_printf("%s/%.*s/%s", top, (int)directory.len, directory.data, name);
	return cluster_is_outdated(c, path);
}

static void take_written(struct cluster *c, const char *path, struct slice value, uint64_t index)
{
	map_put(&c->written, slice_str(path), (void *)(uintptr_t)index);
	c->written_last = MAX(c->written_last, index);
	if (value.data)
		cluster_apply_set(c, path, value, index);
	else
		cluster_apply_removal(c, path);
}

void cluster_written(struct cluster *c, const char *path, struct slice value, uint64_t index)
{
	uint64_t told = c->index;

	c->index = index;
	/* Unless the mirror is past it: what it has told since then is newer. */
	if (index > c->applied && !cluster_is_outdated(c, path))
		take_written(c, path, value, index);
	c->index = told;
}
