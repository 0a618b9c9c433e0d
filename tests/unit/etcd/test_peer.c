/* Peers on one loop over real sockets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>
#include "etcd/peer.h"
#include "base/log.h"
#include "base/memory.h"
#include "io/http_client.h"
#include <errno.h>

enum { MESSAGE_MAX = 1 << 20 };

struct member {
	uint64_t id;
	struct peers *peers;
	char url[64];
	const char *urls[2];
	char *own[2];	/* as it is configured; told to others */
	struct buf got; /* "from:len:first byte;" per message */
	size_t messages, bytes;
	uint64_t last_number;
	bool out_of_order;
	struct buf told; /* "peer+;" for each that can be reached, "peer-;" for each that cannot */
	int states;	 /* connected minus lost */
	unsigned changes;
	uint64_t removed_id; /* whom it knows to be removed */
	int told_removed;    /* how often it was told so of itself */
	uint64_t told_removed_by;
};

static uv_loop_t loop;

static int on_message(uint64_t from, struct slice message, void *user)
{
	struct member *member = user;

	if (slice_is(message, "nonsense"))
		return -EBADMSG;
	member->messages++;
	member->bytes += message.len;
	if (member->messages <= 10)
		buf_printf(&member->got, "%llu:%zu:%c;", (unsigned long long)from, message.len,
			message.len ? message.data[0] : '-');
	if (message.len == sizeof(uint64_t)) {
		uint64_t number;

		memcpy(&number, message.data, sizeof(number));
		member->out_of_order = member->out_of_order || number <= member->last_number;
		member->last_number = number;
	}
	return 0;
}

static void on_state(uint64_t id, bool connected, void *user)
{
	struct member *member = user;

	buf_printf(&member->told, "%llu%c;", (unsigned long long)id, connected ? '+' : '-');
	if ((member->states > 0) == connected)
		return;
	member->states = connected;
	member->changes++;
}

static bool was_removed(uint64_t id, void *user)
{
	const struct member *member = user;

	return member->removed_id && id == member->removed_id;
}

static void on_removed(uint64_t by, void *user)
{
	struct member *member = user;

	member->told_removed++;
	member->told_removed_by = by;
}

static void on_request(struct http_request *req, void *user)
{
	(void)user;
	http_reply(req, 200, NULL, 0, SLICE_LITERAL("other"));
}

static void start(struct member *member, uint64_t id, uint64_t cluster_id, uint16_t port)
{
	struct peers_options options = {.loop = &loop,
		.cluster_id = cluster_id,
		.member_id = id,
		.own_urls = member->own,
		.max_message_bytes = MESSAGE_MAX,
		.election_ms = 200,
		.on_message = on_message,
		.on_state = on_state,
		.was_removed = was_removed,
		.on_removed = on_removed,
		.on_request = on_request,
		.user = member};
	_cleanup_buf_ struct buf why = BUF_INIT(0);
	char url[64];

	*member = (struct member){.id = id};
	member->peers = peers_new(&options);
	snprintf(url, sizeof(url), "http://127.0.0.1:%u", port);
	assert_int_equal(peers_listen(member->peers, url, &port, &why), 0);
	snprintf(member->url, sizeof(member->url), "http://127.0.0.1:%u", port);
	member->urls[0] = member->own[0] = member->url;
}

static void know(struct member *member, struct member *const *others, size_t count)
{
	struct peer_address addresses[4];

	for (size_t i = 0; i < count; i++)
		addresses[i] = (struct peer_address){others[i]->id, others[i]->urls};
	peers_set(member->peers, addresses, count);
}

static void introduce(struct member *a, struct member *b)
{
	struct member *both[] = {a, b};

	know(a, both, 2);
	know(b, both, 2);
}

static void on_timeout(uv_timer_t *timer)
{
	*(bool *)timer->data = true;
}

/* Runs the loop until *value is at least `least`, or for ms: then answers false. */
static bool run_until(const void *value, size_t size, int64_t least, uint64_t ms)
{
	uv_timer_t timer;
	bool late = false, reached = false;

	assert_int_equal(uv_timer_init(&loop, &timer), 0);
	timer.data = &late;
	assert_int_equal(uv_timer_start(&timer, on_timeout, ms, 0), 0);
	while (!late && !reached) {
		uv_run(&loop, UV_RUN_ONCE);
		reached = value && (size == sizeof(int) ? *(const int *)value >= least
							: *(const int64_t *)value >= least);
	}
	uv_close((uv_handle_t *)&timer, NULL);
	uv_run(&loop, UV_RUN_NOWAIT);
	return reached;
}
#define wait_for(value, least) assert_true(run_until(&(value), sizeof(value), (least), 5000))
#define run_for(ms) (void)run_until(NULL, 0, 0, (ms))

static void stop(struct member *member)
{
	member->peers = peers_free(member->peers);
	buf_done(&member->got);
	buf_done(&member->told);
}

static int setup(void **state)
{
	(void)state;
	return uv_loop_init(&loop);
}

static int teardown(void **state)
{
	(void)state;
	uv_run(&loop, UV_RUN_DEFAULT);
	return uv_loop_close(&loop);
}

static void messages_arrive_whole_and_from_whom_they_came(void **state)
{
	struct member a, b;
	struct peers_counts counts;
	char *large = mem_calloc(1, MESSAGE_MAX + 1);

	(void)state;
	start(&a, 1, 77, 0);
	start(&b, 2, 77, 0);
	assert_false(peers_send(a.peers, 2, SLICE_LITERAL("nobody"), false));
	introduce(&a, &b);
	assert_false(peers_send(a.peers, 2, SLICE_LITERAL("too early"), false));
	wait_for(a.states, 1);
	wait_for(b.states, 1);
	assert_true(peers_send(a.peers, 2, SLICE_LITERAL("hello"), false));
	wait_for(b.messages, 1);
	assert_true(peers_send(a.peers, 2, SLICE_LITERAL("large entries"), true));
	wait_for(b.messages, 2);
	assert_true(peers_send(b.peers, 1, SLICE_LITERAL(""), false));
	wait_for(a.messages, 1);
	assert_string_equal(b.got.data, "1:5:h;1:13:l;");
	assert_string_equal(a.got.data, "2:0:-;");
	assert_false(peers_send(a.peers, 1, SLICE_LITERAL("myself"), false));
	assert_false(peers_send(a.peers, 9, SLICE_LITERAL("stranger"), false));
	assert_true(peers_send(a.peers, 2, slice_make(large, MESSAGE_MAX), true));
	assert_false(peers_send(a.peers, 2, slice_make(large, MESSAGE_MAX + 1), true));
	wait_for(b.bytes, MESSAGE_MAX);
	peers_get_counts(a.peers, &counts);
	assert_int_equal(counts.dropped, 5);
	assert_int_equal(counts.sent_bulk, 2);
	assert_int_equal(counts.sent_bytes, 18 + MESSAGE_MAX);
	peers_get_counts(b.peers, &counts);
	assert_int_equal(counts.received_bulk, 2);
	assert_int_equal(counts.received_bytes, 18 + MESSAGE_MAX);
	stop(&a);
	stop(&b);
	mem_free(large);
}

static void messages_of_one_kind_keep_their_order(void **state)
{
	struct member a, b;

	(void)state;
	start(&a, 1, 77, 0);
	start(&b, 2, 77, 0);
	introduce(&a, &b);
	wait_for(a.states, 1);
	for (uint64_t number = 1; number <= 5000; number++) {
		assert_true(peers_send(a.peers, 2, slice_make(&number, sizeof(number)), false));
		if (number % 100 == 0)
			uv_run(&loop, UV_RUN_NOWAIT);
	}
	wait_for(b.messages, 5000);
	assert_false(b.out_of_order);
	stop(&a);
	stop(&b);
}

static void bulk_that_does_not_fit_is_dropped_and_small_messages_still_go(void **state)
{
	struct member a, b;
	char *large = mem_calloc(1, MESSAGE_MAX);
	bool dropped = false;
	size_t before;

	(void)state;
	start(&a, 1, 77, 0);
	start(&b, 2, 77, 0);
	introduce(&a, &b);
	wait_for(a.states, 1);
	for (int i = 0; i < 10 && !dropped; i++)
		dropped = !peers_send(a.peers, 2, slice_make(large, MESSAGE_MAX), true);
	assert_true(dropped);
	before = b.messages;
	assert_true(peers_send(a.peers, 2, SLICE_LITERAL("heartbeat"), false));
	wait_for(b.messages, (int64_t)before + 1);
	stop(&a);
	stop(&b);
	mem_free(large);
}

static void a_peer_that_comes_back_is_connected_again(void **state)
{
	struct member a, b;
	unsigned port;

	(void)state;
	start(&a, 1, 77, 0);
	start(&b, 2, 77, 0);
	introduce(&a, &b);
	wait_for(a.states, 1);
	assert_int_equal(sscanf(b.url, "http://127.0.0.1:%u", &port), 1);
	stop(&b);
	run_for(300);
	assert_int_equal(a.states, 0);
	assert_false(peers_send(a.peers, 2, SLICE_LITERAL("lost"), false));
	start(&b, 2, 77, (uint16_t)port);
	introduce(&a, &b);
	wait_for(a.states, 1);
	assert_int_equal(a.changes, 3);
	assert_true(peers_send(a.peers, 2, SLICE_LITERAL("again"), false));
	wait_for(b.messages, 1);
	/* No longer a member: the connections go, both ways nothing is sent. */
	know(&a, NULL, 0);
	assert_false(peers_send(a.peers, 2, SLICE_LITERAL("gone"), false));
	run_for(100);
	stop(&a);
	stop(&b);
}

static void who_sends_nonsense_is_cut_off_and_what_it_sends_behind_it_is_not_looked_at(void **state)
{
	struct member a, b;

	(void)state;
	start(&a, 1, 7, 0);
	start(&b, 2, 7, 0);
	introduce(&a, &b);
	wait_for(a.states, 1);
	assert_true(peers_send(a.peers, 2, SLICE_LITERAL("sense"), false));
	assert_true(peers_send(a.peers, 2, SLICE_LITERAL("nonsense"), false));
	assert_true(peers_send(a.peers, 2, SLICE_LITERAL("behind it"), false));
	wait_for(b.messages, 1);
	run_for(100);
	assert_int_equal(b.messages, 1);
	/* The line is made anew. */
	wait_for(a.states, 1);
	assert_true(a.changes > 1);
	assert_true(peers_send(a.peers, 2, SLICE_LITERAL("sense"), false));
	wait_for(b.messages, 2);
	stop(&a);
	stop(&b);
}

static void the_next_url_is_tried(void **state)
{
	struct member a, b;
	const char *urls[3] = {"http://127.0.0.1:1", NULL, NULL};
	struct peer_address address = {2, urls};
	struct member *self[] = {&a};

	(void)state;
	start(&a, 1, 77, 0);
	start(&b, 2, 77, 0);
	know(&b, self, 1);
	urls[1] = b.url;
	peers_set(a.peers, &address, 1);
	wait_for(a.states, 1);
	stop(&a);
	stop(&b);
}

static size_t strangers(const struct member *member)
{
	struct peers_counts counts;

	peers_get_counts(member->peers, &counts);
	return counts.strangers;
}

static void others_are_refused(void **state)
{
	struct member a, other_cluster, other_id;
	struct member *known[] = {&other_cluster};
	struct peer_address wrong = {5, NULL};

	(void)state;
	start(&a, 1, 77, 0);
	start(&other_cluster, 2, 78, 0);
	start(&other_id, 3, 77, 0);
	other_id.own[0] = NULL; /* it does not say where it is */
	know(&a, known, 1);
	introduce(&other_cluster, &a);
	know(&a, known, 1);
	/* Looks for member 5 where member 1 is; and member 3 is unknown to member 1. */
	wrong.urls = a.urls;
	peers_set(other_id.peers, &wrong, 1);
	run_for(200);
	wrong.id = 1;
	peers_set(other_id.peers, &wrong, 1);
	run_for(200);
	assert_int_equal(a.states, 0);
	assert_int_equal(other_cluster.states, 0);
	assert_int_equal(other_id.states, 0);
	assert_int_equal(a.messages, 0);
	assert_int_equal(strangers(&a), 0);
	stop(&a);
	stop(&other_cluster);
	stop(&other_id);
}

static void a_stranger_is_answered_where_it_says_and_becomes_a_member_without_a_break(void **state)
{
	struct member a, d, *both[] = {&a, &d}, *only_a[] = {&a};

	(void)state;
	start(&a, 1, 77, 0);
	start(&d, 4, 77, 0);
	know(&a, only_a, 1);
	know(&d, both, 2);
	wait_for(d.states, 1);
	wait_for(a.states, 1);
	assert_int_equal(strangers(&a), 1);
	assert_true(peers_send(d.peers, 1, SLICE_LITERAL("entries"), true));
	wait_for(a.messages, 1);
	assert_true(peers_send(a.peers, 4, SLICE_LITERAL("got them"), false));
	wait_for(d.messages, 1);
	/* Other changes of the membership leave it alone. */
	know(&a, only_a, 1);
	assert_int_equal(strangers(&a), 1);
	know(&a, both, 2);
	assert_int_equal(strangers(&a), 0);
	assert_true(peers_send(a.peers, 4, SLICE_LITERAL("and more"), false));
	wait_for(d.messages, 2);
	assert_int_equal(a.changes, 1);
	assert_int_equal(d.changes, 1);
	stop(&a);
	stop(&d);
}

/* Who sends to it before would wait for an answer that nobody gives. */
static void a_peer_counts_as_out_of_reach_until_it_is_connected(void **state)
{
	struct member a, b, d, *all[] = {&a, &b, &d}, *both[] = {&a, &d};

	(void)state;
	start(&a, 1, 77, 0);
	start(&b, 2, 77, 0);
	start(&d, 4, 77, 0);
	introduce(&a, &b);
	assert_string_equal(a.told.data, "2-;");
	introduce(&a, &b);
	wait_for(a.states, 1);
	assert_string_equal(a.told.data, "2-;2-;2+;");
	/* What was told of a stranger was told when it was no member. */
	know(&d, both, 2);
	while (!strstr(a.told.data, "4+;"))
		assert_int_equal(uv_run(&loop, UV_RUN_ONCE), 1);
	know(&a, all, 3);
	assert_string_equal(a.told.data, "2-;2-;2+;4+;2+;4+;");
	stop(&a);
	stop(&b);
	stop(&d);
}

static void a_stranger_that_was_removed_is_told_so_when_that_is_known(void **state)
{
	struct member a, d, *both[] = {&a, &d}, *only_a[] = {&a};

	(void)state;
	start(&a, 1, 77, 0);
	start(&d, 4, 77, 0);
	know(&d, both, 2);
	wait_for(a.states, 1);
	assert_int_equal(d.told_removed, 0);
	a.removed_id = 4;
	know(&a, only_a, 1);
	assert_int_equal(strangers(&a), 0);
	wait_for(d.told_removed, 1);
	assert_int_equal(strangers(&a), 0);
	stop(&a);
	stop(&d);
}

static void a_stranger_that_goes_is_forgotten(void **state)
{
	struct member a, d, *both[] = {&a, &d};

	(void)state;
	start(&a, 1, 77, 0);
	start(&d, 4, 77, 0);
	know(&d, both, 2);
	wait_for(a.states, 1);
	stop(&d);
	run_for(100);
	assert_int_equal(strangers(&a), 0);
	assert_false(peers_send(a.peers, 4, SLICE_LITERAL("still there?"), false));
	stop(&a);
}

static void strangers_are_bounded_and_who_speaks_stays(void **state)
{
	struct member a, leader, silent[2 * PEERS_STRANGERS_MAX];
	struct member *both[] = {&a, &leader};

	(void)state;
	start(&a, 1, 77, 0);
	start(&leader, 2, 77, 0);
	know(&leader, both, 2);
	wait_for(leader.states, 1);
	assert_true(peers_send(leader.peers, 1, SLICE_LITERAL("heartbeat"), false));
	wait_for(a.messages, 1);
	for (size_t i = 0; i < ARRAY_LEN(silent); i++) {
		start(&silent[i], 10 + i, 77, 0);
		both[1] = &silent[i];
		know(&silent[i], both, 2);
	}
	/* For a second there are no more new ones than have places; then they make room for each other. */
	run_for(400);
	assert_int_equal(strangers(&a), PEERS_STRANGERS_MAX);
	run_for(2200);
	assert_int_equal(strangers(&a), PEERS_STRANGERS_MAX);
	assert_int_equal(leader.changes, 1);
	assert_true(peers_send(leader.peers, 1, SLICE_LITERAL("heartbeat"), false));
	wait_for(a.messages, 2);
	assert_true(peers_send(a.peers, 2, SLICE_LITERAL("alive"), false));
	wait_for(leader.messages, 1);
	for (size_t i = 0; i < ARRAY_LEN(silent); i++)
		stop(&silent[i]);
	stop(&leader);
	stop(&a);
}

/* b is not where a's membership has it. */
static void check_moved(struct member *a, struct member *b)
{
	static const char *const nowhere[] = {"http://127.0.0.1:1", NULL};
	struct peer_address addresses[] = {{1, a->urls}, {2, nowhere}};

	peers_set(a->peers, addresses, 2);
	addresses[1].urls = b->urls;
	peers_set(b->peers, addresses, 2);
	wait_for(a->states, 1);
	assert_int_equal(strangers(a), 0);
}

static void a_member_that_moved_is_answered_where_its_membership_has_it(void **state)
{
	struct member a, b;

	(void)state;
	start(&a, 1, 77, 0);
	start(&b, 2, 77, 0);
	b.own[0] = NULL;
	check_moved(&a, &b);
	stop(&a);
	stop(&b);
}

static void a_member_that_moved_is_answered_where_it_is_configured(void **state)
{
	static const char *const nowhere[] = {"http://127.0.0.1:1", NULL};
	struct member a, b;

	(void)state;
	start(&a, 1, 77, 0);
	start(&b, 2, 77, 0);
	b.urls[0] = nowhere[0]; /* it does not know yet that it was moved */
	check_moved(&a, &b);
	stop(&a);
	stop(&b);
}

static void fetch(const char *url, const struct http_header *headers, size_t count, const char *target,
	int status, const char *body)
{
	struct http_client *client = http_client_new(&loop, NULL);
	struct http_call_options call = {.url = url,
		.target = target,
		.headers = headers,
		.header_count = count,
		.total_timeout_ms = 5000};
	struct http_result result;

	assert_int_equal(http_client_fetch(client, &call, &result), 0);
	assert_int_equal(result.response.status, status);
	assert_non_null(strstr(result.response.body.data, body));
	http_result_done(&result);
	http_client_close(client, NULL, NULL);
	run_for(20);
}

static void hellos_are_checked_field_by_field(void **state)
{
	struct member a, b;
	struct member *known[] = {&b};
	struct http_header hello[] = {
		HTTP_HEADER("Connection", "Upgrade"),
		HTTP_HEADER("Upgrade", PEER_PROTOCOL),
		HTTP_HEADER("X-Etcd-Cluster-ID", "4d"),
		HTTP_HEADER("X-Server-To", "1"),
		HTTP_HEADER("X-Server-From", "2"),
		HTTP_HEADER("X-Peer-Stream", "medium"),
		HTTP_HEADER("X-PeerURLs", "http://127.0.0.1:1,nonsense"),
	};

	(void)state;
	start(&a, 1, 77, 0);
	start(&b, 2, 77, 0);
	know(&a, known, 1);
	fetch(a.url, NULL, 0, "/members", 200, "other");
	fetch(a.url, NULL, 0, "/flotilla/peer", 426, "flotilla-peer/1");
	fetch(a.url, hello, 6, "/flotilla/peer", 400, "X-Peer-Stream");
	fetch(a.url, hello, 5, "/flotilla/peer", 400, "X-Peer-Stream");
	fetch(a.url, hello, 7, "/flotilla/peer", 400,
		"X-PeerURLs: URL scheme must be http or https: nonsense");
	hello[6].value = SLICE_LITERAL("http://127.0.0.1:1");
	hello[4].value = SLICE_LITERAL("1");
	fetch(a.url, hello, 7, "/flotilla/peer", 403, "member 1 is not in this cluster"); /* itself */
	hello[4].value = SLICE_LITERAL("0");
	fetch(a.url, hello, 7, "/flotilla/peer", 403, "member 0 is not in this cluster");
	hello[4].value = SLICE_LITERAL("3");
	fetch(a.url, hello, 6, "/flotilla/peer", 403, "member 3 is not in this cluster"); /* but where? */
	fetch(a.url, hello, 7, "/flotilla/peer", 400, "X-Peer-Stream");
	hello[4].value = SLICE_LITERAL("2");
	fetch(a.url, hello, 4, "/flotilla/peer", 403, "member 0 is not in this cluster");
	fetch(a.url, hello, 3, "/flotilla/peer", 412, "this is member 1");
	hello[2].value = SLICE_LITERAL("4e");
	fetch(a.url, hello, 6, "/flotilla/peer", 412, "of cluster 4e, this one of 4d");
	hello[1].value = SLICE_LITERAL("flotilla-peer/2");
	fetch(a.url, hello, 6, "/flotilla/peer", 426, "run the same release");
	stop(&a);
	stop(&b);
}

static void only_plain_http_is_listened_on(void **state)
{
	struct member a;
	_cleanup_buf_ struct buf why = BUF_INIT(0);

	(void)state;
	start(&a, 1, 77, 0);
	assert_int_equal(peers_listen(a.peers, "https://127.0.0.1:0", NULL, &why), -EPROTONOSUPPORT);
	assert_string_equal(why.data, "peer URL https://127.0.0.1:0: only http is supported yet");
	buf_clear(&why);
	assert_int_equal(peers_listen(a.peers, "http://a b", NULL, &why), -EINVAL);
	stop(&a);
}

static void one_that_was_removed_is_cut_off_and_told(void **state)
{
	struct member a, b, *only_a[] = {&a};

	(void)state;
	start(&a, 1, 77, 0);
	start(&b, 2, 77, 0);
	introduce(&a, &b);
	wait_for(a.states, 1);
	wait_for(b.states, 1);
	assert_int_equal(b.told_removed, 0);
	a.removed_id = 2;
	know(&a, only_a, 1);
	wait_for(b.told_removed, 1);
	assert_int_equal(b.told_removed_by, 1);
	assert_false(peers_send(b.peers, 1, SLICE_LITERAL("still here"), false));
	assert_int_equal(a.messages, 0);
	stop(&a);
	stop(&b);
}

static void reply_gone(struct http_request *req, void *user)
{
	struct http_header headers[] = {
		HTTP_HEADER("X-Flotilla-Removed", "2"), HTTP_HEADER("X-Etcd-Cluster-ID", "4e")};

	(void)user;
	http_reply(req, 410, headers, 2, SLICE_LITERAL("gone"));
}

static void only_the_own_cluster_can_say_that_it_was_removed(void **state)
{
	struct http_server_options options = {.on_request = reply_gone};
	struct http_server *server = http_server_new(&loop, &options);
	_cleanup_buf_ struct buf why = BUF_INIT(0);
	char url[64];
	const char *urls[] = {url, NULL};
	struct peer_address address = {1, urls};
	struct member b;
	uint16_t port = 0;

	(void)state;
	assert_int_equal(http_server_listen_tcp(server, "127.0.0.1", 0, &port, &why), 0);
	snprintf(url, sizeof(url), "http://127.0.0.1:%u", port);
	start(&b, 2, 77, 0); /* 4d */
	peers_set(b.peers, &address, 1);
	run_for(300);
	assert_int_equal(b.told_removed, 0);
	stop(&b);
	http_server_close(server, NULL, NULL);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(messages_arrive_whole_and_from_whom_they_came),
		CASE(one_that_was_removed_is_cut_off_and_told),
		CASE(only_the_own_cluster_can_say_that_it_was_removed),
		CASE(messages_of_one_kind_keep_their_order),
		CASE(bulk_that_does_not_fit_is_dropped_and_small_messages_still_go),
		CASE(a_peer_that_comes_back_is_connected_again),
		CASE(who_sends_nonsense_is_cut_off_and_what_it_sends_behind_it_is_not_looked_at),
		CASE(the_next_url_is_tried),
		CASE(others_are_refused),
		CASE(a_stranger_is_answered_where_it_says_and_becomes_a_member_without_a_break),
		CASE(a_peer_counts_as_out_of_reach_until_it_is_connected),
		CASE(a_stranger_that_was_removed_is_told_so_when_that_is_known),
		CASE(a_stranger_that_goes_is_forgotten),
		CASE(strangers_are_bounded_and_who_speaks_stays),
		CASE(a_member_that_moved_is_answered_where_its_membership_has_it),
		CASE(a_member_that_moved_is_answered_where_it_is_configured),
		CASE(hellos_are_checked_field_by_field),
		CASE(only_plain_http_is_listened_on),
	};

	log_init("test_peer", LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
