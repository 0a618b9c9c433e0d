/* What a server answers to our etcd client: bodies of every kind, headers, and the endpoints that it
 * advertises. The first byte chooses the kind and the status. */
#include "etcdclient/pieces.h"
#include "etcdclient/response.h"
#include "etcdclient/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t count_nodes(const struct etcd_node *node)
{
	size_t count = 1;

	assert(node->key && strlen(etcd_node_name(node)) <= strlen(node->key));
	assert(node->value || !node->value_len);
	for (size_t i = 0; i < node->node_count; i++)
		count += count_nodes(&node->nodes[i]);
	return count;
}

/* Piece by piece, so many bytes at a time: what can be read as a whole can be read so as well. */
static void tell(struct slice body, size_t piece_len, bool sound)
{
	struct response *scratch = response_new();
	struct pieces pieces;
	int r = 0;

	pieces_init(&pieces, 1 << 20);
	for (size_t at = 0; r >= 0 && at < body.len; at += piece_len) {
		struct slice rest = slice_make(body.data + at, MIN(piece_len, body.len - at)), leaf;
		struct etcd_node node;

		while ((r = pieces_next(&pieces, &rest, &leaf)) > 0) {
			assert(leaf.len >= 2 && leaf.data[0] == '{' && leaf.data[leaf.len - 1] == '}');
			arena_reset(&scratch->arena);
			if (response_parse_leaf(scratch, leaf, &node) == 0)
				assert(count_nodes(&node) == 1); /* it holds no other object */
		}
	}
	assert(!sound || (r == 0 && pieces_are_complete(&pieces)));
	pieces_done(&pieces);
	etcd_response_unref(&scratch->pub);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int statuses[] = {200, 201, 400, 404, 500, 503};
	_cleanup_buf_ struct buf error = BUF_INIT(4096);
	struct response *response = response_new();
	char **urls;
	size_t count;

	if (!size)
		goto out;
	response->pub.status = statuses[data[0] / 3 % ARRAY_LEN(statuses)];
	struct slice body = slice_make(data + 1, size - 1);
	response_set_header(response, SLICE_LITERAL("X-Etcd-Index"), body);
	if (response_parse(response, data[0] % 3, body) == 0 && response->pub.node)
		assert(count_nodes(response->pub.node) <= size);
	if (data[0] % 3 == RESPONSE_KEYS)
		tell(body, 1 + data[0] % 7, response->pub.outcome == ETCD_OK);
	assert((response->pub.outcome == ETCD_OK) == !response->pub.error_text[0]);
	for (size_t i = 0; i < response->pub.member_count; i++)
		for (size_t j = 0; j < response->pub.members[i].client_url_count; j++)
			if (target_parse_endpoints(
				    response->pub.members[i].client_urls[j], &urls, &count, &error) == 0)
				target_endpoints_free(urls, count);
out:
	etcd_response_unref(&response->pub);
	return 0;
}
