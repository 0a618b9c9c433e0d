/* Queries and forms against the parameter rules: the input is "METHOD key?query\ncontent type\nbody". What is
 * accepted must be a command that the store takes. */
#include "base/memory.h"
#include "base/text.h"
#include "etcd/keys_request.h"
#include "io/url.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const methods[] = {"GET", "HEAD", "PUT", "POST", "DELETE"};
	_cleanup_buf_ struct buf clean = BUF_INIT(0), bytes = BUF_INIT(0);
	struct slice rest = slice_make(data, size), line, key, type;
	struct keys_request request;
	struct store_command back;
	struct keys_input input = {0};
	const char *cause = NULL;
	struct arena arena;

	if (size < 2)
		return 0;
	input.method = slice_str(methods[data[0] % ARRAY_LEN(methods)]);
	rest = slice_make(rest.data + 1, rest.len - 1);
	(void)text_cut(rest, '\n', &line, &rest);
	(void)text_cut(line, '?', &key, &input.query);
	(void)text_cut(rest, '\n', &type, &input.body);
	url_clean_path(&clean, key);
	input.key = buf_slice(&clean);
	input.content_type = &type;
	arena_init(&arena);
	if (keys_request_parse(&arena, &input, &request, &cause)) {
		if (!cause || !*cause)
			abort();
	} else if (request.kind == KEYS_WRITE) {
		keys_request_stamp(&request, 1);
		store_command_encode(&request.command, &bytes);
		if (store_command_decode(buf_slice(&bytes), &back) < 0 ||
			!slice_equal(back.path, request.command.path) ||
			!slice_equal(back.value, request.command.value))
			abort();
	}
	arena_done(&arena);
	return 0;
}
