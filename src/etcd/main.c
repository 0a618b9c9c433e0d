/* The etcd program: configuration, data directory, node, listeners, then the loop. One turn of the loop:
 * events are read (requests, messages, the disk's answers), then the check handle runs the node's turn,
 * delivers a slice of what watchers wait for and goes on with large answers. Before the loop sleeps a timer
 * is set to the node's next deadline. */
#include "etcd/datadir.h"
#include "etcd/join.h"
#include "etcd/peer.h"
#include "etcd/rebuild.h"
#include "etcd/server.h"
#include "etcd/server_env.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/programs.h"
#include "base/time.h"
#include "io/notify.h"
#include "io/url.h"
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
	/* Calls of watchers. What they are told leaves before the next slice, while it is in the cache. */
	DELIVER_PER_TURN = 256,
	COLLECT_PER_TURN = 64, /* pages of large deletes to free */
	OWN_FILES = 128,       /* descriptors for the log, checkpoints, members and what else is no client */
	CLIENTS_MAX = 65536,
	LARGE_BLOCK_BYTES = 128 * 1024,
};

struct program {
	struct server server;
	struct config config;
	struct datadir datadir;
	uv_loop_t loop;
	uv_check_t check;
	uv_prepare_t prepare;
	uv_idle_t idle;	       /* active while there is work that needs no event */
	uv_timer_t timer;      /* the node's deadline */
	int64_t mark_after_ns; /* the identity could not be written before */
	uv_timer_t ending; /* runs while it ends: a leader hands over, a removed member answers its clients */
	int signal;	   /* that ends it */
	bool removed;
	uv_signal_t signals[2];
	struct {
		size_t clients, peers;
	} shares; /* of the files that may be open: connections */
	bool turning;
	bool events; /* came since the last turn began */
};

/* ---- turns ---- */

static void on_idle(uv_idle_t *idle)
{
	(void)idle; /* its only purpose is that the loop does not sleep */
}

static void stay_awake(struct program *program)
{
	if (!uv_is_active((uv_handle_t *)&program->idle))
		(void)uv_idle_start(&program->idle, on_idle);
}

/* Events also come outside the poll (timers, the end of a turn): the loop must not sleep on them. */
static void on_event(void *user)
{
	struct program *program = user;

	program->events = true;
	stay_awake(program);
}

static void wake(struct server *server)
{
	on_event(container_of(server, struct program, server));
}

/* The transport may still borrow the seeds' texts, so they are only not written any more. */
static int write_identity(struct program *program, struct buf *reterr)
{
	struct datadir datadir = program->datadir;

	datadir.seeds_len = 0;
	return datadir_set_identity(program->config.data_dir, program->config.name, &datadir, reterr);
}

/* A member of a cluster that has begun has a log: from then on a missing one is damage. Not before, since a
 * start that fails or is killed may leave none. Not while the first requests wait, since it takes two syncs.
 * It can wait: without space the member goes on, and tries again. */
static void mark_log(struct program *program)
{
	enum { WAIT_ENTRIES = 256, RETRY_S = 10 };
	const struct server *server = &program->server;
	_cleanup_buf_ struct buf why = BUF_INIT(0);
	struct node_status status;

	if (program->datadir.has_log || (program->mark_after_ns && time_mono_ns() < program->mark_after_ns))
		return;
	node_get_status(server->node, &status);
	if (!*node_cluster_version(server->node) || (status.pending_count && status.applied < WAIT_ENTRIES) ||
		!node_member_by_id(server->node, server->member_id))
		return;
	program->datadir.has_log = true;
	if (write_identity(program, &why) == 0)
		return;
	program->datadir.has_log = false;
	program->mark_after_ns = time_mono_ns() + RETRY_S * NS_PER_S;
	log_warning("%s: until it can be, a start does not know that this member has a log; it is tried "
		    "again, make room or check the disk",
		buf_text(&why));
}

/* ---- the end ---- */

enum { HAND_OVER_MS = 500 };

/* What was acknowledged is on disk; there is nothing to write at the end. The original ends by the signal
 * itself. */
static void end_by_signal(struct program *program)
{
	uv_stop(&program->loop);
	(void)signal(program->signal, SIG_DFL);
	(void)raise(program->signal);
}

static void on_ending(uv_timer_t *timer)
{
	struct program *program = timer->data;

	if (program->signal) {
		end_by_signal(program);
		return;
	}
	log_notice("this member was removed from its cluster: clients are served no more");
	http_server_close(program->server.clients, NULL, NULL);
	program->server.clients = NULL;
}

/* A member that was removed has its clients go elsewhere, but not at once: the answer to whoever asked for it
 * may still be on its way. It ends, and its directory says so, when the others need it no more. */
static void end_when_removed(struct program *program, const struct node_status *status)
{
	_cleanup_buf_ struct buf why = BUF_INIT(0);

	if (!status->removed)
		return;
	if (!program->removed && !uv_is_active((uv_handle_t *)&program->ending))
		(void)uv_timer_start(&program->ending, on_ending, 2 * program->config.election_ms, 0);
	program->removed = true;
	if (!status->may_end || program->server.clients)
		return;
	program->datadir.removed = true;
	/* Without it the next start learns the same from the log. */
	if (write_identity(program, &why) < 0)
		log_error("%s", buf_text(&why));
	uv_stop(&program->loop);
}

static void end_when_handed_over(struct program *program, const struct node_status *status)
{
	if (program->signal && status->leader && status->leader != status->id)
		end_by_signal(program);
}

static void on_signal(uv_signal_t *handle, int number)
{
	struct program *program = handle->data;
	bool again = program->signal != 0;

	log_notice("received %s, stopping", number == SIGTERM ? "SIGTERM" : "SIGINT");
	(void)notify_send("STOPPING=1");
	program->signal = number;
	if (again || node_hand_over(program->server.node) < 0) {
		end_by_signal(program);
		return;
	}
	(void)uv_timer_start(&program->ending, on_ending, HAND_OVER_MS, 0);
	wake(&program->server);
}

static void program_turn(struct program *program)
{
	struct node_status status;
	struct store *store;
	bool more;

	if (program->turning)
		return;
	program->turning = true;
	program->events = false;
	node_turn(program->server.node);
	if (node_failure(program->server.node))
		exit(1); /* the node has said why */
	keys_release(&program->server);
	mark_log(program);
	node_get_status(program->server.node, &status);
	end_when_removed(program, &status);
	end_when_handed_over(program, &status);
	store = node_store(program->server.node); /* a turn may have replaced it */
	more = store_deliver(store, DELIVER_PER_TURN);
	more = keys_end_watches(&program->server) || more;
	more = keys_continue(&program->server) || more;
	more = store_collect(store, COLLECT_PER_TURN) || more;
	if (more || program->events)
		stay_awake(program);
	else
		(void)uv_idle_stop(&program->idle);
	program->turning = false;
}

static void on_check(uv_check_t *check)
{
	program_turn(check->data);
}

static void on_timer(uv_timer_t *timer)
{
	(void)timer; /* the check handle of this turn does the work */
}

/* The loop is about to sleep: at most until the node's deadline. */
static void on_prepare(uv_prepare_t *prepare)
{
	struct program *program = prepare->data;
	int64_t deadline_ns = node_deadline_ns(program->server.node), now_ns = time_mono_ns();

	deadline_ns = MIN(deadline_ns, keys_due_ns(&program->server));
	if (deadline_ns == INT64_MAX) {
		(void)uv_timer_stop(&program->timer);
	} else if (deadline_ns <= now_ns) {
		stay_awake(program);
	} else {
		uv_update_time(&program->loop);
		(void)uv_timer_start(&program->timer, on_timer,
			(uint64_t)((deadline_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS), 0);
	}
}

static void on_store_leaving(struct store *store, void *user)
{
	struct program *program = user;

	keys_store_leaving(&program->server, store);
}

/* ---- start ---- */

/* A new member: one of a new cluster, or one that joins. */
static int make_identity(struct program *program, struct buf *reterr)
{
	const struct config *config = &program->config;
	struct datadir *datadir = &program->datadir;

	if (config->cluster_error) {
		buf_add_str(reterr, config->cluster_error);
		return -EINVAL;
	}
	if (config->state_existing) {
		int r = join_ask(config, datadir, reterr);

		if (r < 0)
			return r;
		log_notice("joining cluster %llx as member %llx", (unsigned long long)datadir->cluster_id,
			(unsigned long long)datadir->member_id);
	} else {
		datadir->member_id = identity_find(&config->cluster, config->name)->id;
		datadir->cluster_id = config->cluster.id;
	}
	return datadir_set_identity(config->data_dir, config->name, datadir, reterr);
}

static bool is_as_configured(const struct config *config, const struct datadir *datadir)
{
	return !config->cluster_error && datadir->cluster_id == config->cluster.id &&
	       datadir->member_id == identity_find(&config->cluster, config->name)->id;
}

/* A copy of another member's directory, or the wrong one: the initial cluster has its name beside this one's.
 * Two members that both said they were it would break every promise. */
static bool is_of_another(const struct config *config, const struct datadir *datadir)
{
	return config->cluster_given && !config->cluster_error && datadir->name &&
	       strcmp(datadir->name, config->name) != 0 && identity_find(&config->cluster, datadir->name);
}

/* A directory in use decides: then the initial cluster's flags count no more, as in the original. They are
 * needed once more only when its first start ended before there was a log. */
static int check_identity(struct program *program, struct buf *reterr)
{
	const struct config *config = &program->config;
	const struct datadir *datadir = &program->datadir;

	if (datadir->fresh)
		return make_identity(program, reterr);
	if (datadir->removed) {
		buf_printf(reterr,
			"data directory %s belongs to member %llx, which was removed from its cluster for "
			"good. To "
			"bring this machine back, remove the directory, add a new member (etcdctl member "
			"add) and start it with --initial-cluster-state existing",
			config->data_dir, (unsigned long long)datadir->member_id);
		return -EPERM;
	}
	if (is_of_another(config, datadir)) {
		buf_printf(reterr,
			"data directory %s belongs to member %llx (%s) of cluster %llx, and this is %s, "
			"which "
			"--initial-cluster names beside it: check --data-dir and --name",
			config->data_dir, (unsigned long long)datadir->member_id, datadir->name,
			(unsigned long long)datadir->cluster_id, config->name);
		return -EINVAL;
	}
	if (datadir->has_log || datadir->seeds_len || is_as_configured(config, datadir)) {
		if (config->cluster_given && !is_as_configured(config, datadir))
			log_info("data directory %s is in use: --initial-cluster and "
				 "--initial-cluster-token have no effect",
				config->data_dir);
		return 0;
	}
	buf_printf(reterr,
		"data directory %s belongs to member %llx of cluster %llx, which never had a log, and "
		"--initial-cluster and --initial-cluster-token are not those of its first start: give them "
		"again, or "
		"another --data-dir",
		config->data_dir, (unsigned long long)datadir->member_id,
		(unsigned long long)datadir->cluster_id);
	return -EINVAL;
}

/* On a small disk the log must not take so much of it that no checkpoint fits beside it, behind which it
 * could be cut. From 1 GiB on it makes no difference. */
static void fit_log_to_disk(const char *path, struct node_config *config)
{
	enum { SEGMENTS_PER_DISK = 64, LOGS_PER_DISK = 16 };
	struct statvfs disk;
	uint64_t bytes;

	if (statvfs(path, &disk) < 0)
		return; /* the defaults do */
	bytes = (uint64_t)disk.f_blocks * disk.f_frsize;
	config->segment_bytes =
		MIN(MAX(bytes / SEGMENTS_PER_DISK, UINT64_C(1) << 20), UINT64_C(16) << 20) & ~UINT64_C(4095);
	config->checkpoint_log_bytes = MIN(MAX(bytes / LOGS_PER_DISK, UINT64_C(4) << 20), UINT64_C(64) << 20);
}

static int open_node(struct program *program, struct buf *reterr)
{
	struct node_member members[IDENTITY_MEMBERS_MAX];
	static_assert(IDENTITY_MEMBERS_MAX == NODE_VOTERS_MAX, "what identity takes the node must take");
	const struct config *config = &program->config;
	struct server *server = &program->server;
	_cleanup_free_ char *why = NULL;
	struct node_config node_config = {.cluster_id = server->cluster_id,
		.member_id = server->member_id,
		.name = config->name,
		.client_urls = (const char *const *)config->advertise_client_urls,
		.members = members,
		.members_len = config->cluster.count,
		.has_log = program->datadir.has_log,
		.joins = program->datadir.seeds_len > 0,
		.server_version = ETCD_CLUSTER_VERSION,
		.heartbeat_ms = (uint32_t)config->heartbeat_ms,
		.checkpoint_entries = config->snapshot_count,
		.election_ms = (uint32_t)config->election_ms};
	int r;

	fit_log_to_disk(config->data_dir, &node_config);
	for (size_t i = 0; i < config->cluster.count; i++)
		members[i] = (struct node_member){.id = config->cluster.members[i].id,
			.name = config->cluster.members[i].name,
			.peer_urls = (const char *const *)config->cluster.members[i].urls};
	r = node_open(&node_config, server_env_base(server->env), &server->node, &why);
	if (r < 0) {
		buf_printf(reterr, "data directory %s: %s", config->data_dir, why ? why : strerror(-r));
		return r;
	}
	server_env_attach(server->env, server->node);
	return 0;
}

static void on_limit(enum http_limit limit, const char *text, void *user)
{
	(void)limit;
	(void)user;
	log_warning("client requests: %s", text);
}

static int listen_clients(struct program *program, struct buf *reterr)
{
	struct http_server_options options = {.on_request = route_request,
		.body_ceiling = route_body_ceiling,
		.user = &program->server,
		.keep_slow_readers = true,
		.max_connections = program->shares.clients,
		.on_limit = on_limit};
	struct server *server = &program->server;

	server->clients = http_server_new(&program->loop, &options);
	for (char **text = program->config.listen_client_urls; *text; text++) {
		_cleanup_url_ struct url url = {0};
		int r = url_parse(*text, &url, reterr);

		if (r == 0)
			r = http_server_listen_tcp(server->clients, url.host, url.port, NULL, reterr);
		if (r < 0)
			return r;
		log_info("listening for client requests on %s", *text);
	}
	return 0;
}

static void init_loop(struct program *program)
{
	(void)uv_check_init(&program->loop, &program->check);
	(void)uv_prepare_init(&program->loop, &program->prepare);
	(void)uv_idle_init(&program->loop, &program->idle);
	(void)uv_timer_init(&program->loop, &program->timer);
	(void)uv_timer_init(&program->loop, &program->ending);
	program->check.data = program->prepare.data = program->idle.data = program->timer.data = program;
	program->ending.data = program;
}

/* After everything else, so that the server's own prepare handle comes after those that hand in requests. */
static void start_loop(struct program *program)
{
	static const int numbers[] = {SIGTERM, SIGINT};

	(void)uv_check_start(&program->check, on_check);
	(void)uv_prepare_start(&program->prepare, on_prepare);
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
		(void)uv_signal_init(&program->loop, &program->signals[i]);
		program->signals[i].data = program;
		(void)uv_signal_start(&program->signals[i], on_signal, numbers[i]);
	}
}

/* The node, as the data directory names it, and its world. */
static int start_member(struct program *program, struct buf *reterr)
{
	static struct peer_address seeds[DATADIR_SEEDS_MAX]; /* as long as the program */
	struct server *server = &program->server;
	struct server_env_options options = {.loop = &program->loop,
		.listen_peer_urls = program->config.listen_peer_urls,
		.advertise_peer_urls = program->config.advertise_peer_urls,
		.max_peer_connections = program->shares.peers,
		.election_ms = program->config.election_ms,
		.seeds = seeds,
		.on_reply = route_reply,
		.on_event = on_event,
		.on_store_leaving = on_store_leaving,
		.user = program};
	int r;

	server->member_id = program->datadir.member_id;
	server->cluster_id = program->datadir.cluster_id;
	(void)snprintf(server->cluster_id_text, sizeof(server->cluster_id_text), "%llx",
		(unsigned long long)server->cluster_id);
	for (size_t i = 0; i < program->datadir.seeds_len; i++)
		seeds[i] = (struct peer_address){
			program->datadir.seeds[i].id, (const char *const *)program->datadir.seeds[i].urls};
	options.seeds_len = program->datadir.seeds_len;
	options.log_path = program->datadir.log_path;
	options.cluster_id = server->cluster_id;
	options.member_id = server->member_id;
	r = server_env_new(&options, &server->env, reterr);
	return r == 0 ? open_node(program, reterr) : r;
}

/* Its data is damaged, and --rebuild says what to do then. */
static int rebuild(struct program *program, struct buf *reterr)
{
	int r;

	log_warning("%s", buf_text(reterr));
	buf_clear(reterr);
	program->server.env = server_env_free(program->server.env);
	(void)uv_run(&program->loop, UV_RUN_NOWAIT);
	r = rebuild_member(&program->config, &program->datadir, reterr);
	return r == 0 ? start_member(program, reterr) : r;
}

static int program_start(struct program *program, struct buf *reterr)
{
	const struct config *config = &program->config;
	struct server *server = &program->server;
	int r = config->rebuild ? datadir_open_to_rebuild(config->data_dir, &program->datadir, reterr)
				: datadir_open(config->data_dir, &program->datadir, reterr);

	if (r == 0)
		r = check_identity(program, reterr);
	if (r < 0)
		return r;
	server->loop = &program->loop;
	server->config = config;
	server->start_wall_ns = time_wall_ns();
	keys_init(server, program->shares.clients);
	server->wake = wake;
	if (program->datadir.log_missing) {
		buf_printf(reterr, "data directory %s: the log was taken away", config->data_dir);
		r = -EBADMSG;
	} else {
		r = start_member(program, reterr);
	}
	if (r == -EBADMSG && config->rebuild)
		r = rebuild(program, reterr);
	else if (r == 0 && config->rebuild)
		log_notice("--rebuild: nothing is damaged, so nothing is rebuilt");
	if (r == 0)
		r = listen_clients(program, reterr);
	return r;
}

/* Watchers and clients are connections: as many as the system lets this process have. But the member must be
 * able to begin a new segment of its log and to hear its peers however many clients there are. */
static void share_files(struct program *program)
{
	struct rlimit limit = {.rlim_cur = 1024};
	size_t files;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
		(void)getrlimit(RLIMIT_NOFILE, &limit);
	}
	files = (size_t)MIN(limit.rlim_cur, (rlim_t)CLIENTS_MAX + PEERS_CONNECTIONS_MAX + OWN_FILES);
	program->shares.peers = MIN((size_t)PEERS_CONNECTIONS_MAX, files / 4);
	program->shares.clients = files - program->shares.peers - MIN((size_t)OWN_FILES, files / 4);
}

static void log_warnings(const struct buf *warnings)
{
	for (const char *at = buf_text(warnings), *end; *at; at = end + 1) {
		end = strchrnul(at, '\n');
		log_warning("%.*s", (int)(end - at), at);
		if (!*end)
			break;
	}
}

int etcd_main(int argc, char **argv)
{
	_cleanup_buf_ struct buf warnings = BUF_INIT(0), why = BUF_INIT(0);
	static struct program program; /* lives until the process ends: nothing is torn down piece by piece */
	int r;

	mem_expect_much();
	program.server.argc = argc;
	program.server.argv = mem_dup(argv, (size_t)(argc + 1) * sizeof(*argv));
	r = config_read(&program.config, argc, argv, &warnings);
	if (r >= 0) {
		config_done(&program.config);
		free(program.server.argv);
		return r;
	}
	log_init("etcd", program.config.debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
	log_warnings(&warnings);
	share_files(&program);
	/* Large answers and values go back to the system when they are freed, also when many were there at
	 * once: without this the threshold follows the largest block that was freed. */
	(void)mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES);
	(void)signal(SIGPIPE, SIG_IGN);
	r = uv_loop_init(&program.loop);
	if (r < 0) {
		log_error("cannot make an event loop: %s", uv_strerror(r));
		return 1;
	}
	init_loop(&program);
	if (program_start(&program, &why) < 0) {
		log_error("%s", buf_text(&why));
		return 1;
	}
	log_notice("member %llx (%s) of cluster %llx started", (unsigned long long)program.server.member_id,
		program.config.name, (unsigned long long)program.server.cluster_id);
	start_loop(&program);
	(void)notify_send("READY=1");
	(void)uv_run(&program.loop, UV_RUN_DEFAULT);
	return program.removed ? 0 : 1;
}
