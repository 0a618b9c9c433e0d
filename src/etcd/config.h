/* What the etcd program was told: flags, ETCD_* variables, and what follows from them. Main thread, at start.
 */
#pragma once
#include "etcd/identity.h"

enum { CONFIG_URLS_MAX = 16 };

struct config {
	const char *name, *data_dir, *initial_cluster_token; /* borrowed from argv, the environment or own */
	char *listen_peer_urls[CONFIG_URLS_MAX + 1];	     /* NULL-terminated lists of owned texts */
	char *listen_client_urls[CONFIG_URLS_MAX + 1];
	char *advertise_client_urls[CONFIG_URLS_MAX + 1]; /* sorted */
	char *advertise_peer_urls[CONFIG_URLS_MAX + 1];	  /* sorted */
	struct identity_cluster cluster;		  /* of the initial cluster */
	char *cluster_error; /* owned; not NULL: it makes no sense, which a data directory in use need not
				mind */
	bool cluster_given;  /* the initial cluster or its token was given, not defaulted */
	bool state_existing; /* --initial-cluster-state=existing */
	bool debug;
	bool rebuild;	     /* --rebuild */
	bool strict_changes; /* --strict-reconfig-check */
	uint64_t heartbeat_ms, election_ms;
	uint64_t snapshot_count; /* 0: not given */
	char *own_data_dir, *own_cluster_text;
};

/* Reads argv and the environment. Answers -1 to go on, else the status to exit with: the text has been
 * written (help and version to stdout, errors to stderr). Warnings go to `warnings`, one per line.
 * config_done() in any case. */
int config_read(struct config *config, int argc, char **argv, struct buf *warnings) _must_check_;
void config_done(struct config *config);

#define ETCD_VERSION "2.3.8" /* the release whose behaviour this server has */
#define ETCD_CLUSTER_VERSION "2.3.0"
