/* Builds struct etcd_response from what came over HTTP. One response owns one arena; references are counted.
 * Owner's thread. */
#pragma once
#include "base/buf.h"
#include "base/memory.h"
#include "flotilla/etcd.h"

enum response_kind { RESPONSE_KEYS, RESPONSE_MEMBERS, RESPONSE_RAW };

struct response {
	struct etcd_response pub; /* what callers see; first */
	struct arena arena;
	struct etcd_attempt *attempts;
	size_t attempt_cap;
	unsigned refs;
};

struct response *response_new(void);
void response_add_attempt(struct response *response, const char *endpoint, const char *error, bool timed_out);
/* The headers as they arrive; names in any case. Values that are no numbers are left out. */
void response_set_header(struct response *response, struct slice name, struct slice value);
/* Takes over the body and fills in everything else from status and body. 0, or -EBADMSG when it is not what
 * `kind` says (outcome is then ETCD_BAD_ANSWER). */
int response_parse(struct response *response, enum response_kind kind, struct slice body);
/* One node's text, in the response's arena. 0, or -EBADMSG. */
int response_parse_leaf(struct response *response, struct slice text, struct etcd_node *ret_node);
/* The same as response_parse() for an answer that was told piece by piece; complete: and to its end. */
int response_end_pieces(struct response *response, bool complete);
/* Without an answer: outcome and error_text, made from the attempts. */
void response_set_failure(struct response *response, enum etcd_outcome outcome);
