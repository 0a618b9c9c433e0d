/* The initial cluster must be the running one: a flag that names other members is a mistake that is better
 * found now than when the cluster has to elect. A member that runs already, by its name in the cluster, may
 * not start again without its data: it would not keep what it promised. */
#include "etcd/join.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/http_client.h"
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { TIMEOUT_MS = 3000, ANSWER_BYTES_MAX = 4 << 20 };

struct found { /* a member of the running cluster */
	uint64_t id;
	bool started, named;
	const char *urls[IDENTITY_URLS_MAX + 1];
};
struct cluster {
	uint64_t id;
	struct found members[DATADIR_SEEDS_MAX];
	size_t count;
};

static int url_order(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool same_urls(char *const *a, const char *const *b)
{
	for (; *a && *b; a++, b++)
		if (strcmp(*a, *b) != 0)
			return false;
	return !*a && !*b;
}

static bool read_hex(const json_t *value, uint64_t *ret_id)
{
	const char *text = json_string_value(value);

	return text && text_hex_to_u64(slice_str(text), ret_id) == 0 && *ret_id;
}

static bool read_member(const json_t *json, struct found *ret_member)
{
	const json_t *urls = json_object_get(json, "peerURLs");
	size_t count = json_array_size(urls);

	*ret_member = (struct found){.started = json_is_true(json_object_get(json, "started"))};
	if (!read_hex(json_object_get(json, "id"), &ret_member->id) || !count || count > IDENTITY_URLS_MAX)
		return false;
	for (size_t i = 0; i < count; i++) {
		const char *url = json_string_value(json_array_get(urls, i));

		if (!url || strpbrk(url, " \t\r\n"))
			return false;
		ret_member->urls[i] = url;
	}
	qsort(ret_member->urls, count, sizeof(ret_member->urls[0]), url_order);
	return true;
}

static bool read_cluster(const json_t *root, struct cluster *cluster)
{
	const json_t *members = json_object_get(root, "members");

	*cluster = (struct cluster){.count = json_array_size(members)};
	if (!read_hex(json_object_get(root, "cluster"), &cluster->id) || !cluster->count ||
		cluster->count > DATADIR_SEEDS_MAX)
		return false;
	for (size_t i = 0; i < cluster->count; i++)
		if (!read_member(json_array_get(members, i), &cluster->members[i]))
			return false;
	return true;
}

static void add_urls(struct buf *out, const char *const *urls)
{
	for (size_t i = 0; urls[i]; i++)
		buf_printf(out, "%s%s", i ? "," : "", urls[i]);
}

/* This member among them: one that did not start yet, if there are several with its URLs (it takes the place
 * of one that had the same). */
static struct found *find_self(
	const struct config *config, struct cluster *cluster, uint64_t not_id, struct buf *reterr)
{
	char *const *urls = config->advertise_peer_urls;
	struct found *found = NULL, *other = NULL;

	for (size_t i = 0; i < cluster->count; i++)
		if (same_urls(urls, cluster->members[i].urls) && cluster->members[i].id != not_id &&
			(!found || found->started)) {
			other = found;
			found = &cluster->members[i];
		}
	if (found && !found->started)
		return found;
	if (found && other)
		buf_printf(reterr,
			"members %llx and %llx of the running cluster have these peer URLs and ran before, "
			"but data directory %s is empty: without its data neither may go on. Take back the "
			"one without a vote (GET /flotilla/members shows it): etcdctl member remove ID. Then "
			"replace the other one: etcdctl member replace ID %s ",
			(unsigned long long)other->id, (unsigned long long)found->id, config->data_dir,
			config->name);
	else if (found)
		buf_printf(reterr,
			"member %llx of the running cluster has these peer URLs and ran before, but data "
			"directory %s is empty: without its data it may not vote again. Give it its "
			"directory, or a new member in its place: etcdctl member replace %llx %s ",
			(unsigned long long)found->id, config->data_dir, (unsigned long long)found->id,
			config->name);
	else
		buf_printf(reterr,
			"no member of the running cluster has the peer URLs of this one: add it first, then "
			"start it: etcdctl member add %s ",
			config->name);
	add_urls(reterr, (const char *const *)urls);
	return NULL;
}

static int check_named(
	const struct config *config, struct cluster *cluster, const struct found *self, struct buf *reterr)
{
	for (size_t i = 0; i < config->cluster.count; i++) {
		const struct identity_member *member = &config->cluster.members[i];
		bool there = strcmp(member->name, config->name) == 0;

		for (size_t k = 0; k < cluster->count; k++)
			if (same_urls(member->urls, cluster->members[k].urls))
				there = cluster->members[k].named = true;
		if (there)
			continue;
		buf_printf(reterr,
			"--initial-cluster: no member of the running cluster has the peer URLs of "
			"%s: give what \"etcdctl member add\" printed, or what \"etcdctl member "
			"list\" shows",
			member->name);
		return -EINVAL;
	}
	for (size_t k = 0; k < cluster->count; k++) {
		if (cluster->members[k].named || &cluster->members[k] == self)
			continue;
		buf_printf(reterr,
			"--initial-cluster does not name member %llx of the running cluster (peer "
			"URLs ",
			(unsigned long long)cluster->members[k].id);
		add_urls(reterr, cluster->members[k].urls);
		buf_add_str(reterr, "): give what \"etcdctl member add\" printed, or what \"etcdctl member "
				    "list\" shows");
		return -EINVAL;
	}
	return 0;
}

static void take_seeds(const struct cluster *cluster, const struct found *self, struct datadir *datadir)
{
	datadir->cluster_id = cluster->id;
	datadir->member_id = self->id;
	for (size_t i = 0; i < cluster->count; i++) {
		struct datadir_seed *seed = &datadir->seeds[datadir->seeds_len++];

		*seed = (struct datadir_seed){.id = cluster->members[i].id};
		for (size_t k = 0; cluster->members[i].urls[k]; k++)
			seed->urls[k] = mem_strdup(cluster->members[i].urls[k]);
	}
}

int join_read(const struct config *config, struct slice body, const char *from, struct datadir *datadir,
	struct buf *reterr)
{
	json_t *root = json_loadb(body.data ? body.data : "", body.len, 0, NULL);
	_cleanup_free_ struct cluster *cluster = mem_new(struct cluster);
	const struct found *self = NULL;
	int r = -EINVAL;

	if (!read_cluster(root, cluster)) {
		buf_printf(reterr, "%s answers with something that is no list of members", from);
		r = -EBADMSG;
	} else {
		self = find_self(config, cluster, datadir->member_id, reterr);
		r = self ? check_named(config, cluster, self, reterr) : -EINVAL;
	}
	if (r == 0)
		take_seeds(cluster, self, datadir);
	json_decref(root);
	return r;
}

/* 0: *ret_body (owned) is what the member says. */
static int ask(struct http_client *client, const char *url, struct buf *out, struct buf *reterr)
{
	struct http_call_options options = {.url = url,
		.target = JOIN_PATH,
		.connect_timeout_ms = TIMEOUT_MS,
		.total_timeout_ms = TIMEOUT_MS,
		.max_body_bytes = ANSWER_BYTES_MAX,
		.no_reuse = true};
	struct http_result result;
	int r = http_client_fetch(client, &options, &result);

	if (r < 0) {
		buf_printf(reterr, "%s: %s", url, result.text);
	} else if (result.response.status != 200) {
		buf_printf(reterr, "%s answers with status %d: is it a peer URL, and of this program?", url,
			result.response.status);
		r = -EPROTO;
	} else {
		buf_add_slice(out, result.response.body);
	}
	http_result_done(&result);
	return r < 0 ? r : 0;
}

/* The first answer counts. */
static int ask_in_turn(
	const struct config *config, struct http_client *client, struct datadir *datadir, struct buf *reterr)
{
	_cleanup_buf_ struct buf why = BUF_INIT(0), body = BUF_INIT(ANSWER_BYTES_MAX);
	bool asked = false;

	for (size_t i = 0; i < config->cluster.count; i++) {
		const struct identity_member *member = &config->cluster.members[i];

		if (strcmp(member->name, config->name) == 0)
			continue;
		for (char *const *url = member->urls; *url; url++) {
			asked = true;
			buf_clear(&why);
			if (ask(client, *url, &body, &why) == 0)
				return join_read(config, buf_slice(&body), *url, datadir, reterr);
		}
	}
	if (!asked)
		buf_add_str(reterr,
			"--initial-cluster-state=existing: --initial-cluster must name the members of "
			"the running cluster beside this one");
	else
		buf_printf(reterr,
			"no member of the running cluster that --initial-cluster names answers (%s)",
			buf_text(&why));
	return -EHOSTUNREACH;
}

int join_ask(const struct config *config, struct datadir *datadir, struct buf *reterr)
{
	_cleanup_(http_client_alone_donep) struct http_client *client = NULL;
	int r = http_client_alone(&client, reterr);

	return r < 0 ? r : ask_in_turn(config, client, datadir, reterr);
}
