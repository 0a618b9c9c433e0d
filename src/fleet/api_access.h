/* Who may change things through the API: `api_writers`, a list of
 *
 *   user:NAME (or uid)    a process of that user, at a Unix socket
 *   group:NAME (or gid)   a process of that group
 *   cert:NAME             whose client certificate has that common name, over https
 *   tcp                   who comes over TCP and shows no certificate
 *
 * An empty list: everybody who can connect. Root, and the user fleetd runs as, always may, at a Unix socket.
 * All others only read. Users and groups are those of /etc/passwd and /etc/group. */
#pragma once
#include "base/buf.h"
#include "io/http_server.h"

struct api_access;

/* -EINVAL with the word that is not understood in `reterr`. */
int api_access_read(const char *list, struct api_access **ret, struct buf *reterr) _must_check_;
struct api_access *api_access_free(struct api_access *access); /* NULL is fine; answers NULL */
/* Whether the request may change something; else who it is for in `reterr`. */
bool api_access_may_write(
	const struct api_access *access, const struct http_request *req, struct buf *reterr);
