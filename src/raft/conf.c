/* How it works: a membership is three sorted sets of ids. A change is a list of steps; applied to a
 * membership it gives the next one. One voter more or less keeps the old and new majorities overlapping, so
 * it takes effect at once (thesis 4.1); anything else keeps the old voters as a second half, in which every
 * decision needs a majority too, until the leader proposes to leave it (thesis 4.3). */
#include "raft/raft.h"
#include "base/memory.h"
#include "base/wire.h"
#include <errno.h>

enum { CONF_VERSION = 1 };

static uint32_t set_position(const struct raft_set *set, uint64_t id)
{
	uint32_t at = 0;

	while (at < set->count && set->ids[at] < id)
		at++;
	return at;
}

bool raft_set_has(const struct raft_set *set, uint64_t id)
{
	uint32_t at = set_position(set, id);

	return at < set->count && set->ids[at] == id;
}

int raft_set_add(struct raft_set *set, uint64_t id)
{
	uint32_t at = set_position(set, id);

	if (at < set->count && set->ids[at] == id)
		return -EEXIST;
	if (set->count == RAFT_MEMBERS_MAX)
		return -ENOSPC;
	memmove(set->ids + at + 1, set->ids + at, (set->count - at) * sizeof(*set->ids));
	set->ids[at] = id;
	set->count++;
	return 0;
}

int raft_set_remove(struct raft_set *set, uint64_t id)
{
	uint32_t at = set_position(set, id);

	if (at == set->count || set->ids[at] != id)
		return -ENOENT;
	set->count--;
	memmove(set->ids + at, set->ids + at + 1, (set->count - at) * sizeof(*set->ids));
	return 0;
}

bool raft_conf_is_voter(const struct raft_conf *conf, uint64_t id)
{
	return raft_set_has(&conf->voters, id) || raft_set_has(&conf->outgoing, id);
}

struct raft_blob *raft_conf_change_encode(const struct raft_conf_change *change)
{
	_cleanup_buf_ struct buf out = BUF_INIT(RAFT_ENTRY_BYTES_MAX);

	assert(change->step_count <= RAFT_MEMBERS_MAX);
	wire_add_u8(&out, CONF_VERSION);
	wire_add_varint(&out, change->step_count);
	for (uint32_t i = 0; i < change->step_count; i++) {
		wire_add_u8(&out, (uint8_t)change->steps[i].op);
		wire_add_u64(&out, change->steps[i].id);
	}
	wire_add_bytes(&out, change->context);
	assert(!out.failed);
	return raft_blob_new(out.data, out.len);
}

int raft_conf_change_decode(struct slice bytes, struct raft_conf_change *ret_change)
{
	struct wire_reader reader = wire_reader_make(bytes);
	struct raft_conf_change change = {0};
	uint64_t count;

	if (wire_read_u8(&reader) != CONF_VERSION)
		return -EBADMSG;
	count = wire_read_varint(&reader);
	if (count > RAFT_MEMBERS_MAX)
		return -EBADMSG;
	change.step_count = (uint32_t)count;
	for (uint32_t i = 0; i < change.step_count; i++) {
		uint8_t op = wire_read_u8(&reader);

		if (op >= RAFT_CONF_OP_MAX)
			return -EBADMSG;
		change.steps[i].op = (enum raft_conf_op)op;
		change.steps[i].id = wire_read_u64(&reader);
	}
	change.context = wire_read_bytes(&reader);
	if (wire_finish(&reader) < 0)
		return -EBADMSG;
	*ret_change = change;
	return 0;
}

static int apply_step(struct raft_conf *conf, enum raft_conf_op op, uint64_t id)
{
	int r;

	if (!id)
		return -EINVAL;
	switch (op) {
	case RAFT_CONF_ADD_VOTER:
		(void)raft_set_remove(&conf->learners, id);
		r = raft_set_add(&conf->voters, id);
		return r == -EEXIST ? -EINVAL : r;
	case RAFT_CONF_ADD_LEARNER:
		(void)raft_set_remove(&conf->voters, id);
		r = raft_set_add(&conf->learners, id);
		return r == -EEXIST ? -EINVAL : r;
	default:
		if (raft_set_remove(&conf->voters, id) < 0 && raft_set_remove(&conf->learners, id) < 0)
			return -EINVAL;
		return 0;
	}
}

static uint32_t voters_changed(const struct raft_set *before, const struct raft_set *after)
{
	uint32_t changed = 0;

	for (uint32_t i = 0; i < before->count; i++)
		changed += !raft_set_has(after, before->ids[i]);
	for (uint32_t i = 0; i < after->count; i++)
		changed += !raft_set_has(before, after->ids[i]);
	return changed;
}

int raft_conf_change_apply(
	const struct raft_conf *conf, const struct raft_conf_change *change, struct raft_conf *ret_conf)
{
	struct raft_conf next = *conf;
	bool joint = conf->outgoing.count > 0;

	if (joint != (change->step_count == 0))
		return -EINVAL;
	if (joint) {
		next.outgoing.count = 0;
		*ret_conf = next;
		return 0;
	}
	for (uint32_t i = 0; i < change->step_count; i++) {
		int r = apply_step(&next, change->steps[i].op, change->steps[i].id);

		if (r < 0)
			return r;
	}
	if (!next.voters.count && (next.learners.count || conf->voters.count > 1))
		return -EINVAL;
	if (voters_changed(&conf->voters, &next.voters) > 1)
		next.outgoing = conf->voters;
	*ret_conf = next;
	return 0;
}
