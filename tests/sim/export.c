/* Snapshots for somebody outside: taken from any member at any time, at some pace, and held against the state
 * that the members had at that index. Of some a new cluster of one member is made, which must hold the same
 * keys. */
#include "sim.h"
#include "base/memory.h"
#include "checkpoint/checkpoint.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

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

static int load(const struct export_run *run, struct checkpoint **ret_checkpoint, struct store **ret_store,
	char **ret_error)
{
	struct checkpoint_disk disk = {.read = read_bytes, .arg = (void *)&run->bytes};
	int r = checkpoint_file_open(&disk, "snapshot", run->bytes.len, ret_checkpoint, ret_error);

	return r < 0 ? r : checkpoint_file_read(&disk, "snapshot", *ret_checkpoint, ret_store, ret_error);
}

/* What is below the directory, one way: the other is asked for too. */
static bool holds(const struct store *store, const struct store *other, const char *dir)
{
	struct slice name, value, other_value;
	char path[160], last[64] = "";
	bool is_dir;

	while (store_next_child(store, slice_str(dir), slice_str(last), &name, &is_dir)) {
		(void)snprintf(last, sizeof(last), "%.*s", (int)name.len, name.data);
		(void)snprintf(path, sizeof(path), "%s/%s", dir, last);
		if (is_dir ? !holds(store, other, path)
			   : !store_peek(store, slice_str(path), &value) ||
					!store_peek(other, slice_str(path), &other_value) ||
					!slice_equal(value, other_value))
			return false;
	}
	return true;
}

static void no_submit(struct env *env, const struct wal_plan *plan)
{
	(void)env;
	(void)plan;
}

/* The first files of the new member; false: they could not be made. */
static bool write_files(struct member *scratch, struct node_restore *restore)
{
	struct wal_plan plan = {0};
	bool sound = true;

	while (sound && node_restore_next(restore, &plan))
		for (size_t i = 0; i < plan.steps_len && sound; i++)
			sound = disk_step(scratch->disk, &plan, &plan.steps[i]) == 0;
	buf_done(&plan.bytes);
	return sound;
}

static void restore(struct world *world, const struct export_run *run, const struct store *expected,
	struct store *store, const struct checkpoint_info *info)
{
	const char *urls[] = {"http://10.9.9.9:2380", NULL};
	struct node_member self = {.id = 9, .name = "", .peer_urls = urls, .client_urls = urls};
	struct node_config config = {
		.cluster_id = 0xc9,
		.member_id = self.id,
		.name = "restored",
		.client_urls = urls,
		.members = &self,
		.members_len = 1,
		.server_version = "2.3.0",
		.heartbeat_ms = 100,
		.election_ms = 1000,
		.segment_bytes = world->profile.segment_bytes,
	};
	struct env_ops ops = *run->member->env.ops;
	struct member *scratch = mem_new(struct member);
	struct node_restore *files = NULL;
	_cleanup_free_ char *error = NULL;

	ops.disk_submit = no_submit;
	*scratch = (struct member){.env.ops = &ops, .world = world, .number = MEMBERS_MAX};
	scratch->disk = disk_new(&world->later);
	if (node_restore_new(store, &config, info->id.index, info->id.term, rng_next(&world->later), &files) <
			0 ||
		!write_files(scratch, files))
		world_finding(world, "a snapshot cannot be restored");
	else if (node_open(&config, &scratch->env, &scratch->node, &error) < 0)
		world_finding(world, "what was restored does not start: %s", error ? error : "no message");
	else if (!holds(expected, node_store(scratch->node), STORE_USER_PREFIX) ||
		 !holds(node_store(scratch->node), expected, STORE_USER_PREFIX))
		world_finding(world, "what was restored is not what was saved");
	else
		world->summary->restores++;
	(void)node_restore_free(files);
	(void)node_free(scratch->node);
	(void)disk_free(scratch->disk);
	free(scratch);
}

static void compare(struct world *world, const struct export_run *run)
{
	_cleanup_(checkpoint_unrefp) struct checkpoint *checkpoint = NULL;
	_cleanup_(checkpoint_unrefp) struct checkpoint *again = NULL;
	_cleanup_free_ char *error = NULL;
	struct checkpoint_info info;
	struct store *store = NULL, *other = NULL;
	int r = load(run, &checkpoint, &store, &error);

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
	if (rng_below(&world->later, 4) == 0 && load(run, &again, &other, &error) == 0)
		restore(world, run, store, other, &info);
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
