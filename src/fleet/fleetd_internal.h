/* The daemon, for fleetd.c (life and wiring), fleetd_settings.c (configuration) and fleetd_dump.c (SIGUSR1).
 * Main thread. */
#pragma once
#include <uv.h>

#include "fleet/api.h"
#include "fleet/config.h"
#include "fleet/member.h"

struct fleetd {
	const char *config_path;
	struct fleetd_config config;
	uv_loop_t loop;
	struct registry_machine machine; /* what the presence says */
	struct etcd_client *quick;	 /* presence and lease: short timeouts tell an outage */
	struct etcd_client *client;
	struct cluster *cluster;
	struct manager *manager;
	struct member *member;
	struct api *api;
	struct http_server *server, *peer_server;
	struct api_access *access;
	uint16_t peer_port;
	int lock_fd;
	bool unit_manager_given; /* by --unit-manager, likewise */
	bool keep_units;	 /* by --keep-units-on-stop, whatever the configuration says */
	uv_signal_t sigterm, sigint, sighup, sigusr1;
	uv_timer_t housekeeping;
	bool stopping;
};

/* fleetd_settings.c */
/* Fills in what may change while running: address, metadata, peer address. */
void fleetd_describe_machine(struct fleetd *f);
/* The API's servers and the peers' port. -errno after the log has the reason. */
int fleetd_open_listeners(struct fleetd *f) _must_check_;
/* Who may write. -errno after the log has the reason; nothing has changed then. */
int fleetd_read_access(struct fleetd *f, const struct fleetd_config *config) _must_check_;
void fleetd_set_verbosity(const struct fleetd *f);
void fleetd_log_warnings(const struct fleetd_config *config);
/* SIGHUP. */
void fleetd_on_reload(uv_signal_t *signal, int number);

/* fleetd_dump.c */
/* SIGUSR1: what is known here, into the log. */
void fleetd_on_dump(uv_signal_t *signal, int number);
