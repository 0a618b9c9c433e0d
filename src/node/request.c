/* Requests by the name that their caller gave them. Clients may vanish by the thousand at the same moment, so
 * that finding one must not cost a walk past the others. */
#include "node/internal.h"

static struct list *bucket_of(struct node *node, const void *name)
{
	uint64_t mixed = (uint64_t)(uintptr_t)name * UINT64_C(0x9e3779b97f4a7c15);

	return &node->requests[mixed / (UINT64_MAX / NODE_BUCKETS + 1)];
}

void node_requests_init(struct node *node)
{
	for (size_t i = 0; i < ARRAY_LEN(node->requests); i++)
		list_init(&node->requests[i]);
}

void node_request_begin(struct node *node, struct request *request, void *name)
{
	request->name = name;
	list_init(&request->link);
	if (name)
		list_push_back(bucket_of(node, name), &request->link);
}

void *node_request_end(struct request *request)
{
	void *name = request->name;

	list_remove(&request->link);
	request->name = NULL;
	return name;
}

void node_forget(struct node *node, void *name)
{
	list_for_each (it, bucket_of(node, name)) {
		struct request *request = list_item(it, struct request, link);

		if (request->name != name)
			continue;
		if (request->is_read)
			node_read_forgotten(node, request);
		else
			(void)node_request_end(request);
		return;
	}
}
