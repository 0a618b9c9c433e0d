/* Flotilla's own routes: why a unit is not placed, and status and journal of units from the machine that runs
 * them. What another machine runs is asked from its peer address and passed through as it comes. A machine
 * may publish several, best first: each is asked when those before it cannot be had. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/time.h"
#include "base/when.h"
#include "fleet/api_internal.h"
#include "io/url.h"

/* How long a connection may take, and then the answer: a fleetd that hangs does not refuse connections. Of an
 * address that is not the last one, and of that; together less than fleetctl's ten seconds. */
#define API_PEER_TRY_CONNECT_MS 1500
#define API_PEER_TRY_ANSWER_MS 2000
#define API_PEER_CONNECT_MS 2000
#define API_PEER_ANSWER_MS 4000
#define API_LINES_DEFAULT 10

/* The fleetd of another machine, and what it is asked. */
struct api_peer {
	struct http_client *client;
	char *addresses;       /* as the registry has them: "10.0.0.1:49153,https://…" */
	struct slice at, left; /* the one that is asked; those that can be asked still */
	char *target;	       /* path and query */
	char *authorization;
	bool followed;
	struct buf failures; /* "at 10.0.0.1:49153: why, at …" */
};

/* One answer that comes in pieces, from the manager or from a peer. */
struct api_stream {
	struct list link;
	struct http_request *req;
	struct manager_stream *journal; /* NULL: no longer, or a status */
	struct http_call *call;		/* to the peer */
	struct api_peer *peer;		/* NULL: this machine */
	bool begun, follows;
	struct manager *manager;
	char *name;
	bool status_text; /* of this machine: collected, answered with an exit status */
	struct buf text;
};

static const struct http_header text_headers[] = {
	{SLICE_LITERAL("Content-Type"), SLICE_LITERAL("text/plain; charset=utf-8")},
	{SLICE_LITERAL("Server"), SLICE_LITERAL("fleetd/" FLEET_VERSION)},
};

static struct api_stream *stream_new_for(struct api *api, struct http_request *req);

static struct api_peer *peer_free(struct api_peer *peer)
{
	if (!peer)
		return NULL;
	free(peer->addresses);
	free(peer->target);
	free(peer->authorization);
	buf_done(&peer->failures);
	free(peer);
	return NULL;
}

static void stream_free(struct api_stream *stream)
{
	list_remove(&stream->link);
	stream->req->on_cancel = NULL;
	stream->req->user = NULL;
	http_request_unref(stream->req);
	buf_done(&stream->text);
	stream->peer = peer_free(stream->peer);
	free(stream->name);
	free(stream);
}

static void stream_cancelled(struct http_request *req)
{
	struct api_stream *stream = req->user;

	if (!stream)
		return;
	if (stream->journal)
		manager_stream_cancel(stream->journal);
	if (stream->call)
		http_call_cancel(stream->call);
	/* A status is answered in one piece and cannot be cancelled: its callback finds the request closed.
	 */
	if (stream->status_text)
		return;
	stream_free(stream);
}

static struct api_stream *stream_new_for(struct api *api, struct http_request *req)
{
	struct api_stream *stream = mem_new(struct api_stream);

	stream->req = http_request_ref(req);
	stream->text = BUF_INIT(API_BODY_MAX);
	stream->manager = api->config.manager;
	req->user = stream;
	req->on_cancel = stream_cancelled;
	req->cancel_on_eof = true;
	list_push_back(&api->streams, &stream->link);
	return stream;
}

void api_streams_free(struct api *api)
{
	list_for_each_safe (it, &api->streams) {
		struct api_stream *stream = list_item(it, struct api_stream, link);

		if (stream->journal)
			manager_stream_cancel(stream->journal);
		if (stream->call)
			http_call_cancel(stream->call);
		stream_free(stream);
	}
}

/* ---- this machine's units ---- */

static int error_status(int result)
{
	return result == -ENOENT ? 404 : result == -ENOTSUP || result == -EINVAL ? 400 : 500;
}

static void status_text(void *userdata, int result, const char *message, struct slice text, bool last)
{
	struct api_stream *stream = userdata;
	struct manager_unit_state state;
	bool known;
	char exit_text[16];
	struct http_header headers[6] = {text_headers[0], text_headers[1]};
	size_t count = ARRAY_LEN(text_headers);

	buf_add_slice(&stream->text, text);
	if (!last)
		return;
	known = manager_state(stream->manager, stream->name, &state);
	snprintf(exit_text, sizeof(exit_text), "%d", manager_status_exit(known ? &state : NULL));
	headers[count++] = HTTP_HEADER("X-Exit-Status", exit_text);
	if (known)
		headers[count++] = HTTP_HEADER("X-Active-State", state.active);
	if (known && state.start_error[0])
		headers[count++] = HTTP_HEADER("X-Start-Error", state.start_error);
	if (known && state.job[0])
		headers[count++] = HTTP_HEADER("X-Job", state.job);
	if (result < 0) {
		api_reply_error(stream->req, error_status(result), message);
	} else {
		http_reply(stream->req, 200, headers, count, buf_slice(&stream->text));
	}
	stream_free(stream);
}

static void journal_text(void *userdata, int result, const char *message, struct slice text, bool last)
{
	struct api_stream *stream = userdata;

	if (last)
		stream->journal = NULL;
	if (result < 0 && !stream->begun) {
		api_reply_error(stream->req, error_status(result), message);
		stream_free(stream);
		return;
	}
	if (!stream->begun)
		http_reply_begin(stream->req, 200, text_headers, ARRAY_LEN(text_headers));
	stream->begun = true;
	if (http_reply_piece(stream->req, text) < 0) {
		/* Reads too slowly, or is gone: on_cancel may follow or not, so end it here. */
		struct http_request *req = http_request_ref(stream->req);

		if (stream->journal)
			manager_stream_cancel(stream->journal);
		stream_free(stream);
		http_request_abort(req);
		http_request_unref(req);
		return;
	}
	if (!last)
		return;
	http_reply_end(stream->req);
	stream_free(stream);
}

static void local_status(struct api *api, struct http_request *req, const char *name)
{
	struct api_stream *stream = stream_new_for(api, req);

	stream->name = mem_strdup(name);
	stream->status_text = true;
	manager_status(api->config.manager, name, status_text, stream);
}

/* A time of the query; absent or empty: none. False: answered with what is wrong. */
static bool read_time(struct http_request *req, const struct url_form *form, const char *key, int64_t *ret_us)
{
	const struct slice *text = url_form_get(form, key);
	_cleanup_buf_ struct buf error = BUF_INIT(4096);

	if (!text || !text->len || when_parse(*text, time_wall_ns() / 1000, ret_us, &error) >= 0) {
		/* 0 is no time: what is asked for from 1970 on is all there is. */
		*ret_us = MAX(*ret_us, (int64_t)(text && text->len));
		return true;
	}
	api_reply_error(req, 400, arena_printf(&req->arena, "%s: %s", key, buf_text(&error)));
	return false;
}

static void local_journal(struct api *api, struct http_request *req, const char *name)
{
	struct url_form form = {0};
	const struct slice *lines, *follow, *output;
	struct manager_journal_options options = {0};
	struct api_stream *stream;
	int64_t count;

	(void)!url_form_parse(&req->arena, &form, req->query, NULL);
	lines = url_form_get(&form, "lines");
	follow = url_form_get(&form, "follow");
	output = url_form_get(&form, "output");
	if (!read_time(req, &form, "since", &options.since_us) ||
		!read_time(req, &form, "until", &options.until_us))
		return;
	count = options.since_us ? -1 : API_LINES_DEFAULT;
	if ((lines && text_to_i64(*lines, &count) < 0) ||
		(follow && text_to_bool(*follow, &options.follow) < 0)) {
		api_reply_error(req, 400, "lines must be a number and follow true or false");
		return;
	}
	options.lines = (long)MAX(count, (int64_t)-1);
	if (output)
		options.output = arena_strndup(&req->arena, output->data, output->len);
	stream = stream_new_for(api, req);
	stream->journal = manager_journal(api->config.manager, name, &options, journal_text, stream);
}

/* ---- other machines' units ---- */

static void ask_next(struct api_stream *stream);

/* At this address there is no answer to pass on: at the next one, perhaps. */
static void peer_failed(struct api_stream *stream, const char *why)
{
	struct api_peer *peer = stream->peer;

	buf_printf(&peer->failures, "%sat %.*s: %s", peer->failures.len ? ", " : "", (int)peer->at.len,
		peer->at.data, why);
	if (peer->left.len) {
		ask_next(stream);
		return;
	}
	api_reply_error(stream->req, 502,
		arena_printf(&stream->req->arena, "cannot reach the fleetd of that machine %s",
			buf_text(&peer->failures)));
	stream_free(stream);
}

/* An address may be somebody else's in the network that this machine is in: why it is not the one meant, or
 * NULL. */
static const char *somebody_else(const struct http_response *response)
{
	const struct slice *server = http_response_header(response, "Server");

	if (!server || !slice_starts_with(*server, SLICE_LITERAL("fleetd/")))
		return "who answers is no fleetd";
	return response->status == 401 ? "it is another machine's" : NULL;
}

static void peer_head(struct http_call *call, const struct http_response *response, void *user)
{
	struct api_stream *stream = user;
	const char *wrong = somebody_else(response);
	const struct slice *type = http_response_header(response, "Content-Type");
	static const char *const passed_on[] = {"X-Exit-Status", "X-Active-State", "X-Start-Error", "X-Job"};
	struct http_header headers[2 + ARRAY_LEN(passed_on)] = {
		{SLICE_LITERAL("Content-Type"), type ? *type : text_headers[0].value}, text_headers[1]};
	size_t count = 2;

	if (wrong) {
		http_call_cancel(call);
		stream->call = NULL;
		peer_failed(stream, wrong);
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(passed_on); i++) {
		const struct slice *value = http_response_header(response, passed_on[i]);

		if (value)
			headers[count++] = (struct http_header){slice_str(passed_on[i]), *value};
	}
	http_reply_begin(stream->req, response->status, headers, count);
	stream->begun = true;
}

static void peer_body(struct http_call *call, struct slice piece, void *user)
{
	struct api_stream *stream = user;
	struct http_request *req;

	if (http_reply_piece(stream->req, piece) >= 0)
		return;
	req = http_request_ref(stream->req);
	http_call_cancel(call);
	stream_free(stream);
	http_request_abort(req);
	http_request_unref(req);
}

static void peer_done(
	struct http_call *call, int error, const char *text, const struct http_response *response, void *user)
{
	struct api_stream *stream = user;
	struct http_request *req;

	(void)call;
	(void)response;
	stream->call = NULL;
	if (!stream->begun) {
		peer_failed(stream, text);
		return;
	}
	req = http_request_ref(stream->req);
	if (error >= 0)
		http_reply_end(req);
	stream_free(stream);
	if (error < 0)
		http_request_abort(req);
	http_request_unref(req);
}

/* A journal that is followed may have nothing to say for long. */
static bool is_followed(struct http_request *req)
{
	struct url_form form = {0};
	const struct slice *follow;
	bool followed = false;

	(void)!url_form_parse(&req->arena, &form, req->query, NULL);
	follow = url_form_get(&form, "follow");
	return follow && text_to_bool(*follow, &followed) >= 0 && followed;
}

static void ask_next(struct api_stream *stream)
{
	struct api_peer *peer = stream->peer;
	_cleanup_buf_ struct buf url = BUF_INIT(64 * 1024);
	struct http_header header = HTTP_HEADER("Authorization", peer->authorization);
	struct http_call_options options = {.on_head = peer_head,
		.on_body = peer_body,
		.on_done = peer_done,
		.no_reuse = true,
		.headers = &header,
		.header_count = 1,
		.user = stream};

	(void)text_cut(peer->left, ',', &peer->at, &peer->left);
	options.connect_timeout_ms = peer->left.len ? API_PEER_TRY_CONNECT_MS : API_PEER_CONNECT_MS;
	/* A journal that is followed may have nothing to say yet; then the last address is waited at. */
	options.header_timeout_ms = peer->left.len   ? API_PEER_TRY_ANSWER_MS
				    : peer->followed ? 0
						     : API_PEER_ANSWER_MS;
	if (!slice_starts_with(peer->at, SLICE_LITERAL("https://")))
		buf_add_str(&url, "http://");
	buf_add_slice(&url, peer->at);
	buf_add_str(&url, peer->target);
	options.url = buf_text(&url);
	stream->call = http_client_send(peer->client, &options);
}

static void ask_peer(struct api *api, struct http_request *req, const struct registry_machine *machine,
	const char *name, const char *what)
{
	struct api_stream *stream = stream_new_for(api, req);
	struct api_peer *peer = mem_new(struct api_peer);
	struct buf target = BUF_INIT(64 * 1024);

	buf_add_str(&target, "/flotilla/v1/local/");
	url_escape(&target, slice_str(name), URL_PART_SEGMENT);
	buf_printf(&target, "/%s", what);
	if (req->query.len) {
		buf_add_char(&target, '?');
		buf_add_slice(&target, req->query);
	}
	*peer = (struct api_peer){.client = api->peers,
		.addresses = mem_strdup(machine->peer_api),
		.target = buf_take(&target, NULL),
		.authorization = mem_printf("Bearer %s", machine->peer_token),
		.followed = is_followed(req),
		.failures = BUF_INIT(64 * 1024)};
	peer->left = slice_str(peer->addresses);
	stream->peer = peer;
	ask_next(stream);
}

/* ---- which machine ---- */

/* The machine to ask about a unit: the one named, else its target, else (global) the only one that it runs
 * on. */
static const char *machine_of(struct http_request *req, const struct cluster_unit *unit)
{
	struct url_form form = {0};
	const struct slice *machine;

	(void)!url_form_parse(&req->arena, &form, req->query, NULL);
	machine = url_form_get(&form, "machine");
	if (machine)
		return arena_strndup(&req->arena, machine->data, machine->len);
	if (unit->target)
		return unit->target;
	return unit->state_count == 1 ? unit->states[0].state.machine : NULL;
}

static void unit_runtime(struct api *api, struct http_request *req, const char *name, const char *what)
{
	const struct cluster_unit *unit = cluster_entry(api->config.cluster, name);
	const struct cluster_machine *machine;
	const char *id;

	if (!unit || (!unit->planned && !unit->state_count)) {
		api_reply_error(req, 404, arena_printf(&req->arena, "unit %s does not exist", name));
		return;
	}
	id = machine_of(req, unit);
	if (!id) {
		api_reply_error(req, 409,
			arena_printf(&req->arena,
				unit->state_count ? "unit %s runs on several machines: say which one"
						  : "unit %s is on no machine",
				name));
		return;
	}
	if (strcmp(id, api->config.machine_id) == 0) {
		if (strcmp(what, "status") == 0)
			local_status(api, req, name);
		else
			local_journal(api, req, name);
		return;
	}
	machine = cluster_machine(api->config.cluster, id);
	if (!machine) {
		api_reply_error(req, 502, arena_printf(&req->arena, "machine %s is not present", id));
	} else if (!machine->object.peer_api || !machine->object.peer_api[0]) {
		/* fleet 1.0, or no peer address: the client goes there by ssh. */
		api_reply_error(req, 501, arena_printf(&req->arena, "machine %s answers no peers", id));
	} else {
		ask_peer(api, req, &machine->object, name, what);
	}
}

/* ---- why not placed ---- */

static void explain(struct api *api, struct http_request *req, const char *name)
{
	const struct cluster_unit *unit = cluster_unit(api->config.cluster, name);
	const struct scheduler_refusal *refusals;
	const char *leader = api->config.leader(api->config.userdata);
	_cleanup_buf_ struct buf out = BUF_INIT(API_BODY_MAX);
	size_t count;

	if (!unit || scheduler_explain(cluster_scheduler(api->config.cluster), name, &refusals, &count) < 0) {
		api_reply_error(req, 404, "unit does not exist");
		return;
	}
	buf_add_str(&out, "{\"name\":");
	json_add_string(&out, slice_str(name));
	buf_printf(&out,
		",\"desiredState\":\"%s\",\"global\":%s,\"target\":", registry_state_name(unit->desired),
		unit->global ? "true" : "false");
	json_add_string(&out, slice_str(unit->target ? unit->target : ""));
	buf_add_str(&out, ",\"leader\":");
	json_add_string(&out, slice_str(leader ? leader : ""));
	buf_printf(&out, ",\"machines\":%zu,\"refusals\":[",
		scheduler_machine_count(cluster_scheduler(api->config.cluster)));
	for (size_t i = 0; i < count; i++) {
		const struct cluster_machine *machine =
			cluster_machine(api->config.cluster, refusals[i].machine);

		buf_add_str(&out, i ? ",{\"machine\":" : "{\"machine\":");
		json_add_string(&out, slice_str(refusals[i].machine));
		buf_add_str(&out, ",\"ip\":");
		json_add_string(&out, slice_str(machine ? machine->object.public_ip : ""));
		buf_printf(&out, ",\"rule\":\"%s\",\"detail\":", scheduler_rule_name(refusals[i].rule));
		json_add_string(&out, slice_str(refusals[i].detail));
		buf_add_char(&out, '}');
	}
	buf_add_str(&out, "]}");
	api_reply_json(req, 200, &out);
}

/* "/units/NAME/WHAT" or "/local/NAME/WHAT". */
void api_runtime(struct api *api, struct http_request *req, struct slice rest, bool for_peers)
{
	struct slice kind, name, what;
	_cleanup_buf_ struct buf decoded = BUF_INIT(64 * 1024);
	const char *text;
	bool local;

	if (!rest.len || !text_cut(slice_make(rest.data + 1, rest.len - 1), '/', &kind, &name) ||
		!text_cut(name, '/', &name, &what) ||
		url_unescape(&decoded, name, URL_PART_SEGMENT, NULL) < 0) {
		api_reply_error(req, 404, "");
		return;
	}
	if (!slice_is(req->method, "GET")) {
		api_reply_error(req, 405, "only GET supported against this resource");
		return;
	}
	text = arena_strndup(&req->arena, buf_text(&decoded), decoded.len);
	local = slice_is(kind, "local");
	if (local && !api->config.manager) {
		api_reply_error(req, 404, "no units run here");
		return;
	}
	if (local && slice_is(what, "status"))
		local_status(api, req, text);
	else if (local && slice_is(what, "journal"))
		local_journal(api, req, text);
	else if (for_peers || !slice_is(kind, "units"))
		api_reply_error(req, 404, "");
	else if (slice_is(what, "status"))
		unit_runtime(api, req, text, "status");
	else if (slice_is(what, "journal"))
		unit_runtime(api, req, text, "journal");
	else if (slice_is(what, "explain"))
		explain(api, req, text);
	else
		api_reply_error(req, 404, "");
}
