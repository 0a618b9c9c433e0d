/* The keeper's socket: JSON lines. A request is {"id":N,"op":"…", …}; its answer ends with
 * {"id":N,"result":0|-errno, "message":"…"}, after pieces {"id":N,"text":"…"} where there are any. To those
 * who subscribed the keeper tells
 * {"event":"state","unit":{…}} and {"event":"unloaded","name":"…"}; {"event":"ready"} stands behind the first
 * full list. {"op":"journal"} takes the unit's name (none: all units), lines (negative: all), since and until
 * (in microseconds since 1970), match (["NAME=VALUE", …]), output (short, cat, json) and follow. Only root
 * and the keeper's own user may connect. */
#include "base/json.h"
#include "base/memory.h"
#include "manager/server_internal.h"
#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEXT_PIECE_MAX (256u * 1024)

struct unload_wait { /* in service->unloads */
	struct list entry;
	struct client *client;
	int64_t id;
};
static void client_closed(uv_handle_t *handle)
{
	struct client *client = handle->data;

	buf_done(&client->in);
	free(client);
}

static void client_close(struct client *client)
{
	if (client->closing)
		return;
	client->closing = true;
	list_remove(&client->entry);
	client->keeper->client_count--;
	server_journals_free(client);
	list_for_each (it, &client->keeper->services) {
		struct service *service = list_item(it, struct service, entry);

		list_for_each_safe (wait_it, &service->unloads) {
			struct unload_wait *wait = list_item(wait_it, struct unload_wait, entry);

			if (wait->client == client) {
				list_remove(&wait->entry);
				free(wait);
			}
		}
	}
	uv_close((uv_handle_t *)&client->pipe, client_closed);
}

struct sending {
	uv_write_t request;
	struct client *client;
	char *data;
};

static void sent(uv_write_t *request, int status)
{
	struct sending *sending = request->data;

	if (status < 0 && status != UV_ECANCELED)
		client_close(sending->client);
	free(sending->data);
	free(sending);
}

/* Takes the buffer's bytes. Who does not read is let go. */
static void client_send(struct client *client, struct buf *line)
{
	struct sending *sending;
	uv_buf_t bytes;
	size_t len;

	if (client->closing)
		return;
	if (uv_stream_get_write_queue_size((uv_stream_t *)&client->pipe) > KEEPER_QUEUE_MAX) {
		client_close(client);
		return;
	}
	sending = mem_new(struct sending);
	sending->client = client;
	sending->data = buf_take(line, &len);
	sending->request.data = sending;
	bytes = uv_buf_init(sending->data, (unsigned)len);
	if (uv_write(&sending->request, (uv_stream_t *)&client->pipe, &bytes, 1, sent) < 0) {
		free(sending->data);
		free(sending);
		client_close(client);
	}
}

void server_reply(struct client *client, int64_t id, int result, const char *message)
{
	struct buf line = BUF_INIT(0);

	buf_printf(&line, "{\"id\":%lld,\"result\":%d,\"message\":", (long long)id, result);
	json_add_string(&line, slice_str(message));
	buf_add_str(&line, "}\n");
	client_send(client, &line);
}

void server_reply_text(struct client *client, int64_t id, struct slice text)
{
	while (text.len && !client->closing) {
		struct buf line = BUF_INIT(0);
		size_t len = MIN(text.len, (size_t)TEXT_PIECE_MAX);

		while (len < text.len && len > 1 && ((unsigned char)text.data[len] & 0xC0) == 0x80)
			len--; /* no piece ends inside a character */
		buf_printf(&line, "{\"id\":%lld,\"text\":", (long long)id);
		json_add_string(&line, slice_make(text.data, len));
		buf_add_str(&line, "}\n");
		client_send(client, &line);
		text = slice_make(text.data + len, text.len - len);
	}
}

static const char *const job_names[] = {
	[JOB_NONE] = "", [JOB_START] = "start", [JOB_STOP] = "stop", [JOB_RESTART] = "restart"};

static void add_state(const struct service *service, struct buf *out)
{
	enum service_state state = service_told_state(service);

	buf_add_str(out, "{\"name\":");
	json_add_string(out, slice_str(service->name));
	buf_add_str(out, ",\"hash\":");
	json_add_string(out, slice_str(service->hash));
	buf_printf(out,
		",\"load\":\"%s\",\"active\":\"%s\",\"sub\":\"%s\",\"result\":\"%s\",\"mainPid\":%d,"
		"\"execMainStatus\":%d,"
		"\"restarts\":%llu,\"wanted\":%s,\"job\":\"%s\",\"startError\":",
		service_load_name(service), service_state_active(state), service_state_sub(state),
		service_result_name(service->result), (int)service->main_pid,
		service->main_exec.exited ? service->main_exec.status : 0,
		(unsigned long long)service->restarts, service->wanted ? "true" : "false",
		job_names[service->job]);
	json_add_string(out, slice_str(service->start_error ? service->start_error : ""));
	buf_add_str(out, ",\"warnings\":[");
	const struct strings *lists[] = {&service->config.warnings, &service->run_warnings};
	bool first = true;
	for (size_t list = 0; list < ARRAY_LEN(lists); list++) {
		for (size_t i = 0; i < lists[list]->count; i++) {
			buf_add_str(out, first ? "" : ",");
			json_add_string(out, slice_str(lists[list]->items[i]));
			first = false;
		}
	}
	buf_add_str(out, "]}");
}

static void send_state(struct client *client, const struct service *service)
{
	struct buf line = BUF_INIT(0);

	buf_add_str(&line, "{\"event\":\"state\",\"unit\":");
	add_state(service, &line);
	buf_add_str(&line, "}\n");
	client_send(client, &line);
}

void server_send_states(struct keeper *keeper)
{
	list_for_each (it, &keeper->services) {
		struct service *service = list_item(it, struct service, entry);

		if (!service->dirty)
			continue;
		service->dirty = false;
		list_for_each_safe (client_it, &keeper->clients) {
			struct client *client = list_item(client_it, struct client, entry);

			if (client->subscribed)
				send_state(client, service);
		}
	}
}

void server_unit_gone(struct keeper *keeper, const char *name)
{
	list_for_each_safe (it, &keeper->clients) {
		struct client *client = list_item(it, struct client, entry);
		struct buf line = BUF_INIT(0);

		if (!client->subscribed)
			continue;
		buf_add_str(&line, "{\"event\":\"unloaded\",\"name\":");
		json_add_string(&line, slice_str(name));
		buf_add_str(&line, "}\n");
		client_send(client, &line);
	}
}

bool server_has_clients(const struct keeper *keeper)
{
	return keeper->client_count > 0;
}

const char *server_text_field(const json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text ? text : "";
}

static void op_hello(struct request *request)
{
	struct buf line = BUF_INIT(0);

	buf_printf(&line,
		"{\"id\":%lld,\"result\":0,\"message\":\"\",\"protocol\":%d,\"version\":\"%s\",\"pid\":%d,"
		"\"cgroups\":%s}\n",
		(long long)request->id, KEEPER_PROTOCOL, FLOTILLA_VERSION, (int)getpid(),
		request->keeper->tracker.base ? "true" : "false");
	client_send(request->client, &line);
}

static void send_all(struct client *client)
{
	list_for_each (it, &client->keeper->services) {
		send_state(client, list_item(it, struct service, entry));
	}
}

static void op_subscribe(struct request *request)
{
	struct buf line = BUF_INIT(0);

	request->client->subscribed = true;
	send_all(request->client);
	buf_add_str(&line, "{\"event\":\"ready\"}\n");
	client_send(request->client, &line);
	server_reply(request->client, request->id, 0, "");
}

static void op_list(struct request *request)
{
	send_all(request->client);
	server_reply(request->client, request->id, 0, "");
}

static void no_such_unit(struct request *request)
{
	_cleanup_free_ char *text = mem_printf("Unit %s not loaded.", request->name);

	server_reply(request->client, request->id, -ENOENT, text);
}

/* The answer to a request that changes a unit: who subscribed sees the change before it reads that it was
 * accepted. */
static void reply_changed(struct request *request, int result, const char *message)
{
	(void)server_send_journals(request->keeper, true);
	server_send_states(request->keeper);
	server_reply(request->client, request->id, result, message);
}

static void op_load(struct request *request)
{
	const json_t *text = json_object_get(request->json, "text");
	const char *hash = server_text_field(request->json, "hash");
	struct slice bytes = slice_make(json_string_value(text), json_string_length(text));
	struct service *service = request->service;
	struct unit_error error;
	int r;

	if (!json_is_string(text) || bytes.len > UNIT_TEXT_MAX || strlen(hash) >= sizeof(service->hash)) {
		server_reply(request->client, request->id, -EINVAL,
			"load needs a text (at most 1 MiB) and a hash");
		return;
	}
	if (unit_name_validate(slice_str(request->name), &error) < 0) {
		server_reply(request->client, request->id, -EINVAL, error.text);
		return;
	}
	if (service && service->unloading) {
		free(service->replacement.text);
		service->replacement.text = mem_strndup(bytes.data, bytes.len);
		service->replacement.text_len = bytes.len;
		(void)memcpy(service->replacement.hash, hash, strlen(hash) + 1);
		server_reply(request->client, request->id, 0, "");
		return;
	}
	if (!service && request->keeper->units.count >= KEEPER_UNITS_MAX) {
		server_reply(request->client, request->id, -ENOSPC,
			"too many units are loaded on this machine (4096)");
		return;
	}
	service = keeper_load(request->keeper, request->name, bytes, hash);
	r = store_write_text(service);
	store_write_state(service);
	jobs_unit_loaded(service);
	reply_changed(request, r, r < 0 ? strerror(-r) : "");
}

static void op_unload(struct request *request)
{
	struct service *service = request->service;
	struct unload_wait *wait;

	if (!service) {
		server_reply(request->client, request->id, 0, "");
		return;
	}
	wait = mem_new(struct unload_wait);
	wait->client = request->client;
	wait->id = request->id;
	list_push_back(&service->unloads, &wait->entry);
	service->unloading = true;
	service->wanted = false;
	service->replacement.text = mem_free(service->replacement.text);
	service->replacement.start = false;
	store_write_state(service);
	jobs_stop(service);
}

void server_unloads_done(struct service *service)
{
	list_for_each_safe (it, &service->unloads) {
		struct unload_wait *wait = list_item(it, struct unload_wait, entry);

		list_remove(&wait->entry);
		server_reply(wait->client, wait->id, 0, "");
		free(wait);
	}
}

static void op_start(struct request *request)
{
	_cleanup_buf_ struct buf error = BUF_INIT(4096);
	struct service *service = request->service;
	bool restart = strcmp(server_text_field(request->json, "op"), "restart") == 0;
	int r;

	if (service && service->unloading && service->replacement.text) {
		service->replacement.start = true;
		server_reply(request->client, request->id, 0, "");
		return;
	}
	if (!service || service->unloading) {
		no_such_unit(request);
		return;
	}
	service->wanted = true;
	service->dirty = true;
	store_write_state(service);
	r = restart ? jobs_restart(service, &error) : jobs_start(service, &error);
	reply_changed(request, r, buf_text(&error));
}

static void op_stop(struct request *request)
{
	struct service *service = request->service;

	if (!service) {
		no_such_unit(request);
		return;
	}
	service->wanted = service->replacement.start = false;
	service->dirty = true;
	store_write_state(service);
	jobs_stop(service);
	reply_changed(request, 0, "");
}

static void op_reload(struct request *request)
{
	int r = request->service ? service_reload(request->service) : -ENOENT;
	_cleanup_free_ char *text = NULL;

	if (r == -ENOENT) {
		no_such_unit(request);
		return;
	}
	if (r == -ESRCH)
		text = mem_printf("%s is not active, cannot reload.", request->name);
	else if (r == -EBUSY)
		text = mem_printf("%s is being reloaded, restarted or stopped.", request->name);
	else if (r < 0)
		text = mem_printf("Job type reload is not applicable for unit %s.", request->name);
	reply_changed(request, r, text ? text : "");
}

static void op_status(struct request *request)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0);

	if (!request->service) {
		_cleanup_free_ char *message = mem_printf("Unit %s could not be found.", request->name);

		server_reply(request->client, request->id, -ENOENT, message);
		return;
	}
	status_text(request->service, &text);
	server_reply_text(request->client, request->id, buf_slice(&text));
	server_reply(request->client, request->id, 0, "");
}

static void op_journal(struct request *request)
{
	if (request->name[0] && unit_name_validate(slice_str(request->name), NULL) < 0)
		no_such_unit(request);
	else
		server_journal_begin(request);
}

static void op_cancel(struct request *request)
{
	server_journal_cancel(request->client, json_integer_value(json_object_get(request->json, "target")));
	server_reply(request->client, request->id, 0, "");
}

static void op_shutdown(struct request *request)
{
	server_reply(request->client, request->id, 0, "");
	keeper_shutdown(request->keeper);
}

static const struct {
	const char *name;
	bool needs_unit_name;
	void (*run)(struct request *request);
} operations[] = {
	{"hello", false, op_hello},
	{"subscribe", false, op_subscribe},
	{"list", false, op_list},
	{"load", true, op_load},
	{"unload", true, op_unload},
	{"start", true, op_start},
	{"stop", true, op_stop},
	{"restart", true, op_start},
	{"reload", true, op_reload},
	{"status", true, op_status},
	{"journal", false, op_journal},
	{"cancel", false, op_cancel},
	{"shutdown", false, op_shutdown},
};

static void handle_line(struct client *client, struct slice line)
{
	json_t *json = json_loadb(line.data, line.len, JSON_ALLOW_NUL, NULL);
	struct request request = {.client = client, .keeper = client->keeper, .json = json};
	const char *op;

	if (!json_is_object(json)) {
		server_reply(client, 0, -EBADMSG, "a request is one JSON object in a line");
		json_decref(json);
		return;
	}
	request.id = json_integer_value(json_object_get(json, "id"));
	request.name = server_text_field(json, "name");
	op = server_text_field(json, "op");
	for (size_t i = 0; i < ARRAY_LEN(operations); i++) {
		if (strcmp(operations[i].name, op) != 0)
			continue;
		if (operations[i].needs_unit_name && !request.name[0]) {
			server_reply(client, request.id, -EINVAL, "the request needs a unit's name");
		} else {
			request.service = keeper_find(client->keeper, request.name);
			operations[i].run(&request);
		}
		json_decref(json);
		return;
	}
	server_reply(client, request.id, -ENOTSUP, "unknown operation");
	json_decref(json);
}

static void allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
	struct client *client = handle->data;
	char *at = buf_reserve(&client->in, MIN(suggested, (size_t)65536));

	*ret = uv_buf_init(at, at ? (unsigned)MIN(suggested, (size_t)65536) : 0);
}

static void received(uv_stream_t *stream, ssize_t len, const uv_buf_t *unused)
{
	struct client *client = stream->data;
	const char *newline;

	(void)unused;
	if (len < 0) { /* the end, an error, or a line beyond the bound (no room) */
		client_close(client);
		return;
	}
	buf_commit(&client->in, (size_t)len);
	while (!client->closing && client->in.len &&
		(newline = memchr(client->in.data, '\n', client->in.len))) {
		size_t line_len = (size_t)(newline - client->in.data);

		handle_line(client, slice_make(client->in.data, line_len));
		buf_consume(&client->in, line_len + 1);
	}
}

static bool may_connect(uv_pipe_t *pipe)
{
	struct ucred credentials;
	socklen_t len = sizeof(credentials);
	int fd;

	if (uv_fileno((uv_handle_t *)pipe, &fd) < 0)
		return false;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &len) < 0)
		return false;
	return credentials.uid == 0 || credentials.uid == geteuid();
}

static void connected(uv_stream_t *server, int status)
{
	struct keeper *keeper = server->data;
	struct client *client;

	if (status < 0)
		return;
	client = mem_new(struct client);
	client->keeper = keeper;
	client->in = BUF_INIT(KEEPER_LINE_MAX);
	list_init(&client->journals);
	(void)uv_pipe_init(&keeper->loop, &client->pipe, 0);
	client->pipe.data = client;
	list_push_back(&keeper->clients, &client->entry);
	keeper->client_count++;
	if (uv_accept(server, (uv_stream_t *)&client->pipe) < 0 ||
		keeper->client_count > KEEPER_CLIENTS_MAX || !may_connect(&client->pipe) ||
		uv_read_start((uv_stream_t *)&client->pipe, allocate, received) < 0)
		client_close(client);
}

int server_open(struct keeper *keeper)
{
	mode_t before = umask(0177);
	int r;

	(void)uv_pipe_init(&keeper->loop, &keeper->server, 0);
	keeper->server.data = keeper;
	(void)unlink(
		keeper->socket); /* the lock on the directory is ours, so the socket is a dead keeper's */
	r = uv_pipe_bind(&keeper->server, keeper->socket);
	(void)umask(before);
	if (r == 0)
		r = uv_listen((uv_stream_t *)&keeper->server, 16, connected);
	return r;
}

void server_close(struct keeper *keeper)
{
	list_for_each_safe (it, &keeper->clients)
		client_close(list_item(it, struct client, entry));
	if (!uv_is_closing((uv_handle_t *)&keeper->server))
		uv_close((uv_handle_t *)&keeper->server, NULL);
}
