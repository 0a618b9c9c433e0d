/* Machines: the list, and changes of their dynamic metadata. */
#include <string.h>

#include "base/json.h"
#include "fleet/api_internal.h"

static void list_machines(struct api *api, struct http_request *req)
{
	size_t page, count, limit = api->config.token_limit;
	const char *message;
	_cleanup_buf_ struct buf out = BUF_INIT(API_BODY_MAX);
	_cleanup_free_ const struct cluster_machine **machines = NULL;
	bool any = false;

	if (api_read_page(api, req, &page, &message) < 0) {
		api_reply_error(req, 400, message);
		return;
	}
	machines = cluster_machines(api->config.cluster, &count);
	buf_add_char(&out, '{');
	for (size_t i = (page - 1) * limit; i < count && i < page * limit; i++) {
		size_t pairs_count;
		_cleanup_free_ struct scheduler_pair *pairs =
			cluster_machine_metadata(machines[i], &pairs_count);

		buf_add_str(&out, any ? ",{\"id\":" : "\"machines\":[{\"id\":");
		any = true;
		json_add_string(&out, slice_str(machines[i]->id));
		for (size_t k = 0; k < pairs_count; k++) {
			buf_add_str(&out, k ? "," : ",\"metadata\":{");
			json_add_string(&out, slice_str(pairs[k].key));
			buf_add_char(&out, ':');
			json_add_string(&out, slice_str(pairs[k].value));
		}
		if (pairs_count)
			buf_add_char(&out, '}');
		if (machines[i]->object.public_ip[0]) {
			buf_add_str(&out, ",\"primaryIP\":");
			json_add_string(&out, slice_str(machines[i]->object.public_ip));
		}
		buf_add_char(&out, '}');
	}
	if (any)
		buf_add_char(&out, ']');
	if (count >= page * limit) {
		if (any)
			buf_add_char(&out, ',');
		api_add_token(&out, (uint16_t)limit, page + 1);
	}
	buf_add_char(&out, '}');
	api_reply_json(req, 200, &out);
}

/* "/ID/metadata/KEY": true with the parts. */
static bool cut_metadata_path(struct slice path, struct slice *ret_id, struct slice *ret_key)
{
	struct slice middle;

	if (!path.len || path.data[0] != '/')
		return false;
	path = slice_make(path.data + 1, path.len - 1);
	if (!text_cut(path, '/', ret_id, &path) || !text_cut(path, '/', &middle, ret_key))
		return false;
	if (!ret_id->len || ret_id->len > REGISTRY_MACHINE_ID_MAX || !slice_is(middle, "metadata") ||
		!ret_key->len)
		return false;
	for (size_t i = 0; i < ret_key->len; i++)
		if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-",
			    ret_key->data[i]) ||
			!ret_key->data[i])
			return false;
	return true;
}

/* Checks one operation and adds its write. Answers a message for a 400, or NULL. */
static const char *add_operation(struct api *api, struct api_write *write, json_t *op)
{
	const char *kind = json_string_value(api_json_member(op, "op"));
	const char *path = json_string_value(api_json_member(op, "path"));
	json_t *holder = api_json_member(op, "value");
	/* {"value": "east"} as JSON Patch and the manual have it, {"value": {"value": "east"}} as 1.0 does.
	 */
	const char *value =
		json_string_value(json_is_object(holder) ? api_json_member(holder, "value") : holder);
	struct slice id, key;
	bool removal = kind && strcmp(kind, "remove") == 0;

	if (!json_is_object(op))
		return "json: cannot unmarshal a patch operation that is no object";
	if (!kind || (!removal && strcmp(kind, "add") != 0 && strcmp(kind, "replace") != 0))
		return "invalid op: expect add, remove, or replace";
	if (!path || !cut_metadata_path(slice_str(path), &id, &key))
		return "machine metadata path invalid";
	if (!removal && (!value || !value[0]))
		return "invalid value: add and replace require a value";
	api_write_add(write, API_STEP_SET,
		mem_printf("%s/machines/%.*s/metadata/%.*s", api->config.prefix, (int)id.len, id.data,
			(int)key.len, key.data),
		mem_strdup(removal ? "" : value));
	return NULL;
}

static void patch_machines(struct api *api, struct http_request *req)
{
	json_error_t error;
	json_t *root = api_json_read(req->body, &error), *op;
	const char *message = NULL;
	struct api_write *write;
	size_t i;

	if (!root) {
		api_reply_error(req, 400, api_json_error(req->body, &error));
		return;
	}
	write = api_write_new(api, req, 204, true);
	if (!json_is_array(root))
		message = "json: cannot unmarshal the body: it must be an array of patch operations";
	else
		json_array_foreach(root, i, op) if (!message) message = add_operation(api, write, op);
	if (message) {
		api_reply_error(req, 400, message);
		api_write_drop(write);
	} else {
		api_write_start(write);
	}
	json_decref(root);
}

void api_machines(struct api *api, struct http_request *req)
{
	if (slice_is(req->method, "GET"))
		list_machines(api, req);
	else if (slice_is(req->method, "PATCH"))
		patch_machines(api, req);
	else
		api_reply_error(req, 405, "only GET and PATCH supported against this resource");
}
