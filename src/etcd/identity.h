/* Who a member is: ids as etcd 2.3 makes them, so that what users wrote down stays true. Pure. */
#pragma once
#include "base/buf.h"

enum {
	IDENTITY_MEMBERS_MAX = 31, /* as many as raft lets vote */
	IDENTITY_URLS_MAX = 16,
	IDENTITY_HOST_BYTES_MAX = 255, /* as DNS has it */
	IDENTITY_URL_BYTES_MAX =
		IDENTITY_HOST_BYTES_MAX + 17, /* "https://[" host "]:65535", and one to spare */
	IDENTITY_NAME_BYTES_MAX = 255,
};

/* One member of the initial cluster: its name and peer URLs, sorted. All texts are owned. */
struct identity_member {
	char *name;
	char *urls[IDENTITY_URLS_MAX + 1]; /* NULL-terminated */
	size_t url_count;
	uint64_t id;
};
struct identity_cluster {
	struct identity_member members[IDENTITY_MEMBERS_MAX]; /* by id */
	size_t count;
	uint64_t id;
};

/* Reads "name=url,name=url,..." (a name may come several times, for several URLs) and computes the ids with
 * `token`. -EINVAL with a message in reterr. identity_cluster_done() in any case. */
int identity_parse(const char *initial_cluster, const char *token, struct identity_cluster *ret_cluster,
	struct buf *reterr) _must_check_;
void identity_cluster_done(struct identity_cluster *cluster);
const struct identity_member *identity_find(
	const struct identity_cluster *cluster, const char *name); /* NULL: none */

/* First eight bytes, big endian, of SHA-1 over the sorted URLs and the token. */
uint64_t identity_member_id(char *const *sorted_urls, size_t count, const char *token);
/* The same over the sorted member ids, eight bytes big endian each. */
uint64_t identity_cluster_id(const uint64_t *sorted_ids, size_t count);
/* A member's name, which is shown in logs and tables and stands in lines of files: at most
 * IDENTITY_NAME_BYTES_MAX bytes, and no control characters. -EINVAL with a message in reterr. */
int identity_check_name(struct slice name, struct buf *reterr) _must_check_;
/* A peer or client URL as etcd wants it: http or https, host:port, no path; and not above the limits. -EINVAL
 * with etcd's text in reterr. */
int identity_check_url(const char *url, struct buf *reterr) _must_check_;
