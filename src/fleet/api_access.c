/* Reads api_writers, and judges a request by it. */
#include "fleet/api_access.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "io/users.h"

enum writer_kind { WRITER_USER, WRITER_GROUP, WRITER_CERT, WRITER_TCP };

struct writer {
	enum writer_kind kind;
	unsigned id;
	char *name; /* owned; of a certificate */
};
struct api_access {
	struct writer *writers;
	size_t count;
};

static int read_writer(struct slice word, struct writer *ret, struct buf *reterr)
{
	struct slice kind, rest;
	_cleanup_free_ char *name = NULL;
	int r = 0;

	*ret = (struct writer){.kind = WRITER_TCP};
	if (slice_is(word, "tcp"))
		return 0;
	if (!text_cut(word, ':', &kind, &rest) || !rest.len)
		kind = SLICE_LITERAL("");
	name = mem_strndup(rest.data, rest.len);
	if (slice_is(kind, "user")) {
		ret->kind = WRITER_USER;
		r = users_find(name, &ret->id, NULL);
	} else if (slice_is(kind, "group")) {
		ret->kind = WRITER_GROUP;
		r = users_find_group(name, &ret->id);
	} else if (slice_is(kind, "cert")) {
		ret->kind = WRITER_CERT;
		ret->name = take_ptr(name);
	} else {
		buf_printf(reterr, "\"%.*s\" is unknown: it is user:NAME, group:NAME, cert:NAME or tcp",
			(int)word.len, word.data);
		return -EINVAL;
	}
	if (r < 0)
		buf_printf(reterr, "there is no %.*s %s in /etc/%s", (int)kind.len, kind.data, name,
			slice_is(kind, "user") ? "passwd" : "group");
	return r < 0 ? -EINVAL : 0;
}

int api_access_read(const char *list, struct api_access **ret, struct buf *reterr)
{
	struct api_access *access = mem_new(struct api_access);
	struct slice rest = slice_str(list), word;

	while (rest.len) {
		int r;

		(void)text_cut(rest, ',', &word, &rest);
		word = text_trim(word);
		if (!word.len)
			continue;
		access->writers =
			mem_reallocarray(access->writers, access->count + 1, sizeof(*access->writers));
		r = read_writer(word, &access->writers[access->count], reterr);
		if (r < 0) {
			(void)api_access_free(access);
			return r;
		}
		access->count++;
	}
	if (list[0] && !access->count) {
		buf_add_str(reterr, "it names nobody: leave it empty for everybody");
		(void)api_access_free(access);
		return -EINVAL;
	}
	*ret = access;
	return 0;
}

struct api_access *api_access_free(struct api_access *access)
{
	if (!access)
		return NULL;
	for (size_t i = 0; i < access->count; i++)
		free(access->writers[i].name);
	free(access->writers);
	free(access);
	return NULL;
}

static bool is_writer(const struct writer *writer, const struct http_request *req, bool is_local, uid_t uid,
	const char *name)
{
	switch (writer->kind) {
	case WRITER_USER:
		return is_local && writer->id == uid;
	case WRITER_GROUP:
		return is_local && http_request_peer_in_group(req, writer->id);
	case WRITER_CERT:
		return !is_local && name[0] && strcmp(writer->name, name) == 0;
	default:
		return !is_local && !http_request_has_certificate(req);
	}
}

bool api_access_may_write(const struct api_access *access, const struct http_request *req, struct buf *reterr)
{
	const char *name = http_request_peer_name(req);
	uid_t uid = (uid_t)-1;
	int r = http_request_peer_uid(req, &uid);
	bool is_local = r == 0;

	if (!access->count)
		return true;
	if (r < 0 && r != -ENOTSUP)
		return false; /* it is gone */
	if (is_local && (uid == 0 || uid == geteuid()))
		return true;
	for (size_t i = 0; i < access->count; i++)
		if (is_writer(&access->writers[i], req, is_local, uid, name))
			return true;
	if (is_local)
		buf_printf(reterr, "the user with uid %u", (unsigned)uid);
	else if (name[0])
		buf_printf(reterr, "the certificate of %s", name);
	else if (http_request_has_certificate(req))
		buf_add_str(reterr, "a certificate without one common name");
	else
		buf_add_str(reterr, "a client without a certificate");
	buf_add_str(reterr, " may only read here (fleetd's api_writers names who may change things)");
	return false;
}
