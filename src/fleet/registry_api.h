/* The API without a fleetd: over the registry itself, at a Unix socket of this process. What
 * `fleetctl --driver=etcd` speaks with. Nothing runs here: reads come from a mirror of the registry, writes
 * go to it, and what units say is asked from the machines that run them. Loop's thread. */
#pragma once
#include "base/buf.h"
#include "flotilla/etcd.h"

struct registry_api;

/* Opens the socket (mode 0600). prefix: with or without a slash at its end. -errno with the reason in
 * `reterr`. All is copied. The API answers once the loop runs, 503 while the registry cannot be read. */
int registry_api_open(uv_loop_t *loop, const struct etcd_client_options *options, const char *prefix,
	const char *socket_path, struct registry_api **ret, struct buf *reterr) _must_check_;
/* The store's endpoint at that host and port is reached by the Unix socket. Before the loop runs. */
void registry_api_route(struct registry_api *api, const char *host, uint16_t port, const char *unix_path);
/* The memory is given back while the loop runs on. NULL is fine; answers NULL. */
struct registry_api *registry_api_close(struct registry_api *api);
