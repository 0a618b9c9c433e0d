/* The HTTP API: fleet's v1 (`/fleet/v1`, `/v1-alpha`), `/metrics` for Prometheus, and Flotilla's own routes
 * below `/flotilla/v1`:
 *
 *   GET units/NAME/explain            why no machine takes a unit
 *   GET units/NAME/status             what `systemctl status` says; headers as below
 *   GET units/NAME/journal?lines=N&follow=true&output=short&since=T&until=T
 * both asked from the machine that runs the unit (machine=ID for a global one), through its peer address;
 *   GET local/NAME/status, local/NAME/journal
 * the same for this machine's own units: all that peers are served, when they show the token that stands in
 * this machine's registry entry (Authorization: Bearer).
 *
 * Times are those of base/when.h ("-1h", "today", RFC 3339, …), read with the clock and the zone of the
 * machine that runs the unit. Without lines= there are the last 10, with since= all since then.
 *
 * A status has the headers X-Exit-Status (systemctl's), X-Active-State, X-Job while a request to start, stop
 * or restart waits or is under way, and X-Start-Error (why) when the last start did not begin.
 *
 * Reads are answered from memory. A write is answered when the mirror has it, so that what a client reads
 * next from the same fleetd includes it. Without a known cluster: 503. Loop's thread. */
#pragma once
#include "fleet/api_access.h"
#include "fleet/cluster.h"
#include "fleet/engine.h"
#include "flotilla/etcd.h"
#include "io/http_client.h"
#include "io/http_server.h"
#include "manager/manager.h"

struct api;
struct tls_context;
struct api_config {
	uv_loop_t *loop;
	struct etcd_client *client;
	const char *prefix; /* without a slash at its end */
	const char *machine_id;
	const char *peer_token; /* what peers have to show */
	struct cluster *cluster;
	struct manager *manager; /* NULL: no units run here */
	uint16_t token_limit;	 /* page size */
	uint64_t wait_ms;	 /* a request waits so long for the cluster to be known; 0: 2 s */
	bool (*cluster_loaded)(void *userdata);
	void (*cluster_needed)(void *userdata); /* a request came: the mirror shall be kept */
	uint64_t (*mirror_index)(void *userdata);
	const char *(*leader)(void *userdata);		    /* machine that leads the engine, or NULL */
	const struct api_access *(*access)(void *userdata); /* who may change things */
	void (*engine_stats)(void *userdata, struct engine_stats *ret);
	bool (*store_answers)(void *userdata);
	/* Stop taking part (503 to all but local routes), e.g. while shutting down; the reason goes into the
	 * message. */
	const char *(*unavailable)(void *userdata);
	void *userdata;
};
struct api *api_new(const struct api_config *config);
/* Cancels everything; the servers must be closed before. */
struct api *api_free(struct api *api);
/* Servers whose requests come to this API: the full one, and one for peers only (own routes, read only). */
struct http_server *api_server(struct api *api, bool for_peers);
/* How to speak to peers whose address is https://…, for connections from now on. */
void api_set_peer_tls(struct api *api, struct tls_context *context);
/* The mirror has been read or has moved on. */
void api_turn(struct api *api);
/* The cluster will not be read soon, as `unavailable` says: who waits for it is told. */
void api_refuse_waiting(struct api *api);
