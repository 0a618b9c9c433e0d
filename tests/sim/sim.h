/* One simulated run: the production node, 1 to 7 of it, on simulated disks, a simulated network and a virtual
 * clock, under a scheduler whose every decision comes from one seed. docs/simulator.md tells what is modelled
 * and what is checked. */
#pragma once
#include "base/heap.h"
#include "base/list.h"
#include "base/time.h"
#include "disk.h"
#include "linear.h"
#include "node/node.h"
#include "store/store.h"
#include "wal/wal.h"

#define MEMBERS_MAX 12 /* that ever were in one run */
#define VOTERS_MAX 7   /* at its beginning */
#define CHAINS_MAX 4
#define CLIENTS_MAX 6
#define KEYS_MAX 4
#define WINDOW_BYTES (UINT64_C(8) << 20) /* of entries under way to one member */

enum fault {
	FAULT_KILL,	       /* the process dies; the page cache stays */
	FAULT_POWER,	       /* unsynced bytes are lost or torn */
	FAULT_POWER_ALL,       /* of all members at once */
	FAULT_CRASH_AT_STEP,   /* at a write, sync, create or rename, which is done in part */
	FAULT_CRASH_IN_SWITCH, /* at one between a checkpoint's last write and the cut of the log */
	FAULT_CRASH_IN_TRANSFER,
	FAULT_LONG_DOWN,	/* back only near the end, with what it had */
	FAULT_LOST_WRITE,	/* counted when a power failure takes one */
	FAULT_TORN_WRITE,	/* counted when a power failure tears one */
	FAULT_DISK_ERROR,	/* a step of the log's fails: the member stops */
	FAULT_BACKGROUND_ERROR, /* one of a checkpoint's: it does not */
	FAULT_NO_SPACE,		/* files do not grow for a while */
	FAULT_ROT_LOG,		/* a bit flips in the log of a member that is down */
	FAULT_ROT_CHECKPOINT,
	FAULT_ROT_SECTOR, /* a sector of either reads as zeros */
	FAULT_DISK_SLOW,
	FAULT_READ_SLOW, /* counted for each that takes seconds */
	FAULT_PAUSE,	 /* SIGSTOP for a while */
	FAULT_PARTITION, /* two halves */
	FAULT_ISOLATE,	 /* one member from all others */
	FAULT_ONE_WAY,	 /* some links in one direction */
	FAULT_BRIDGE,	 /* two halves that only one member sees both of */
	FAULT_FLAPPING,	 /* a partition that comes and goes */
	FAULT_STRAND,	 /* a new leader is cut off, or dies, moments after it was elected */
	FAULT_CRASH_AFTER_VOTE,
	FAULT_RESET, /* a connection breaks: both ends notice */
	FAULT_NET_SLOW,
	FAULT_DROP,
	FAULT_DUPLICATE,
	FAULT_REORDER,	   /* single messages */
	FAULT_CUT_MESSAGE, /* a connection breaks inside one */
	FAULT_CLOCK_JUMP,  /* of a wall clock */
	FAULT_CLOCK_DRIFT, /* a wall clock goes wrong by up to a twentieth */
	FAULT_CLIENT_LEFT, /* its request */
	FAULT_MEMBER_ADDED,
	FAULT_MEMBER_REMOVED,
	FAULT_MEMBER_REPLACED,
	FAULT_MEMBER_PROMOTED,
	FAULT_HAND_OVER,   /* the leader is asked to let another one lead */
	FAULT_CLEAN_STOP,  /* a process is told to end, and gives its leadership away before */
	FAULT_DISK_HANG,   /* the log's disk does nothing for longer than elections take */
	FAULT_LINE_LOST,   /* a connection ends by itself, with all that was on its way */
	FAULT_NO_LINE,	   /* a message found no connection */
	FAULT_QUEUE_FULL,  /* a message found no room before a connection */
	FAULT_LINE_SILENT, /* a connection whose other end confirmed nothing for too long */
	FAULT_URL_UPDATED, /* a member moved */
	FAULT_STRANGER,	   /* a member took a connection of one that it did not know */
	FAULT_NONSENSE,	   /* a member forwards what is no entry of this version */
	FAULT_DISK_FULL,   /* a step found no room on a small disk that is full of what the member wrote */
	FAULT_MAX
};
#define FAULTS_FIRST (FAULT_HAND_OVER + 1) /* those before it have their chances from the first generator */
extern const char *const fault_names[FAULT_MAX];

/* Where a plan of the disk was interrupted by a crash: what was being done, and at which kind of step. */
enum work {
	WORK_LOG,
	WORK_LOG_CUT,
	WORK_LOG_READ,
	WORK_SPARE,
	WORK_CHECKPOINT,	/* its data */
	WORK_CHECKPOINT_SWITCH, /* from its last sync to the rename of the manifest that is durable */
	WORK_CHECKPOINT_REMOVE,
	WORK_MAX
};
extern const char *const work_names[WORK_MAX];

struct summary {
	int64_t cpu_ns;
	uint64_t seeds, findings, undecided;
	uint64_t faults[FAULT_MAX], crashes[WORK_MAX][WAL_STEP_MAX];
	uint64_t ops_ok, ops_refused, ops_unknown, reads, expired, messages, restarts, terms, entries;
	uint64_t checkpoints_written, checkpoints_received, checkpoints_sent, log_reads;
	uint64_t rot_refused; /* starts refused because of it: the member is lost */
	uint64_t stream_events, poll_events, polls_cleared, watches_ended;
	uint64_t exports, export_bytes, restores, wire_runs, bulk_bytes;
	uint64_t found_false; /* members whose state was falsified, and that stopped themselves */
	int64_t simulated_ns;
};

enum event_kind {
	EVENT_TURN,
	EVENT_DISK,
	EVENT_MESSAGE,
	EVENT_PEER,
	EVENT_WIRE,
	EVENT_CLEAN_STOP,
	EVENT_EXPORT,
	EVENT_CLIENT,
	EVENT_POLL,
	EVENT_START,
	EVENT_FAULT,
	EVENT_FLAP,
	EVENT_STRAND,
	EVENT_CRASH,
	EVENT_HEAL,
	EVENT_CALM,
	EVENT_REST,
	EVENT_FALSIFY,
	EVENT_FINAL,
	EVENT_END
};
enum wire_event {
	WIRE_CALL,    /* the caller tries */
	WIRE_HELLO,   /* the other end is called */
	WIRE_ANSWER,  /* what it said */
	WIRE_TIMEOUT, /* it said nothing */
	WIRE_BYTES,   /* the first message on its way arrives */
	WIRE_END,     /* the caller notices that the connection is gone */
	WIRE_PROBE,   /* is the other end still there? */
	WIRE_GONE     /* the other end does */
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
	bool cut; /* the message ends early */
	/* Of the transport: what happens to the connection of this number, and the life of its other end. */
	enum wire_event what;
	uint64_t line, other_life;
};

struct plan_run {
	const struct wal_plan *plan; /* NULL: none */
	size_t step;
};

/* A member's way to another one, as src/etcd/peer*.c has it. */
enum line_kind { LINE_SMALL, LINE_BULK, LINE_KINDS };
enum line_state { LINE_NONE, LINE_WAITING, LINE_CALLING, LINE_OPEN };
struct line {
	enum line_state state;
	uint64_t number; /* of the wait, call or connection; never used twice */
	uint64_t other_life;
	int64_t wait_ns;
	unsigned tries;	   /* the URLs take turns */
	struct list queue; /* struct letter.link */
	size_t queued_bytes;
	uint64_t sent_bytes; /* since it was made */
	int64_t free_ns;     /* when what was sent so far has left */
	int64_t arrival_ns;  /* of the newest */
	int64_t silent_ns;   /* since when nothing is confirmed; 0: all is */
};
struct wire_peer {
	bool member;	/* or a seed */
	bool stranger;	/* known only because it called */
	bool connected; /* as the node was told */
	char url[32], told_url[32];
	struct line lines[LINE_KINDS];
	uint64_t incoming[LINE_KINDS]; /* the connection that it made; 0: none */
	int64_t heard_ns;	       /* when its last message came; 0: none did */
};
struct seed_url {
	unsigned number;
	char url[32];
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
	uint64_t steps_done;	 /* of its disk, in this run */
	int64_t paused_until_ns, disk_slow_until_ns, no_space_until_ns, down_until_ns;
	int64_t mono_offset_ns, mono_drift_ppm, wall_offset_ns, wall_drift_ppm, wall_drift_since_ns;
	int64_t replaced_at_ns; /* when its store was last replaced by a received one */
	int64_t moved_at_ns;	/* when it was last started anew at another address */
	bool expects_failure;	/* its disk failed: it may stop */
	bool has_log;		/* as the server's identity file tells the next start */
	bool rotten;		/* it may refuse to start, saying why */
	bool lost;		/* it did: it is gone for good */
	bool joins;		/* it was added while the cluster ran */
	bool successor;		/* to replace another one */
	bool voted;		/* it joined and was given a vote */
	bool removed;		/* it is no member any more, and its process ended */
	bool led;		/* at the end of its last turn */
	struct store_watch root_watch;
	uint64_t root_last; /* index of the newest event seen */
	bool watching;
	struct wire_peer peers[MEMBERS_MAX]; /* by number */
	struct seed_url seeds[MEMBERS_MAX];  /* whom it knew when it was added */
	unsigned seeds_len;
	char listens[32], moved_url[32]; /* its URL of now, and the one that it was last told to move to */
	char place[32];			 /* where it is to listen, as the membership says; "": not known */
	const char *moved_urls[2];
	unsigned moves;
	bool powered_off;
	bool owes_write; /* at the end: none was taken yet */
	int64_t disk_hangs_until_ns;
	unsigned idle_turns;	   /* that were due in the past, since anything happened */
	struct export_run *export; /* under way; NULL: none */
};

enum op_state { OP_RUNNING, OP_DONE };
struct op {
	struct lin_op lin;
	enum op_state state;
	unsigned client, key, member;
	bool in_order, expiring;
	bool repeated; /* it was refused, and is asked for again */
	int64_t expires_ns;
	uint64_t life;	/* of the member asked */
	uint64_t index; /* the store's, of what it did; in-order: the name it got */
	uint64_t event_hash;
	enum fault fault; /* a change of the membership; else FAULT_MAX */
};

struct client {
	unsigned number;
	struct op *op;		      /* under way */
	uint32_t last_seen[KEYS_MAX]; /* values to compare with */
	int64_t give_up_ns;
};

/* A client that polls for one event after the other, at whichever member. */
struct chain {
	struct store_watch watch;
	struct world *world;
	unsigned number;
	struct member *member; /* where the watch is registered; NULL: nowhere */
	char path[48];
	bool recursive;
	uint64_t last; /* index of the newest event seen */
};

/* What is known of the store's event of an index. */
struct known_event {
	uint64_t hash; /* of its JSON; 0: not known */
	char path[48];
};

/* What is known of a term. */
struct term_facts {
	uint64_t leader;		 /* 0: none was seen */
	uint64_t voted_for[MEMBERS_MAX]; /* by member, 0: nobody */
};

struct profile { /* what this seed does; chances are per million */
	unsigned members, clients, keys;
	int64_t run_ns, think_ns, net_delay_ns, sync_ns;
	int64_t calm_delay_ns; /* of the network, when the faults are over */
	int64_t restart_ns;    /* at most, besides a little */
	uint64_t segment_bytes, checkpoint_log_bytes, log_cache_bytes;
	size_t checkpoint_step_bytes, checkpoint_piece_bytes, append_bytes;
	uint32_t heartbeat_ms, election_ms;
	uint32_t drop, duplicate, reorder, cut_message;
	uint32_t crash_at_step, crash_in_switch, crash_in_transfer, disk_error, background_error, strand,
		crash_after_vote, read_slow;
	uint32_t fault_weight[FAULT_MAX];
	int64_t fault_every_ns;
	size_t value_bytes;
	unsigned chains;
	bool expiry, changes;
	/* Of the later generator. */
	bool wire;			       /* the transport of the server, not the harsher network */
	bool large;			       /* values of up to a MiB */
	int64_t bytes_per_s, calm_bytes_per_s; /* of each connection */
	size_t socket_bytes;		       /* that leave the queue before they arrive */
	uint32_t line_lost, nonsense;
	int64_t export_every_ns; /* 0: never */
	uint64_t disk_bytes;	 /* of every second member at least; 0: endless */
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

/* What is asked of a run besides its seed. */
struct run_options {
	uint64_t seed;
	bool verbose;
	bool contradict; /* falsify the state of a member; 3 or more members */
	/* Above 0: no fault but one, at the crash_step-th step of the disk of member crash_member. */
	uint64_t crash_step;
	unsigned crash_member;
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
	unsigned member_count; /* that ever were */
	struct node_member initial[MEMBERS_MAX];
	char urls[MEMBERS_MAX][32];
	const char *url_lists[MEMBERS_MAX][2];
	struct rng later; /* for what was added later, so that older seeds stay what they are */
	uint64_t next_line;
	uint64_t bulk_needed, bulk_sent, bulk_excused; /* bytes */
	bool cut[MEMBERS_MAX][MEMBERS_MAX];	       /* [from][to] */
	int64_t net_slow_until_ns;
	unsigned flap_sides;
	int64_t alarmed_ns; /* when a member was seen without space last */
	bool calm;	    /* faults are over: the cluster must come to rest */
	int64_t asked_ns;   /* everybody, for the last time */
	struct client clients[CLIENTS_MAX];
	struct op **ops;
	size_t ops_len, ops_cap;
	uint32_t next_value;
	struct lifetime *lifetimes; /* by value */
	struct applied_hash *hashes;
	size_t hashes_len, hashes_cap;
	struct term_facts *terms;
	size_t terms_cap;
	struct chain chains[CHAINS_MAX];
	struct known_event *known; /* by store index */
	size_t known_cap;
	uint64_t known_upto;   /* all up to here are known, or older than the history */
	struct op *change;     /* of the membership, the newest; NULL: none yet */
	uint64_t urls_applied; /* log index of the membership that the operator saw last */
	unsigned voters_low;   /* there are at least so many voters, whatever became of changes */
	uint64_t trace;	       /* hash of all that happened */
	const struct run_options *options;
	bool crashed_at_step;
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
/* Counted by the others as a member, and not lost. */
bool member_counts(const struct member *member);
struct run_result {
	uint64_t trace; /* equal for equal seeds */
	bool crashed;	/* there was such a step */
};
/* One run; the finding (owned) or NULL. */
char *world_run(const struct run_options *options, struct summary *summary, struct run_result *ret_result);
/* member.c */
void member_init(struct world *world, unsigned number);
void member_start(struct member *member);
void member_count(struct member *member); /* into the summary, before its node ends */
void member_crash(struct member *member, bool power);
void member_turn(struct member *member, const struct event *event);
void member_disk(struct member *member, const struct event *event);
void member_message(struct member *member, struct event *event);
/* False: it was no good. */
bool member_receive(struct member *member, unsigned from, struct slice message);
int64_t member_wall_ns(const struct member *member);
/* `observer` will notice that its connection to `peer` is up or down. */
void member_notice(struct member *observer, unsigned peer, bool connected);
void member_peer(struct member *member, const struct event *event);
void member_falsify(struct member *member);
void member_schedule(struct member *member, int64_t at_ns);
void member_store_leaves(struct member *member, struct store *store);
void member_clean_stop(struct member *member, const struct event *event);
/* wire.c */
void wire_start(struct member *member);
void wire_stop(struct member *member, bool power);
void wire_members_changed(struct member *member);
void wire_send(struct member *member, unsigned to, struct slice message, bool bulk);
void wire_event(struct world *world, const struct event *event);
void wire_reset(struct world *world, unsigned one, unsigned other);
void wire_calm(struct world *world);
void wire_check(struct world *world);
/* nonsense.c */
bool nonsense_sent(struct world *world, struct slice bytes, struct buf *out); /* true: `out` instead */
/* export.c */
void export_begin(struct world *world);
void export_stop(struct member *member); /* its process ends */
/* client.c */
void client_step(struct world *world, struct client *client);
void client_reply(struct member *member, struct op *op, const struct node_reply *reply);
void client_lost_member(struct world *world, const struct member *member);
void client_final_reads(struct world *world);
void client_final_writes(struct world *world); /* again, where they were refused */
bool clients_rest(const struct world *world);  /* no request is under way */
void client_check(struct world *world);
struct op *client_change(struct world *world, unsigned member, enum fault fault);
/* operator.c */
void operator_prepare(struct world *world, unsigned number);
bool operator_change(struct world *world, enum fault fault);
void operator_reply(struct world *world, struct op *op, const struct node_reply *reply);
void operator_members_changed(struct member *member);
bool operator_rests(const struct world *world); /* nobody waits for a vote */
bool operator_hand_over(struct world *world);
bool operator_clean_stop(struct world *world);
void operator_settle(struct world *world); /* members listen where the others look for them */
/* watcher.c */
void watcher_start(struct member *member);		       /* on its store of now */
void watcher_stop(struct member *member, struct store *store); /* the store or the process goes */
void watcher_turn(struct member *member);		       /* delivers; nothing may be missing then */
void watcher_poll(struct world *world, struct chain *chain);
void watcher_init(struct world *world);
void watcher_check(struct world *world); /* what was acknowledged was told */
/* promise.c */
bool promise_sent(struct member *member, struct slice bytes); /* true: a vote is given or asked for */
bool promise_of_transfer(struct slice bytes);		      /* a message of a checkpoint's transfer */
void promise_leads(struct member *member, uint64_t term);
/* rot.c */
bool rot_log(struct world *world);
bool rot_checkpoint(struct world *world);
bool rot_sector(struct world *world);
/* fault.c */
void fault_profile(struct world *world);
void fault_inject(struct world *world);
void fault_heal_network(struct world *world);
void fault_flap(struct world *world, unsigned left);
void fault_new_leader(struct member *member);
void fault_vote_given(struct member *member);
void fault_strand(struct member *member, bool dies);
void fault_calm(struct world *world);
