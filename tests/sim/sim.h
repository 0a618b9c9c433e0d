/* One simulated run: the production node, 1 to 5 of it, on simulated disks, a simulated network and a virtual
 * clock, under a scheduler whose every decision comes from one seed. */
#pragma once
#include "base/heap.h"
#include "base/list.h"
#include "base/time.h"
#include "disk.h"
#include "linear.h"
#include "node/node.h"
#include "store/store.h"
#include "wal/wal.h"

#define MEMBERS_MAX 5
#define CLIENTS_MAX 6
#define KEYS_MAX 4

enum fault {
	FAULT_KILL,	     /* the process dies; the page cache stays */
	FAULT_POWER,	     /* unsynced bytes are lost or torn */
	FAULT_POWER_ALL,     /* of all members at once */
	FAULT_CRASH_AT_STEP, /* at a write, sync, create or rename, which is done in part */
	FAULT_TORN_WRITE,    /* counted when a power failure tears one */
	FAULT_DISK_ERROR,    /* a step fails */
	FAULT_DISK_SLOW,
	FAULT_PAUSE,	 /* SIGSTOP for a while */
	FAULT_PARTITION, /* two halves */
	FAULT_ISOLATE,	 /* one member from all others */
	FAULT_ONE_WAY,	 /* some links in one direction */
	FAULT_BRIDGE,	 /* two halves that only one member sees both of */
	FAULT_RESET,	 /* a connection breaks: both ends notice */
	FAULT_NET_SLOW,
	FAULT_DROP,
	FAULT_DUPLICATE,
	FAULT_REORDER,	   /* single messages */
	FAULT_CLOCK_JUMP,  /* of a wall clock */
	FAULT_CLIENT_LEFT, /* its request */
	FAULT_MAX
};
extern const char *const fault_names[FAULT_MAX];

struct summary {
	uint64_t seeds, findings, undecided;
	uint64_t faults[FAULT_MAX];
	uint64_t ops_ok, ops_refused, ops_unknown, reads, expired, messages, restarts, terms, entries;
	uint64_t checkpoints_written, checkpoints_received, checkpoints_sent, log_reads;
	int64_t simulated_ns;
};

enum event_kind {
	EVENT_TURN,
	EVENT_DISK,
	EVENT_MESSAGE,
	EVENT_PEER,
	EVENT_CLIENT,
	EVENT_START,
	EVENT_FAULT,
	EVENT_HEAL,
	EVENT_CALM,
	EVENT_FALSIFY,
	EVENT_FINAL,
	EVENT_END
};
struct event {
	struct heap_item item;
	int64_t at_ns;
	uint64_t number;
	enum event_kind kind;
	unsigned member, other; /* other: client, sender, or which plan */
	uint64_t life;		/* the member's; an event of an earlier life is void */
	char *bytes;		/* a message */
	size_t len;
};

struct plan_run {
	const struct wal_plan *plan; /* NULL: none */
	size_t step;
};

struct world;
struct member {
	struct env env; /* first: the node's */
	struct world *world;
	unsigned number;
	uint64_t id;
	struct node *node; /* NULL: down */
	struct disk *disk;
	uint64_t life;
	struct plan_run runs[2]; /* log, background */
	int64_t turn_at_ns;	 /* INT64_MAX: none scheduled */
	uint64_t turn_number;	 /* of the event that counts */
	int64_t paused_until_ns, disk_slow_until_ns;
	int64_t mono_offset_ns, mono_drift_ppm, wall_offset_ns;
	int64_t replaced_at_ns; /* when its store was last replaced by a received one */
	bool expects_failure;	/* its disk failed: it may stop */
	struct store_watch expiry_watch;
	bool watching;
};

enum op_state { OP_RUNNING, OP_DONE };
struct op {
	struct lin_op lin;
	enum op_state state;
	unsigned client, key, member;
	bool in_order, expiring;
	int64_t expires_ns;
	uint64_t life;	/* of the member asked */
	uint64_t index; /* in-order: the name it got */
};

struct client {
	unsigned number;
	struct op *op;		      /* under way */
	uint32_t last_seen[KEYS_MAX]; /* values to compare with */
	int64_t give_up_ns;
};

struct profile { /* what this seed does; chances are per million */
	unsigned members, clients, keys;
	int64_t run_ns, think_ns, net_delay_ns, sync_ns;
	uint64_t segment_bytes, checkpoint_log_bytes, log_cache_bytes;
	size_t checkpoint_step_bytes, checkpoint_piece_bytes;
	uint32_t heartbeat_ms, election_ms;
	uint32_t drop, duplicate, reorder, crash_at_step, disk_error;
	uint32_t fault_weight[FAULT_MAX];
	int64_t fault_every_ns;
	size_t value_bytes;
	bool expiry;
};

/* What is known of the time of life of a value. */
struct lifetime {
	int64_t expires_ns;	/* cluster clock; 0: it has none */
	int64_t set_ns, ttl_ns; /* virtual time when it was asked for, and for how long */
	uint64_t term;		/* the term in which the leader itself was asked; 0: another member was */
};

struct applied_hash {
	uint64_t index, hash;
};

struct world {
	uint64_t seed;
	struct rng rng;
	struct profile profile;
	struct summary *summary;
	int64_t now_ns;
	uint64_t next_number;
	struct heap events;
	struct member members[MEMBERS_MAX];
	struct node_member initial[MEMBERS_MAX];
	char urls[MEMBERS_MAX][32];
	const char *url_lists[MEMBERS_MAX][2];
	bool cut[MEMBERS_MAX][MEMBERS_MAX]; /* [from][to] */
	int64_t net_slow_until_ns;
	bool calm; /* faults are over: the cluster must come to rest */
	struct client clients[CLIENTS_MAX];
	struct op **ops;
	size_t ops_len, ops_cap;
	uint32_t next_value;
	struct lifetime *lifetimes; /* by value */
	struct applied_hash *hashes;
	size_t hashes_len, hashes_cap;
	uint64_t trace; /* hash of all that happened */
	bool verbose;
	bool contradict; /* falsify the state of a member; 3 or more members */
	struct member *false_one;
	uint64_t false_at; /* log index */
	unsigned stopped_itself;
	bool stopped;
	char *finding; /* the first */
};

/* sim.c */
int64_t world_rand(struct world *world, int64_t below);
void world_trace(struct world *world, uint64_t a, uint64_t b);
void world_finding(struct world *world, const char *format, ...) _printf_(2, 3);
void world_log(struct world *world, const char *format, ...) _printf_(2, 3);
struct event *world_at(
	struct world *world, int64_t at_ns, enum event_kind kind, unsigned member, unsigned other);
/* Runs one seed; the finding (owned) or NULL. *ret_trace: equal for equal seeds. */
char *world_run(uint64_t seed, bool verbose, bool contradict, struct summary *summary, uint64_t *ret_trace);
/* member.c */
void member_init(struct world *world, unsigned number);
void member_start(struct member *member);
void member_count(struct member *member); /* into the summary, before its node ends */
void member_crash(struct member *member, bool power);
void member_turn(struct member *member, const struct event *event);
void member_disk(struct member *member, const struct event *event);
void member_message(struct member *member, struct event *event);
/* `observer` will notice that its connection to `peer` is up or down. */
void member_notice(struct member *observer, unsigned peer, bool connected);
void member_peer(struct member *member, const struct event *event);
void member_falsify(struct member *member);
void member_schedule(struct member *member, int64_t at_ns);
bool member_up(const struct member *member);
/* client.c */
void client_step(struct world *world, struct client *client);
void client_reply(struct member *member, struct op *op, const struct node_reply *reply);
void client_lost_member(struct world *world, const struct member *member);
void client_final_reads(struct world *world);
void client_check(struct world *world);
/* fault.c */
void fault_profile(struct world *world);
void fault_inject(struct world *world);
void fault_heal_network(struct world *world);
void fault_calm(struct world *world);
