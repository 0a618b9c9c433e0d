/* Bits that rot, and sectors that read as zeros. The fault budget (docs/simulator.md): on a minority of the
 * members; in the log only while the member is down, and never in the last whole frame of it: damage there
 * looks like a write that did not complete, which nothing but another copy of the log could tell. */
#include "sim.h"
#include "wal/format.h"

/* The newest segment's number, and where in it the last whole frame begins, 0 when it holds none. */
struct end_of_log {
	uint64_t newest, last_frame;
};

struct listing {
	struct world *world;
	bool (*wanted)(const char *name);
	unsigned count;
	char chosen[WAL_NAME_MAX];
	uint64_t size, newest;
};

static bool is_segment(const char *name)
{
	uint64_t number;

	return wal_segment_number(name, &number);
}

static bool is_checkpoint(const char *name)
{
	return strstr(name, "checkpoint") || strcmp(name, "CHECKPOINT") == 0;
}

/* One of those that are wanted, each as likely. */
static void list_file(void *arg, const char *name, uint64_t size_bytes)
{
	struct listing *listing = arg;
	uint64_t number;

	if (wal_segment_number(name, &number))
		listing->newest = MAX(listing->newest, number);
	if (!listing->wanted(name) || !size_bytes || rng_below(&listing->world->rng, ++listing->count) != 0)
		return;
	memcpy(listing->chosen, name, strlen(name) + 1);
	listing->size = size_bytes;
}

static struct end_of_log find_end(const struct disk *disk, uint64_t newest)
{
	struct end_of_log end = {.newest = newest};
	struct wal_segment_header header;
	struct wal_frame_header frame;
	uint64_t at = WAL_SEGMENT_HEADER_BYTES;
	struct slice bytes, payload;
	uint32_t chain;
	char name[WAL_NAME_MAX];

	wal_segment_name(name, newest);
	bytes = disk_peek(disk, name);
	if (wal_segment_header_decode(bytes, &header) != WAL_HEADER_VALID || header.number != newest)
		return end;
	chain = header.chain;
	while (wal_frame_header_decode(bytes, at, header.seed, &frame) && frame.segment == (uint32_t)newest &&
		wal_frame_bytes(frame.payload_len) <= bytes.len - at) {
		payload = slice_make(bytes.data + at + WAL_FRAME_HEADER_BYTES, frame.payload_len);
		chain = wal_payload_crc(header.seed, chain, payload);
		if (chain != frame.payload_crc)
			break;
		end.last_frame = at;
		at += wal_frame_bytes(frame.payload_len);
	}
	return end;
}

/* How many bytes from the file's beginning on may rot. While the member runs, the end of the log moves. */
static uint64_t may_rot(const struct end_of_log *end, const char *name, uint64_t size, bool runs)
{
	uint64_t number;

	if (!wal_segment_number(name, &number))
		return size;
	if (runs)
		return number + 1 < end->newest ? size : 0;
	if (number == end->newest)
		return end->last_frame;
	/* Behind a segment without a frame, which recovery may clear away, this one is the last. */
	return number + 1 < end->newest || end->last_frame ? size : 0;
}

/* One more may rot: those that rotted may all be lost, and a majority must be left. */
static bool in_budget(struct world *world, const struct member *member)
{
	unsigned rotten = 0, most = (world->profile.members - 1) / 2;

	if (member->joins) /* it may be about to get a vote */
		return false;
	if (member->rotten)
		return !member->lost;
	/* Members may be removed meanwhile; operator.c leaves at least three then. */
	if (world->profile.changes)
		most = world->profile.members >= 5;
	for (unsigned i = 0; i < world->member_count; i++)
		rotten += world->members[i].rotten;
	return rotten < most;
}

/* A sector, if all of it may rot. */
static bool damage(struct member *member, const struct listing *listing, uint64_t limit, bool sector)
{
	struct world *world = member->world;
	uint64_t offset = (uint64_t)world_rand(world, (int64_t)limit), end;
	bool done;

	if (!sector) {
		done = disk_flip(member->disk, listing->chosen, offset, (unsigned)rng_below(&world->rng, 8));
	} else {
		/* The first one more often: it holds the header. */
		offset = rng_below(&world->rng, 4) ? offset - offset % DISK_SECTOR_BYTES : 0;
		end = MIN(offset + DISK_SECTOR_BYTES, listing->size);
		done = end <= limit &&
		       disk_clear(member->disk, listing->chosen, offset, (size_t)(end - offset));
	}
	if (!done)
		return false;
	member->rotten = true;
	world_log(world, "member %u: %s of %s rots at offset %llu", member->number,
		sector ? "a sector" : "a bit", listing->chosen, (unsigned long long)offset);
	world_trace(world, 900 + member->number, offset);
	return true;
}

static bool rot_one(struct world *world, struct member *member, bool (*wanted)(const char *name), bool sector)
{
	struct listing listing = {.world = world, .wanted = wanted};
	struct end_of_log end;
	uint64_t limit;

	if (!in_budget(world, member))
		return false;
	/* What was the last frame in the cache may not be on the platter. */
	if (!member->node && wanted == is_segment && !disk_is_settled(member->disk))
		return false;
	(void)disk_list(member->disk, list_file, &listing);
	if (!listing.count)
		return false;
	end = find_end(member->disk, listing.newest);
	limit = may_rot(&end, listing.chosen, listing.size, member->node != NULL);
	return limit && damage(member, &listing, limit, sector);
}

/* One that is down has more that may rot. */
static struct member *member_to_rot(struct world *world)
{
	unsigned first = (unsigned)rng_below(&world->rng, world->member_count);
	struct member *member = &world->members[first];

	for (unsigned i = 0; i < world->member_count; i++) {
		struct member *other = &world->members[(first + i) % world->member_count];

		if (!other->node && !other->lost && !other->removed && !other->joins) {
			member = other;
			break;
		}
	}
	return member;
}

bool rot_log(struct world *world)
{
	return rot_one(world, member_to_rot(world), is_segment, false);
}

bool rot_checkpoint(struct world *world)
{
	struct member *member = &world->members[rng_below(&world->rng, world->member_count)];

	return rot_one(world, member, is_checkpoint, false);
}

bool rot_sector(struct world *world)
{
	return rot_one(
		world, member_to_rot(world), rng_below(&world->rng, 3) ? is_segment : is_checkpoint, true);
}
