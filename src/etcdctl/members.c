/* cluster-health and the member commands, which speak to /v2/members and /health. */
#include "etcdctl/ctl.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/url.h"
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* A member without a leader takes its time before it says so; the original waits without a limit. */
enum { HEALTH_PAUSE_S = 10, HEALTH_TIMEOUT_MS = 30000 };

DEFINE_CLEANUP(struct etcd_response *, etcd_response_unref)
#define _cleanup_response_ _cleanup_(etcd_response_unrefp)

static void add_urls(struct buf *out, const char *const *urls, size_t count, const char *separator)
{
	for (size_t i = 0; i < count; i++)
		buf_printf(out, "%s%s", i ? separator : "", urls[i]);
}

/* ---- cluster-health ---- */

/* 1 healthy, 0 unhealthy, -1 not reached (said on stdout). */
static int check_url(struct ctl *ctl, const struct etcd_member *member, const char *url)
{
	struct etcd_raw_request raw = {.target = "/health", .endpoint = url, .timeout_ms = HEALTH_TIMEOUT_MS};
	_cleanup_response_ struct etcd_response *response =
		ctl_wait(ctl, etcd_raw(ctl->client, &raw, NULL, NULL));
	json_error_t error;
	json_t *json, *health;
	int result = -1;

	if (response->outcome == ETCD_UNREACHABLE || response->outcome == ETCD_BAD_ANSWER) {
		printf("failed to check the health of member %s on %s: Get \"%s/health\": %s\n", member->id,
			url, url,
			response->attempt_count ? response->attempts[0].error : response->error_text);
		return -1;
	}
	json = json_loadb(response->body, response->body_len, 0, &error);
	health = json_object_get(json, "health");
	if (json)
		result = json_is_true(health) ||
			 (json_is_string(health) && !strcmp(json_string_value(health), "true"));
	else
		printf("failed to check the health of member %s on %s: %s\n", member->id, url, error.text);
	json_decref(json);
	return result;
}

static bool check_member(struct ctl *ctl, const struct etcd_member *member)
{
	_cleanup_buf_ struct buf urls = BUF_INIT(0);

	if (!member->client_url_count) {
		printf("member %s is unreachable: no available published client urls\n", member->id);
		return false;
	}
	for (size_t i = 0; i < member->client_url_count; i++) {
		const char *url = member->client_urls[i];
		int health = check_url(ctl, member, url);
		if (health < 0)
			continue;
		printf("member %s is %s: got %s result from %s\n", member->id,
			health ? "healthy" : "unhealthy", health ? "healthy" : "unhealthy", url);
		return health;
	}
	add_urls(&urls, member->client_urls, member->client_url_count, " ");
	printf("member %s is unreachable: [%s] are all unreachable\n", member->id, buf_text(&urls));
	return false;
}

int ctl_cluster_health(struct ctl *ctl, int argc _unused_, char **argv _unused_)
{
	_cleanup_response_ struct etcd_response *members = NULL;
	int status = ctl_connect(ctl, false);

	if (status)
		return status;
	members = ctl_wait(ctl, etcd_members(ctl->client, NULL, NULL));
	if (members->outcome != ETCD_OK) {
		puts("cluster may be unhealthy: failed to list members");
		return ctl_print_failure(ctl, members, CTL_SERVER_ERROR);
	}
	while (true) {
		bool healthy = false;
		for (size_t i = 0; i < members->member_count; i++)
			healthy |= check_member(ctl, &members->members[i]);
		puts(healthy ? "cluster is healthy" : "cluster is unhealthy");
		if (!ctl_options.forever)
			return healthy ? CTL_OK : CTL_UNHEALTHY;
		printf("\nnext check after %d second...\n\n", HEALTH_PAUSE_S);
		fflush(stdout);
		sleep(HEALTH_PAUSE_S);
	}
}

/* ---- member ---- */

static struct etcd_response *call_members(
	struct ctl *ctl, const char *method, const char *path, const char *body)
{
	return ctl_wait(ctl, etcd_raw(ctl->client,
				     &(struct etcd_raw_request){
					     .method = method,
					     .target = path,
					     .content_type = body ? "application/json" : NULL,
					     .body = body,
				     },
				     NULL, NULL));
}

/* The id in a member's JSON, or "". */
static char *take_id(const struct etcd_response *response)
{
	json_t *json = json_loadb(response->body, response->body_len, 0, NULL);
	const char *id = json_string_value(json_object_get(json, "id"));
	char *copy = mem_strdup(id ? id : "");

	json_decref(json);
	return copy;
}

int ctl_member_list(struct ctl *ctl, int argc, char **argv _unused_)
{
	_cleanup_response_ struct etcd_response *members = NULL, *leader = NULL;
	_cleanup_free_ char *leader_id = NULL;
	int status;

	if (argc)
		return ctl_complain("No arguments accepted");
	status = ctl_connect(ctl, true);
	if (status)
		return status;
	members = ctl_wait(ctl, etcd_members(ctl->client, NULL, NULL));
	if (members->outcome != ETCD_OK)
		return ctl_print_bare_failure(members);
	leader = call_members(ctl, "GET", "/v2/members/leader", NULL);
	if (leader->outcome != ETCD_OK) {
		fputs("Failed to get leader:  ", stderr);
		return ctl_print_bare_failure(leader);
	}
	leader_id = take_id(leader);
	for (size_t i = 0; i < members->member_count; i++) {
		const struct etcd_member *member = &members->members[i];
		_cleanup_buf_ struct buf peers = BUF_INIT(0), clients = BUF_INIT(0);
		add_urls(&peers, member->peer_urls, member->peer_url_count, ",");
		add_urls(&clients, member->client_urls, member->client_url_count, ",");
		if (!member->name[0])
			printf("%s[unstarted]: peerURLs=%s\n", member->id, buf_text(&peers));
		else
			printf("%s: name=%s peerURLs=%s clientURLs=%s isLeader=%s\n", member->id,
				member->name, buf_text(&peers), buf_text(&clients),
				strcmp(member->id, leader_id) ? "false" : "true");
	}
	return CTL_OK;
}

/* Appends {"peerURLs":[...]} for the comma-separated list; false after saying what is wrong with it. */
static bool add_peer_urls(struct buf *out, const char *list)
{
	struct slice rest = slice_str(list), item;
	bool more = true;

	buf_add_str(out, "{\"peerURLs\":[");
	while (more) {
		more = text_cut(rest, ',', &item, &rest);
		_cleanup_free_ char *text = mem_strndup(item.data, item.len);
		const char *host = strstr(text, "://");
		if (strncmp(text, "http://", 7) && strncmp(text, "https://", 8)) {
			fprintf(stderr, "URL scheme must be http or https: %s\n", text);
			return false;
		}
		host += 3;
		size_t host_len = strcspn(host, "/");
		_cleanup_free_ char *address = mem_strndup(host, host_len), *name = NULL;
		uint16_t port;
		if (url_split_host_port(address, &name, &port, NULL) < 0) {
			fprintf(stderr, "URL address does not have the form \"host:port\": %s\n", text);
			return false;
		}
		if (host[host_len]) {
			fprintf(stderr, "URL must not contain a path: %s\n", text);
			return false;
		}
		if (out->data[out->len - 1] != '[')
			buf_add_char(out, ',');
		json_add_string(out, item);
	}
	buf_add_str(out, "]}");
	return true;
}

static const char *without_zeros(const char *id)
{
	while (id[0] == '0' && id[1])
		id++;
	return id;
}

static bool id_equal(const char *a, const char *b)
{
	return strcasecmp(without_zeros(a), without_zeros(b)) == 0;
}

static bool has_same_urls(
	const struct etcd_response *members, const struct etcd_member *member, const char *id)
{
	for (size_t i = 0; i < members->member_count; i++) {
		const struct etcd_member *other = &members->members[i];
		bool same = other->peer_url_count == member->peer_url_count;

		if (strcmp(other->id, id) != 0)
			continue;
		for (size_t j = 0; same && j < member->peer_url_count; j++)
			same = strcmp(other->peer_urls[j], member->peer_urls[j]) == 0;
		return same;
	}
	return false;
}

/* `replaced`: who has to be left out when it has the new member's URLs; NULL: nobody. */
static void print_added(
	const struct etcd_response *members, const char *id, const char *name, const char *replaced)
{
	_cleanup_buf_ struct buf cluster = BUF_INIT(0), quoted = BUF_INIT(0);

	for (size_t i = 0; i < members->member_count; i++) {
		const struct etcd_member *member = &members->members[i];
		if (replaced && id_equal(member->id, replaced) && has_same_urls(members, member, id))
			continue;
		for (size_t j = 0; j < member->peer_url_count; j++)
			buf_printf(&cluster, "%s%s=%s", cluster.len ? "," : "",
				strcmp(member->id, id) ? member->name : name, member->peer_urls[j]);
	}
	printf("Added member named %s with ID %s to cluster\n\n", name, id);
	text_add_quoted(&quoted, slice_str(name));
	printf("ETCD_NAME=%s\n", buf_text(&quoted));
	buf_clear(&quoted);
	text_add_quoted(&quoted, buf_slice(&cluster));
	printf("ETCD_INITIAL_CLUSTER=%s\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n", buf_text(&quoted));
}

/* The answer to a change that adds a member, and what is to be started with it. */
static int show_added(struct ctl *ctl, struct etcd_response *added, const char *name, const char *replaced)
{
	_cleanup_response_ struct etcd_response *members = NULL;
	_cleanup_free_ char *id = NULL;

	if (added->outcome != ETCD_OK)
		return ctl_print_bare_failure(added);
	id = take_id(added);
	members = ctl_wait(ctl, etcd_members(ctl->client, NULL, NULL));
	if (members->outcome != ETCD_OK)
		return ctl_print_bare_failure(members);
	print_added(members, id, name, replaced);
	return CTL_OK;
}

int ctl_member_add(struct ctl *ctl, int argc, char **argv)
{
	_cleanup_response_ struct etcd_response *added = NULL;
	_cleanup_buf_ struct buf body = BUF_INIT(0);
	int status;

	if (argc != 2)
		return ctl_complain("Provide a name and a single member peerURL");
	status = ctl_connect(ctl, true);
	if (status)
		return status;
	if (!add_peer_urls(&body, argv[1]))
		return CTL_BAD_ARGS;
	added = call_members(ctl, "POST", "/v2/members", buf_text(&body));
	if (added->outcome == ETCD_REFUSED && added->status != 409) {
		fprintf(stderr, "unexpected status code %d\n", added->status);
		return CTL_BAD_ARGS;
	}
	return show_added(ctl, added, argv[0], NULL);
}

/* Beyond the original: its servers answer 404 to the path. */
int ctl_member_replace(struct ctl *ctl, int argc, char **argv)
{
	_cleanup_response_ struct etcd_response *added = NULL;
	_cleanup_buf_ struct buf path = BUF_INIT(0), body = BUF_INIT(0);
	int status;

	if (argc != 3)
		return ctl_complain(
			"Provide the ID of the member to replace, a name and a single member peerURL");
	status = ctl_connect(ctl, true);
	if (status)
		return status;
	if (!add_peer_urls(&body, argv[2]))
		return CTL_BAD_ARGS;
	buf_add_str(&path, "/flotilla/members/");
	url_escape(&path, slice_str(argv[0]), URL_PART_SEGMENT);
	buf_add_str(&path, "/replace");
	added = call_members(ctl, "POST", buf_text(&path), buf_text(&body));
	if (added->outcome == ETCD_REFUSED && added->status == 404 &&
		!strstr(added->body, "No such member")) {
		fputs("this server does not know how to replace a member: use \"member add\", and \"member "
		      "remove\" when the new one has started\n",
			stderr);
		return CTL_BAD_ARGS;
	}
	return show_added(ctl, added, argv[1], argv[0]);
}

static bool member_exists(const struct etcd_response *members, const char *id)
{
	bool found = false;

	for (size_t i = 0; i < members->member_count; i++) {
		const struct etcd_member *member = &members->members[i];
		found |= !strcmp(member->id, id);
		if (strcmp(member->name, id))
			continue;
		fprintf(stderr,
			"Found a member named %s; if this is correct, please use its ID, eg:\n"
			"\tetcdctl member remove %s\n"
			"For more details, read the documentation at "
			"https://github.com/coreos/etcd/blob/master/Documentation/"
			"runtime-configuration.md#remove-a-member\n\n",
			member->name, member->id);
	}
	return found;
}

int ctl_member_remove(struct ctl *ctl, int argc, char **argv)
{
	_cleanup_response_ struct etcd_response *members = NULL, *removed = NULL;
	_cleanup_buf_ struct buf path = BUF_INIT(0);
	int status;

	if (argc != 1)
		return ctl_complain("Provide a single member ID");
	status = ctl_connect(ctl, true);
	if (status)
		return status;
	members = ctl_wait(ctl, etcd_members(ctl->client, NULL, NULL));
	if (members->outcome != ETCD_OK) {
		fputs("Error while verifying ID against known members: ", stderr);
		return ctl_print_bare_failure(members);
	}
	if (!member_exists(members, argv[0])) {
		fprintf(stderr, "Couldn't find a member in the cluster with an ID of %s.\n", argv[0]);
		return CTL_BAD_ARGS;
	}
	buf_printf(&path, "/v2/members/%s", argv[0]); /* a known id: hexadecimal */
	removed = call_members(ctl, "DELETE", buf_text(&path), NULL);
	if (removed->outcome != ETCD_OK) {
		fprintf(stderr, "Received an error trying to remove member %s: ", argv[0]);
		return ctl_print_bare_failure(removed);
	}
	printf("Removed member %s from cluster\n", argv[0]);
	return CTL_OK;
}

int ctl_member_update(struct ctl *ctl, int argc, char **argv)
{
	_cleanup_response_ struct etcd_response *updated = NULL;
	_cleanup_buf_ struct buf path = BUF_INIT(0), body = BUF_INIT(0);
	int status;

	if (argc != 2)
		return ctl_complain("Provide an ID and a list of comma separated peerURL "
				    "(0xabcd http://example.com,http://example1.com)");
	status = ctl_connect(ctl, true);
	if (status)
		return status;
	if (!add_peer_urls(&body, argv[1]))
		return CTL_BAD_ARGS;
	buf_add_str(&path, "/v2/members/");
	url_escape(&path, slice_str(argv[0]), URL_PART_SEGMENT);
	updated = call_members(ctl, "PUT", buf_text(&path), buf_text(&body));
	if (updated->outcome != ETCD_OK)
		return ctl_print_bare_failure(updated);
	printf("Updated member with ID %s in cluster\n", argv[0]);
	return CTL_OK;
}
