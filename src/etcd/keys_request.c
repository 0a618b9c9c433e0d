/* Form first (body values before query values, the first of a name counts), then each parameter in the order
 * in which the original looks at them: the first bad one is the answer. */
#include "etcd/keys_request.h"
#include "base/text.h"
#include "base/time.h"
#include "io/http.h"
#include "io/url.h"
#include <errno.h>

enum { FORM_MAX_BYTES = 10 * 1024 * 1024 }; /* the original's ceiling, and so that of values */

struct parsing {
	struct arena *arena;
	struct url_form form;
	enum store_error error;
	const char *cause;
};

static void refuse(struct parsing *parsing, enum store_error error, const char *cause)
{
	if (parsing->error)
		return;
	parsing->error = error;
	parsing->cause = arena_strndup(parsing->arena, cause, strlen(cause));
}

/* ---- the media type, as far as Go looks at it ---- */

static struct slice cut_token(struct slice *text)
{
	struct slice token = {text->data, http_token_len(*text)};

	*text = slice_make(text->data + token.len, text->len - token.len);
	return token;
}

static struct slice skip(struct slice text, size_t count)
{
	return slice_make(text.data + count, text.len - count);
}

static const char *check_media_parameters(struct slice rest)
{
	static const char invalid[] = "mime: invalid media parameter";

	for (;;) {
		rest = text_trim(rest);
		if (!rest.len)
			return NULL;
		if (rest.data[0] != ';')
			return invalid;
		rest = text_trim(skip(rest, 1));
		if (!rest.len)
			return NULL;
		if (!cut_token(&rest).len)
			return invalid;
		rest = text_trim(rest);
		if (!rest.len || rest.data[0] != '=')
			return invalid;
		rest = text_trim(skip(rest, 1));
		if (rest.len && rest.data[0] == '"') {
			size_t end = 1;

			while (end < rest.len && rest.data[end] != '"')
				end += rest.data[end] == '\\' ? 2 : 1;
			if (end >= rest.len)
				return invalid;
			rest = skip(rest, end + 1);
		} else if (!cut_token(&rest).len) {
			return invalid;
		}
	}
}

/* NULL, or Go's text for a Content-Type that does not parse; tells whether it names a form. */
static const char *check_media_type(struct slice text, bool *ret_is_form)
{
	struct slice base, parameters, rest;

	*ret_is_form = false;
	if (!text_cut(text, ';', &base, &parameters))
		parameters = slice_make("", 0);
	else
		parameters = skip(text, base.len);
	base = text_trim(base);
	*ret_is_form = http_equal_nocase(base, "application/x-www-form-urlencoded");
	rest = base;
	if (!cut_token(&rest).len)
		return "mime: no media type";
	if (rest.len && rest.data[0] != '/')
		return "mime: expected slash after first token";
	if (rest.len) {
		rest = skip(rest, 1);
		if (!cut_token(&rest).len)
			return "mime: expected token after slash";
		if (rest.len)
			return "mime: unexpected content after media subtype";
	}
	return check_media_parameters(parameters);
}

static void parse_part(struct parsing *parsing, struct slice text)
{
	_cleanup_buf_ struct buf why = BUF_INIT(0);
	int r = url_form_parse(parsing->arena, &parsing->form, text, &why);

	if (r < 0)
		refuse(parsing, STORE_INVALID_FORM, why.len ? buf_text(&why) : "too many parameters");
}

static void parse_form(struct parsing *parsing, const struct keys_input *input)
{
	bool has_body = slice_is(input->method, "PUT") || slice_is(input->method, "POST");
	const char *text;
	bool is_form;

	if (has_body && input->content_type && input->content_type->len) {
		text = check_media_type(*input->content_type, &is_form);
		if (is_form && (input->body_too_large || input->body.len > FORM_MAX_BYTES))
			text = "http: POST too large";
		else if (is_form)
			parse_part(parsing, input->body);
		if (text)
			refuse(parsing, STORE_INVALID_FORM, text);
	}
	parse_part(parsing, input->query);
}

/* ---- parameters ---- */

static uint64_t read_index(struct parsing *parsing, const char *name)
{
	const struct slice *text = url_form_get(&parsing->form, name);
	uint64_t value = 0;

	if (text && text_to_u64(*text, &value) < 0)
		refuse(parsing, STORE_INDEX_NAN,
			arena_printf(parsing->arena, "invalid value for \"%s\"", name));
	return value;
}

static bool read_bool(struct parsing *parsing, const char *name, bool quoted, bool *ret_given)
{
	const struct slice *text = url_form_get(&parsing->form, name);
	bool value = false;

	if (ret_given)
		*ret_given = text;
	if (text && text_to_bool(*text, &value) < 0)
		refuse(parsing, STORE_INVALID_FIELD,
			arena_printf(parsing->arena,
				quoted ? "invalid value for \"%s\"" : "invalid value for %s", name));
	return value;
}

static void check_refresh(struct parsing *parsing, bool refresh, bool has_ttl)
{
	const struct slice *value = url_form_get(&parsing->form, "value");

	if (!refresh)
		return;
	if (value && value->len)
		refuse(parsing, STORE_REFRESH_VALUE, "A value was provided on a refresh");
	if (!has_ttl)
		refuse(parsing, STORE_REFRESH_TTL_REQUIRED, "No TTL value set");
}

static void choose_operation(
	struct store_command *command, struct slice method, bool prev_exist_given, bool prev_exist)
{
	bool compare = command->prev_index > 0 || command->prev_value.len > 0;

	if (slice_is(method, "DELETE")) {
		command->op = compare ? STORE_OP_COMPARE_AND_DELETE : STORE_OP_DELETE;
	} else if (slice_is(method, "POST")) {
		command->op = STORE_OP_CREATE;
		command->in_order = true;
	} else if (prev_exist_given && !prev_exist) {
		command->op = STORE_OP_CREATE;
	} else if (compare) {
		command->op = STORE_OP_COMPARE_AND_SWAP;
	} else {
		command->op = prev_exist_given ? STORE_OP_UPDATE : STORE_OP_SET;
	}
}

static struct slice store_path(struct arena *arena, struct slice key)
{
	char *path;

	while (key.len && key.data[key.len - 1] == '/')
		key.len--;
	path = arena_alloc(arena, sizeof(STORE_USER_PREFIX) + key.len);
	memcpy(path, STORE_USER_PREFIX, sizeof(STORE_USER_PREFIX) - 1);
	memcpy(path + sizeof(STORE_USER_PREFIX) - 1, key.data, key.len);
	return slice_make(path, sizeof(STORE_USER_PREFIX) - 1 + key.len);
}

enum store_error keys_request_parse(struct arena *arena, const struct keys_input *input,
	struct keys_request *ret_request, const char **ret_cause)
{
	struct parsing parsing = {.arena = arena};
	struct keys_request request = {0};
	struct store_command *command = &request.command;
	bool is_read = slice_is(input->method, "GET") || slice_is(input->method, "HEAD"), wait, given,
	     prev_exist, refresh;
	const struct slice *text;

	parse_form(&parsing, input);
	command->path = store_path(arena, input->key);
	command->prev_index = read_index(&parsing, "prevIndex");
	request.wait_index = read_index(&parsing, "waitIndex");
	request.recursive = command->recursive = read_bool(&parsing, "recursive", true, NULL);
	(void)read_bool(&parsing, "sorted", true, NULL);
	wait = read_bool(&parsing, "wait", true, NULL);
	command->dir = read_bool(&parsing, "dir", true, NULL);
	request.quorum = read_bool(&parsing, "quorum", true, NULL);
	request.stream = read_bool(&parsing, "stream", true, NULL);
	if (wait && !slice_is(input->method, "GET"))
		refuse(&parsing, STORE_INVALID_FIELD, "\"wait\" can only be used with GET requests");
	text = url_form_get(&parsing.form, "prevValue");
	if (text && !text->len)
		refuse(&parsing, STORE_PREV_VALUE_REQUIRED, "\"prevValue\" cannot be empty");
	command->prev_value = text ? *text : slice_make("", 0);
	text = url_form_get(&parsing.form, "ttl");
	request.has_ttl = text && text->len;
	if (request.has_ttl && text_to_u64(*text, &request.ttl_s) < 0)
		refuse(&parsing, STORE_TTL_NAN, "invalid value for \"ttl\"");
	prev_exist = read_bool(&parsing, "prevExist", false, &given);
	refresh = command->refresh = read_bool(&parsing, "refresh", false, NULL);
	check_refresh(&parsing, refresh, request.has_ttl);
	text = url_form_get(&parsing.form, "value");
	command->value = text ? *text : slice_make("", 0);
	if (!parsing.error && command->path.len > STORE_PATH_MAX - 64)
		refuse(&parsing, STORE_INVALID_FORM, "key too long");
	if (parsing.error) {
		*ret_cause = parsing.cause;
		return parsing.error;
	}
	request.kind = KEYS_WRITE;
	if (is_read)
		request.kind = wait && !request.quorum ? KEYS_WATCH : KEYS_READ;
	else
		choose_operation(command, input->method, given, prev_exist);
	*ret_request = request;
	return STORE_OK;
}

void keys_request_stamp(struct keys_request *request, int64_t now_ns)
{
	request->command.time_ns = now_ns;
	request->command.has_expiry = request->has_ttl;
	if (request->has_ttl)
		request->command.expires_ns =
			(int64_t)((uint64_t)now_ns + request->ttl_s * (uint64_t)NS_PER_S);
}
