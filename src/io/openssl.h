/* OpenSSL's functions, opened when the first TLS context is made. What its headers have as a macro is called
 * as the function behind it. */
#pragma once
#include "io/library.h"
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#define OPENSSL_FUNCTIONS(X)                  \
	X(ASN1_STRING_to_UTF8)                \
	X(BIO_clear_flags)                    \
	X(BIO_get_data)                       \
	X(BIO_get_new_index)                  \
	X(BIO_meth_new)                       \
	X(BIO_meth_set_create)                \
	X(BIO_meth_set_ctrl)                  \
	X(BIO_meth_set_read)                  \
	X(BIO_meth_set_write)                 \
	X(BIO_new)                            \
	X(BIO_set_data)                       \
	X(BIO_set_flags)                      \
	X(BIO_set_init)                       \
	X(CRYPTO_free)                        \
	X(ERR_clear_error)                    \
	X(ERR_peek_last_error)                \
	X(ERR_reason_error_string)            \
	X(SSL_CTX_check_private_key)          \
	X(SSL_CTX_ctrl)                       \
	X(SSL_CTX_free)                       \
	X(SSL_CTX_get0_param)                 \
	X(SSL_CTX_load_verify_file)           \
	X(SSL_CTX_new)                        \
	X(SSL_CTX_set_client_CA_list)         \
	X(SSL_CTX_set_default_passwd_cb)      \
	X(SSL_CTX_set_default_verify_paths)   \
	X(SSL_CTX_set_options)                \
	X(SSL_CTX_set_session_id_context)     \
	X(SSL_CTX_set_verify)                 \
	X(SSL_CTX_use_PrivateKey_file)        \
	X(SSL_CTX_use_certificate_chain_file) \
	X(SSL_alert_desc_string_long)         \
	X(SSL_ctrl)                           \
	X(SSL_do_handshake)                   \
	X(SSL_free)                           \
	X(SSL_get0_param)                     \
	X(SSL_get0_peer_certificate)          \
	X(SSL_get_error)                      \
	X(SSL_get_verify_result)              \
	X(SSL_load_client_CA_file)            \
	X(SSL_new)                            \
	X(SSL_read)                           \
	X(SSL_set1_host)                      \
	X(SSL_set_accept_state)               \
	X(SSL_set_bio)                        \
	X(SSL_set_connect_state)              \
	X(SSL_shutdown)                       \
	X(SSL_write)                          \
	X(TLS_client_method)                  \
	X(TLS_server_method)                  \
	X(X509_NAME_ENTRY_get_data)           \
	X(X509_NAME_get_entry)                \
	X(X509_NAME_get_index_by_NID)         \
	X(X509_VERIFY_PARAM_set1_ip_asc)      \
	X(X509_VERIFY_PARAM_set_flags)        \
	X(X509_get_subject_name)              \
	X(X509_verify_cert_error_string)

struct openssl {
	OPENSSL_FUNCTIONS(LIBRARY_POINTER)
};

/* The table, the same at each call; NULL with a message: this machine has no OpenSSL 3. One thread at a time.
 */
const struct openssl *openssl_open(struct buf *reterr) _must_check_;
