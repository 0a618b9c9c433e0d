/* Addresses of ListenStream= and its siblings, and the sockets and FIFOs behind them. Parsing is pure;
 * opening is shell code. */
#pragma once
#include "base/buf.h"
#include "manager/config_triggers.h"
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

struct listen_address {
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
	} address;
	socklen_t len;
	int type;	  /* SOCK_STREAM …; 0: a FIFO */
	bool any_family;  /* a port alone: IPv6 with IPv4 behind it, or IPv4 where there is no IPv6 */
	const char *path; /* borrowed from the spec: of a socket or FIFO in the file system; else NULL */
};

/* -EINVAL with what was expected in `reterr`. */
int listen_address_parse(
	const struct listen_spec *spec, struct listen_address *ret, struct buf *reterr) _must_check_;
/* Makes the directories above a path, as far as they are missing. -errno. */
int listen_make_parents(const char *path, unsigned mode);
/* Makes, binds and listens as the unit says; the directories above a path are made. Answers the descriptor
 * (O_CLOEXEC, blocking); -errno with the reason in `reterr`. Options that the kernel does not take are told
 * in `warnings`, but for those that say who may connect. */
int listen_open(const struct socket_config *config, const struct listen_spec *spec, struct strings *warnings,
	struct buf *reterr) _must_check_;
