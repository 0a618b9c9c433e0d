/* /v2/members as the original answers it, and what goes beyond it below /flotilla/members: a member replaced
 * in one step, and who votes. Changes are proposed through the node, on whichever member was asked. */
#include "etcd/members_request.h"
#include "etcd/server.h"
#include "base/json.h"
#include "base/text.h"
#include "base/time.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static_assert(IDENTITY_URLS_MAX == NODE_MEMBER_URLS_MAX && IDENTITY_URL_BYTES_MAX == NODE_URL_BYTES_MAX &&
		      IDENTITY_NAME_BYTES_MAX == NODE_NAME_BYTES_MAX,
	"what is taken from users must be what the cluster takes");

static void add_urls(struct buf *out, const char *name, const char *const *urls)
{
	buf_printf(out, ",\"%s\":[", name);
	for (size_t i = 0; urls && urls[i]; i++) {
		if (i)
			buf_add_char(out, ',');
		json_add_string(out, slice_str(urls[i]));
	}
	buf_add_char(out, ']');
}

/* Without the closing brace. */
static void begin_member(struct buf *out, const struct node_member *member)
{
	buf_printf(out, "{\"id\":\"%llx\",\"name\":", (unsigned long long)member->id);
	json_add_string(out, slice_str(member->name));
	add_urls(out, "peerURLs", member->peer_urls);
	add_urls(out, "clientURLs", member->client_urls);
}

static void add_member(struct buf *out, const struct node_member *member)
{
	begin_member(out, member);
	buf_add_char(out, '}');
}

static void reply_with_cluster(struct server *server, struct http_request *req, int status, struct slice body)
{
	struct http_header headers[] = {HTTP_HEADER("X-Etcd-Cluster-Id", server->cluster_id_text),
		HTTP_HEADER("Content-Type", "application/json")};

	http_reply(req, status, headers, status == 204 ? 1 : 2, body);
}

/* ---- Reading ---- */

static void members_list(struct server *server, struct http_request *req)
{
	_cleanup_buf_ struct buf body = BUF_INIT(0);

	buf_add_str(&body, "{\"members\":[");
	for (size_t i = 0; i < node_member_count(server->node); i++) {
		if (i)
			buf_add_char(&body, ',');
		add_member(&body, node_member_at(server->node, i));
	}
	buf_add_str(&body, "]}\n");
	reply_with_cluster(server, req, 200, buf_slice(&body));
}

static void members_leader(struct server *server, struct http_request *req)
{
	_cleanup_buf_ struct buf body = BUF_INIT(0);
	const struct node_member *leader;
	struct node_status status;

	node_get_status(server->node, &status);
	leader = status.leader ? node_member_by_id(server->node, status.leader) : NULL;
	if (!leader) {
		reply_message(server, req, 503, "During election");
		return;
	}
	add_member(&body, leader);
	buf_add_char(&body, '\n');
	reply_with_cluster(server, req, 200, buf_slice(&body));
}

static int text_order(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void members_machines(struct server *server, struct http_request *req, struct slice rest)
{
	struct http_header headers[] = {HTTP_HEADER("Content-Type", "text/plain; charset=utf-8")};
	_cleanup_buf_ struct buf body = BUF_INIT(0);
	const char **urls;
	size_t count = 0, cap = 0;

	(void)rest;
	for (size_t i = 0; i < node_member_count(server->node); i++)
		for (const char *const *url = node_member_at(server->node, i)->client_urls; url && *url;
			url++)
			cap++;
	urls = arena_alloc(&req->arena, (cap + 1) * sizeof(*urls));
	for (size_t i = 0; i < node_member_count(server->node); i++)
		for (const char *const *url = node_member_at(server->node, i)->client_urls; url && *url;
			url++)
			urls[count++] = *url;
	qsort(urls, count, sizeof(*urls), text_order);
	for (size_t i = 0; i < count; i++) {
		buf_add_str(&body, i ? ", " : "");
		buf_add_str(&body, urls[i]);
	}
	http_reply(req, 200, headers, ARRAY_LEN(headers), buf_slice(&body));
}

/* ---- Changing ---- */

struct change_op {
	struct question question;
	struct node_member_change change;
	struct members_request urls;
	const char *id_text; /* as it was given */
};

static void reply_change_error(const struct change_op *op, enum node_error error)
{
	struct server *server = op->question.server;
	struct http_request *req = op->question.req;

	switch (error) {
	case NODE_ERROR_MEMBER_NOT_FOUND:
		reply_message(server, req, 404, arena_printf(&req->arena, "No such member: %s", op->id_text));
		break;
	case NODE_ERROR_MEMBER_REMOVED:
		/* The original tells of it only to who removes again. */
		if (op->change.op == NODE_MEMBER_UPDATE)
			reply_message(server, req, 500, "Internal Server Error");
		else
			reply_message(server, req, 410,
				arena_printf(&req->arena, "Member permanently removed: %s", op->id_text));
		break;
	case NODE_ERROR_MEMBER_EXISTS:
	case NODE_ERROR_PEER_URL_EXISTS:
	case NODE_ERROR_MEMBER_REPLACED:
		reply_message(server, req, 409, node_error_text(error));
		break;
	case NODE_ERROR_TOO_LARGE:
		reply_message(server, req, 413, node_error_text(error));
		break;
	case NODE_ERROR_TOO_MANY:
	case NODE_ERROR_MEMBERS_FULL:
	case NODE_ERROR_MEMBERS_LAST:
		reply_message(server, req, 500, node_error_text(error));
		break;
	default:
		reply_message(server, req, 500, "Internal Server Error");
		break;
	}
}

static void change_answered(struct question *question, const struct node_reply *reply)
{
	const struct change_op *op = container_of(question, struct change_op, question);
	bool adds = op->change.op == NODE_MEMBER_ADD || op->change.op == NODE_MEMBER_REPLACE;
	static const char *const none[] = {NULL};
	_cleanup_buf_ struct buf body = BUF_INIT(0);
	struct node_member added = {
		.id = op->change.id, .name = "", .peer_urls = op->change.peer_urls, .client_urls = none};

	if (reply->error) {
		reply_change_error(op, reply->error);
		return;
	}
	if (adds) {
		add_member(&body, &added);
		buf_add_char(&body, '\n');
	}
	reply_with_cluster(question->server, question->req, adds ? 201 : 204,
		adds ? buf_slice(&body) : slice_make("", 0));
}

static void propose(struct server *server, struct http_request *req, struct node_member_change change,
	const struct members_request *urls, const char *id_text)
{
	struct change_op *op = arena_alloc(&req->arena, sizeof(*op));
	int r;

	*op = (struct change_op){
		.question = {server, req, change_answered}, .change = change, .id_text = id_text};
	if (urls) {
		op->urls = *urls;
		op->change.peer_urls = op->urls.urls;
	}
	question_begin(&op->question);
	r = node_propose_member(server->node, &op->change, &op->question);
	if (r == 0)
		return;
	req->on_cancel = NULL;
	reply_change_error(op, r == -EBUSY ? NODE_ERROR_TOO_MANY : NODE_ERROR_STOPPED);
}

static bool read_urls(struct server *server, struct http_request *req, struct members_request *ret_urls)
{
	const char *message;
	int status = members_request_parse(
		&req->arena, http_request_header(req, "Content-Type"), req->body, ret_urls, &message);

	if (status)
		reply_message(server, req, status, message);
	return !status;
}

/* A new id, as the original makes it. */
static uint64_t new_id(const struct members_request *urls)
{
	char *texts[IDENTITY_URLS_MAX];
	char seconds[24];

	for (size_t i = 0; i < urls->url_count; i++)
		texts[i] = (char *)(uintptr_t)urls->urls[i];
	(void)snprintf(seconds, sizeof(seconds), "%lld", (long long)(time_wall_ns() / NS_PER_S));
	return identity_member_id(texts, urls->url_count, seconds);
}

static bool read_id(struct server *server, struct http_request *req, struct slice text, uint64_t *ret_id)
{
	if (text_hex_to_u64(text, ret_id) == 0)
		return true;
	reply_message(server, req, 404,
		arena_printf(&req->arena, "No such member: %.*s", (int)text.len, text.data));
	return false;
}

/* Whether those that stay, of those that vote, could go on: as the original, who has started is taken to run.
 * (What it asks before a member is added cannot come up here: one that never starts has no vote.) */
static bool may_be_removed(const struct server *server, uint64_t id)
{
	size_t voters = 0, started = 0;

	if (!server->config->strict_changes || !node_member_votes(server->node, id))
		return true;
	for (size_t i = 0; i < node_member_count(server->node); i++) {
		const struct node_member *member = node_member_at(server->node, i);

		if (member->id == id || !node_member_votes(server->node, member->id))
			continue;
		voters++;
		started += *member->name != '\0';
	}
	return started >= voters / 2 + 1;
}

static void members_add(struct server *server, struct http_request *req, struct slice replaces_text)
{
	struct node_member_change change = {.op = NODE_MEMBER_ADD};
	struct members_request urls;

	if (replaces_text.len) {
		change.op = NODE_MEMBER_REPLACE;
		if (!read_id(server, req, replaces_text, &change.replaces))
			return;
	}
	if (!read_urls(server, req, &urls))
		return;
	change.id = new_id(&urls);
	if (replaces_text.len && !change.replaces)
		reply_message(server, req, 404, "No such member: 0");
	else
		propose(server, req, change, &urls,
			arena_strndup(&req->arena, replaces_text.data ? replaces_text.data : "",
				replaces_text.len));
}

static void members_update_or_remove(struct server *server, struct http_request *req, struct slice id_text)
{
	bool update = slice_is(req->method, "PUT");
	const char *shown = arena_strndup(&req->arena, id_text.data, id_text.len);
	struct node_member_change change = {.op = update ? NODE_MEMBER_UPDATE : NODE_MEMBER_REMOVE};
	struct members_request urls;

	if (!read_id(server, req, id_text, &change.id) || (update && !read_urls(server, req, &urls)))
		return;
	if (!change.id)
		reply_message(server, req, 404, arena_printf(&req->arena, "No such member: %s", shown));
	else if (!update && !may_be_removed(server, change.id))
		reply_message(server, req, 500,
			"etcdserver: re-configuration failed due to not enough started members "
			"(--strict-reconfig-check)");
	else
		propose(server, req, change, update ? &urls : NULL, shown);
}

void members_serve(struct server *server, struct http_request *req, struct slice rest)
{
	bool get = slice_is(req->method, "GET");

	if (rest.len && rest.data[0] == '/')
		rest = slice_make(rest.data + 1, rest.len - 1);
	if (slice_is(req->method, "POST"))
		members_add(server, req, slice_make("", 0));
	else if (!get && !rest.len)
		reply_not_allowed(server, req, NULL);
	else if (!get)
		members_update_or_remove(server, req, rest);
	else if (!rest.len)
		members_list(server, req);
	else if (slice_is(rest, "leader"))
		members_leader(server, req);
	else
		reply_message(server, req, 404, "Not found");
}

/* ---- Beyond the original ---- */

static void add_details(const struct node *node, struct buf *out)
{
	struct node_status status;

	node_get_status(node, &status);
	buf_add_str(out, "{\"members\":[");
	for (size_t i = 0; i < node_member_count(node); i++) {
		const struct node_member *member = node_member_at(node, i);

		if (i)
			buf_add_char(out, ',');
		begin_member(out, member);
		buf_printf(out, ",\"votes\":%s,\"isLeader\":%s",
			node_member_votes(node, member->id) ? "true" : "false",
			member->id == status.leader ? "true" : "false");
		if (member->replaces)
			buf_printf(out, ",\"replaces\":\"%llx\"", (unsigned long long)member->replaces);
		buf_add_char(out, '}');
	}
	buf_add_str(out, "]}\n");
}

void members_serve_own(struct server *server, struct http_request *req, struct slice rest)
{
	static const struct slice replace = SLICE_LITERAL("/replace");
	_cleanup_buf_ struct buf body = BUF_INIT(0);

	if (rest.len && rest.data[0] == '/')
		rest = slice_make(rest.data + 1, rest.len - 1);
	if (!rest.len && slice_is(req->method, "GET")) {
		add_details(server->node, &body);
		reply_with_cluster(server, req, 200, buf_slice(&body));
	} else if (rest.len > replace.len && slice_ends_with(rest, replace)) {
		if (slice_is(req->method, "POST"))
			members_add(server, req, slice_make(rest.data, rest.len - replace.len));
		else
			reply_not_allowed(server, req, "POST");
	} else if (!rest.len) {
		reply_not_allowed(server, req, "GET");
	} else {
		reply_message(server, req, 404, "Not found");
	}
}
