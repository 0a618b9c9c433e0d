/* Units and their published states. Bodies are written by hand with their keys sorted and empty fields left
 * out, as fleet's generated code does. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "fleet/api_internal.h"
#include "io/url.h"

/* ---- what units look like ---- */

static void add_field(struct buf *out, const char *key, struct slice value)
{
	if (!value.len)
		return;
	if (out->len && out->data[out->len - 1] != '{')
		buf_add_char(out, ',');
	buf_printf(out, "\"%s\":", key);
	json_add_string(out, value);
}

static void add_unit(
	struct buf *out, const struct cluster_unit *unit, const struct cluster_text *text, bool in_list)
{
	buf_add_char(out, '{');
	if (!unit->global || in_list)
		add_field(out, "currentState", slice_str(registry_state_name(cluster_unit_current(unit))));
	add_field(out, "desiredState", slice_str(registry_state_name(unit->desired)));
	if (unit->target && !unit->global)
		add_field(out, "machineID", slice_str(unit->target));
	add_field(out, "name", slice_str(unit->name));
	if (text->file->count)
		buf_add_str(out, ",\"options\":[");
	for (size_t i = 0; i < text->file->count; i++) {
		const struct unit_option *option = &text->file->options[i];

		buf_add_str(out, i ? ",{" : "{");
		add_field(out, "name", option->name);
		add_field(out, "section", option->section);
		add_field(out, "value", option->value);
		buf_add_char(out, '}');
	}
	if (text->file->count)
		buf_add_char(out, ']');
	buf_add_char(out, '}');
}

static void add_state(struct buf *out, const char *name, const struct registry_unit_state *state)
{
	buf_add_char(out, '{');
	add_field(out, "hash", slice_str(state->hash));
	add_field(out, "machineID", slice_str(state->machine));
	add_field(out, "name", slice_str(name));
	add_field(out, "systemdActiveState", slice_str(state->active));
	add_field(out, "systemdLoadState", slice_str(state->load));
	add_field(out, "systemdSubState", slice_str(state->sub));
	buf_add_char(out, '}');
}

/* One page of a list; more: the next one may have something. */
static void reply_page(struct api *api, struct http_request *req, const char *key, const struct buf *items,
	size_t page, bool more)
{
	_cleanup_buf_ struct buf out = BUF_INIT(API_BODY_MAX);

	buf_add_char(&out, '{');
	if (more) {
		api_add_token(&out, api->config.token_limit, page + 1);
		if (items->len)
			buf_add_char(&out, ',');
	}
	if (items->len) {
		buf_printf(&out, "\"%s\":[", key);
		buf_add_slice(&out, buf_slice(items));
		buf_add_char(&out, ']');
	}
	buf_add_char(&out, '}');
	api_reply_json(req, 200, &out);
}

static void list_units(struct api *api, struct http_request *req)
{
	size_t page, count, seen = 0, limit = api->config.token_limit;
	const char *message;
	_cleanup_buf_ struct buf items = BUF_INIT(API_BODY_MAX);
	_cleanup_free_ const struct cluster_unit **units = NULL;

	if (api_read_page(api, req, &page, &message) < 0) {
		api_reply_error(req, 400, message);
		return;
	}
	units = cluster_entries(api->config.cluster, &count);
	for (size_t i = 0; i < count; i++) {
		const struct cluster_text *text = cluster_text(api->config.cluster, units[i]->hash);

		if (!units[i]->planned || !text || ++seen <= (page - 1) * limit || seen > page * limit)
			continue;
		if (items.len)
			buf_add_char(&items, ',');
		add_unit(&items, units[i], text, true);
	}
	reply_page(api, req, "units", &items, page, seen >= page * limit);
}

/* ---- writing ---- */

struct unit_body {
	json_t *root;
	struct unit_file *options; /* NULL: none given */
	const char *desired;	   /* "" when not given */
};

static void unit_body_done(struct unit_body *body)
{
	json_decref(body->root);
	unit_file_free(body->options);
}

static const char *json_kind(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return "object";
	case JSON_ARRAY:
		return "array";
	case JSON_STRING:
		return "string";
	case JSON_INTEGER:
	case JSON_REAL:
		return "number";
	default:
		return "bool";
	}
}

/* A string member: "" when absent or null; false with Go's message when it is of another type. */
static bool string_member(json_t *object, const char *key, const char *owner, const char **ret,
	struct http_request *req, const char **ret_message)
{
	const json_t *value = api_json_member(object, key);

	*ret = "";
	if (!value || json_is_null(value))
		return true;
	if (!json_is_string(value)) {
		*ret_message = arena_printf(&req->arena,
			"unable to decode body: json: cannot unmarshal %s into Go struct field %s.%s of type "
			"string",
			json_kind(value), owner, key);
		return false;
	}
	*ret = json_string_value(value);
	return true;
}

static bool read_options(
	struct http_request *req, json_t *list, struct unit_file **ret, const char **ret_message)
{
	struct unit_file *file = unit_file_new();
	size_t i;
	json_t *item;

	json_array_foreach(list, i, item)
	{
		const char *section, *name, *value;

		if (!json_is_object(item))
			*ret_message = "unable to decode body: an option is no object";
		else if (string_member(item, "section", "UnitOption", &section, req, ret_message) &&
			 string_member(item, "name", "UnitOption", &name, req, ret_message) &&
			 string_member(item, "value", "UnitOption", &value, req, ret_message) &&
			 unit_file_add(file, slice_str(section), slice_str(name), slice_str(value)) < 0)
			*ret_message = "unit has too many options";
		if (*ret_message) {
			unit_file_free(file);
			return false;
		}
	}
	*ret = file;
	return true;
}

/* Reads and checks the body. False: answered. */
static bool read_body(struct http_request *req, struct slice name, struct unit_body *body)
{
	json_error_t error;
	const char *message = NULL, *given;
	json_t *options;

	*body = (struct unit_body){.root = api_json_read(req->body, &error)};
	if (!body->root) {
		message = arena_printf(
			&req->arena, "unable to decode body: %s", api_json_error(req->body, &error));
	} else if (!json_is_object(body->root)) {
		message = arena_printf(&req->arena,
			"unable to decode body: json: cannot unmarshal %s into Go value of type schema.Unit",
			json_kind(body->root));
	} else {
		options = api_json_member(body->root, "options");
		if (options && !json_is_null(options) && !json_is_array(options))
			message = arena_printf(&req->arena,
				"unable to decode body: json: cannot unmarshal %s into Go struct field "
				"Unit.options of type "
				"[]*schema.UnitOption",
				json_kind(options));
		else if (string_member(body->root, "name", "Unit", &given, req, &message) &&
			 string_member(body->root, "desiredState", "Unit", &body->desired, req, &message)) {
			if (given[0] && !slice_is(name, given))
				message = arena_printf(&req->arena,
					"name in URL \"%.*s\" differs from unit name in request body \"%s\"",
					(int)name.len, name.data, given);
			else if (json_array_size(options))
				(void)!read_options(req, options, &body->options, &message);
		}
	}
	if (!message)
		return true;
	api_reply_error(req, 400, message);
	unit_body_done(body);
	return false;
}

static void write_unit(struct api *api, struct http_request *req, struct slice name,
	const struct unit_file *file, enum registry_state desired, int status)
{
	struct api_write *write = api_write_new(api, req, status, false);
	const char *prefix = api->config.prefix;
	char hex[UNIT_HASH_HEX_SIZE];
	_cleanup_free_ char *text = mem_strndup(name.data, name.len);
	uint8_t hash[UNIT_HASH_SIZE];

	if (file) {
		struct buf raw = BUF_INIT(UNIT_TEXT_MAX), unit = BUF_INIT(8 * UNIT_TEXT_MAX),
			   job = BUF_INIT(8192);

		unit_file_serialise(file, &raw);
		unit_file_hash(file, hash);
		unit_hash_hex(hash, hex);
		registry_encode_unit(&unit, buf_slice(&raw));
		registry_encode_job(&job, text, hash);
		buf_done(&raw);
		api_write_add(
			write, API_STEP_CREATE, mem_printf("%s/unit/%s", prefix, hex), buf_take(&unit, NULL));
		api_write_add_together(write, API_STEP_SET, mem_printf("%s/job/%s/object", prefix, text),
			buf_take(&job, NULL));
	}
	api_write_add(write, API_STEP_SET, mem_printf("%s/job/%s/target-state", prefix, text),
		mem_strdup(registry_state_name(desired)));
	api_write_start(write);
}

static bool same_options(const struct cluster_unit *unit, const struct unit_file *file)
{
	uint8_t hash[UNIT_HASH_SIZE];
	char hex[UNIT_HASH_HEX_SIZE];

	unit_file_hash(file, hash);
	unit_hash_hex(hash, hex);
	return strcmp(hex, unit->hash) == 0;
}

/* Fleet's texts for every case; an unknown desiredState, which 1.0 stores or answers with an empty 500, is a
 * 400 here. */
static void set_unit(
	struct api *api, struct http_request *req, struct slice name, const struct unit_body *body)
{
	_cleanup_free_ char *text = mem_strndup(name.data, name.len);
	const struct cluster_unit *unit = cluster_unit(api->config.cluster, text);
	enum registry_state desired = registry_state_from_name(slice_str(body->desired));
	struct unit_error error;

	if (body->desired[0] && desired == REGISTRY_STATE_INVALID) {
		api_reply_error(req, 400,
			arena_printf(&req->arena,
				"invalid desiredState \"%s\": it must be inactive, loaded or launched",
				body->desired));
		return;
	}
	if (!unit && !body->options) {
		api_reply_error(req, 409, "unit does not exist and options field empty");
		return;
	}
	if (!unit && unit_file_validate(body->options, &error) < 0) {
		api_reply_error(req, 400, error.text);
		return;
	}
	if (!unit || (body->options && !same_options(unit, body->options))) {
		write_unit(
			api, req, name, body->options, body->desired[0] ? desired : REGISTRY_INACTIVE, 201);
		return;
	}
	if (!body->desired[0]) {
		api_reply_error(req, 409, "must provide DesiredState to update existing unit");
		return;
	}
	if (desired != REGISTRY_INACTIVE && unit_name_is_template(name)) {
		api_reply_error(req, 400,
			arena_printf(
				&req->arena, "cannot activate template \"%.*s\"", (int)name.len, name.data));
		return;
	}
	write_unit(api, req, name, NULL, desired, 204);
}

static void put_unit(struct api *api, struct http_request *req, struct slice name)
{
	struct slice type = {0}, unused;
	size_t types = 0;
	struct unit_body body;
	struct unit_error error;

	for (size_t i = 0; i < req->header_count; i++)
		if (http_equal_nocase(req->headers[i].name, "Content-Type")) {
			type = req->headers[i].value;
			types++;
		}
	if (types != 1) {
		api_reply_error(
			req, 415, arena_printf(&req->arena, "expected 1 Content-Type, got %zu", types));
		return;
	}
	(void)text_cut(type, ';', &type, &unused);
	if (!http_equal_nocase(text_trim(type), "application/json")) {
		api_reply_error(req, 415, "only acceptable Content-Type is application/json");
		return;
	}
	if (!read_body(req, name, &body))
		return;
	if (unit_name_validate(name, &error) < 0)
		api_reply_error(req, 400, error.text);
	else
		set_unit(api, req, name, &body);
	unit_body_done(&body);
}

static void delete_unit(struct api *api, struct http_request *req, const char *name)
{
	struct api_write *write;

	if (!cluster_unit(api->config.cluster, name)) {
		api_reply_error(req, 404, "unit does not exist");
		return;
	}
	write = api_write_new(api, req, 204, false);
	api_write_add(write, API_STEP_DELETE_DIR, mem_printf("%s/job/%s", api->config.prefix, name), NULL);
	api_write_start(write);
}

/* The item of a route, decoded; NULL when it cannot be a name (then answered). */
static const char *item_name(struct http_request *req, struct slice item)
{
	_cleanup_buf_ struct buf name = BUF_INIT(64 * 1024);

	if (!item.len || url_unescape(&name, item, URL_PART_SEGMENT, NULL) < 0 ||
		memchr(buf_text(&name), '/', name.len) || strlen(buf_text(&name)) != name.len) {
		api_reply_error(req, 404, "");
		return NULL;
	}
	return arena_strndup(&req->arena, buf_text(&name), name.len);
}

void api_units(struct api *api, struct http_request *req, struct slice item, bool has_item)
{
	const char *name;

	if (!has_item) {
		if (slice_is(req->method, "GET"))
			list_units(api, req);
		else
			api_reply_error(req, 405, "only GET supported against this resource");
		return;
	}
	name = item_name(req, item);
	if (!name)
		return;
	if (slice_is(req->method, "GET")) {
		const struct cluster_unit *unit = cluster_unit(api->config.cluster, name);
		_cleanup_buf_ struct buf out = BUF_INIT(API_BODY_MAX);

		if (!unit) {
			api_reply_error(req, 404, "unit does not exist");
			return;
		}
		add_unit(&out, unit, cluster_text(api->config.cluster, unit->hash), false);
		api_reply_json(req, 200, &out);
	} else if (slice_is(req->method, "PUT")) {
		put_unit(api, req, slice_str(name));
	} else if (slice_is(req->method, "DELETE")) {
		delete_unit(api, req, name);
	} else {
		api_reply_error(req, 405, "only GET, PUT and DELETE supported against this resource");
	}
}

/* ---- states ---- */

static void list_states(struct api *api, struct http_request *req)
{
	size_t page, count, seen = 0, limit = api->config.token_limit;
	const char *message;
	struct url_form form = {0};
	const struct slice *machine, *name;
	_cleanup_buf_ struct buf items = BUF_INIT(API_BODY_MAX);
	_cleanup_free_ const struct cluster_unit **units = NULL;

	if (api_read_page(api, req, &page, &message) < 0) {
		api_reply_error(req, 400, message);
		return;
	}
	(void)!url_form_parse(&req->arena, &form, req->query, NULL);
	machine = url_form_get(&form, "machineID");
	name = url_form_get(&form, "unitName");
	units = cluster_entries(api->config.cluster, &count);
	for (size_t i = 0; i < count; i++) {
		if (name && name->len && !slice_is(*name, units[i]->name))
			continue;
		for (size_t k = 0; k < units[i]->state_count; k++) {
			const struct registry_unit_state *state = &units[i]->states[k].state;

			if (machine && machine->len && !slice_is(*machine, state->machine))
				continue;
			if (++seen <= (page - 1) * limit || seen > page * limit)
				continue;
			if (items.len)
				buf_add_char(&items, ',');
			add_state(&items, units[i]->name, state);
		}
	}
	reply_page(api, req, "states", &items, page, seen >= page * limit);
}

void api_states(struct api *api, struct http_request *req, struct slice item, bool has_item)
{
	const struct cluster_unit *unit;
	const char *name;
	_cleanup_buf_ struct buf out = BUF_INIT(API_BODY_MAX);

	if (!slice_is(req->method, "GET")) {
		api_reply_error(req, 405, "only GET supported against this resource");
		return;
	}
	if (!has_item) {
		list_states(api, req);
		return;
	}
	name = item_name(req, item);
	if (!name)
		return;
	unit = cluster_entry(api->config.cluster, name);
	if (!unit || !unit->state_count) {
		/* fleet 1.0 drops the connection here. */
		api_reply_error(req, 404, "unit state does not exist");
		return;
	}
	add_state(&out, unit->name, &unit->states[0].state);
	api_reply_json(req, 200, &out);
}
