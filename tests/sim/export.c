/* Snapshots for somebody outside: taken from any member at any time, at some pace, and held against the state
 * that the members had at that index. */
#include "sim.h"
#include "base/memory.h"
#include "checkpoint/checkpoint.h"
#include <errno.h>
#include <inttypes.h>

struct export_run {
	struct member *member;
	struct node_export *source;
	struct buf bytes;
	size_t piece_bytes;
};

static int read_bytes(void *arg, const char *name, uint64_t offset, size_t len, struct buf *out)
{
	const struct buf *bytes = arg;

	(void)name;
	if (offset < bytes->len)
		buf_add(out, bytes->data + offset, MIN(len, bytes->len - (size_t)offset));
	return 0;
}

static void compare(struct world *world, const struct export_run *run)
{
	struct checkpoint_disk disk = {.read = read_bytes, .arg = (void *)&run->bytes};
	_cleanup_(checkpoint_unrefp) struct checkpoint *checkpoint = NULL;
	_cleanup_free_ char *error = NULL;
	struct checkpoint_info info;
	struct store *store = NULL;
	int r = checkpoint_file_open(&disk, "snapshot", run->bytes.len, &checkpoint, &error);

	if (r == 0)
		r = checkpoint_file_read(&disk, "snapshot", checkpoint, &store, &error);
	if (r < 0) {
		world_finding(world, "a snapshot of member %u cannot be read: %s", run->member->number,
			error ? error : "no message");
		return;
	}
	checkpoint_get_info(checkpoint, &info);
	if (info.id.index < world->hashes_cap && world->hashes[info.id.index].index &&
		world->hashes[info.id.index].hash != store_hash(store))
		world_finding(world, "a snapshot of log index %" PRIu64 " is not what the members had then",
			info.id.index);
	world->summary->exports++;
	world->summary->export_bytes += run->bytes.len;
	(void)store_free(store);
}

void export_stop(struct member *member)
{
	struct export_run *run = member->export;

	if (!run)
		return;
	(void)node_export_free(run->source);
	buf_done(&run->bytes);
	free(run);
	member->export = NULL;
}

static void ready(void *arg)
{
	struct export_run *run = arg;
	struct slice bytes;
	int r;

	while ((r = node_export_next(run->source, run->piece_bytes, &bytes)) == 0 && bytes.len)
		buf_add_slice(&run->bytes, bytes);
	if (r == -EAGAIN) {
		member_schedule(run->member, run->member->world->now_ns);
		return;
	}
	if (r == 0)
		compare(run->member->world, run);
	export_stop(run->member);
}

void export_begin(struct world *world)
{
	struct member *member = &world->members[rng_below(&world->later, world->member_count)];
	struct export_run *run;

	if (!world->calm)
		world_at(world,
			world->now_ns + 1 +
				(int64_t)rng_below(
					&world->later, 2 * (uint64_t)world->profile.export_every_ns),
			EVENT_EXPORT, 0, 0);
	if (!member->node || member->paused_until_ns > world->now_ns || member->export)
		return;
	run = mem_new(struct export_run);
	run->member = member;
	run->bytes = (struct buf)BUF_INIT(0);
	run->piece_bytes = (size_t)1 << rng_below(&world->later, 18);
	run->source = node_export_new(member->node, ready, run);
	if (!run->source) {
		world_finding(world, "a snapshot was refused");
		free(run);
		return;
	}
	member->export = run;
	member_schedule(member, world->now_ns);
}
