/* A thousand machines in one process, on a real store: of each the production member (presence, mirrors,
 * agent and engine) with connections of its own, and a manager without processes. Units are asked for through
 * the API of a fleetd, which leads.
 *
 *   bench_fleet_swarm STORE_URL API_SOCKET MACHINES TTL_S
 *
 * Commands come by standard input, one a line, and answers are lines of JSON:
 *
 *   units N    asks for N units more, launched; "asked" when all are answered, "running" when all run
 *   die N      N machines end without a word; "died", then "running"
 *   status     "status"
 *
 * "running" comes whenever as many units run as were asked for, each on one machine. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/map.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/time.h"
#include "fleet/member.h"
#include "instant_manager.h"
#include "io/http_client.h"

#define REQUESTS_AT_ONCE 64
#define MACHINES_AT_ONCE 20 /* in one turn: the store's queue of connections is bounded */
#define BEGIN_EVERY_MS 2
#define TIMEOUT_MS 1000

struct machine {
	struct swarm *swarm;
	struct registry_machine self;
	struct etcd_client *quick, *client;
	struct cluster *cluster;
	struct manager *manager;
	struct member *member;
};
struct swarm {
	uv_loop_t loop;
	const char *store, *api;
	int ttl_s;
	struct machine *machines;
	size_t count, begun, registered, dead;
	uv_timer_t begin;
	struct http_client *http;
	size_t asked, sent, answered, failed;
	size_t running, copies; /* copies: units that ran twice at some time */
	struct map placed;	/* unit -> on how many machines it runs */
	uv_pipe_t input;
	struct buf line;
	uint64_t outages;
};

static void event(const struct swarm *s, const char *what)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	printf("{\"event\": \"%s\", \"at\": %.3f, \"machines\": %zu, \"units\": %zu, \"running\": %zu, "
	       "\"copies\": %zu, "
	       "\"failed\": %zu, \"outages\": %llu, \"cpu s\": %.2f, \"rss kB\": %ld}\n",
		what, (double)time_mono_ns() / 1e9, s->registered - s->dead, s->answered, s->running,
		s->copies, s->failed, (unsigned long long)s->outages,
		(double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
			(double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6,
		usage.ru_maxrss);
	fflush(stdout);
}

/* ---- machines ---- */

static void on_running(void *user, const char *name, int change)
{
	struct swarm *s = user;
	intptr_t count = (intptr_t)map_get(&s->placed, slice_str(name)) + change;

	if (count > 0)
		map_put(&s->placed, slice_str(name), (void *)count);
	else
		map_remove(&s->placed, slice_str(name));
	s->copies += count > 1;
	s->running += (size_t)change;
	if (change > 0 && s->running == s->asked && s->placed.count == s->asked)
		event(s, "running");
}

static void on_ready(void *user)
{
	member_manager_ready(((struct machine *)user)->member);
}

static void on_state(void *user, const struct manager_unit_state *state)
{
	member_unit_changed(((struct machine *)user)->member, state);
}

static void on_unloaded(void *user, const char *name)
{
	member_unit_unloaded(((struct machine *)user)->member, name);
}

static void on_log(void *user, enum log_level level, const char *text)
{
	struct machine *machine = user;
	struct swarm *s = machine->swarm;

	if (strncmp(text, "registered", 10) == 0 && ++s->registered == s->count)
		event(s, "registered");
	if (level != LOG_LEVEL_INFO) {
		if (s->outages++ < 5)
			fprintf(stderr, "%s: %s\n", machine->self.id, text);
	}
}

static struct etcd_client *open_client(struct swarm *s, int64_t timeout_ms)
{
	struct etcd_client_options options = {.endpoints = s->store,
		.timeout_ms = timeout_ms,
		.total_timeout_ms = 2 * timeout_ms,
		.connect_timeout_ms = TIMEOUT_MS};
	struct etcd_client *client;

	if (etcd_client_new(&s->loop, &options, &client, NULL) < 0) {
		fprintf(stderr, "%s is no store\n", s->store);
		exit(1);
	}
	return client;
}

static void describe(struct machine *machine, size_t number)
{
	static const char zones[] = "abcd";
	struct registry_machine *self = &machine->self;

	self->id = mem_printf("%08zx%024x", number * 2654435761u % 4294967296u, 1u);
	self->public_ip = mem_printf("10.%zu.%zu.%zu", number >> 16, number >> 8 & 255, number & 255);
	self->version = mem_strdup(FLEET_VERSION);
	self->metadata = mem_new_array(struct registry_pair, 2);
	self->metadata[0] = (struct registry_pair){mem_strdup("swarm"), mem_strdup("yes")};
	self->metadata[1] = (struct registry_pair){mem_strdup("zone"), mem_printf("%c", zones[number % 4])};
	self->metadata_count = 2;
	self->engine_disabled = true;
	self->peer_api = mem_strdup("");
	self->peer_token = mem_strdup("");
	self->boot = mem_strdup("boot");
	self->nonce = mem_printf("nonce%zu", number);
}

static void machine_begin(struct swarm *s, size_t number)
{
	static const struct manager_events events = {on_ready, on_state, on_unloaded, NULL};
	struct machine *machine = &s->machines[number];
	struct member_config config = {.prefix = "/_coreos.com/fleet",
		.machine = &machine->self,
		.ttl_s = s->ttl_s,
		.reconcile_ms = 2000,
		.engine_disabled = true,
		.log = on_log,
		.userdata = machine};

	machine->swarm = s;
	describe(machine, number);
	config.quick = machine->quick = open_client(s, TIMEOUT_MS);
	config.client = machine->client = open_client(s, 5 * TIMEOUT_MS);
	config.cluster = machine->cluster = cluster_new();
	config.manager = machine->manager = instant_manager_new(&s->loop, &events, machine, on_running, s);
	machine->member = member_new(&config);
}

/* Not a word more to the store. */
static void machine_end(struct machine *machine)
{
	machine->member = member_free(machine->member);
	manager_close(machine->manager, NULL, NULL);
	machine->cluster = cluster_free(machine->cluster);
	machine->quick = etcd_client_free(machine->quick);
	machine->client = etcd_client_free(machine->client);
	registry_machine_done(&machine->self);
}

/* As many as the store can greet at a time. */
static void begin_more(uv_timer_t *timer)
{
	struct swarm *s = timer->data;

	while (s->begun < s->count && s->begun < s->registered + MACHINES_AT_ONCE)
		machine_begin(s, s->begun++);
	if (s->begun == s->count)
		uv_timer_stop(timer);
}

static void die(struct swarm *s, size_t count)
{
	for (size_t i = 0; i < count && s->dead < s->count; i++)
		machine_end(&s->machines[s->dead++]);
	event(s, "died");
}

/* ---- units ---- */

static void ask_more(struct swarm *s);

static void answered(
	struct http_call *call, int error, const char *text, const struct http_response *response, void *user)
{
	struct swarm *s = user;

	(void)call;
	if ((error || (response->status != 201 && response->status != 204)) && s->failed++ == 0)
		fprintf(stderr, "the API: %s %d\n", text, response ? response->status : 0);
	if (++s->answered == s->asked)
		event(s, "asked");
	ask_more(s);
}

/* Every fourth is tied to a zone. */
static void ask(struct swarm *s, size_t number)
{
	_cleanup_free_ char *url = mem_printf("http://fleet/fleet/v1/units/u%zu.service", number);
	_cleanup_free_ char *zone =
		number % 4 ? mem_strdup("")
			   : mem_printf(",{\"section\":\"X-Fleet\",\"name\":\"MachineMetadata\","
					"\"value\":\"zone=%c\"}",
				     'a' + (char)(number / 4 % 4));
	_cleanup_free_ char *body = mem_printf(
		"{\"desiredState\":\"launched\",\"options\":[{\"section\":\"Service\",\"name\":\"ExecStart\","
		"\"value\":"
		"\"/bin/sleep "
		"1000\"},{\"section\":\"X-Fleet\",\"name\":\"MachineMetadata\",\"value\":\"swarm=yes\"}%s]}",
		zone);
	struct http_header header = HTTP_HEADER("Content-Type", "application/json");
	struct http_call_options options = {.method = "PUT",
		.url = url,
		.unix_path = s->api,
		.headers = &header,
		.header_count = 1,
		.body = slice_str(body),
		.on_done = answered,
		.user = s};

	(void)http_client_send(s->http, &options);
}

static void ask_more(struct swarm *s)
{
	while (s->sent < s->asked && s->sent < s->answered + REQUESTS_AT_ONCE)
		ask(s, s->sent++);
}

/* ---- commands ---- */

static void command(struct swarm *s, char *line)
{
	char *space = strchr(line, ' ');
	uint64_t number;

	if (strcmp(line, "status") == 0)
		event(s, "status");
	if (!space || text_to_u64(slice_str(space + 1), &number) < 0)
		return;
	*space = '\0';
	if (strcmp(line, "units") == 0) {
		s->asked += number;
		ask_more(s);
	} else if (strcmp(line, "die") == 0) {
		die(s, number);
	}
}

static void give_room(uv_handle_t *handle, size_t wanted, uv_buf_t *ret)
{
	static char room[4096];

	(void)handle;
	(void)wanted;
	*ret = uv_buf_init(room, sizeof(room));
}

static void on_input(uv_stream_t *stream, ssize_t len, const uv_buf_t *read)
{
	struct swarm *s = stream->data;

	if (len < 0)
		exit(0);
	for (ssize_t i = 0; i < len; i++) {
		if (read->base[i] != '\n') {
			buf_add(&s->line, &read->base[i], 1);
			continue;
		}
		command(s, (char *)buf_text(&s->line));
		buf_clear(&s->line);
	}
}

int main(int argc, char **argv)
{
	struct swarm swarm = {.line = BUF_INIT(4096)};
	struct http_client_options http = {.max_idle_per_origin = REQUESTS_AT_ONCE};
	struct rlimit limit;
	uint64_t machines, ttl_s;

	if (argc != 5 || text_to_u64(slice_str(argv[3]), &machines) < 0 ||
		text_to_u64(slice_str(argv[4]), &ttl_s) < 0) {
		fprintf(stderr, "usage: %s STORE_URL API_SOCKET MACHINES TTL_S\n", argv[0]);
		return 2;
	}
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	swarm.store = argv[1];
	swarm.api = argv[2];
	swarm.count = machines;
	swarm.ttl_s = (int)ttl_s;
	swarm.machines = mem_new_array(struct machine, machines);
	map_init(&swarm.placed, 0);
	uv_loop_init(&swarm.loop);
	swarm.http = http_client_new(&swarm.loop, &http);
	uv_timer_init(&swarm.loop, &swarm.begin);
	swarm.begin.data = &swarm;
	uv_timer_start(&swarm.begin, begin_more, 0, BEGIN_EVERY_MS);
	uv_pipe_init(&swarm.loop, &swarm.input, 0);
	swarm.input.data = &swarm;
	uv_pipe_open(&swarm.input, 0);
	uv_read_start((uv_stream_t *)&swarm.input, give_room, on_input);
	return uv_run(&swarm.loop, UV_RUN_DEFAULT);
}
