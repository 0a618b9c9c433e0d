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

/* Asks one member to have this one replaced. True: it is, or is about to be. */
static bool ask_for_replacement(struct asking *asking, const char *client_url)
{
	_cleanup_free_ char *target =
		mem_printf("/flotilla/members/%llx/replace", (unsigned long long)asking->datadir->member_id);
	_cleanup_buf_ struct buf body = BUF_INIT(0);
	struct http_header headers[] = {HTTP_HEADER("Content-Type", "application/json")};
	struct http_call_options options = {.method = "POST",
		.url = client_url,
		.target = target,
		.headers = headers,
		.header_count = ARRAY_LEN(headers),
		.connect_timeout_ms = TIMEOUT_MS,
		.total_timeout_ms = TIMEOUT_MS,
		.max_body_bytes = ANSWER_BYTES_MAX,
		.no_reuse = true};
	struct http_result result;
	bool done = false;

	buf_add_str(&body, "{\"peerURLs\":[");
	for (char *const *url = asking->config->advertise_peer_urls; *url; url++) {
		if (url != asking->config->advertise_peer_urls)
			buf_add_char(&body, ',');
		json_add_string(&body, slice_str(*url));
	}
	buf_add_str(&body, "]}");
	options.body = buf_slice(&body);
	if (http_client_fetch(asking->client, &options, &result) < 0) {
		add_why(asking, client_url, result.text);
	} else if (result.response.status == 201 || result.response.status == 409) {
		done = true; /* 409: an earlier attempt, or who joins will say what is wrong */
	} else {
		_cleanup_free_ char *text = mem_printf("status %d %.*s", result.response.status,
			(int)MIN(result.response.body.len, (size_t)200),
			result.response.body.data ? result.response.body.data : "");

		add_why(asking, client_url, text);
	}
	http_result_done(&result);
	return done;
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
	struct datadir *next = mem_new(struct datadir);
	int r = 0;

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
