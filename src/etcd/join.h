/* A member that joins a running cluster (--initial-cluster-state existing on an empty data directory) asks
 * the members that --initial-cluster names who is in the cluster, and finds itself among them by its peer
 * URLs.
 *
 *     GET /flotilla/members on a peer URL
 *     {"cluster":"<hex>","members":[{"id":"<hex>","started":true,"peerURLs":["http://..."]}]}
 */
#pragma once
#include "etcd/config.h"
#include "etcd/datadir.h"

#define JOIN_PATH "/flotilla/members"

/* Blocking, at start: asks one after the other until one answers. Fills in cluster_id, member_id (whose old
 * value, when not 0, is who it is not any more, since that one's log is lost) and the seeds. -errno with what
 * to do in reterr. */
int join_ask(const struct config *config, struct datadir *datadir, struct buf *reterr) _must_check_;
/* What an answer says; pure. `from`: whose it is, for messages. */
int join_read(const struct config *config, struct slice body, const char *from, struct datadir *datadir,
	struct buf *reterr) _must_check_;
