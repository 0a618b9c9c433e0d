/* TLS over memory, and HTTP over TLS on a real loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "base/memory.h"
#include "base/rng.h"
#include "certificates.h"
#include "io/file.h"
#include "io/http_client.h"
#include "io/http_server.h"
#include "io/tls.h"
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static struct {
	char directory[64];
	struct certificate ca, other_ca, server, client, stranger, old;
} files;

static int make_files(void **state)
{
	(void)state;
	(void)snprintf(files.directory, sizeof(files.directory), "/tmp/flotilla-tls-XXXXXX");
	assert_non_null(mkdtemp(files.directory));
	files.ca = certificate_make(files.directory, "ca", NULL, NULL, 10);
	files.other_ca = certificate_make(files.directory, "other-ca", NULL, NULL, 10);
	files.server = certificate_make(
		files.directory, "server", "DNS:localhost,DNS:*.example.com,IP:127.0.0.1", &files.ca, 10);
	files.client = certificate_make(files.directory, "reader", NULL, &files.ca, 10);
	files.stranger = certificate_make(files.directory, "stranger", NULL, &files.other_ca, 10);
	files.old = certificate_make(files.directory, "old", "DNS:localhost", &files.ca, -1);
	return 0;
}

static int remove_files(void **state)
{
	struct certificate *all[] = {
		&files.ca, &files.other_ca, &files.server, &files.client, &files.stranger, &files.old};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		certificate_done(all[i]);
	return file_remove_all(files.directory);
}

static struct tls_context *server_context(const struct certificate *own, const struct certificate *clients)
{
	const struct tls_files set = {own->cert_path, own->key_path, clients ? clients->cert_path : NULL};
	struct tls_context *context;

	assert_int_equal(tls_server_new(&set, &context, NULL), 0);
	return context;
}

static struct tls_context *client_context(
	const struct certificate *own, const struct certificate *ca, bool insecure)
{
	const struct tls_files set = {
		own ? own->cert_path : NULL, own ? own->key_path : NULL, ca ? ca->cert_path : NULL};
	struct tls_context *context;

	assert_int_equal(tls_client_new(&set, insecure, &context, NULL), 0);
	return context;
}

/* Two ends and what is on its way between them. */
struct pair {
	struct tls *server, *client;
	struct buf to_server, to_client, server_plain, client_plain;
	int server_error, client_error;
	struct rng rng;
};

static bool deliver(struct pair *pair, bool up)
{
	struct buf *wire = up ? &pair->to_server : &pair->to_client;
	size_t some = 1 + rng_below(&pair->rng, 3000), len = MIN(wire->len, some);
	_cleanup_buf_ struct buf piece = BUF_INIT(0);
	int r;

	if (!wire->len)
		return false;
	buf_add(&piece, wire->data, len);
	buf_consume(wire, len);
	if (up) {
		r = tls_receive(pair->server, buf_slice(&piece), &pair->server_plain, &pair->to_client);
		pair->server_error = pair->server_error ? pair->server_error : r;
	} else {
		r = tls_receive(pair->client, buf_slice(&piece), &pair->client_plain, &pair->to_server);
		pair->client_error = pair->client_error ? pair->client_error : r;
	}
	return true;
}

static void exchange(struct pair *pair)
{
	while (deliver(pair, true) || deliver(pair, false))
		;
}

static void begin(struct pair *pair, struct tls_context *server, struct tls_context *client, const char *host)
{
	*pair = (struct pair){0};
	rng_seed(&pair->rng, 1);
	pair->server = tls_accept(server);
	pair->client = tls_connect(client, host);
	pair->client_error =
		tls_receive(pair->client, SLICE_LITERAL(""), &pair->client_plain, &pair->to_server);
	exchange(pair);
	(void)tls_context_unref(server);
	(void)tls_context_unref(client);
}

static void end(struct pair *pair)
{
	(void)tls_free(pair->server);
	(void)tls_free(pair->client);
	buf_done(&pair->to_server);
	buf_done(&pair->to_client);
	buf_done(&pair->server_plain);
	buf_done(&pair->client_plain);
}

static void bytes_come_out_as_they_went_in(void **state)
{
	_cleanup_buf_ struct buf large = BUF_INIT(0);
	struct pair pair;

	(void)state;
	begin(&pair, server_context(&files.server, NULL), client_context(NULL, &files.ca, false),
		"localhost");
	assert_true(tls_is_ready(pair.server) && tls_is_ready(pair.client));
	assert_string_equal(tls_peer_name(pair.server), "");
	for (size_t i = 0; i < 200000; i++)
		buf_add_char(&large, (char)(i * 7));
	assert_int_equal(tls_send(pair.client, SLICE_LITERAL("hello"), &pair.to_server), 0);
	assert_int_equal(tls_send(pair.server, buf_slice(&large), &pair.to_client), 0);
	assert_int_equal(tls_send(pair.client, SLICE_LITERAL(" world"), &pair.to_server), 0);
	exchange(&pair);
	assert_true(slice_is(buf_slice(&pair.server_plain), "hello world"));
	assert_true(slice_equal(buf_slice(&pair.client_plain), buf_slice(&large)));
	tls_send_end(pair.server, &pair.to_client);
	exchange(&pair);
	assert_true(tls_has_ended(pair.client) && !tls_has_ended(pair.server));
	assert_int_equal(pair.client_error, 0);
	end(&pair);
}

static void who_is_not_trusted_is_refused(void **state)
{
	const struct certificate *ca = &files.ca, *other = &files.other_ca;
	const struct {
		const struct certificate *server, *clients, *own, *ca;
		const char *host, *client_error, *server_error; /* NULL: it works */
		bool insecure;
	} rows[] = {
		{&files.server, NULL, NULL, ca, "127.0.0.1", NULL, NULL, false},
		{&files.server, NULL, NULL, ca, "a.example.com", NULL, NULL, false},
		{&files.server, NULL, NULL, ca, "example.com", "x509: certificate is valid for another name",
			"remote error: tls: ", false},
		{&files.server, NULL, NULL, ca, "127.0.0.2", "x509: certificate is valid for another name",
			"remote error: tls: ", false},
		{&files.server, NULL, NULL, other, "localhost",
			"x509: certificate signed by unknown authority", "remote error: tls: ", false},
		{&files.server, NULL, NULL, NULL, "localhost",
			"x509: certificate signed by unknown authority", "remote error: tls: ", false},
		{&files.old, NULL, NULL, ca, "localhost", "x509: certificate has expired or is not yet valid",
			"remote error: tls: ", false},
		{&files.old, NULL, NULL, NULL, "nowhere", NULL, NULL, true},
		{&files.server, ca, &files.client, ca, "localhost", NULL, NULL, false},
		{&files.server, ca, NULL, ca, "localhost",
			"remote error: tls: ", "tls: peer did not return a certificate", false},
		{&files.server, ca, &files.stranger, ca, "localhost",
			"remote error: tls: ", "x509: certificate signed by unknown authority", false},
		{&files.server, ca, &files.old, ca, "localhost",
			"remote error: tls: ", "x509: certificate has expired or is not yet valid", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const char *client_error = rows[i].client_error ? rows[i].client_error : "";
		const char *server_error = rows[i].server_error ? rows[i].server_error : "";
		struct pair pair;

		begin(&pair, server_context(rows[i].server, rows[i].clients),
			client_context(rows[i].own, rows[i].ca, rows[i].insecure), rows[i].host);
		assert_int_equal(pair.client_error, rows[i].client_error ? -EPROTO : 0);
		assert_int_equal(pair.server_error, rows[i].server_error ? -EPROTO : 0);
		assert_memory_equal(tls_error(pair.client), client_error, strlen(client_error));
		assert_memory_equal(tls_error(pair.server), server_error, strlen(server_error));
		assert_string_equal(
			tls_peer_name(pair.server), rows[i].own && !rows[i].server_error ? "reader" : "");
		end(&pair);
	}
}

static void what_is_no_tls_ends_at_once(void **state)
{
	static const char *const texts[] = {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\x16\x03\x01\xff\xff",
		"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct tls_context *context = server_context(&files.server, NULL);
		_cleanup_buf_ struct buf plain = BUF_INIT(0), wire = BUF_INIT(0);
		struct tls *tls = tls_accept(context);
		int r = tls_receive(tls, slice_str(texts[i]), &plain, &wire);

		assert_true(r == -EPROTO || (r == 0 && !tls_is_ready(tls)));
		assert_int_equal(plain.len, 0);
		if (r == -EPROTO)
			assert_int_equal(tls_receive(tls, slice_str("more"), &plain, &wire), -EPROTO);
		(void)tls_free(tls);
		(void)tls_context_unref(context);
	}
}

static void files_that_cannot_be_used_are_named(void **state)
{
	const char *cert = files.server.cert_path, *key = files.server.key_path;
	const struct {
		struct tls_files set;
		const char *error;
	} rows[] = {
		{{NULL, NULL, NULL}, "TLS needs a certificate and its key"},
		{{cert, NULL, NULL}, "TLS needs both a certificate and its key: the key is missing"},
		{{"/nowhere.crt", key, NULL}, "certificate /nowhere.crt: No such file or directory"},
		{{key, key, NULL}, NULL},
		{{cert, files.client.key_path, NULL}, NULL},
		{{cert, key, "/nowhere.ca"}, "certificate authority /nowhere.ca: "},
		{{cert, key, key}, NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_buf_ struct buf error = BUF_INIT(4096);
		struct tls_context *context;

		assert_int_equal(tls_server_new(&rows[i].set, &context, &error), -EINVAL);
		assert_true(error.len > 0);
		if (rows[i].error)
			assert_memory_equal(buf_text(&error), rows[i].error, strlen(rows[i].error));
	}
}

/* ---- HTTP ---- */

struct world {
	uv_loop_t loop;
	struct http_server *server;
	struct http_client *client;
	char url[64];
	unsigned done;
	int error, status;
	struct buf body, text;
	unsigned served;
};

static void on_request(struct http_request *req, void *user)
{
	struct world *world = user;

	world->served++;
	if (slice_is(req->path, "/name")) {
		http_reply(req, 200, NULL, 0, slice_str(http_request_peer_name(req)));
	} else if (slice_is(req->path, "/large")) {
		size_t len = 3000000;
		char *body = mem_alloc(len);

		memset(body, 'x', len);
		http_reply_owned(req, 200, NULL, 0, body, len);
	} else if (slice_is(req->path, "/stream")) {
		http_reply_begin(req, 200, NULL, 0);
		(void)http_reply_piece(req, SLICE_LITERAL("one "));
		(void)http_reply_piece(req, SLICE_LITERAL("two"));
		http_reply_end(req);
	} else if (slice_is(req->path, "/over")) {
		_cleanup_buf_ struct buf unread = BUF_INIT(0);
		uv_stream_t *stream;

		assert_int_equal(http_request_take_over(req, SLICE_LITERAL(""), &stream, &unread), -ENOTSUP);
		http_reply_error(req, 501, "no");
	} else {
		http_reply(req, 200, NULL, 0, req->body);
	}
}

static void setup(struct world *world, struct tls_context *server, struct tls_context *client)
{
	const struct http_server_options options = {.on_request = on_request, .user = world};
	const struct http_client_options client_options = {.tls = client};
	uint16_t port;

	*world = (struct world){0};
	(void)uv_loop_init(&world->loop);
	world->server = http_server_new(&world->loop, &options);
	http_server_set_tls(world->server, server);
	assert_int_equal(http_server_listen_tls(world->server, "127.0.0.1", 0, &port, NULL), 0);
	world->client = http_client_new(&world->loop, &client_options);
	(void)snprintf(world->url, sizeof(world->url), "https://localhost:%u", port);
	(void)tls_context_unref(server);
	(void)tls_context_unref(client);
}

static void teardown(struct world *world)
{
	http_client_close(world->client, NULL, NULL);
	http_server_close(world->server, NULL, NULL);
	(void)uv_run(&world->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&world->loop), 0);
	buf_done(&world->body);
	buf_done(&world->text);
}

static void on_done(
	struct http_call *call, int error, const char *text, const struct http_response *response, void *user)
{
	struct world *world = user;

	(void)call;
	world->done++;
	world->error = error;
	world->status = response ? response->status : 0;
	buf_clear(&world->body);
	buf_clear(&world->text);
	buf_add_str(&world->text, text);
	if (response)
		buf_add_slice(&world->body, response->body);
}

static void fetch(struct world *world, const char *path, struct slice body)
{
	_cleanup_free_ char *url = mem_printf("%s%s", world->url, path);
	const struct http_call_options options = {.url = url,
		.method = body.len ? "POST" : "GET",
		.body = body,
		.on_done = on_done,
		.total_timeout_ms = 20000,
		.user = world};
	unsigned before = world->done;

	(void)http_client_send(world->client, &options);
	while (world->done == before)
		(void)uv_run(&world->loop, UV_RUN_ONCE);
}

static void http_goes_over_tls(void **state)
{
	_cleanup_buf_ struct buf large = BUF_INIT(0);
	struct http_server_stats stats;
	struct world world;

	(void)state;
	setup(&world, server_context(&files.server, &files.ca),
		client_context(&files.client, &files.ca, false));
	fetch(&world, "/name", SLICE_LITERAL(""));
	assert_int_equal(world.error, 0);
	assert_true(slice_is(buf_slice(&world.body), "reader"));
	fetch(&world, "/large", SLICE_LITERAL(""));
	assert_int_equal(world.body.len, 3000000);
	for (size_t i = 0; i < 2000000; i++)
		buf_add_char(&large, (char)('a' + i % 26));
	fetch(&world, "/", buf_slice(&large));
	assert_true(slice_equal(buf_slice(&world.body), buf_slice(&large)));
	fetch(&world, "/stream", SLICE_LITERAL(""));
	assert_true(slice_is(buf_slice(&world.body), "one two"));
	fetch(&world, "/over", SLICE_LITERAL(""));
	assert_int_equal(world.status, 501);
	http_server_get_stats(world.server, &stats);
	assert_int_equal(stats.connections_total, 1); /* one handshake for all */
	teardown(&world);
}

static void a_client_that_is_not_trusted_reaches_no_handler(void **state)
{
	struct world world;

	(void)state;
	setup(&world, server_context(&files.server, &files.ca),
		client_context(&files.stranger, &files.ca, false));
	fetch(&world, "/name", SLICE_LITERAL(""));
	assert_int_equal(world.error, -EPROTO);
	assert_memory_equal(buf_text(&world.text), "remote error: tls: ", 19);
	assert_int_equal(world.served, 0);
	/* Nor does one that speaks no TLS; it is told. */
	memmove(world.url + 4, world.url + 5, strlen(world.url + 4)); /* http:// */
	fetch(&world, "/name", SLICE_LITERAL(""));
	assert_int_equal(world.error, 0);
	assert_int_equal(world.status, 400);
	assert_string_equal(buf_text(&world.body), "Client sent an HTTP request to an HTTPS server.\n");
	assert_int_equal(world.served, 0);
	teardown(&world);
	setup(&world, server_context(&files.server, NULL), client_context(NULL, &files.other_ca, false));
	fetch(&world, "/name", SLICE_LITERAL(""));
	assert_int_equal(world.error, -EPROTO);
	assert_string_equal(buf_text(&world.text), "x509: certificate signed by unknown authority");
	teardown(&world);
}

static void a_new_certificate_holds_for_new_connections(void **state)
{
	struct tls_context *old;
	struct world world;

	(void)state;
	setup(&world, server_context(&files.server, NULL), client_context(NULL, &files.ca, false));
	fetch(&world, "/name", SLICE_LITERAL(""));
	assert_int_equal(world.error, 0);
	old = server_context(&files.old, NULL);
	http_server_set_tls(world.server, old);
	(void)tls_context_unref(old);
	fetch(&world, "/name", SLICE_LITERAL("")); /* on the connection that is there */
	assert_int_equal(world.error, 0);
	http_client_close(world.client, NULL, NULL);
	(void)uv_run(&world.loop, UV_RUN_NOWAIT);
	const struct http_client_options options = {.tls = client_context(NULL, &files.ca, false)};
	world.client = http_client_new(&world.loop, &options);
	(void)tls_context_unref(options.tls);
	fetch(&world, "/name", SLICE_LITERAL(""));
	assert_string_equal(buf_text(&world.text), "x509: certificate has expired or is not yet valid");
	teardown(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_come_out_as_they_went_in),
		cmocka_unit_test(who_is_not_trusted_is_refused),
		cmocka_unit_test(what_is_no_tls_ends_at_once),
		cmocka_unit_test(files_that_cannot_be_used_are_named),
		cmocka_unit_test(http_goes_over_tls),
		cmocka_unit_test(a_client_that_is_not_trusted_reaches_no_handler),
		cmocka_unit_test(a_new_certificate_holds_for_new_connections),
	};

	return cmocka_run_group_tests(tests, make_files, remove_files);
}
