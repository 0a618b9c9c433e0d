/* The only way a node reaches the world: clocks, random bytes, the disk, peers, and the answers to clients.
 * The server implements it over io/ with a log-writer thread, the simulator with faults.
 *
 * All calls come from the thread that runs the node, and none of them may call back into the node: what they
 * start is answered later by node_disk_done(), node_receive() and so on. Only reply() may call
 * node_propose(), node_read_index(), node_forget() and read the store, and members_changed()
 * node_peer_state().
 */
#pragma once
#include "base/slice.h"
#include "wal/plan.h"

struct env;
struct node_reply;
struct store;

struct env_ops {
	/* A clock that never goes back and does not follow changes of the wall clock; any start. */
	int64_t (*mono_ns)(struct env *env);
	/* The wall clock, nanoseconds since 1970; may jump. */
	int64_t (*wall_ns)(struct env *env);
	void (*random)(struct env *env, void *ret_bytes, size_t len);

	/* Start only (node_open), blocking, inside the member's log directory.
	 * disk_list: calls fn(arg, name, size) for each plain file, in any order. 0 or -errno.
	 * disk_read: the whole file, at most max_bytes (-EFBIG beyond), into an owned block (free with
	 * mem_free). */
	int (*disk_list)(
		struct env *env, void (*fn)(void *arg, const char *name, uint64_t size_bytes), void *arg);
	int (*disk_read)(
		struct env *env, const char *name, size_t max_bytes, char **ret_data, size_t *ret_len);

	/* Start only: appends up to `len` bytes of a file from `offset` on, fewer only at its end. 0,
	 * -ENOENT, or what reading answered. */
	int (*disk_read_range)(
		struct env *env, const char *name, uint64_t offset, size_t len, struct buf *out);

	/* Bytes that may still be taken on the disk, UINT64_MAX: unknown. Asked now and then; must not block.
	 */
	uint64_t (*disk_room)(struct env *env);

	/* Starts a plan; answered by one node_disk_done(node, plan, error). The node keeps the plan alive and
	 * unchanged until then. At most one plan is under way, and beside it at most one with `background`
	 * set, which must not hold up the other. A failed step ends the plan with its -errno. */
	void (*disk_submit)(struct env *env, const struct wal_plan *plan);

	/* Sends one message (at most NODE_MESSAGE_MAX bytes) to a member. The bytes are borrowed for the
	 * call. It may be lost, doubled, delayed and overtaken by others, but arrives whole. When the way to
	 * the peer is choked the message is dropped (bulk first: heartbeats must not wait behind entries). */
	void (*send)(struct env *env, uint64_t to, struct slice message, bool bulk);

	/* Answers a request given to node_propose() or node_read_index(), exactly once for each request
	 * accepted. `reply` and what it points to are borrowed for the call. */
	void (*reply)(struct env *env, void *request, const struct node_reply *reply);

	/* The member set changed (or was first learned): look at node_member_*() and adjust connections. */
	void (*members_changed)(struct env *env);

	/* A received checkpoint is about to take the place of what node_store() answers. All watches on it
	 * are to be stopped before this returns; readers and snapshots may go on, the node keeps it until
	 * they are closed. */
	void (*store_leaving)(struct env *env, struct store *store);

	/* A line for the operator, without newline. Levels as in base/log.h. */
	void (*note)(struct env *env, int level, const char *text);
};

struct env {
	const struct env_ops *ops;
};
