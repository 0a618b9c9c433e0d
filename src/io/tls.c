/* OpenSSL between two buffers of the caller's: it reads from the slice that was received, and writes behind
 * what is to be sent. Nothing is kept here but what OpenSSL keeps of a record that is not whole. */
#include "io/tls.h"
#include "base/memory.h"
#include "io/openssl.h"
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define PIECE_BYTES 16384 /* a record's payload */
#define NAME_BYTES 256
#define ERROR_BYTES 256
#define CERT_LIST_MAX 32768 /* of what the other side may show */

static const struct openssl *lib; /* once there is a context */

struct tls_context {
	unsigned refs;
	SSL_CTX *ssl;
};

struct tls {
	SSL *ssl;
	struct slice received; /* not read yet; only inside a call */
	struct buf *wire;      /* only inside a call */
	bool ready, ended, failed, has_peer;
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
	const char *reason = access(path, R_OK) < 0
				     ? strerror(errno)
				     : lib->ERR_reason_error_string(lib->ERR_peek_last_error());

	if (reterr)
		buf_printf(reterr, "%s %s: %s", what, path, reason ? reason : "it cannot be used");
	lib->ERR_clear_error();
	return -EINVAL;
}

/* A file that has revocation lists means them. */
static bool has_revocations(const char *path)
{
	FILE *file = fopen(path, "re");
	char line[256];
	bool found = false;

	while (file && !found && fgets(line, sizeof(line), file))
		found = strncmp(line, "-----BEGIN X509 CRL-----", 24) == 0;
	if (file)
		fclose(file);
	return found;
}

static bool is_given(const char *path)
{
	return path && path[0];
}

bool tls_files_given(const struct tls_files *files)
{
	return is_given(files->cert) || is_given(files->key) || is_given(files->ca);
}

static int load_files(SSL_CTX *ssl, const struct tls_files *files, struct buf *reterr)
{
	bool has_cert = is_given(files->cert), has_key = is_given(files->key);

	if (has_cert != has_key) {
		if (reterr)
			buf_printf(reterr, "TLS needs both a certificate and its key: the %s is missing",
				has_cert ? "key" : "certificate");
		return -EINVAL;
	}
	if (has_cert && lib->SSL_CTX_use_certificate_chain_file(ssl, files->cert) != 1)
		return fail_file(reterr, "certificate", files->cert);
	if (has_key && lib->SSL_CTX_use_PrivateKey_file(ssl, files->key, SSL_FILETYPE_PEM) != 1)
		return fail_file(reterr, "key", files->key);
	if (has_key && lib->SSL_CTX_check_private_key(ssl) != 1)
		return fail_file(reterr, "key does not belong to the certificate:", files->key);
	if (is_given(files->ca) && lib->SSL_CTX_load_verify_file(ssl, files->ca) != 1)
		return fail_file(reterr, "certificate authority", files->ca);
	if (is_given(files->ca) && has_revocations(files->ca))
		(void)lib->X509_VERIFY_PARAM_set_flags(lib->SSL_CTX_get0_param(ssl), X509_V_FLAG_CRL_CHECK);
	return 0;
}

static int context_new(
	bool server, const struct tls_files *files, struct tls_context **ret, struct buf *reterr)
{
	struct tls_context *context;
	int r;

	lib = openssl_open(reterr);
	if (!lib)
		return -EINVAL; /* as when a file cannot be used */
	context = mem_new(struct tls_context);
	context->refs = 1;
	context->ssl = lib->SSL_CTX_new(server ? lib->TLS_server_method() : lib->TLS_client_method());
	if (!context->ssl)
		abort(); /* out of memory */
	(void)lib->SSL_CTX_ctrl(context->ssl, SSL_CTRL_SET_MIN_PROTO_VERSION, TLS1_2_VERSION, NULL);
	(void)lib->SSL_CTX_ctrl(context->ssl, SSL_CTRL_MODE, SSL_MODE_RELEASE_BUFFERS, NULL);
	(void)lib->SSL_CTX_set_options(context->ssl, SSL_OP_NO_RENEGOTIATION);
	(void)lib->SSL_CTX_ctrl(context->ssl, SSL_CTRL_SET_MAX_CERT_LIST, CERT_LIST_MAX, NULL);
	/* Each certificate that is given as an authority is one, as in Go. */
	(void)lib->X509_VERIFY_PARAM_set_flags(
		lib->SSL_CTX_get0_param(context->ssl), X509_V_FLAG_PARTIAL_CHAIN);
	lib->SSL_CTX_set_default_passwd_cb(context->ssl, no_passphrase);
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
	bool has_ca = is_given(files->ca);
	int r;

	if (!is_given(files->cert)) {
		if (reterr)
			buf_add_str(reterr, "TLS needs a certificate and its key");
		return -EINVAL;
	}
	r = context_new(true, files, ret, reterr);
	if (r < 0)
		return r;
	if (has_ca) {
		lib->SSL_CTX_set_verify((*ret)->ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
		lib->SSL_CTX_set_client_CA_list((*ret)->ssl, lib->SSL_load_client_CA_file(files->ca));
	}
	/* Sessions are resumed by tickets, which the clients keep. */
	(void)lib->SSL_CTX_ctrl((*ret)->ssl, SSL_CTRL_SET_SESS_CACHE_MODE, SSL_SESS_CACHE_OFF, NULL);
	/* Without it sessions that are resumed with a client's certificate fail. */
	(void)lib->SSL_CTX_set_session_id_context((*ret)->ssl, name, sizeof(name) - 1);
	return 0;
}

int tls_client_new(const struct tls_files *files, bool insecure, struct tls_context **ret, struct buf *reterr)
{
	int r = context_new(false, files, ret, reterr);

	if (r < 0)
		return r;
	if (!is_given(files->ca))
		(void)lib->SSL_CTX_set_default_verify_paths((*ret)->ssl);
	lib->SSL_CTX_set_verify((*ret)->ssl, insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
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
		lib->SSL_CTX_free(context->ssl);
		free(context);
	}
	return NULL;
}

/* ---- connections ---- */

static int pipe_read(BIO *bio, char *bytes, int size)
{
	struct tls *tls = lib->BIO_get_data(bio);
	size_t len = MIN((size_t)MAX(size, 0), tls->received.len);

	lib->BIO_clear_flags(bio, BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY);
	if (!len) {
		lib->BIO_set_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY);
		return -1;
	}
	memcpy(bytes, tls->received.data, len);
	tls->received = slice_make(tls->received.data + len, tls->received.len - len);
	return (int)len;
}

static int pipe_write(BIO *bio, const char *bytes, int len)
{
	struct tls *tls = lib->BIO_get_data(bio);

	lib->BIO_clear_flags(bio, BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY);
	buf_add(tls->wire, bytes, (size_t)MAX(len, 0));
	return len;
}

static long pipe_control(BIO *bio, int command, long number, void *pointer)
{
	(void)bio;
	(void)number;
	(void)pointer;
	return command == BIO_CTRL_FLUSH;
}

static int pipe_begin(BIO *bio)
{
	lib->BIO_set_init(bio, 1);
	return 1;
}

/* Made with the first connection, for all. */
static const BIO_METHOD *pipe_method(void)
{
	static BIO_METHOD *method;

	if (!method) {
		method = lib->BIO_meth_new(lib->BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "buffers");
		if (!method)
			abort(); /* out of memory */
		(void)lib->BIO_meth_set_read(method, pipe_read);
		(void)lib->BIO_meth_set_write(method, pipe_write);
		(void)lib->BIO_meth_set_ctrl(method, pipe_control);
		(void)lib->BIO_meth_set_create(method, pipe_begin);
	}
	return method;
}

static struct tls *tls_new(struct tls_context *context)
{
	struct tls *tls = mem_new(struct tls);
	BIO *bio = lib->BIO_new(pipe_method());

	tls->ssl = lib->SSL_new(context->ssl); /* it holds the context */
	if (!tls->ssl || !bio)
		abort(); /* out of memory */
	lib->BIO_set_data(bio, tls);
	lib->SSL_set_bio(tls->ssl, bio, bio);
	return tls;
}

struct tls *tls_accept(struct tls_context *context)
{
	struct tls *tls = tls_new(context);

	lib->SSL_set_accept_state(tls->ssl);
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
		(void)lib->X509_VERIFY_PARAM_set1_ip_asc(lib->SSL_get0_param(tls->ssl), host);
	} else {
		(void)lib->SSL_ctrl(tls->ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
			(void *)(uintptr_t)host);
		(void)lib->SSL_set1_host(tls->ssl, host);
	}
	lib->SSL_set_connect_state(tls->ssl);
	return tls;
}

struct tls *tls_free(struct tls *tls)
{
	if (!tls)
		return NULL;
	lib->SSL_free(tls->ssl);
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
		return lib->X509_verify_cert_error_string(result);
	}
}

/* OpenSSL has no text for the alerts that came with TLS 1.3 (RFC 8446, 6.2). */
static const char *alert_text(int alert)
{
	switch (alert) {
	case SSL_AD_CERTIFICATE_REQUIRED:
		return "certificate required (one of this client's own)";
	case SSL_AD_MISSING_EXTENSION:
		return "missing extension";
	default:
		return lib->SSL_alert_desc_string_long(alert);
	}
}

static int fail(struct tls *tls)
{
	unsigned long error = lib->ERR_peek_last_error();
	long verified = lib->SSL_get_verify_result(tls->ssl);
	const char *reason = lib->ERR_reason_error_string(error);

	tls->failed = true;
	if (ERR_GET_REASON(error) == SSL_R_CERTIFICATE_VERIFY_FAILED)
		(void)snprintf(tls->error, sizeof(tls->error), "%s", verify_text(verified));
	else if (ERR_GET_REASON(error) > SSL_AD_REASON_OFFSET)
		(void)snprintf(tls->error, sizeof(tls->error), "remote error: tls: %s",
			alert_text(ERR_GET_REASON(error) - SSL_AD_REASON_OFFSET));
	else
		(void)snprintf(
			tls->error, sizeof(tls->error), "tls: %s", reason ? reason : "handshake failure");
	lib->ERR_clear_error();
	return -EPROTO;
}

/* The only common name, as UTF-8 in one line. */
static void note_name(struct tls *tls, const X509_NAME *subject)
{
	int at = lib->X509_NAME_get_index_by_NID(subject, NID_commonName, -1), len;
	unsigned char *text;

	if (at < 0 || lib->X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0)
		return;
	len = lib->ASN1_STRING_to_UTF8(
		&text, lib->X509_NAME_ENTRY_get_data(lib->X509_NAME_get_entry(subject, at)));
	if (len < 0)
		return;
	for (int i = 0; i < len && len < (int)sizeof(tls->peer_name); i++)
		if (text[i] < 0x20 || text[i] == 0x7f)
			len = -1;
	if (len > 0 && len < (int)sizeof(tls->peer_name))
		memcpy(tls->peer_name, text, (size_t)len);
	lib->CRYPTO_free(text, OPENSSL_FILE, OPENSSL_LINE);
}

static void note_peer(struct tls *tls)
{
	const X509 *certificate = lib->SSL_get0_peer_certificate(tls->ssl);

	if (!certificate || lib->SSL_get_verify_result(tls->ssl) != X509_V_OK)
		return;
	tls->has_peer = true;
	note_name(tls, lib->X509_get_subject_name(certificate));
}

/* One step of the handshake: 1 it is over, 0 more is needed, -EPROTO. */
static int shake_hands(struct tls *tls)
{
	int r, error;

	if (tls->ready)
		return 1;
	r = lib->SSL_do_handshake(tls->ssl);
	if (r == 1) {
		tls->ready = true;
		note_peer(tls);
		return 1;
	}
	error = lib->SSL_get_error(tls->ssl, r);
	return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : fail(tls);
}

static int take_plain(struct tls *tls, struct buf *plain)
{
	for (;;) {
		char *at = buf_reserve(plain, PIECE_BYTES);
		int n, error;

		if (!at)
			return -EMSGSIZE;
		n = lib->SSL_read(tls->ssl, at, PIECE_BYTES);
		if (n > 0) {
			buf_commit(plain, (size_t)n);
			continue;
		}
		error = lib->SSL_get_error(tls->ssl, n);
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

	tls->received = received;
	tls->wire = wire;
	if (!tls->failed) {
		lib->ERR_clear_error();
		r = shake_hands(tls);
	}
	if (r > 0)
		r = take_plain(tls, plain);
	tls->received = slice_make("", 0);
	tls->wire = NULL;
	return r;
}

int tls_send(struct tls *tls, struct slice plain, struct buf *wire)
{
	int r = tls->failed ? -EPROTO : 0;

	assert(tls->ready);
	tls->wire = wire;
	lib->ERR_clear_error();
	while (r == 0 && plain.len) {
		int piece = (int)MIN(plain.len, (size_t)PIECE_BYTES),
		    n = lib->SSL_write(tls->ssl, plain.data, piece);

		if (n <= 0)
			r = fail(tls);
		else
			plain = slice_make(plain.data + n, plain.len - (size_t)n);
	}
	tls->wire = NULL;
	return r;
}

void tls_send_end(struct tls *tls, struct buf *wire)
{
	if (!tls->ready || tls->failed)
		return;
	tls->wire = wire;
	lib->ERR_clear_error();
	(void)lib->SSL_shutdown(tls->ssl);
	lib->ERR_clear_error();
	tls->wire = NULL;
}

bool tls_has_peer(const struct tls *tls)
{
	return tls->has_peer;
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
