/* One simulated run of a fleet: the production member (mirrors, engine, scheduler, agent, presence) of up to
 * six machines with the production client of the store, against the production store, on a virtual clock. In
 * their place are faked: libuv's timers (loop.c), HTTP connections (http.c), unit managers (manager.c) and
 * the user (operator.c). Every decision comes from one seed. docs/simulator.md tells what is modelled and
 * what is checked. */
#pragma once
#include <uv.h>

#include "base/buf.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/time.h"
#include "fleet/member.h"
#include "fleet/registry.h"
#include "io/http_client.h"
#include "manager/manager.h"
#include "store/store.h"

#define HOSTS_MAX 6
#define UNITS_MAX 12
#define ENDPOINTS_MAX 3
#define TEXTS_MAX 200
#define PREFIX "/_coreos.com/fleet"
#define STORE_PREFIX STORE_USER_PREFIX PREFIX "/"

enum fault {
	FAULT_DAEMON_KILLED,
	FAULT_DAEMON_CRASHED_AT_STEP, /* at a request to the store, or an order to the manager */
	FAULT_DAEMON_PAUSED,
	FAULT_DAEMON_STOPPED,  /* told to end, units handed over */
	FAULT_DAEMON_UPGRADED, /* told to end, units run on */
	FAULT_POWER,	       /* a machine loses it, and comes back */
	FAULT_POWER_LONG,      /* and does not for long */
	FAULT_HOST_HUNG,       /* nothing happens on a machine, processes included */
	FAULT_HOST_CUT,	       /* from all of the store */
	FAULT_LINK_CUT,	       /* from one member of the store */
	FAULT_STREAM_MUTE,     /* a stream is dead, and its reader does not know */
	FAULT_STREAM_ENDED,
	FAULT_ANSWER_LOST, /* the store did it, the connection broke */
	FAULT_NET_SLOW,
	FAULT_MEMBER_DOWN, /* of the store */
	FAULT_MEMBER_CUT,  /* it has no quorum: nothing is answered, streams are silent */
	FAULT_STORE_FROZEN,
	FAULT_STORE_DOWN,
	FAULT_STORE_CUT,
	FAULT_MANAGER_LOST, /* its connection: signals are lost, states are read again */
	FAULT_MANAGER_SLOW,
	FAULT_MANAGER_FAILS,  /* single operations */
	FAULT_KEY_LOST,	      /* somebody deletes a key that a daemon keeps */
	FAULT_GARBAGE,	      /* somebody writes a key that nobody understands */
	FAULT_VERSION_RAISED, /* engine/version is newer than any engine here, for a while */
	FAULT_CLIENT_LEFT,    /* the user's request ends between two of its steps */
	FAULT_MAX
};
extern const char *const fault_names[FAULT_MAX];

enum act {
	ACT_SUBMIT,
	ACT_REPLACE, /* another text under the same name */
	ACT_START,
	ACT_STOP, /* loaded */
	ACT_UNLOAD,
	ACT_DESTROY,
	ACT_METADATA_FILE,
	ACT_METADATA_API,
	ACT_MAX
};
extern const char *const act_names[ACT_MAX];

struct summary { /* numbers of eight bytes only */
	int64_t cpu_ns;
	uint64_t seeds, findings, faults[FAULT_MAX], acts[ACT_MAX];
	uint64_t writes, reads, watches, stream_events, placed, moved, started, stopped, rests;
	/* Now and then each running process is looked at: would a stop be a finding, would a copy? */
	uint64_t looked_at, stop_found, copy_found;
	int64_t simulated_ns;
};

struct world;
struct host;
struct life;

/* What happens at somebody waits while he is stopped or hangs. */
struct gate {
	struct world *world;
	unsigned shut;		  /* how often */
	struct list events, held; /* struct event.in_gate, struct event.held */
};
struct event {
	struct heap_item item;
	struct list held, in_gate;
	int64_t at_ns;
	uint64_t number;
	struct gate *gate; /* NULL: the world's own */
	void (*fn)(void *data);
	void *data;
	struct event **owner;	  /* set to NULL when it happens */
	void (*drop)(void *data); /* what becomes of data when it does not; may be NULL */
};

/* ---- units ---- */

enum behaviour { UNIT_LASTS, UNIT_ENDS, UNIT_CRASHES, UNIT_FAILS, UNIT_STOPS_SLOWLY, UNIT_BEHAVIOURS };
/* A unit file as the simulator understands it: an oracle beside production's parser and scheduler. */
struct text {
	char hash[UNIT_HASH_HEX_SIZE];
	char *raw;
	enum behaviour behaviour;
	bool global;
	int machine_id; /* -1: any host */
	const char *disk, *zone;
	char machine_of[32], conflicts[32], replaces[32]; /* "": none; conflicts and replaces are globs */
};

enum phase { PHASE_INACTIVE, PHASE_ACTIVATING, PHASE_ACTIVE, PHASE_DEACTIVATING, PHASE_FAILED };
/* What really is on a machine. */
struct process {
	struct list link; /* in host->processes */
	struct host *host;
	char name[32];
	const struct text *text; /* that it was loaded with */
	enum phase phase;
	bool wanted, unloading;
	int64_t asked_ns; /* when it was asked to be loaded */
	int64_t stop_ns;  /* when it was told to stop, since it was last started; 0: it was not */
	struct event *job;
	struct list waiting; /* struct order.link: behind an unload */
};

/* ---- machines ---- */

struct manager {
	struct life *life;
	bool ready;
	struct list seen;     /* struct seen.link: the mirror */
	struct list orders;   /* struct order.link: not answered */
	int64_t last_told_ns; /* what it tells keeps its order */
};
/* One run of fleetd. */
struct life {
	struct world *world;
	struct host *host;
	uv_loop_t loop; /* its data: this */
	uint64_t number;
	bool dead; /* nothing that it does counts any more */
	bool paused, stopping;
	struct gate gate;
	struct etcd_client *quick, *client;
	struct cluster *cluster;
	struct member *member;
	struct registry_machine machine;
	struct manager manager;
	uint64_t crash_in; /* steps; 0: never */
};
struct host {
	struct world *world;
	unsigned number;
	char id[33], nonce[33];
	uint64_t boots;
	struct life *life; /* NULL: fleetd does not run */
	bool on, hung, no_engine;
	bool cut[ENDPOINTS_MAX];
	const char *disk, *zone; /* metadata by the configuration */
	struct list processes;
	struct gate gate; /* of what runs on it */
	bool manager_lost;
	int64_t manager_slow_until_ns;
	int64_t trouble_ns; /* when something was wrong with it last */
	int64_t clock_offset_ns, drift_ppm;
	struct event *start;
	uint64_t lives;
};

/* ---- store ---- */

struct endpoint {
	bool down, frozen, cut;
	struct list queue; /* struct exchange.link: what came meanwhile */
};

/* ---- what the registry says, for the checks ---- */

struct model_unit {
	char name[32];
	char hash[UNIT_HASH_HEX_SIZE]; /* "": no object */
	bool has_desired;
	enum registry_state desired;
	char target[33];	 /* "": none */
	int64_t born_ns;	 /* since when there is this text and this wish */
	char checked_target[33]; /* as it was before the last change */
	int64_t target_ns;	 /* since when */
	bool target_well;	 /* nothing was wrong then */
	/* Its entries in the index: since when, and whether nothing was wrong then. */
	int64_t entry_ns[HOSTS_MAX];
	bool entry_well[HOSTS_MAX];
	/* Per host: when it was last not to run the unit, by wish, target or rule; and when the rules last
	 * forbade it the unit, or nobody wanted it. */
	int64_t not_here_ns[HOSTS_MAX], wrong_ns[HOSTS_MAX];
	/* Per host: whether the rules allow it the unit, and when they did last. */
	bool allowed[HOSTS_MAX];
	int64_t allowed_ns[HOSTS_MAX];
};

struct profile {
	unsigned hosts, endpoints, units;
	int64_t ttl_s, reconcile_ms;
	int64_t delay_ns;	  /* of the network, at most */
	int64_t job_ns;		  /* of a unit manager, at most */
	int64_t tick_ns;	  /* how late the store notices that a key is due, at most */
	int64_t act_ns, fault_ns; /* between two, on average */
	uint32_t answer_lost, manager_fails, crash_at_step, client_left;
	bool drift;
};

struct run_options {
	uint64_t seed;
	bool verbose;
	uint64_t crash_step; /* above 0: no fault, but one daemon ends at that step */
	unsigned crash_host;
};

enum stage { STAGE_BUSY, STAGE_SETTLING, STAGE_AT_REST };
struct world {
	const struct run_options *options;
	struct profile profile;
	struct rng rng;
	struct summary *summary;
	int64_t now_ns;
	uint64_t next_number;
	struct heap events;
	struct host hosts[HOSTS_MAX];
	struct endpoint endpoints[ENDPOINTS_MAX];
	struct store *store;
	struct store_watch model_watch;
	struct event *tick;
	int64_t net_slow_until_ns;
	int64_t store_trouble_ns; /* when something was wrong with it last */
	struct list stuck;	  /* struct exchange.link: on a link that is cut */
	struct list streams;	  /* struct exchange.in_streams */
	struct text texts[TEXTS_MAX];
	unsigned text_count;
	struct map keys;	   /* path below the prefix -> value: all that the store holds */
	bool stranger;		   /* who writes */
	int64_t version_raised_ns; /* since when engine/version is newer than any engine; 0: it is not */
	bool plans_changed;	   /* what matters for where units run */
	struct model_unit units[UNITS_MAX];
	enum stage stage;
	bool calm; /* no fault begins; nothing is asked for */
	int64_t stage_ns;
	uint64_t mended; /* how often all was */
	unsigned rounds_left, calm_looks;
	bool reached_step; /* crash_step was */
	uint64_t trace;
	bool stopped;
	char *finding;
};

/* world.c */
int64_t world_rand(struct world *w, int64_t below);
bool world_chance(struct world *w, uint32_t per_million);
void world_trace(struct world *w, uint64_t a, uint64_t b);
void world_log(struct world *w, const char *format, ...) _printf_(2, 3);
void world_finding(struct world *w, const char *format, ...) _printf_(2, 3);
/* owner (may be NULL) points to the event until it happens or is cancelled. */
struct event *world_at(struct world *w, int64_t at_ns, struct gate *gate, void (*fn)(void *data), void *data,
	struct event **owner);
void event_cancel(struct event **owner);
void gate_init(struct gate *gate, struct world *w);
void gate_shut(struct gate *gate);
void gate_open(struct gate *gate);
void gate_done(struct gate *gate); /* drops its events */
struct run_result {
	uint64_t trace;
	bool reached;
};
/* One run; the finding (owned) or NULL. */
char *world_run(const struct run_options *options, struct summary *summary, struct run_result *ret_result);

/* loop.c */
struct life *life_of(const uv_loop_t *loop);

/* host.c */
void host_init(struct world *w, unsigned number);
void host_done(struct host *host);
void host_power_on(struct host *host);
void host_power_off(struct host *host);
void host_start_daemon(struct host *host, int64_t after_ns);
/* It dies in this moment, wherever it is; the memory goes in the next turn. */
void host_kill_daemon(struct host *host);
void host_stop_daemon(struct host *host, bool keep_units, int64_t again_ns);
void host_describe(struct host *host);
/* A step at which a daemon may be told to crash: true, it did. */
bool host_step(struct life *life);

/* http.c */
void http_settle(struct world *w); /* links were mended: what is stuck goes on */
void http_reset(struct world *w, unsigned endpoint);
void http_link_lost(struct host *host, unsigned endpoint); /* some connections will not come back */
void http_end_stream(struct world *w);
void http_world_done(struct world *w);
void http_streams_done(struct world *w); /* all lives are over: none is left, or the simulator is wrong */

/* server.c: what a member of the store does with a request that arrived */
struct exchange;
void server_init(struct world *w);
void server_done(struct world *w);
bool server_answers(const struct world *w, unsigned endpoint);
void server_take(struct world *w, struct exchange *exchange);
void server_wake(struct world *w, unsigned endpoint); /* it is up, thawed, or has its quorum again */
/* For the user and for vandals: straight into the store. value NULL: deletes, with all below. False: refused.
 */
bool server_write(struct world *w, const char *path, const char *value, bool create);

/* manager.c */
void manager_begin(struct life *life);
void manager_end(struct life *life);
void manager_lose(struct host *host);
void manager_find(struct host *host);
void processes_end(struct host *host);
struct process *process_find(const struct host *host, const char *name);
const char *phase_name(enum phase phase);
const char *phase_sub(enum phase phase);
bool process_runs(const struct process *process);
void host_hang(struct host *host, bool hung);

/* operator.c */
void operator_begin(struct world *w);
const struct text *text_find(const struct world *w, const char *hash);

/* fault.c */
void faults_begin(struct world *w);
void faults_end(struct world *w);	  /* all is mended and started */
int64_t faults_of_store(struct world *w); /* one that no unit may notice; how long it takes */

/* model.c */
void model_init(struct world *w);
void model_done(struct world *w);
void model_event(struct world *w, const char *path, const char *value); /* value NULL: gone, all below too */
const char *model_get(const struct world *w, const char *format, ...) _printf_(2, 3);
struct model_unit *model_unit(struct world *w, const char *name);
struct host *model_host(struct world *w, const char *id);
bool model_present(const struct world *w, const struct host *host);
bool model_describes(
	const struct world *w, const struct host *host); /* with the metadata of its configuration */
/* By the rules of the texts that they were loaded with: they may not run beside each other. */
bool process_conflicts(const struct process *process, const struct process *other);
/* By the rules, as the registry stands: NULL, or why the unit may not be on the host. */
const char *model_forbids(struct world *w, const struct model_unit *unit, const struct host *host);
/* The same by those rules alone that are about the machine, not about other units. */
const char *model_machine_forbids(struct world *w, const struct model_unit *unit, const struct host *host);
/* It may have to leave the host: by the rules, or because others go, or come, in whose places it stands. */
bool model_may_leave(struct world *w, const struct model_unit *unit, const struct host *host);
bool model_wants(const struct model_unit *unit); /* it shall be placed */
/* Whether the host shall run it, or have it loaded. */
bool model_is_here(struct world *w, const struct model_unit *unit, const struct host *host);

/* check.c */
bool check_is_well(const struct host *host); /* nothing was wrong with it or the store lately */
void check_changed(struct world *w);	     /* the registry did */
/* An entry of the index was written, changed or removed (NULL). */
void check_entry(
	struct world *w, struct model_unit *unit, struct host *host, const char *before, const char *after);
void check_started(struct process *process);
void check_told_to_stop(struct process *process, bool handing_over);
void check_now(struct world *w); /* from time to time */
/* NULL: all is as it shall be at rest; else what is not. Owned. */
char *check_rest(struct world *w);
