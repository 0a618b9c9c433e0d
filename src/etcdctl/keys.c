/* The commands on keys: each turns its flags into one request and prints the answer. The client is made
 * first, as in the original, so that a cluster that cannot be reached is reported before a missing argument.
 */
#include "etcdctl/ctl.h"
#include "base/memory.h"
#include <stdio.h>
#include <unistd.h>

enum { STDIN_VALUE_MAX = 64 << 20, READ_BYTES = 64 << 10 };

static void response_unrefp(struct etcd_response **response)
{
	etcd_response_unref(*response);
}
#define _cleanup_response_ _cleanup_(response_unrefp)

/* Connects and checks for the key; 0 or the exit status. */
static int begin(struct ctl *ctl, int argc)
{
	int status = ctl_connect(ctl, true);

	if (status)
		return status;
	return argc < 1 ? ctl_fail(CTL_BAD_ARGS, "key required") : CTL_OK;
}

/* The value is the second word, or else all of stdin. */
static int take_value(int argc, char **argv, struct buf *value)
{
	ssize_t got;

	if (argc > 1) {
		buf_add_str(value, argv[1]);
		return CTL_OK;
	}
	do {
		char *space = buf_reserve(value, READ_BYTES);
		if (!space)
			return ctl_fail(CTL_BAD_ARGS, "the value on stdin is larger than 64 MiB");
		got = read(STDIN_FILENO, space, READ_BYTES);
		if (got > 0)
			buf_commit(value, (size_t)got);
	} while (got > 0);
	return value->len ? CTL_OK : ctl_fail(CTL_BAD_ARGS, "value required");
}

static struct etcd_put_options put_options(void)
{
	return (struct etcd_put_options){
		.ttl_s = MAX(ctl_options.ttl_s, 0),
		.prev_value = ctl_options.prev_value,
		.prev_index = ctl_options.prev_index > 0 ? (uint64_t)ctl_options.prev_index : 0,
	};
}

static int finish(struct ctl *ctl, struct etcd_request *request, bool print)
{
	_cleanup_response_ struct etcd_response *response = ctl_wait(ctl, request);

	if (response->outcome != ETCD_OK)
		return ctl_print_failure(ctl, response, CTL_SERVER_ERROR);
	if (print)
		ctl_print_key(ctl, response);
	return CTL_OK;
}

static int put_value(struct ctl *ctl, int argc, char **argv, enum etcd_prev_exist prev_exist, bool in_order)
{
	_cleanup_buf_ struct buf value = BUF_INIT(STDIN_VALUE_MAX);
	struct etcd_put_options options = put_options();
	int status = begin(ctl, argc);

	if (!status)
		status = take_value(argc, argv, &value);
	if (status)
		return status;
	options.value = buf_text(&value);
	options.value_len = value.len;
	options.prev_exist = prev_exist;
	if (in_order)
		return finish(ctl, etcd_create_in_order(ctl->client, argv[0], &options, NULL, NULL), true);
	return finish(ctl, etcd_put(ctl->client, argv[0], &options, NULL, NULL), true);
}

int ctl_set(struct ctl *ctl, int argc, char **argv)
{
	return put_value(ctl, argc, argv, ETCD_PREV_IGNORE, false);
}

int ctl_mk(struct ctl *ctl, int argc, char **argv)
{
	return put_value(ctl, argc, argv, ETCD_PREV_NO_EXIST, ctl_options.in_order);
}

int ctl_update(struct ctl *ctl, int argc, char **argv)
{
	return put_value(ctl, argc, argv, ETCD_PREV_EXIST, false);
}

static int put_dir(struct ctl *ctl, int argc, char **argv, enum etcd_prev_exist prev_exist)
{
	struct etcd_put_options options = put_options();
	int status = begin(ctl, argc);

	if (status)
		return status;
	options.dir = true;
	options.prev_exist = prev_exist;
	return finish(ctl, etcd_put(ctl->client, argv[0], &options, NULL, NULL), false);
}

int ctl_mkdir(struct ctl *ctl, int argc, char **argv)
{
	return put_dir(ctl, argc, argv, ETCD_PREV_NO_EXIST);
}

int ctl_setdir(struct ctl *ctl, int argc, char **argv)
{
	return put_dir(ctl, argc, argv, ETCD_PREV_IGNORE);
}

int ctl_updatedir(struct ctl *ctl, int argc, char **argv)
{
	return put_dir(ctl, argc, argv, ETCD_PREV_EXIST);
}

static int delete_key(struct ctl *ctl, int argc, char **argv, const struct etcd_delete_options *options)
{
	_cleanup_response_ struct etcd_response *response = NULL;
	int status = begin(ctl, argc);

	if (status)
		return status;
	response = ctl_wait(ctl, etcd_delete(ctl->client, argv[0], options, NULL, NULL));
	if (response->outcome != ETCD_OK)
		return ctl_print_failure(ctl, response, CTL_SERVER_ERROR);
	if (!response->node->dir)
		ctl_print_key(ctl, response);
	return CTL_OK;
}

int ctl_rm(struct ctl *ctl, int argc, char **argv)
{
	return delete_key(ctl, argc, argv,
		&(struct etcd_delete_options){
			.recursive = ctl_options.recursive,
			.dir = ctl_options.dir,
			.prev_value = ctl_options.prev_value,
			.prev_index = ctl_options.prev_index > 0 ? (uint64_t)ctl_options.prev_index : 0,
		});
}

int ctl_rmdir(struct ctl *ctl, int argc, char **argv)
{
	return delete_key(ctl, argc, argv, &(struct etcd_delete_options){.dir = true});
}

int ctl_get(struct ctl *ctl, int argc, char **argv)
{
	_cleanup_response_ struct etcd_response *response = NULL;
	struct etcd_get_options options = {.sorted = ctl_options.sort, .quorum = ctl_options.quorum};
	int status = begin(ctl, argc);

	if (status)
		return status;
	response = ctl_wait(ctl, etcd_get(ctl->client, argv[0], &options, NULL, NULL));
	if (response->outcome != ETCD_OK)
		return ctl_print_failure(ctl, response, CTL_SERVER_ERROR);
	if (response->node->dir) {
		fprintf(stderr, "%s: is a directory\n", response->node->key);
		return CTL_BAD_ARGS;
	}
	ctl_print_key(ctl, response);
	return CTL_OK;
}

static void print_tree(const struct etcd_node *node)
{
	printf("%s%s\n", node->key, node->dir && ctl_options.append_slash ? "/" : "");
	for (size_t i = 0; i < node->node_count; i++)
		print_tree(&node->nodes[i]);
}

int ctl_ls(struct ctl *ctl, int argc, char **argv)
{
	_cleanup_response_ struct etcd_response *response = NULL;
	struct etcd_get_options options = {
		.recursive = ctl_options.recursive,
		.sorted = ctl_options.sort,
		.quorum = ctl_options.quorum,
	};
	int status = ctl_connect(ctl, true);

	if (status)
		return status;
	response = ctl_wait(ctl, etcd_get(ctl->client, argc ? argv[0] : "/", &options, NULL, NULL));
	if (response->outcome != ETCD_OK)
		return ctl_print_failure(ctl, response, CTL_SERVER_ERROR);
	if (!response->node->dir)
		printf("%s\n", response->node->key);
	for (size_t i = 0; i < response->node->node_count; i++)
		print_tree(&response->node->nodes[i]);
	return CTL_OK;
}
