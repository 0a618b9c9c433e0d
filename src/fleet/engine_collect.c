/* What nobody needs any more, and what was needed and is lost. Who leads removes what it has seen unneeded
 * for long: texts that no unit refers to, a wish whose unit is gone, the index of a machine that does not
 * come back. Being slow costs nothing here, and being hasty might: who starts a unit writes its text first,
 * or finds it there, and refers to it a moment later. So each deletion is of the key that was looked at all
 * the time (by its index), and a text that units turn out to refer to is written again from memory, whoever
 * has removed it. */
#include <string.h>

#include "fleet/engine_internal.h"

#define ENGINE_COLLECT_MS 3600000
#define ENGINE_COLLECT_LOOKS 16 /* in that time */

static uint64_t collect_ms(const struct engine *e)
{
	return e->config.collect_ms ? e->config.collect_ms : ENGINE_COLLECT_MS;
}

static void collected(void *userdata, const struct engine_op *op, const struct etcd_response *response)
{
	struct engine *e = userdata;

	map_remove(&e->swept, slice_str(op->name)); /* what failed is met again */
	if (!op->machine)
		return;
	/* Should the machine have come back meanwhile, its index is written anew, and its epoch behind it. */
	if (response->outcome == ETCD_OK)
		engine_written(e, op->key, NULL, response);
	engine_machine_changed(e, op->machine);
	engine_retry_run(e, 0);
}

bool engine_index_is_going(const struct engine *e, const char *machine)
{
	_cleanup_free_ char *path = mem_printf("assigned/%s", machine);

	return map_get(&e->swept, slice_str(path));
}

/* One more look at what is not needed: deletes it when the first was long ago. With a machine it is that
 * one's index. */
static void unneeded(
	struct engine *e, const struct map *before, const char *path, uint64_t index, const char *machine)
{
	_cleanup_free_ char *version = mem_printf("%s %llu", path, (unsigned long long)index);
	_cleanup_free_ char *key = mem_printf("%s/%s", e->prefix, path);
	uintptr_t since = (uintptr_t)map_get(before, slice_str(version));
	uint64_t now = engine_now_ms(e);
	struct engine_op op = {.write = machine ? ENGINE_WRITE_DELETE_DIR : ENGINE_WRITE_DELETE,
		.key = key,
		.prev_index = index,
		.name = path,
		.machine = machine,
		.barrier = machine != NULL, /* nothing that is written there meanwhile goes along */
		.done = collected,
		.userdata = e};

	since = since ? since : (uintptr_t)now;
	map_put(&e->unneeded, slice_str(version), (void *)since);
	if (now - since < collect_ms(e) || map_get(&e->swept, slice_str(path)))
		return;
	map_put(&e->swept, slice_str(path), e);
	engine_writer_add(e->writer, &op);
}

static void restored(void *userdata, const struct engine_op *op, const struct etcd_response *response)
{
	(void)response;
	map_remove(&((struct engine *)userdata)->swept, slice_str(op->name));
}

static void restore_text(struct engine *e, const struct cluster_text *text)
{
	_cleanup_free_ char *path = mem_printf("unit/%s", text->hash);
	_cleanup_free_ char *key = mem_printf("%s/%s", e->prefix, path);
	_cleanup_buf_ struct buf value = BUF_INIT(0);
	struct engine_op op = {.write = text->overwritten ? ENGINE_WRITE_SET : ENGINE_WRITE_CREATE,
		.key = key,
		.name = path,
		.done = restored,
		.userdata = e};

	if (map_get(&e->swept, slice_str(path)))
		return;
	registry_encode_unit(&value, slice_make(text->raw, text->raw_len));
	op.value = buf_text(&value);
	map_put(&e->swept, slice_str(path), e);
	engine_writer_add(e->writer, &op);
}

/* Without its epoch a machine's index says nothing. */
static void restore_epochs(struct engine *e)
{
	size_t count;
	_cleanup_free_ const struct cluster_machine **machines = cluster_machines(e->config.cluster, &count);

	for (size_t i = 0; i < count; i++) {
		const char *id = machines[i]->id, *epoch = cluster_epoch(e->config.cluster, id);

		_cleanup_free_ char *path = mem_printf("assigned/%s/epoch", id);

		if (!map_get(&e->epochs, slice_str(id)) || map_get(&e->swept, slice_str(path)) ||
			(epoch && strcmp(epoch, e->term) == 0))
			continue;
		map_remove(&e->epochs, slice_str(id));
		engine_epoch_write(e, id);
	}
}

void engine_restore(struct engine *e)
{
	size_t count;
	_cleanup_free_ const struct cluster_text **texts = cluster_texts(e->config.cluster, &count);

	for (size_t i = 0; i < count; i++)
		if (!texts[i]->stored)
			restore_text(e, texts[i]);
	restore_epochs(e);
}

static void collect_texts(struct engine *e, const struct map *before)
{
	size_t count;
	_cleanup_free_ const struct cluster_text **texts = cluster_texts(e->config.cluster, &count);

	for (size_t i = 0; i < count; i++) {
		_cleanup_free_ char *path = mem_printf("unit/%s", texts[i]->hash);

		if (texts[i]->stored && texts[i]->index && !cluster_text_is_used(texts[i]))
			unneeded(e, before, path, texts[i]->index, NULL);
	}
}

static void collect_indexes(struct engine *e, const struct map *before)
{
	size_t count;
	_cleanup_free_ char **machines = cluster_indexed_machines(e->config.cluster, &count);

	for (size_t i = 0; i < count; i++) {
		_cleanup_free_ char *path = mem_printf("assigned/%s", machines[i]);

		if (!cluster_machine(e->config.cluster, machines[i]))
			unneeded(e, before, path, 0, machines[i]);
	}
}

void engine_collect(struct engine *e)
{
	const struct cluster *c = e->config.cluster;
	uint64_t now = engine_now_ms(e);
	struct map before = e->unneeded;
	size_t count;
	_cleanup_free_ const struct cluster_unit **units = NULL;

	if (e->collected_ms && now - e->collected_ms < collect_ms(e) / ENGINE_COLLECT_LOOKS)
		return;
	e->collected_ms = now;
	map_init(&e->unneeded, 0);
	units = cluster_entries(c, &count);
	for (size_t i = 0; i < count; i++) {
		_cleanup_free_ char *wish = mem_printf("job/%s/target-state", units[i]->name);

		if (!units[i]->hash[0] && units[i]->has_desired && units[i]->desired_index)
			unneeded(e, &before, wish, units[i]->desired_index, NULL);
	}
	collect_texts(e, &before);
	collect_indexes(e, &before);
	map_done(&before);
}
