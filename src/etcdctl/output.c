/* How answers are printed: the value, a block of headers and the value, or JSON with the original's field
 * order. */
#include "etcdctl/ctl.h"
#include "base/json.h"
#include <stdio.h>

static void add_json_node(struct buf *out, const struct etcd_node *node)
{
	if (!node) {
		buf_add_str(out, "null");
		return;
	}
	buf_add_str(out, "{\"key\":");
	json_add_string(out, slice_str(node->key));
	if (node->dir)
		buf_add_str(out, ",\"dir\":true");
	buf_add_str(out, ",\"value\":");
	json_add_string(out, slice_make(node->value ? node->value : "", node->value_len));
	if (node->nodes) {
		buf_add_str(out, ",\"nodes\":[");
		for (size_t i = 0; i < node->node_count; i++) {
			if (i)
				buf_add_char(out, ',');
			add_json_node(out, &node->nodes[i]);
		}
		buf_add_char(out, ']');
	} else {
		buf_add_str(out, ",\"nodes\":null");
	}
	buf_printf(out, ",\"createdIndex\":%llu,\"modifiedIndex\":%llu",
		(unsigned long long)node->created_index, (unsigned long long)node->modified_index);
	if (node->expiration) {
		buf_add_str(out, ",\"expiration\":");
		json_add_string(out, slice_str(node->expiration));
	}
	if (node->ttl_s)
		buf_printf(out, ",\"ttl\":%lld", (long long)node->ttl_s);
	buf_add_char(out, '}');
}

void ctl_add_json(struct buf *out, const struct etcd_response *response)
{
	buf_add_str(out, "{\"action\":");
	json_add_string(out, slice_str(response->action));
	buf_add_str(out, ",\"node\":");
	add_json_node(out, response->node);
	buf_add_str(out, ",\"prevNode\":");
	add_json_node(out, response->prev_node);
	buf_add_char(out, '}');
}

static void print_value(const struct etcd_node *node)
{
	if (node && node->value)
		fwrite(node->value, 1, node->value_len, stdout);
	putchar('\n');
}

static void print_extended(const struct etcd_response *response)
{
	const struct etcd_node *node = response->node;

	printf("Key: %s\nCreated-Index: %llu\nModified-Index: %llu\n", node->key,
		(unsigned long long)node->created_index, (unsigned long long)node->modified_index);
	if (response->prev_node) {
		fputs("PrevNode.Value: ", stdout);
		print_value(response->prev_node);
	}
	printf("TTL: %lld\nIndex: %llu\n", (long long)node->ttl_s, (unsigned long long)response->etcd_index);
	if (strcmp(response->action, "delete")) {
		putchar('\n');
		print_value(node);
	}
}

void ctl_print_key(const struct ctl *ctl, const struct etcd_response *response)
{
	if (!strcmp(ctl->output, "simple")) {
		if (strcmp(response->action, "delete")) {
			print_value(response->node);
		} else {
			fputs("PrevNode.Value: ", stdout);
			print_value(response->prev_node);
		}
	} else if (!strcmp(ctl->output, "extended")) {
		print_extended(response);
	} else if (!strcmp(ctl->output, "json")) {
		_cleanup_buf_ struct buf text = BUF_INIT(0);
		ctl_add_json(&text, response);
		printf("%s\n", buf_text(&text));
	} else {
		fprintf(stderr, "Unsupported output format: %s\n", ctl->output);
	}
}
