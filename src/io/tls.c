/* OpenSSL behind two memory buffers. */
#include "io/tls.h"
#include "base/memory.h"
#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <unistd.h>

#define PIECE_BYTES 16384 /* a record's payload */
#define NAME_BYTES 256
#define ERROR_BYTES 256

struct tls_context {
	unsigned refs;
	SSL_CTX *ssl;
};

struct tls {
	SSL *ssl;
	BIO *in, *out; /* the SSL's; `in` is what was received, `out` what is to be sent */
	bool ready, ended, failed;
	char error[ERROR_BYTES], peer_name[NAME_BYTES];
};

/* ---- contexts ---- */

/* Nobody is there to be asked for a passphrase. */
static int no_passphrase(char *text, int size, int writing, void *user)
{
	(void)text;
	(void)size;
	(void)writing;
	(void)user;
	return 0;
}

/* Adds the reason that OpenSSL gives last; forgets them all. */
static int fail_file(struct buf *reterr, const char *what, const char *path)
{
	const char *reason =
		access(path, R_OK) < 0 ? strerror(errno) : ERR_reason_error_string(ERR_peek_last_error());

	if (reterr)
		buf_printf(reterr, "%s %s: %s", what, path, reason ? reason : "it cannot be used");
	ERR_clear_error();
	return -EINVAL;
}

static int load_files(SSL_CTX *ssl, const struct tls_files *files, struct buf *reterr)
{
	bool has_cert = files->cert && files->cert[0], has_key = files->key && files->key[0];

	if (has_cert != has_key) {
		if (reterr)
			buf_printf(reterr, "TLS needs both a certificate and its key: the %s is missing",
				has_cert ? "key" : "certificate");
		return -EINVAL;
	}
	if (has_cert && SSL_CTX_use_certificate_chain_file(ssl, files->cert) != 1)
		return fail_file(reterr, "certificate", files->cert);
	if (has_key && SSL_CTX_use_PrivateKey_file(ssl, files->key, SSL_FILETYPE_PEM) != 1)
		return fail_file(reterr, "key", files->key);
	if (has_key && SSL_CTX_check_private_key(ssl) != 1)
		return fail_file(reterr, "key does not belong to the certificate:", files->key);
	if (files->ca && files->ca[0] && SSL_CTX_load_verify_file(ssl, files->ca) != 1)
		return fail_file(reterr, "certificate authority", files->ca);
	return 0;
}

static int context_new(
	const SSL_METHOD *method, const struct tls_files *files, struct tls_context **ret, struct buf *reterr)
{
	struct tls_context *context = mem_new(struct tls_context);
	int r;

	context->refs = 1;
	context->ssl = SSL_CTX_new(method);
	if (!context->ssl)
		abort(); /* out of memory */
	(void)SSL_CTX_set_min_proto_version(context->ssl, TLS1_2_VERSION);
	(void)SSL_CTX_set_mode(context->ssl, SSL_MODE_RELEASE_BUFFERS);
	(void)SSL_CTX_set_options(context->ssl, SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_default_passwd_cb(context->ssl, no_passphrase);
	r = load_files(context->ssl, files, reterr);
	if (r < 0) {
		(void)tls_context_unref(context);
		return r;
	}
	*ret = context;
	return 0;
}

int tls_server_new(const struct tls_files *files, struct tls_context **ret, struct buf *reterr)
{
	static const unsigned char name[] = "flotilla";
	bool has_ca = files->ca && files->ca[0];
	int r;

	if (!files->cert || !files->cert[0]) {
		if (reterr)
			buf_add_str(reterr, "TLS needs a certificate and its key");
		return -EINVAL;
	}
	r = context_new(TLS_server_method(), files, ret, reterr);
	if (r < 0)
		return r;
	if (has_ca) {
		SSL_CTX_set_verify((*ret)->ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
		SSL_CTX_set_client_CA_list((*ret)->ssl, SSL_load_client_CA_file(files->ca));
	}
	/* Sessions are resumed by tickets, which the clients keep. */
	(void)SSL_CTX_set_session_cache_mode((*ret)->ssl, SSL_SESS_CACHE_OFF);
	/* Without it sessions that are resumed with a client's certificate fail. */
	(void)SSL_CTX_set_session_id_context((*ret)->ssl, name, sizeof(name) - 1);
	return 0;
}

int tls_client_new(const struct tls_files *files, bool insecure, struct tls_context **ret, struct buf *reterr)
{
	int r = context_new(TLS_client_method(), files, ret, reterr);

	if (r < 0)
		return r;
	if (!(files->ca && files->ca[0]))
		(void)SSL_CTX_set_default_verify_paths((*ret)->ssl);
	SSL_CTX_set_verify((*ret)->ssl, insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
	return 0;
}

struct tls_context *tls_context_ref(struct tls_context *context)
{
	context->refs++;
	return context;
}

struct tls_context *tls_context_unref(struct tls_context *context)
{
	if (context && !--context->refs) {
		SSL_CTX_free(context->ssl);
		free(context);
	}
	return NULL;
}

/* ---- connections ---- */

static struct tls *tls_new(struct tls_context *context)
{
	struct tls *tls = mem_new(struct tls);

	tls->ssl = SSL_new(context->ssl); /* it holds the context */
	tls->in = BIO_new(BIO_s_mem());
	tls->out = BIO_new(BIO_s_mem());
	if (!tls->ssl || !tls->in || !tls->out)
		abort(); /* out of memory */
	SSL_set_bio(tls->ssl, tls->in, tls->out);
	return tls;
}

struct tls *tls_accept(struct tls_context *context)
{
	struct tls *tls = tls_new(context);

	SSL_set_accept_state(tls->ssl);
	return tls;
}

static bool is_address(const char *host)
{
	unsigned char bytes[16];

	return inet_pton(AF_INET, host, bytes) == 1 || inet_pton(AF_INET6, host, bytes) == 1;
}

struct tls *tls_connect(struct tls_context *context, const char *host)
{
	struct tls *tls = tls_new(context);

	if (is_address(host)) {
		(void)X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(tls->ssl), host);
	} else {
		(void)SSL_set_tlsext_host_name(tls->ssl, host);
		(void)SSL_set1_host(tls->ssl, host);
	}
	SSL_set_connect_state(tls->ssl);
	return tls;
}

struct tls *tls_free(struct tls *tls)
{
	if (!tls)
		return NULL;
	SSL_free(tls->ssl);
	free(tls);
	return NULL;
}

static const char *verify_text(long result)
{
	switch (result) {
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
		return "x509: certificate signed by unknown authority";
	case X509_V_ERR_CERT_HAS_EXPIRED:
	case X509_V_ERR_CERT_NOT_YET_VALID:
		return "x509: certificate has expired or is not yet valid";
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		return "x509: certificate is valid for another name";
	default:
		return X509_verify_cert_error_string(result);
	}
}

static int fail(struct tls *tls)
{
	unsigned long error = ERR_peek_last_error();
	long verified = SSL_get_verify_result(tls->ssl);
	const char *reason = ERR_reason_error_string(error);

	tls->failed = true;
	if (ERR_GET_REASON(error) == SSL_R_CERTIFICATE_VERIFY_FAILED)
		(void)snprintf(tls->error, sizeof(tls->error), "%s", verify_text(verified));
	else if (ERR_GET_REASON(error) > SSL_AD_REASON_OFFSET)
		(void)snprintf(tls->error, sizeof(tls->error), "remote error: tls: %s",
			SSL_alert_desc_string_long(ERR_GET_REASON(error) - SSL_AD_REASON_OFFSET));
	else
		(void)snprintf(
			tls->error, sizeof(tls->error), "tls: %s", reason ? reason : "handshake failure");
	ERR_clear_error();
	return -EPROTO;
}

static void take_wire(struct tls *tls, struct buf *wire)
{
	char *bytes;
	long len = BIO_get_mem_data(tls->out, &bytes);

	if (len > 0)
		buf_add(wire, bytes, (size_t)len);
	(void)BIO_reset(tls->out);
}

static void note_peer(struct tls *tls)
{
	X509 *certificate = SSL_get0_peer_certificate(tls->ssl);
	int len;

	if (!certificate || SSL_get_verify_result(tls->ssl) != X509_V_OK)
		return;
	len = X509_NAME_get_text_by_NID(
		X509_get_subject_name(certificate), NID_commonName, tls->peer_name, sizeof(tls->peer_name));
	/* One that is cut, or has a NUL in it, could pass for another. */
	if (len < 0 || len >= (int)sizeof(tls->peer_name) - 1 || (size_t)len != strlen(tls->peer_name))
		tls->peer_name[0] = 0;
}

/* One step of the handshake: 1 it is over, 0 more is needed, -EPROTO. */
static int shake_hands(struct tls *tls)
{
	int r, error;

	if (tls->ready)
		return 1;
	r = SSL_do_handshake(tls->ssl);
	if (r == 1) {
		tls->ready = true;
		note_peer(tls);
		return 1;
	}
	error = SSL_get_error(tls->ssl, r);
	return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : fail(tls);
}

static int take_plain(struct tls *tls, struct buf *plain)
{
	for (;;) {
		char *at = buf_reserve(plain, PIECE_BYTES);
		int n, error;

		if (!at)
			return -EMSGSIZE;
		n = SSL_read(tls->ssl, at, PIECE_BYTES);
		if (n > 0) {
			buf_commit(plain, (size_t)n);
			continue;
		}
		error = SSL_get_error(tls->ssl, n);
		if (error == SSL_ERROR_ZERO_RETURN)
			tls->ended = true;
		if (error == SSL_ERROR_ZERO_RETURN || error == SSL_ERROR_WANT_READ ||
			error == SSL_ERROR_WANT_WRITE)
			return 0;
		return fail(tls);
	}
}

int tls_receive(struct tls *tls, struct slice received, struct buf *plain, struct buf *wire)
{
	int r = -EPROTO;

	if (!tls->failed) {
		ERR_clear_error();
		if (received.len && BIO_write(tls->in, received.data, (int)received.len) != (int)received.len)
			abort(); /* out of memory */
		r = shake_hands(tls);
	}
	if (r > 0)
		r = take_plain(tls, plain);
	take_wire(tls, wire);
	return r;
}

int tls_send(struct tls *tls, struct slice plain, struct buf *wire)
{
	assert(tls->ready);
	if (tls->failed)
		return -EPROTO;
	ERR_clear_error();
	while (plain.len) {
		int piece = (int)MIN(plain.len, (size_t)PIECE_BYTES),
		    n = SSL_write(tls->ssl, plain.data, piece);

		if (n <= 0)
			return fail(tls);
		plain = slice_make(plain.data + n, plain.len - (size_t)n);
	}
	take_wire(tls, wire);
	return 0;
}

void tls_send_end(struct tls *tls, struct buf *wire)
{
	if (!tls->ready || tls->failed)
		return;
	ERR_clear_error();
	(void)SSL_shutdown(tls->ssl);
	ERR_clear_error();
	take_wire(tls, wire);
}

bool tls_is_ready(const struct tls *tls)
{
	return tls->ready;
}

bool tls_has_ended(const struct tls *tls)
{
	return tls->ended;
}

const char *tls_error(const struct tls *tls)
{
	return tls->error;
}

const char *tls_peer_name(const struct tls *tls)
{
	return tls->peer_name;
}
