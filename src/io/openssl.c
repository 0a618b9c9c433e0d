/* The headers that this is compiled with and the library that is opened are of one major version, within
 * which OpenSSL keeps its functions. */
#include "io/openssl.h"

static_assert(OPENSSL_VERSION_MAJOR == 3, "the version of the library below");

const struct openssl *openssl_open(struct buf *reterr)
{
	static const char *const names[] = {OPENSSL_FUNCTIONS(LIBRARY_NAME)};
	static struct openssl library;
	_cleanup_buf_ struct buf why = BUF_INIT(4096);

	static_assert(sizeof(library) == ARRAY_LEN(names) * sizeof(void *), "a table of pointers");
	if (library_open("libssl.so.3", names, ARRAY_LEN(names), &library, &why) < 0) {
		if (reterr)
			buf_printf(reterr, "no TLS without OpenSSL: %s (package libssl3)", buf_text(&why));
		return NULL;
	}
	return &library;
}
