/* The sockets of the API: what was inherited, or else what `listen` names; and the port for other fleetds.
 * Errors are logged. Main thread. */
#pragma once
#include "fleet/config.h"
#include "io/http_server.h"
#include "io/tls.h"

/* What the configuration's certificate, key and authority make: of the API's servers, and for connections to
 * other fleetds. Both NULL where there is no certificate. */
struct api_tls {
	struct tls_context *server, *client;
};
/* -EINVAL after the log has the reason; *ret is then empty. */
int api_tls_read(const struct fleetd_config *config, struct api_tls *ret) _must_check_;
void api_tls_done(struct api_tls *tls);

/* A default address that cannot be had is left out, with a warning; what is named must be had.
 * Inherited TCP sockets speak TLS when there is a certificate, those of `listen` when they are https. */
int api_listen(struct http_server *server, const struct fleetd_config *config,
	const struct api_tls *tls) _must_check_;
/* *ret_port: the port that was bound. Another than the default one when that is taken, and none is named.
 * Speaks TLS when there is a certificate. */
int api_listen_peers(struct http_server *server, const struct fleetd_config *config,
	const struct api_tls *tls, uint16_t *ret_port) _must_check_;
/* Where other fleetds reach that port, for the registry: `peer_listen` itself where it is one address, else
 * the address that this machine is known by and, as that may be a NAT's or lead nowhere from where they are,
 * the one that it sends from; "A:PORT,B:PORT", to be tried in this order. Either may be "". */
void api_peer_addresses(const struct fleetd_config *config, uint16_t port, const char *public_ip,
	const char *own_ip, struct buf *out);
