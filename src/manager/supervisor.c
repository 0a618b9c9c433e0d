/* The client's side of the keeper. A connection goes idle -> connecting -> greeting -> ready; whenever it is
 * lost, what was not answered is sent again after the next greeting (every request can be repeated without
 * harm), a keeper is started when none answers, and the mirror is compared with the fresh list. */
#include "base/json.h"
#include "base/list.h"
#include "base/map.h"
#include "base/memory.h"
#include "manager/implementation.h"
#include "manager/keeper.h"
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define RETRY_MIN_MS 20
#define RETRY_MAX_MS 1000

struct mirror { /* one unit as the keeper last told */
	struct manager_unit_state state;
	char *name;
	json_t *json; /* owns the texts */
	const char **warnings;
	bool seen; /* told since the last greeting */
};

enum link_state { LINK_IDLE, LINK_CONNECTING, LINK_GREETING, LINK_READY, LINK_CLOSED };

struct supervisor {
	struct manager manager;
	struct manager_config config;
	char *state_dir, *socket_path, *program;
	enum link_state link;
	uv_pipe_t *pipe; /* NULL without a connection */
	uv_timer_t retry;
	uint64_t retry_ms;
	uv_process_t starter;
	bool starter_running;
	struct buf in;
	struct map units;     /* name -> struct mirror */
	struct list requests; /* in order; those not marked `sent` wait for the connection */
	size_t request_count;
	int64_t next_id;
	unsigned open_handles;
	void (*closed)(void *userdata);
	void *closed_userdata;
};

struct request {
	struct manager_stream stream; /* first: what manager_journal() answers */
	struct list entry;
	struct supervisor *supervisor;
	int64_t id;
	char *line;
	size_t line_len;
	bool sent, follow, cancelled;
	manager_done_fn done;
	manager_text_fn text;
	void *userdata;
};

static void connect_now(struct supervisor *supervisor);
static void supervisor_lost(struct supervisor *supervisor, const char *why);

static void mirror_free(struct mirror *mirror)
{
	json_decref(mirror->json);
	free(mirror->warnings);
	free(mirror->name);
	free(mirror);
}

static void request_free(struct request *request)
{
	list_remove(&request->entry);
	request->supervisor->request_count--;
	free(request->line);
	free(request);
}

/* Calls back and frees; the request is out of the list before, so that the callback may do anything. */
static void request_end(struct request *request, int result, const char *message)
{
	list_remove(&request->entry);
	if (!request->cancelled) {
		if (request->done)
			request->done(request->userdata, result, message);
		else if (request->text)
			request->text(request->userdata, result, message, SLICE_LITERAL(""), true);
	}
	request_free(request);
}

static void written(uv_write_t *write, int status)
{
	(void)status; /* reading tells of the end, too */
	free(write->data);
	free(write);
}

static int send_line(struct supervisor *supervisor, const char *line, size_t len)
{
	uv_write_t *write = mem_new(uv_write_t);
	uv_buf_t bytes;
	int r;

	write->data = mem_dup(line, len);
	bytes = uv_buf_init(write->data, (unsigned)len);
	r = uv_write(write, (uv_stream_t *)supervisor->pipe, &bytes, 1, written);
	if (r < 0) {
		free(write->data);
		free(write);
	}
	return r;
}

static void send_waiting(struct supervisor *supervisor)
{
	list_for_each (it, &supervisor->requests) {
		struct request *request = list_item(it, struct request, entry);

		if (request->sent)
			continue;
		if (send_line(supervisor, request->line, request->line_len) < 0)
			return; /* the read side will report the loss */
		request->sent = true;
	}
}

static struct request *request_new(struct supervisor *supervisor, struct buf *fields, void *userdata)
{
	struct request *request = mem_new(struct request);
	_cleanup_buf_ struct buf line = BUF_INIT(0);

	request->stream.manager = &supervisor->manager;
	request->supervisor = supervisor;
	request->id = ++supervisor->next_id;
	request->userdata = userdata;
	buf_printf(&line, "{\"id\":%lld", (long long)request->id);
	buf_add_slice(&line, buf_slice(fields));
	buf_add_str(&line, "}\n");
	request->line = buf_take(&line, &request->line_len);
	list_push_back(&supervisor->requests, &request->entry);
	supervisor->request_count++;
	return request;
}

static void request_go(struct supervisor *supervisor)
{
	if (supervisor->link == LINK_READY)
		send_waiting(supervisor);
}

static void add_field(struct buf *fields, const char *key, struct slice value)
{
	buf_printf(fields, ",\"%s\":", key);
	json_add_string(fields, value);
}

static void supervisor_act(
	struct manager *manager, const char *verb, const char *name, manager_done_fn done, void *userdata)
{
	struct supervisor *supervisor = container_of(manager, struct supervisor, manager);
	_cleanup_buf_ struct buf fields = BUF_INIT(0);

	add_field(&fields, "op", slice_str(verb));
	add_field(&fields, "name", slice_str(name));
	request_new(supervisor, &fields, userdata)->done = done;
	request_go(supervisor);
}

static void supervisor_load(struct manager *manager, const char *name, struct slice text, const char *hash,
	manager_done_fn done, void *userdata)
{
	struct supervisor *supervisor = container_of(manager, struct supervisor, manager);
	_cleanup_buf_ struct buf fields = BUF_INIT(0);

	add_field(&fields, "op", slice_str("load"));
	add_field(&fields, "name", slice_str(name));
	add_field(&fields, "hash", slice_str(hash));
	add_field(&fields, "text", text);
	request_new(supervisor, &fields, userdata)->done = done;
	request_go(supervisor);
}

static void supervisor_status(struct manager *manager, const char *name, manager_text_fn text, void *userdata)
{
	struct supervisor *supervisor = container_of(manager, struct supervisor, manager);
	_cleanup_buf_ struct buf fields = BUF_INIT(0);

	add_field(&fields, "op", slice_str("status"));
	add_field(&fields, "name", slice_str(name));
	request_new(supervisor, &fields, userdata)->text = text;
	request_go(supervisor);
}

static struct manager_stream *supervisor_journal(struct manager *manager, const char *name,
	const struct manager_journal_options *options, manager_text_fn text, void *userdata)
{
	struct supervisor *supervisor = container_of(manager, struct supervisor, manager);
	_cleanup_buf_ struct buf fields = BUF_INIT(0);
	struct request *request;

	add_field(&fields, "op", slice_str("journal"));
	add_field(&fields, "name", slice_str(name));
	add_field(&fields, "output", slice_str(options->output ? options->output : "short"));
	buf_printf(&fields, ",\"lines\":%ld,\"follow\":%s,\"since\":%lld,\"until\":%lld", options->lines,
		options->follow ? "true" : "false", (long long)options->since_us,
		(long long)options->until_us);
	request = request_new(supervisor, &fields, userdata);
	request->text = text;
	request->follow = options->follow;
	request_go(supervisor);
	return &request->stream;
}

static void supervisor_cancel(struct manager_stream *stream)
{
	struct request *request = container_of(stream, struct request, stream);
	struct supervisor *supervisor = request->supervisor;
	_cleanup_buf_ struct buf fields = BUF_INIT(0);

	if (request->sent && supervisor->link == LINK_READY) {
		buf_printf(&fields, ",\"op\":\"cancel\",\"target\":%lld", (long long)request->id);
		(void)request_new(supervisor, &fields, NULL);
		request_go(supervisor);
	}
	request->cancelled = true;
	request_free(request);
}

static bool supervisor_is_ready(const struct manager *manager)
{
	return container_of(manager, const struct supervisor, manager)->link == LINK_READY;
}

static struct mirror *find_mirror(const struct supervisor *supervisor, const char *name)
{
	return map_get(&supervisor->units, slice_str(name));
}

static bool supervisor_state(const struct manager *manager, const char *name, struct manager_unit_state *ret)
{
	const struct mirror *mirror =
		find_mirror(container_of(manager, const struct supervisor, manager), name);

	if (!mirror)
		return false;
	*ret = mirror->state;
	return true;
}

static size_t supervisor_count(const struct manager *manager)
{
	return container_of(manager, const struct supervisor, manager)->units.count;
}

static int compare_states(const void *a, const void *b)
{
	return strcmp((*(const struct mirror *const *)a)->name, (*(const struct mirror *const *)b)->name);
}

static void supervisor_list(const struct manager *manager,
	void (*each)(void *userdata, const struct manager_unit_state *state), void *userdata)
{
	const struct supervisor *supervisor = container_of(manager, const struct supervisor, manager);
	_cleanup_free_ const struct mirror **sorted =
		mem_calloc(supervisor->units.count + 1, sizeof(*sorted));
	size_t position = 0, count = 0;
	struct slice key;
	void *value;

	while (map_next(&supervisor->units, &position, &key, &value))
		sorted[count++] = value;
	qsort(sorted, count, sizeof(*sorted), compare_states);
	for (size_t i = 0; i < count; i++)
		each(userdata, &sorted[i]->state);
}

static const char *text_of(const json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text ? text : "";
}

static void mirror_fill(struct mirror *mirror, json_t *unit)
{
	const json_t *warnings = json_object_get(unit, "warnings");
	size_t count = json_array_size(warnings);

	json_decref(mirror->json);
	mirror->json = json_incref(unit);
	mirror->warnings = mem_reallocarray(mirror->warnings, count + 1, sizeof(char *));
	for (size_t i = 0; i < count; i++) {
		const char *text = json_string_value(json_array_get(warnings, i));

		mirror->warnings[i] = text ? text : "";
	}
	mirror->state = (struct manager_unit_state){
		.name = mirror->name,
		.hash = text_of(unit, "hash"),
		.load = text_of(unit, "load"),
		.active = text_of(unit, "active"),
		.sub = text_of(unit, "sub"),
		.result = text_of(unit, "result"),
		.main_pid = (int)json_integer_value(json_object_get(unit, "mainPid")),
		.exec_main_status = (int)json_integer_value(json_object_get(unit, "execMainStatus")),
		.restarts = (uint64_t)json_integer_value(json_object_get(unit, "restarts")),
		.wanted = json_is_true(json_object_get(unit, "wanted")),
		.job = text_of(unit, "job"),
		.start_error = text_of(unit, "startError"),
		.warnings = mirror->warnings,
		.warning_count = count,
	};
	mirror->seen = true;
}

static void handle_state(struct supervisor *supervisor, json_t *unit)
{
	const char *name = text_of(unit, "name");
	struct mirror *mirror = find_mirror(supervisor, name);

	if (!mirror) {
		mirror = mem_new(struct mirror);
		mirror->name = mem_strdup(name);
		(void)map_put(&supervisor->units, slice_str(mirror->name), mirror);
	} else if (!mirror->seen && json_equal(mirror->json, unit)) {
		mirror->seen = true; /* nothing happened while the connection was lost */
		return;
	}
	mirror_fill(mirror, unit);
	if (supervisor->config.events.state_changed)
		supervisor->config.events.state_changed(supervisor->config.userdata, &mirror->state);
}

static void handle_unloaded(struct supervisor *supervisor, const char *name)
{
	struct mirror *mirror = map_remove(&supervisor->units, slice_str(name));

	if (!mirror)
		return;
	if (supervisor->config.events.unloaded)
		supervisor->config.events.unloaded(supervisor->config.userdata, mirror->name);
	mirror_free(mirror);
}

static void forget_unseen(struct supervisor *supervisor)
{
	size_t position = 0;
	struct slice key;
	void *value;

	while (map_next(&supervisor->units, &position, &key, &value)) {
		struct mirror *mirror = value;

		if (mirror->seen)
			continue;
		_cleanup_free_ char *name = mem_strdup(mirror->name);
		handle_unloaded(supervisor, name);
		position = 0; /* the callback may have changed the map */
	}
}

static void handle_ready(struct supervisor *supervisor)
{
	forget_unseen(supervisor);
	supervisor->link = LINK_READY;
	supervisor->retry_ms = RETRY_MIN_MS;
	send_waiting(supervisor);
	if (supervisor->config.events.ready)
		supervisor->config.events.ready(supervisor->config.userdata);
}

static void handle_answer(struct supervisor *supervisor, const json_t *json)
{
	int64_t id = json_integer_value(json_object_get(json, "id"));
	const json_t *text = json_object_get(json, "text"), *result = json_object_get(json, "result");

	list_for_each (it, &supervisor->requests) {
		struct request *request = list_item(it, struct request, entry);

		if (request->id != id)
			continue;
		if (json_is_string(text) && request->text)
			request->text(request->userdata, 0, "",
				slice_make(json_string_value(text), json_string_length(text)), false);
		else if (json_is_integer(result))
			request_end(request, (int)json_integer_value(result), text_of(json, "message"));
		return;
	}
}

static void handle_greeting(struct supervisor *supervisor, const json_t *json)
{
	static const char subscribe[] = "{\"id\":0,\"op\":\"subscribe\"}\n";
	int64_t protocol = json_integer_value(json_object_get(json, "protocol"));
	size_t position = 0;
	struct slice key;
	void *value;

	if (protocol != KEEPER_PROTOCOL) {
		_cleanup_free_ char *why =
			mem_printf("the keeper that runs speaks protocol %lld, this program %d: end it "
				   "(its units stop) or use the program it belongs to",
				(long long)protocol, KEEPER_PROTOCOL);

		supervisor_lost(supervisor, why);
		return;
	}
	while (map_next(&supervisor->units, &position, &key, &value))
		((struct mirror *)value)->seen = false;
	(void)send_line(supervisor, subscribe, sizeof(subscribe) - 1);
}

static void handle_line(struct supervisor *supervisor, struct slice line)
{
	json_t *json = json_loadb(line.data, line.len, JSON_ALLOW_NUL, NULL);
	const char *event = text_of(json, "event");

	if (!json)
		supervisor_lost(supervisor, "the keeper sent something that is no JSON");
	else if (strcmp(event, "state") == 0)
		handle_state(supervisor, json_object_get(json, "unit"));
	else if (strcmp(event, "unloaded") == 0)
		handle_unloaded(supervisor, text_of(json, "name"));
	else if (strcmp(event, "ready") == 0)
		handle_ready(supervisor);
	else if (json_object_get(json, "protocol"))
		handle_greeting(supervisor, json);
	else
		handle_answer(supervisor, json);
	json_decref(json);
}

static void allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
	struct supervisor *supervisor = handle->data;
	size_t size = MIN(suggested, (size_t)65536);
	char *at = supervisor ? buf_reserve(&supervisor->in, size) : NULL;

	*ret = uv_buf_init(at, at ? (unsigned)size : 0);
}

static void received(uv_stream_t *stream, ssize_t len, const uv_buf_t *unused)
{
	struct supervisor *supervisor = stream->data;
	const char *newline;

	(void)unused;
	if (!supervisor)
		return; /* let go of */
	if (len < 0) {
		supervisor_lost(supervisor,
			len == UV_EOF ? "the keeper closed the connection" : uv_strerror((int)len));
		return;
	}
	buf_commit(&supervisor->in, (size_t)len);
	/* A callback may close the manager or lose the connection: then this pipe is no longer its pipe. */
	while (supervisor->pipe == (uv_pipe_t *)stream && supervisor->in.len &&
		(newline = memchr(supervisor->in.data, '\n', supervisor->in.len))) {
		size_t line_len = (size_t)(newline - supervisor->in.data);
		_cleanup_free_ char *line = mem_strndup(supervisor->in.data, line_len);

		buf_consume(&supervisor->in, line_len + 1);
		handle_line(supervisor, slice_make(line, line_len));
	}
}

static void pipe_closed(uv_handle_t *handle)
{
	free(handle);
}

static void drop_pipe(struct supervisor *supervisor)
{
	uv_pipe_t *pipe = take_ptr(supervisor->pipe);

	if (!pipe)
		return;
	pipe->data = NULL;
	uv_close((uv_handle_t *)pipe, pipe_closed);
	buf_clear(&supervisor->in);
}

static void retry_fired(uv_timer_t *timer)
{
	connect_now(timer->data);
}

static void retry_later(struct supervisor *supervisor)
{
	(void)uv_timer_start(&supervisor->retry, retry_fired, supervisor->retry_ms, 0);
	supervisor->retry_ms = MIN(supervisor->retry_ms * 2, (uint64_t)RETRY_MAX_MS);
}

static void supervisor_lost(struct supervisor *supervisor, const char *why)
{
	bool was_up = supervisor->link == LINK_READY || supervisor->link == LINK_GREETING;

	drop_pipe(supervisor);
	supervisor->link = LINK_IDLE;
	list_for_each (it, &supervisor->requests)
		list_item(it, struct request, entry)->sent = false;
	retry_later(supervisor);
	if (was_up && supervisor->config.events.lost)
		supervisor->config.events.lost(supervisor->config.userdata, why);
}

static void handle_closed(uv_handle_t *handle);

static void starter_exited(uv_process_t *process, int64_t status, int signal_number)
{
	struct supervisor *supervisor = process->data;

	(void)status;
	(void)signal_number;
	supervisor->starter_running = false;
	supervisor->open_handles++;
	uv_close((uv_handle_t *)process, handle_closed);
	if (supervisor->link == LINK_IDLE)
		(void)uv_timer_start(&supervisor->retry, retry_fired, status == 0 ? 0 : RETRY_MAX_MS, 0);
}

/* The keeper puts itself into the background once it listens; the starter's end is the sign to connect. */
static void start_keeper(struct supervisor *supervisor)
{
	char *arguments[] = {"flotilla", "keeper", "--socket", supervisor->socket_path, "--dir",
		supervisor->state_dir, "--background", NULL};
	uv_stdio_container_t files[3] = {{.flags = UV_IGNORE}, {.flags = UV_IGNORE},
		{.flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO}};
	uv_process_options_t options = {
		.exit_cb = starter_exited,
		.file = supervisor->program,
		.args = arguments,
		.flags = UV_PROCESS_DETACHED,
		.stdio_count = 3,
		.stdio = files,
	};
	int r;

	if (supervisor->starter_running)
		return;
	supervisor->starter.data = supervisor;
	r = uv_spawn(supervisor->config.loop, &supervisor->starter, &options);
	supervisor->starter_running = r == 0;
	if (r < 0) {
		supervisor->open_handles++;
		uv_close((uv_handle_t *)&supervisor->starter, handle_closed);
		if (supervisor->config.events.lost) {
			_cleanup_free_ char *why = mem_printf(
				"cannot start the keeper (%s): %s", supervisor->program, uv_strerror(r));

			supervisor->config.events.lost(supervisor->config.userdata, why);
		}
		retry_later(supervisor);
	}
}

static void connect_done(uv_connect_t *connect, int status)
{
	static const char hello[] = "{\"id\":0,\"op\":\"hello\"}\n";
	struct supervisor *supervisor = connect->handle->data;

	free(connect);
	if (!supervisor)
		return;
	if (status < 0) {
		drop_pipe(supervisor);
		supervisor->link = LINK_IDLE;
		if (status == UV_ENOENT || status == UV_ECONNREFUSED)
			start_keeper(supervisor);
		else
			retry_later(supervisor);
		return;
	}
	supervisor->link = LINK_GREETING;
	(void)uv_read_start((uv_stream_t *)supervisor->pipe, allocate, received);
	(void)send_line(supervisor, hello, sizeof(hello) - 1);
}

static void connect_now(struct supervisor *supervisor)
{
	uv_connect_t *connect;

	if (supervisor->link != LINK_IDLE || supervisor->starter_running ||
		uv_is_closing((uv_handle_t *)&supervisor->starter))
		return;
	supervisor->pipe = mem_new(uv_pipe_t);
	(void)uv_pipe_init(supervisor->config.loop, supervisor->pipe, 0);
	supervisor->pipe->data = supervisor;
	supervisor->link = LINK_CONNECTING;
	connect = mem_new(uv_connect_t);
	uv_pipe_connect(connect, supervisor->pipe, supervisor->socket_path, connect_done);
}

static void supervisor_free(struct supervisor *supervisor)
{
	size_t position = 0;
	struct slice key;
	void *value;

	while (map_next(&supervisor->units, &position, &key, &value))
		mirror_free(value);
	map_done(&supervisor->units);
	buf_done(&supervisor->in);
	free(supervisor->state_dir);
	free(supervisor->socket_path);
	free(supervisor->program);
	if (supervisor->closed)
		supervisor->closed(supervisor->closed_userdata);
	free(supervisor);
}

static void handle_closed(uv_handle_t *handle)
{
	struct supervisor *supervisor = handle->data;

	supervisor->open_handles--;
	if (handle == (uv_handle_t *)&supervisor->starter)
		memset(&supervisor->starter, 0,
			sizeof(supervisor->starter)); /* no longer closing: may start again */
	if (supervisor->link == LINK_CLOSED && !supervisor->open_handles && !supervisor->starter_running)
		supervisor_free(supervisor);
	else if (supervisor->link == LINK_IDLE && handle == (uv_handle_t *)&supervisor->starter &&
		 !uv_is_active((uv_handle_t *)&supervisor->retry))
		retry_later(supervisor);
}

static void supervisor_close(struct manager *manager, void (*closed)(void *userdata), void *userdata)
{
	struct supervisor *supervisor = container_of(manager, struct supervisor, manager);

	drop_pipe(supervisor);
	supervisor->link = LINK_CLOSED;
	supervisor->closed = closed;
	supervisor->closed_userdata = userdata;
	while (!list_empty(&supervisor->requests))
		request_end(list_first(&supervisor->requests, struct request, entry), -ECANCELED,
			"the manager is closed");
	/* A starter that still runs ends by itself within moments, and its end frees the rest. */
	supervisor->open_handles++;
	uv_close((uv_handle_t *)&supervisor->retry, handle_closed);
}

static const struct manager_operations supervisor_operations = {
	.close = supervisor_close,
	.is_ready = supervisor_is_ready,
	.load = supervisor_load,
	.act = supervisor_act,
	.state = supervisor_state,
	.count = supervisor_count,
	.list = supervisor_list,
	.status = supervisor_status,
	.journal = supervisor_journal,
	.cancel = supervisor_cancel,
};

/* The name of this executable rather than /proc/self/exe, so that the keeper is seen under its own name. */
static char *own_program(void)
{
	char path[4096];
	ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 1);

	path[MAX(len, (ssize_t)0)] = 0;
	return mem_strdup(len > 0 && access(path, X_OK) == 0 ? path : "/proc/self/exe");
}

static int make_directories(const char *path)
{
	_cleanup_free_ char *copy = mem_strdup(path);

	for (char *at = copy + 1; *at; at++) {
		if (*at != '/')
			continue;
		*at = 0;
		if (mkdir(copy, 0755) < 0 && errno != EEXIST)
			return -errno;
		*at = '/';
	}
	return mkdir(copy, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

/* A keeper that dies is met while writing to it: that must be an error, not the end of the program. */
static void ignore_sigpipe(void)
{
	struct sigaction now;

	if (sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
		(void)signal(SIGPIPE, SIG_IGN);
}

int supervisor_new(const struct manager_config *config, struct manager **ret, struct buf *reterr)
{
	struct supervisor *supervisor;
	int r;

	if (!config->state_dir || config->state_dir[0] != '/') {
		buf_add_str(reterr, "the supervisor's state directory must be an absolute path");
		return -EINVAL;
	}
	r = make_directories(config->state_dir);
	if (r < 0) {
		buf_printf(reterr, "cannot make the directory %s: %s", config->state_dir, strerror(-r));
		return r;
	}
	ignore_sigpipe();
	supervisor = mem_new(struct supervisor);
	supervisor->manager.operations = &supervisor_operations;
	supervisor->config = *config;
	supervisor->state_dir = mem_strdup(config->state_dir);
	supervisor->socket_path = config->socket_path ? mem_strdup(config->socket_path)
						      : mem_printf("%s/keeper.sock", config->state_dir);
	supervisor->program = config->program ? mem_strdup(config->program) : own_program();
	supervisor->in = BUF_INIT(KEEPER_LINE_MAX * 2);
	supervisor->retry_ms = RETRY_MIN_MS;
	list_init(&supervisor->requests);
	map_init(&supervisor->units, 0);
	(void)uv_timer_init(config->loop, &supervisor->retry);
	supervisor->retry.data = supervisor;
	if (strlen(supervisor->socket_path) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
		buf_printf(reterr, "the keeper's socket path is longer than 107 bytes: %s",
			supervisor->socket_path);
		supervisor->link = LINK_CLOSED;
		supervisor->open_handles = 1;
		uv_close((uv_handle_t *)&supervisor->retry, handle_closed);
		return -ENAMETOOLONG;
	}
	(void)uv_timer_start(&supervisor->retry, retry_fired, 0, 0);
	*ret = &supervisor->manager;
	return 0;
}
