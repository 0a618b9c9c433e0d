/* fleetd's configuration: environment FLEET_<KEY>, then the file, then defaults; fleet 1.0's keys and some of
 * its own. See docs/fleetd.md for the table that users read. Main thread. */
#pragma once
#include "base/buf.h"
#include "fleet/registry.h"
#include "manager/manager.h"

struct fleetd_config {
	int verbosity;
	char *etcd_servers; /* comma separated */
	char *etcd_username, *etcd_password;
	char *etcd_cafile, *etcd_certfile, *etcd_keyfile; /* of https servers; "": none */
	char *prefix;					  /* without a slash at its end */
	int64_t etcd_request_timeout_ms;
	uint64_t reconcile_ms;
	char *public_ip; /* "": found by the route */
	struct registry_pair *metadata;
	size_t metadata_count;
	int64_t agent_ttl_s;
	uint16_t token_limit;
	bool disable_engine;
	/* Flotilla's own keys. */
	char *machine_id; /* "": /etc/machine-id */
	char *listen;	  /* comma separated unix:///path, http://host:port, https://host:port */
	char *api_certfile, *api_keyfile; /* for https; "": none */
	char *api_cafile;		  /* whose clients may come over https; "": all */
	char *api_writers;		  /* who may change things, see api_access.h; "": all */
	char *peer_listen;		  /* host:port, ":port" for all addresses, "": none */
	char *data_dir;
	char *supervisor_dir;
	char *units_dir;   /* systemd's; "": by default */
	bool systemd_user; /* units run in this user's systemd */
	enum manager_kind unit_manager;
	bool keep_units_on_stop;
	uint64_t named; /* for fleetd_config_names() */
	/* What was not understood, one line each, for the log. */
	struct buf warnings;
};

/* Reads `path` (NULL: /etc/fleet/fleet.conf if it exists) and the environment. -errno with one line in
 * reterr: a named file that is missing, a line without '=', a bad agent_ttl. */
int fleetd_config_load(const char *path, struct fleetd_config *ret, struct buf *reterr) _must_check_;
/* Whether the file or the environment says what the key is, be it what it is by default. */
bool fleetd_config_names(const struct fleetd_config *config, const char *key);
/* The names of keys in which the two differ and which take effect at a start only, as "a, b". */
void fleetd_config_add_fixed(
	struct buf *out, const struct fleetd_config *present, const struct fleetd_config *wanted);
void fleetd_config_done(struct fleetd_config *config);
/* Parses the text of a file into `config`, which holds defaults; `name` for messages. For
 * fleetd_config_load() and tests. */
int fleetd_config_parse(
	struct fleetd_config *config, const char *name, struct slice text, struct buf *reterr) _must_check_;
void fleetd_config_defaults(struct fleetd_config *config);
/* Who is not root cannot write where the defaults are: what is not named goes to the user's own directories.
 * For fleetd_config_load() and tests. */
void fleetd_config_for_user(struct fleetd_config *config);
