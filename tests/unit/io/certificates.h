/* Certificates of a test's own, made as it runs: authorities, servers and clients, as PEM files. */
#pragma once
#include "base/memory.h"
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

struct certificate {
	X509 *x509;
	EVP_PKEY *key;
	char *cert_path, *key_path; /* owned */
};

static inline void certificate_add(X509 *x509, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX context;
	X509_EXTENSION *extension;

	X509V3_set_ctx_nodb(&context);
	X509V3_set_ctx(&context, issuer, x509, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	assert_non_null(extension);
	assert_int_equal(X509_add_ext(x509, extension, -1), 1);
	X509_EXTENSION_free(extension);
}

/* name: the common name; for whom: "DNS:localhost,IP:127.0.0.1", NULL for an authority or a client; issuer
 * NULL: signed by itself; days: until it ends, below 0 it has ended. */
static inline struct certificate certificate_make(const char *directory, const char *name,
	const char *for_whom, const struct certificate *issuer, int days)
{
	struct certificate made = {.x509 = X509_new(), .key = EVP_EC_gen("P-256")};
	X509_NAME *subject = X509_get_subject_name(made.x509);
	static long serial = 1;
	FILE *file;

	assert_int_equal(X509_set_version(made.x509, 2), 1);
	(void)ASN1_INTEGER_set(X509_get_serialNumber(made.x509), serial++);
	(void)X509_gmtime_adj(X509_getm_notBefore(made.x509), -100L * 86400);
	(void)X509_gmtime_adj(X509_getm_notAfter(made.x509), days * 86400L);
	(void)X509_NAME_add_entry_by_txt(
		subject, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1, -1, 0);
	(void)X509_set_issuer_name(made.x509, issuer ? X509_get_subject_name(issuer->x509) : subject);
	(void)X509_set_pubkey(made.x509, made.key);
	certificate_add(made.x509, issuer ? issuer->x509 : made.x509, NID_basic_constraints,
		issuer ? "CA:FALSE" : "critical,CA:TRUE");
	if (for_whom)
		certificate_add(made.x509, made.x509, NID_subject_alt_name, for_whom);
	assert_true(X509_sign(made.x509, issuer ? issuer->key : made.key, EVP_sha256()) > 0);
	made.cert_path = mem_printf("%s/%s.crt", directory, name);
	made.key_path = mem_printf("%s/%s.key", directory, name);
	file = fopen(made.cert_path, "we");
	assert_int_equal(PEM_write_X509(file, made.x509), 1);
	fclose(file);
	file = fopen(made.key_path, "we");
	assert_int_equal(PEM_write_PrivateKey(file, made.key, NULL, NULL, 0, NULL, NULL), 1);
	fclose(file);
	return made;
}

static inline void certificate_done(struct certificate *certificate)
{
	X509_free(certificate->x509);
	EVP_PKEY_free(certificate->key);
	free(certificate->cert_path);
	free(certificate->key_path);
}
