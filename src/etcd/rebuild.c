/* In this order: the others are asked, the new id is learned, the log goes aside, the identity is replaced.
 * Until the last of these is durable the directory belongs to the old member, with a log that is damaged or
 * missing, and does not start without --rebuild. */
#include "etcd/rebuild.h"
#include "etcd/join.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/time.h"
#include "io/file.h"
#include "io/http_client.h"
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { TIMEOUT_MS = 10000, ANSWER_BYTES_MAX = 4 << 20 };

struct asking {
	const struct config *config;
	const struct datadir *datadir;
	struct http_client *client;
	struct buf *why; /* what each of them answered */
	bool asked;
};

static void add_why(struct asking *asking, const char *url, const char *text)
{
	buf_printf(asking->why, "%s%s: %s", asking->why->len ? "; " : "", url, text);
}

/* The status of a member's answer, with what it says in `out`; 0: there is none, which is told. */
static int ask_member(struct asking *asking, const char *client_url, const char *method, const char *target,
	struct slice body, struct buf *out)
{
	struct http_header headers[] = {HTTP_HEADER("Content-Type", "application/json")};
	struct http_call_options options = {.method = method,
		.url = client_url,
		.target = target,
		.headers = headers,
		.header_count = body.len ? ARRAY_LEN(headers) : 0,
		.body = body,
		.connect_timeout_ms = TIMEOUT_MS,
		.total_timeout_ms = TIMEOUT_MS,
		.max_body_bytes = ANSWER_BYTES_MAX,
		.no_reuse = true};
	struct http_result result;
	int status = 0;

	buf_clear(out);
	if (http_client_fetch(asking->client, &options, &result) < 0) {
		add_why(asking, client_url, result.text);
	} else {
		status = result.response.status;
		buf_add_slice(out, result.response.body);
	}
	http_result_done(&result);
	return status;
}

static int replace(struct asking *asking, const char *client_url, uint64_t id, struct buf *out)
{
	_cleanup_free_ char *target = mem_printf("/flotilla/members/%llx/replace", (unsigned long long)id);
	_cleanup_buf_ struct buf body = BUF_INIT(0);

	buf_add_str(&body, "{\"peerURLs\":[");
	for (char *const *url = asking->config->advertise_peer_urls; *url; url++) {
		if (url != asking->config->advertise_peer_urls)
			buf_add_char(&body, ',');
		json_add_string(&body, slice_str(*url));
	}
	buf_add_str(&body, "]}");
	return ask_member(asking, client_url, "POST", target, buf_slice(&body), out);
}

static bool read_id(const json_t *member, const char *key, uint64_t *ret_id)
{
	const char *text = json_string_value(json_object_get(member, key));

	return text && text_hex_to_u64(slice_str(text), ret_id) == 0 && *ret_id;
}

/* Whose place this member is to take, having no vote yet. 0: it is not so, or is not known. */
static uint64_t predecessor(struct asking *asking, const char *client_url)
{
	_cleanup_buf_ struct buf body = BUF_INIT(0);
	uint64_t id, found = 0;
	const json_t *member;
	json_t *root;
	size_t i;

	if (ask_member(asking, client_url, "GET", "/flotilla/members", slice_make("", 0), &body) != 200)
		return 0;
	root = json_loadb(buf_text(&body), body.len, 0, NULL);
	json_array_foreach(json_object_get(root, "members"), i, member)
	{
		if (read_id(member, "id", &id) && id == asking->datadir->member_id &&
			json_is_false(json_object_get(member, "votes")))
			(void)read_id(member, "replaces", &found);
	}
	json_decref(root);
	return found;
}

/* DIR/flotilla/taken-back, "MEMBER PREDECESSOR": this member is taken back, so that the others will not know
 * any more whose place it was to take. It counts only as long as the directory is that member's. */
static char *note_path(const struct config *config)
{
	return mem_printf("%s/flotilla/taken-back", config->data_dir);
}

static uint64_t noted_predecessor(const struct asking *asking)
{
	_cleanup_free_ char *path = note_path(asking->config);
	_cleanup_buf_ struct buf text = BUF_INIT(64);
	struct slice member, other;
	uint64_t id, found;

	if (file_read(path, 64, &text) < 0 || !text_cut(buf_slice(&text), ' ', &member, &other) ||
		text_hex_to_u64(member, &id) < 0 || id != asking->datadir->member_id ||
		text_hex_to_u64(text_trim(other), &found) < 0)
		return 0;
	return found;
}

/* This member was itself about to take another's place. It promised nothing without a vote, but the leader
 * counts on what it had of the log: it is removed, and another one takes the place. */
static bool take_back(struct asking *asking, const char *client_url, uint64_t other)
{
	unsigned long long own = (unsigned long long)asking->datadir->member_id;
	_cleanup_free_ char *path = note_path(asking->config), *target = mem_printf("/v2/members/%llx", own);
	_cleanup_free_ char *note = mem_printf("%llx %llx\n", own, (unsigned long long)other);
	_cleanup_buf_ struct buf out = BUF_INIT(0);
	int r = file_write_atomic(path, slice_str(note), NULL), status;

	if (r < 0) {
		add_why(asking, path, strerror(-r));
		return false;
	}
	status = ask_member(asking, client_url, "DELETE", target, slice_make("", 0), &out);
	if (status && status != 204 && status != 410)
		add_why(asking, client_url, "it does not take this member back");
	return status == 204 || status == 410;
}

/* Asks one member to have this one replaced. True: it is, or is about to be. */
static bool ask_for_replacement(struct asking *asking, const char *client_url)
{
	_cleanup_buf_ struct buf out = BUF_INIT(0);
	_cleanup_free_ char *text = NULL;
	uint64_t other = 0;
	int status = replace(asking, client_url, asking->datadir->member_id, &out);

	if (status == 409)
		other = predecessor(asking, client_url);
	if (other && !take_back(asking, client_url, other))
		return false;
	if (status == 410)
		other = noted_predecessor(asking);
	if (other)
		status = replace(asking, client_url, other, &out);
	if (status == 201 || status == 409)
		return true; /* 409: an earlier attempt, or who joins will say what is wrong */
	if (status) {
		text = mem_printf("status %d %.*s", status, (int)MIN(out.len, (size_t)200), buf_text(&out));
		add_why(asking, client_url, text);
	}
	return false;
}

/* The client URLs of all members, as one of them knows them, are tried in turn; nobody answers at this one's.
 */
static bool ask_clients_of(struct asking *asking, const char *peer_url, const json_t *members)
{
	const json_t *member, *url;
	size_t i, k;

	json_array_foreach(members, i, member)
	{
		json_array_foreach(json_object_get(member, "clientURLs"), k, url)
		{
			if (json_is_string(url) && ask_for_replacement(asking, json_string_value(url)))
				return true;
		}
	}
	if (!json_is_array(members))
		add_why(asking, peer_url, "no list of members");
	return false;
}

static bool ask_peer(struct asking *asking, const char *peer_url)
{
	struct http_call_options options = {.url = peer_url,
		.target = "/members",
		.connect_timeout_ms = TIMEOUT_MS,
		.total_timeout_ms = TIMEOUT_MS,
		.max_body_bytes = ANSWER_BYTES_MAX,
		.no_reuse = true};
	struct http_result result;
	const struct slice *cluster_id;
	uint64_t id = 0;
	bool done = false;

	asking->asked = true;
	if (http_client_fetch(asking->client, &options, &result) < 0) {
		add_why(asking, peer_url, result.text);
		http_result_done(&result);
		return false;
	}
	cluster_id = http_response_header(&result.response, "X-Etcd-Cluster-Id");
	if (result.response.status != 200 || !cluster_id || text_hex_to_u64(*cluster_id, &id) < 0 ||
		id != asking->datadir->cluster_id) {
		add_why(asking, peer_url, "it is no member of this member's cluster");
	} else {
		json_t *root = json_loadb(result.response.body.data, result.response.body.len,
			JSON_DECODE_INT_AS_REAL /* ids do not fit */, NULL);

		done = ask_clients_of(asking, peer_url, root);
		json_decref(root);
	}
	http_result_done(&result);
	return done;
}

static bool ask_all(struct asking *asking)
{
	const struct config *config = asking->config;

	for (size_t i = 0; i < config->cluster.count; i++) {
		const struct identity_member *member = &config->cluster.members[i];

		if (strcmp(member->name, config->name) == 0)
			continue;
		for (char *const *url = member->urls; *url; url++)
			if (ask_peer(asking, *url))
				return true;
	}
	return false;
}

static int be_replaced(const struct config *config, const struct datadir *datadir, struct buf *reterr)
{
	_cleanup_buf_ struct buf why = BUF_INIT(0);
	_cleanup_(http_client_alone_donep) struct http_client *client = NULL;
	struct asking asking = {.config = config, .datadir = datadir, .why = &why};
	int r = http_client_alone(&client, reterr);

	if (r < 0)
		return r;
	asking.client = client;
	if (ask_all(&asking))
		return 0;
	if (!asking.asked)
		buf_add_str(reterr, "--rebuild: --initial-cluster names no other member to rebuild this one "
				    "from; restore a snapshot (etcdctl snapshot restore)");
	else
		buf_printf(reterr,
			"--rebuild: the other members did not agree to it (%s): a quorum of them must be "
			"there; nothing was changed here",
			buf_text(&why));
	return -EHOSTUNREACH;
}

/* The log's directory gets another name, and an empty one takes its place. */
static int move_aside(const struct config *config, const struct datadir *datadir, struct buf *reterr)
{
	_cleanup_free_ char *own = mem_printf("%s/flotilla", config->data_dir), *aside = NULL;
	char stamp[32];
	time_t now = (time_t)(time_wall_ns() / NS_PER_S);
	struct tm when;
	int r = 0;

	(void)gmtime_r(&now, &when);
	(void)strftime(stamp, sizeof(stamp), "%Y%m%d-%H%M%S", &when);
	aside = mem_printf("%s/damaged-%s", own, stamp);
	if (rename(datadir->log_path, aside) < 0)
		r = errno == ENOENT ? 0 : -errno;
	if (r == 0)
		r = file_mkdir_all(datadir->log_path, 0700);
	if (r == 0)
		r = file_sync_dir(own);
	if (r < 0)
		buf_printf(reterr, "cannot move %s to %s: %s", datadir->log_path, aside, strerror(-r));
	else
		log_notice(
			"the damaged files are in %s now: remove them when they are no longer wanted", aside);
	return r;
}

int rebuild_member(const struct config *config, struct datadir *datadir, struct buf *reterr)
{
	_cleanup_free_ char *note = note_path(config);
	struct datadir *next = mem_new(struct datadir);
	int r = 0;

	next->member_id = datadir->member_id; /* not that one */
	if (config->cluster_error) {
		buf_add_str(reterr, config->cluster_error);
		r = -EINVAL;
	}
	/* From now on an empty log directory is one whose log was taken away. */
	if (r == 0 && !datadir->has_log) {
		datadir->has_log = true;
		r = datadir_set_identity(config->data_dir, config->name, datadir, reterr);
	}
	if (r == 0)
		r = be_replaced(config, datadir, reterr);
	if (r == 0)
		r = join_ask(config, next, reterr);
	if (r == 0 && next->cluster_id != datadir->cluster_id) {
		buf_add_str(
			reterr, "--rebuild: the members that --initial-cluster names are of another cluster");
		r = -EXDEV;
	}
	if (r == 0)
		r = move_aside(config, datadir, reterr);
	if (r == 0)
		r = datadir_set_identity(config->data_dir, config->name, next, reterr);
	if (r == 0) {
		log_notice("member %llx is rebuilt from the others as member %llx",
			(unsigned long long)datadir->member_id, (unsigned long long)next->member_id);
		(void)unlink(note);
		datadir_forget_seeds(datadir);
		next->log_path = datadir->log_path;
		next->name = datadir->name;
		next->lock_fd = datadir->lock_fd;
		*datadir = *next;
	} else {
		datadir_forget_seeds(next);
	}
	free(next);
	return r;
}
