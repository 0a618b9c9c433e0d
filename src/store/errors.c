/* One table: code, HTTP status, text. A code that has no row would be a bug of ours; it still gets an answer.
 */
#include "store/errors.h"
#include "base/json.h"

static const struct {
	enum store_error error;
	int status;
	const char *message;
} store_errors[] = {
	{STORE_KEY_NOT_FOUND, 404, "Key not found"},
	{STORE_COMPARE_FAILED, 412, "Compare failed"},
	{STORE_NOT_FILE, 403, "Not a file"},
	{STORE_NOT_DIR, 400, "Not a directory"},
	{STORE_NODE_EXISTS, 412, "Key already exists"},
	{STORE_ROOT_READ_ONLY, 400, "Root is read only"},
	{STORE_DIR_NOT_EMPTY, 403, "Directory not empty"},
	{STORE_UNAUTHORIZED, 401, "The request requires user authentication"},
	{STORE_PREV_VALUE_REQUIRED, 400, "PrevValue is Required in POST form"},
	{STORE_TTL_NAN, 400, "The given TTL in POST form is not a number"},
	{STORE_INDEX_NAN, 400, "The given index in POST form is not a number"},
	{STORE_INVALID_FIELD, 400, "Invalid field"},
	{STORE_INVALID_FORM, 400, "Invalid POST form"},
	{STORE_REFRESH_VALUE, 400, "Value provided on refresh"},
	{STORE_REFRESH_TTL_REQUIRED, 400, "A TTL must be provided on refresh"},
	{STORE_RAFT_INTERNAL, 500, "Raft Internal Error"},
	{STORE_EVENT_INDEX_CLEARED, 400, "The event in requested index is outdated and cleared"},
};

const char *store_error_message(enum store_error error)
{
	for (size_t i = 0; i < ARRAY_LEN(store_errors); i++)
		if (store_errors[i].error == error)
			return store_errors[i].message;
	return "Unknown error";
}

int store_error_http_status(enum store_error error)
{
	for (size_t i = 0; i < ARRAY_LEN(store_errors); i++)
		if (store_errors[i].error == error)
			return store_errors[i].status;
	return 400;
}

void store_error_add_json(struct buf *out, enum store_error error, const char *cause, uint64_t index)
{
	buf_add_str(out, "{\"errorCode\":");
	buf_add_u64(out, (uint64_t)error);
	buf_add_str(out, ",\"message\":");
	json_add_string(out, slice_str(store_error_message(error)));
	if (cause && *cause) {
		buf_add_str(out, ",\"cause\":");
		json_add_string(out, slice_str(cause));
	}
	buf_add_str(out, ",\"index\":");
	buf_add_u64(out, index);
	buf_add_str(out, "}\n");
}
