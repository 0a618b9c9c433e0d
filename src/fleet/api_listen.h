/* The sockets of the API: what was inherited, or else what `listen` names; and the port for other fleetds.
 * Errors are logged. Main thread. */
#pragma once
#include "fleet/config.h"
#include "io/http_server.h"
#include "io/tls.h"

/* Reads the certificate, key and authority of the configuration for connections from now on. Nothing happens
 * where there are none. */
int api_listen_read_tls(struct http_server *server, const struct fleetd_config *config) _must_check_;
/* The same for connections to other fleetds; *ret NULL without a certificate. */
int api_listen_peer_tls(const struct fleetd_config *config, struct tls_context **ret) _must_check_;
/* Inherited TCP sockets speak TLS when there is a certificate, those of `listen` when they are https. */
int api_listen(struct http_server *server, const struct fleetd_config *config) _must_check_;
/* *ret_port: the port that was bound. Speaks TLS when there is a certificate. */
int api_listen_peers(
	struct http_server *server, const struct fleetd_config *config, uint16_t *ret_port) _must_check_;
