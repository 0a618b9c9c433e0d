/* What another machine's fleetd is asked: at each address that it published, until one of them is its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../io/raw_client.h"
#include "fleet/api_internal.h"

/* Somebody at an address. */
struct host {
	struct http_server *server;
	uint16_t port;
	const char *software, *body;
	int status;
	unsigned asked;
};

struct world {
	uv_loop_t loop;
	struct cluster *cluster;
	struct api *api;
	struct http_server *server;
	uint16_t port;
	struct host hosts[2];
};

static bool yes(void *user)
{
	(void)user;
	return true;
}

static void nothing(void *user)
{
	(void)user;
}

static uint64_t index_of_mirror(void *user)
{
	(void)user;
	return 1;
}

static const char *none(void *user)
{
	(void)user;
	return NULL;
}

static const struct api_access *all_may(void *user)
{
	(void)user;
	return NULL;
}

static void host_answers(struct http_request *req, void *user)
{
	struct host *host = user;
	const struct slice *token = http_request_header(req, "Authorization");
	struct http_header server = HTTP_HEADER("Server", host->software);

	assert_true(slice_is(req->path, "/flotilla/v1/local/a.service/journal"));
	assert_true(slice_is(req->query, "lines=3"));
	assert_true(token && slice_is(*token, "Bearer secret"));
	host->asked++;
	http_reply(req, host->status, &server, 1, slice_str(host->body));
}

static void host_open(struct host *host, uv_loop_t *loop)
{
	struct http_server_options options = {.on_request = host_answers, .user = host};

	*host = (struct host){.server = http_server_new(loop, &options),
		.software = "fleetd/1.0",
		.body = "the journal",
		.status = 200};
	assert_int_equal(http_server_listen_tcp(host->server, "127.0.0.1", 0, &host->port, NULL), 0);
}

static int setup(void **state)
{
	struct world *world = mem_new(struct world);
	struct api_config config = {.loop = &world->loop,
		.prefix = "/f",
		.machine_id = "m1",
		.peer_token = "own",
		.token_limit = 100,
		.cluster_loaded = yes,
		.cluster_needed = nothing,
		.mirror_index = index_of_mirror,
		.leader = none,
		.access = all_may,
		.store_answers = yes,
		.unavailable = none};

	uv_loop_init(&world->loop);
	world->cluster = config.cluster = cluster_new();
	world->api = api_new(&config);
	world->server = api_server(world->api, false);
	assert_int_equal(http_server_listen_tcp(world->server, "127.0.0.1", 0, &world->port, NULL), 0);
	for (size_t i = 0; i < ARRAY_LEN(world->hosts); i++)
		host_open(&world->hosts[i], &world->loop);
	cluster_set(world->cluster, "job/a.service/target", SLICE_LITERAL("m2"), 1);
	cluster_set(world->cluster, "states/a.service/m2",
		SLICE_LITERAL("{\"loadState\":\"loaded\",\"activeState\":\"active\"}"), 1);
	*state = world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;

	http_server_close(world->server, NULL, NULL);
	for (size_t i = 0; i < ARRAY_LEN(world->hosts); i++)
		http_server_close(world->hosts[i].server, NULL, NULL);
	(void)api_free(world->api);
	uv_run(&world->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&world->loop), 0);
	(void)cluster_free(world->cluster);
	free(world);
	return 0;
}

/* The machine that the unit is on publishes these. */
static void publish(struct world *world, const char *addresses)
{
	_cleanup_free_ char *value =
		mem_printf("{\"ID\":\"m2\",\"Flotilla\":{\"API\":\"%s\",\"Token\":\"secret\"}}", addresses);

	cluster_set(world->cluster, "machines/m2/object", slice_str(value), 1);
}

static void publish_both(struct world *world)
{
	_cleanup_free_ char *addresses =
		mem_printf("127.0.0.1:%u,127.0.0.1:%u", world->hosts[0].port, world->hosts[1].port);

	publish(world, addresses);
}

static void assert_answer(struct world *world, const char *status, const char *body)
{
	struct raw raw;

	raw_open(&raw, &world->loop, world->port);
	raw_send(&raw, "GET /flotilla/v1/units/a.service/journal?lines=3 HTTP/1.0\r\n\r\n");
	assert_non_null(raw_wait(&raw, status));
	assert_non_null(raw_wait(&raw, body));
	raw_close(&raw);
}

static void one_address_is_asked_as_it_is(void **state)
{
	struct world *world = *state;
	_cleanup_free_ char *address = mem_printf("127.0.0.1:%u", world->hosts[1].port);

	publish(world, address);
	assert_answer(world, "200 OK", "the journal");
	assert_int_equal(world->hosts[1].asked, 1);
}

static void the_first_address_that_answers_is_the_last_that_is_asked(void **state)
{
	struct world *world = *state;

	publish_both(world);
	assert_answer(world, "200 OK", "the journal");
	assert_int_equal(world->hosts[0].asked, 1);
	assert_int_equal(world->hosts[1].asked, 0);
	/* Also with an error: it is the machine's own word. */
	world->hosts[0].status = 404;
	world->hosts[0].body = "no such unit";
	assert_answer(world, "404 Not Found", "no such unit");
	assert_int_equal(world->hosts[1].asked, 0);
}

static void the_next_address_is_asked_where_nobody_answers(void **state)
{
	struct world *world = *state;
	_cleanup_free_ char *addresses = mem_printf("127.0.0.1:1,127.0.0.1:%u", world->hosts[1].port);

	publish(world, addresses);
	assert_answer(world, "200 OK", "the journal");
	assert_int_equal(world->hosts[1].asked, 1);
}

static void the_next_address_is_asked_where_somebody_else_answers(void **state)
{
	struct world *world = *state;

	publish_both(world);
	world->hosts[0].software = "nginx";
	world->hosts[0].body = "welcome";
	assert_answer(world, "200 OK", "the journal");
	world->hosts[0].software = "fleetd/1.0";
	world->hosts[0].status = 401;
	assert_answer(world, "200 OK", "the journal");
	assert_int_equal(world->hosts[0].asked, 2);
	assert_int_equal(world->hosts[1].asked, 2);
}

static void somebody_else_is_not_taken_for_it_where_nobody_is_left(void **state)
{
	struct world *world = *state;

	publish_both(world);
	for (size_t i = 0; i < ARRAY_LEN(world->hosts); i++) {
		world->hosts[i].software = "nginx";
		world->hosts[i].body = "welcome";
	}
	assert_answer(world, "502 Bad Gateway", "who answers is no fleetd, at 127.0.0.1:");
	world->hosts[1].software = "fleetd/1.0";
	world->hosts[1].status = 401;
	assert_answer(world, "502 Bad Gateway", "it is another machine's");
	assert_int_equal(world->hosts[1].asked, 2);
}

static void the_reason_is_told_for_each_address(void **state)
{
	struct world *world = *state;

	publish(world, "127.0.0.1:1");
	assert_answer(world, "502 Bad Gateway",
		"cannot reach the fleetd of that machine at 127.0.0.1:1: dial tcp 127.0.0.1:1: connect: "
		"connection refused\"");
	publish(world, "127.0.0.1:1,https://127.0.0.1:2");
	assert_answer(world, "502 Bad Gateway",
		"cannot reach the fleetd of that machine at 127.0.0.1:1: dial tcp 127.0.0.1:1: connect: "
		"connection refused, at https://127.0.0.1:2: dial tcp 127.0.0.1:2: connect: connection "
		"refused\"");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(one_address_is_asked_as_it_is),
		CASE(the_first_address_that_answers_is_the_last_that_is_asked),
		CASE(the_next_address_is_asked_where_nobody_answers),
		CASE(the_next_address_is_asked_where_somebody_else_answers),
		CASE(somebody_else_is_not_taken_for_it_where_nobody_is_left),
		CASE(the_reason_is_told_for_each_address),
	};

	return cmocka_run_group_tests_name("api_peers", tests, NULL, NULL);
}
