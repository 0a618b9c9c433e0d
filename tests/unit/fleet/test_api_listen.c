/* Which sockets fleetd serves at: what is named must be had, what is only a default need not. */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "fleet/api_listen.h"

enum { DEFAULT_PEER_PORT = 49153 };

struct world {
	uv_loop_t loop;
	struct http_server *server;
	struct fleetd_config config;
};

static void on_request(struct http_request *req, void *user)
{
	(void)req;
	(void)user;
}

static int setup(void **state)
{
	struct http_server_options options = {.on_request = on_request};
	struct world *world = mem_new(struct world);

	uv_loop_init(&world->loop);
	world->server = http_server_new(&world->loop, &options);
	fleetd_config_defaults(&world->config);
	*state = world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;

	http_server_close(world->server, NULL, NULL);
	uv_run(&world->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&world->loop), 0);
	fleetd_config_done(&world->config);
	free(world);
	return 0;
}

static void configure(struct world *world, const char *text)
{
	_cleanup_buf_ struct buf error = BUF_INIT(4096);

	assert_int_equal(fleetd_config_parse(&world->config, "fleet.conf", slice_str(text), &error), 0);
}

static int listen_for_peers(struct world *world, uint16_t *ret_port)
{
	const struct api_tls tls = {0};

	return api_listen_peers(world->server, &world->config, &tls, ret_port);
}

/* A socket at the default port, unless somebody else has it anyhow. */
static int take_default_port(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(DEFAULT_PEER_PORT)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;

	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)), 0);
	assert_true(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 || errno == EADDRINUSE);
	(void)listen(fd, 1);
	return fd;
}

static void another_port_serves_peers_where_the_default_one_is_taken(void **state)
{
	int taken = take_default_port();
	uint16_t port = 0;

	assert_int_equal(listen_for_peers(*state, &port), 0);
	assert_true(port && port != DEFAULT_PEER_PORT);
	close(taken);
}

static void a_port_for_peers_that_is_named_must_be_had(void **state)
{
	int taken = take_default_port();
	struct world *world = *state;
	uint16_t port = 0;

	configure(world, "peer_listen=:49153\n");
	assert_int_equal(listen_for_peers(world, &port), -EADDRINUSE);
	configure(world, "peer_listen=0.0.0.0:49153\n");
	assert_int_equal(listen_for_peers(world, &port), -EADDRINUSE);
	assert_int_equal(port, 0);
	close(taken);
}

static bool takes_connections(const struct sockaddr *address, socklen_t len)
{
	_cleanup_close_ int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return fd >= 0 && connect(fd, address, len) == 0;
}

static bool has_ipv6(void)
{
	struct sockaddr_in6 own = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	_cleanup_close_ int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return fd >= 0 && bind(fd, (struct sockaddr *)&own, sizeof(own)) == 0;
}

static void peers_are_served_at_all_addresses_of_both_families(void **state)
{
	struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	struct sockaddr_in6 own6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct world *world = *state;
	uint16_t port;

	configure(world, "peer_listen=:0\n");
	assert_int_equal(listen_for_peers(world, &port), 0);
	own.sin_port = own6.sin6_port = htons(port);
	assert_true(takes_connections((struct sockaddr *)&own, sizeof(own)));
	if (has_ipv6())
		assert_true(takes_connections((struct sockaddr *)&own6, sizeof(own6)));
}

static void the_address_for_peers_is_all_that_may_lead_here(void **state)
{
	static const struct {
		const char *config, *public_ip, *own_ip, *addresses;
	} cases[] = {
		{"", "10.0.0.1", "10.0.0.1", "10.0.0.1:7"},
		{"", "203.0.113.9", "10.0.0.1", "203.0.113.9:7,10.0.0.1:7"},
		{"", "2001:db8::1", "10.0.0.1", "[2001:db8::1]:7,10.0.0.1:7"},
		{"", "203.0.113.9", "", "203.0.113.9:7"},
		{"", "", "", ""},
		{"peer_listen=0.0.0.0:49153\n", "203.0.113.9", "10.0.0.1", "203.0.113.9:7,10.0.0.1:7"},
		{"peer_listen=[::]:49153\n", "203.0.113.9", "10.0.0.1", "203.0.113.9:7,10.0.0.1:7"},
		{"peer_listen=10.9.0.1:0\n", "203.0.113.9", "10.0.0.1", "10.9.0.1:7"},
		{"peer_listen=:0\napi_certfile=/c\n", "203.0.113.9", "10.0.0.1",
			"https://203.0.113.9:7,https://10.0.0.1:7"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_buf_ struct buf out = BUF_INIT(4096), error = BUF_INIT(4096);
		struct fleetd_config config;

		fleetd_config_defaults(&config);
		assert_int_equal(
			fleetd_config_parse(&config, "fleet.conf", slice_str(cases[i].config), &error), 0);
		api_peer_addresses(&config, 7, cases[i].public_ip, cases[i].own_ip, &out);
		assert_string_equal(buf_text(&out), cases[i].addresses);
		fleetd_config_done(&config);
	}
}

static int listen_for_clients(struct world *world)
{
	const struct api_tls tls = {0};

	return api_listen(world->server, &world->config, &tls);
}

/* A directory with the socket of another server in it; the descriptor holds that. */
static int serve_elsewhere(char *dir, struct sockaddr_un *ret_address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_non_null(mkdtemp(dir));
	ret_address->sun_family = AF_UNIX;
	(void)snprintf(ret_address->sun_path, sizeof(ret_address->sun_path), "%s/fleet.sock", dir);
	assert_int_equal(bind(fd, (struct sockaddr *)ret_address, sizeof(*ret_address)), 0);
	assert_int_equal(listen(fd, 8), 0);
	return fd;
}

/* As where systemd's fleet.socket listens, and fleetd is started by hand. */
static void a_default_address_that_is_taken_is_left_to_who_has_it(void **state)
{
	char dir[] = "/tmp/test_api_listen.XXXXXX";
	struct sockaddr_un address = {0};
	int taken = serve_elsewhere(dir, &address);
	struct world *world = *state;
	struct stat before, after;

	setenv("XDG_RUNTIME_DIR", dir, 1);
	fleetd_config_for_user(&world->config);
	assert_non_null(strstr(world->config.listen, dir));
	assert_int_equal(stat(address.sun_path, &before), 0);
	assert_int_equal(listen_for_clients(world), 0);
	assert_int_equal(stat(address.sun_path, &after), 0);
	assert_int_equal(before.st_ino, after.st_ino);
	close(taken);
	unlink(address.sun_path);
	rmdir(dir);
}

static void a_default_address_that_may_not_be_had_is_done_without(void **state)
{
	struct world *world = *state;

	setenv("XDG_RUNTIME_DIR", "/proc/no-such-directory", 1);
	fleetd_config_for_user(&world->config);
	assert_int_equal(listen_for_clients(world), 0);
}

static void an_address_that_is_named_must_be_had(void **state)
{
	char dir[] = "/tmp/test_api_listen.XXXXXX";
	struct sockaddr_un address = {0};
	int taken = serve_elsewhere(dir, &address);
	_cleanup_free_ char *line = mem_printf("listen=unix://%s\n", address.sun_path);
	struct world *world = *state;

	configure(world, line);
	assert_int_equal(listen_for_clients(world), -EADDRINUSE);
	configure(world, "listen=https://127.0.0.1:0\n");
	assert_int_equal(listen_for_clients(world), -EINVAL);
	close(taken);
	unlink(address.sun_path);
	rmdir(dir);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(another_port_serves_peers_where_the_default_one_is_taken),
		CASE(a_port_for_peers_that_is_named_must_be_had),
		CASE(peers_are_served_at_all_addresses_of_both_families),
		cmocka_unit_test(the_address_for_peers_is_all_that_may_lead_here),
		CASE(a_default_address_that_is_taken_is_left_to_who_has_it),
		CASE(a_default_address_that_may_not_be_had_is_done_without),
		CASE(an_address_that_is_named_must_be_had),
	};

	return cmocka_run_group_tests_name("api_listen", tests, NULL, NULL);
}
