/* TLS 1.2 and 1.3 over memory: no socket, no callback. Whoever has a byte stream puts in what it received and
 * takes out what is to be sent, encrypted. OpenSSL does the work. One thread at a time per connection. */
#pragma once
#include "base/buf.h"

struct tls_context; /* who we are and whom we trust; shared by connections, counted */
struct tls;	    /* one connection */

/* PEM files. NULL or "": none. Keys with a passphrase are refused. */
struct tls_files {
	const char *cert, *key; /* a certificate (with those above it) and its key: both or neither */
	const char *ca; /* whose signature counts; a file with revocation lists means them. Server: clients
			   must then have a certificate. Client: instead of the system's authorities */
};
bool tls_files_given(const struct tls_files *files); /* whether there is any */
/* A server needs cert and key. -errno with the file and the reason in `reterr`. */
int tls_server_new(const struct tls_files *files, struct tls_context **ret, struct buf *reterr) _must_check_;
/* `insecure`: the server may be anybody. */
int tls_client_new(const struct tls_files *files, bool insecure, struct tls_context **ret,
	struct buf *reterr) _must_check_;
struct tls_context *tls_context_ref(struct tls_context *context);
struct tls_context *tls_context_unref(struct tls_context *context); /* NULL is fine; answers NULL */
DEFINE_CLEANUP(struct tls_context *, tls_context_unref)

/* A server's connection. */
struct tls *tls_accept(struct tls_context *context);
/* A client's: `host` is the name or address that the server's certificate must be for. */
struct tls *tls_connect(struct tls_context *context, const char *host);
struct tls *tls_free(struct tls *tls); /* NULL is fine; answers NULL */

/* Takes in what was received (nothing, to begin a handshake as the client); appends what was in it to
 * `plain`, and to `wire` what is to be sent for it. -EPROTO: the connection cannot go on, tls_error() says
 * why, and what is in `wire` tells the other side. */
int tls_receive(struct tls *tls, struct slice received, struct buf *plain, struct buf *wire) _must_check_;
/* Appends `plain` to `wire`, encrypted. Only once tls_is_ready(). */
int tls_send(struct tls *tls, struct slice plain, struct buf *wire) _must_check_;
/* Says that nothing more will be sent. */
void tls_send_end(struct tls *tls, struct buf *wire);
bool tls_is_ready(const struct tls *tls);  /* the handshake is over */
bool tls_has_ended(const struct tls *tls); /* the other side has said that it sends nothing more */
/* In Go's words where it has any: "x509: certificate signed by unknown authority". */
const char *tls_error(const struct tls *tls);
/* Whether the other side has shown a certificate, which was checked. */
bool tls_has_peer(const struct tls *tls);
/* The common name in it; "" when there is none, or none that is one line of UTF-8, or several. */
const char *tls_peer_name(const struct tls *tls);
