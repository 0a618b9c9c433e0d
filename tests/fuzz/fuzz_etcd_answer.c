/* What a server answers to our etcd client: bodies of every kind, headers, and the endpoints that it
 * advertises. The first byte chooses the kind and the status. */
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
