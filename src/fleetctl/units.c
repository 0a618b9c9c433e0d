/* From arguments to units in the registry: local file, template in the registry, template file, in fleet's
 * order. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fleetctl/fleetctl.h"
#include "io/file.h"

void ctl_target_unit_done(struct target_unit *item)
{
	free(item->name);
	json_decref(item->unit);
}

void ctl_target_units_done(struct target_units *units)
{
	for (size_t i = 0; i < units->count; i++)
		ctl_target_unit_done(&units->items[i]);
	free(units->items);
	*units = (struct target_units){0};
}

static struct target_unit *add_target(struct target_units *units, const char *name, json_t *unit)
{
	struct target_unit *item;

	units->items = mem_reallocarray(units->items, units->count + 1, sizeof(*units->items));
	item = &units->items[units->count++];
	*item = (struct target_unit){.name = mem_strdup(name), .unit = json_incref(unit)};
	item->global = unit && ctl_unit_object_is_global(unit);
	return item;
}

char *ctl_unit_argument(const char *argument)
{
	struct buf name = BUF_INIT(64 * 1024);

	unit_name_mangle(slice_str(argument), &name);
	return buf_take(&name, NULL);
}

struct unit_file *ctl_unit_object_file(const json_t *unit)
{
	struct unit_file *file = unit_file_new();
	json_t *options = json_object_get(unit, "options"), *option;
	size_t i;

	json_array_foreach(options, i, option)(void) !unit_file_add(file,
		slice_str(ctl_text(option, "section")), slice_str(ctl_text(option, "name")),
		slice_str(ctl_text(option, "value")));
	return file;
}

bool ctl_unit_object_is_global(const json_t *unit)
{
	struct unit_file *file = ctl_unit_object_file(unit);
	struct unit_requirements rules;
	bool global;

	unit_requirements_read(file, slice_str(ctl_text(unit, "name")), &rules);
	global = rules.global;
	unit_requirements_done(&rules);
	unit_file_free(file);
	return global;
}

static bool same_file(const struct unit_file *a, const struct unit_file *b)
{
	uint8_t one[UNIT_HASH_SIZE], two[UNIT_HASH_SIZE];

	unit_file_hash(a, one);
	unit_file_hash(b, two);
	return memcmp(one, two, sizeof(one)) == 0;
}

/* ---- local files ---- */

/* No server takes one, and none can name the line. */
static bool holds_nul(struct slice text, struct unit_error *ret_error)
{
	const char *nul = text.len ? memchr(text.data, '\0', text.len) : NULL;

	if (!nul)
		return false;
	ret_error->line = 1;
	for (const char *at = text.data; at < nul; at++)
		ret_error->line += *at == '\n';
	snprintf(ret_error->text, sizeof(ret_error->text), "a NUL byte (a unit file is text)");
	return true;
}

/* -ENOENT when there is no such file; other errors with a message that names file and line. */
static int read_unit_file(const char *path, const char *name, struct unit_file **ret, struct buf *reterr)
{
	_cleanup_buf_ struct buf text = BUF_INIT(UNIT_TEXT_MAX);
	struct unit_file *file = NULL;
	struct unit_error error = {0};
	int r = file_read(path, UNIT_TEXT_MAX, &text);

	if (r == -ENOENT || r == -EISDIR || r == -ENOTDIR)
		return -ENOENT;
	if (r >= 0 && holds_nul(buf_slice(&text), &error))
		r = -EINVAL;
	else if (r >= 0)
		r = unit_file_parse(buf_slice(&text), &file, &error);
	else
		snprintf(error.text, sizeof(error.text), "%s", strerror(-r));
	if (r >= 0 && !file->count) {
		snprintf(error.text, sizeof(error.text),
			"no options found (a unit file has [Section] lines and NAME=VALUE lines)");
		r = -EINVAL;
	}
	if (r < 0) {
		buf_printf(reterr, "failed getting Unit(%s) from file: ", name);
		unit_error_format(&error, path, reterr);
		unit_file_free(file);
		return -EINVAL;
	}
	*ret = file;
	return 0;
}

/* The template's file beside the argument's path. */
static char *template_path(const char *argument, const char *template_name)
{
	const char *slash = strrchr(argument, '/');

	return slash ? mem_printf("%.*s/%s", (int)(slash - argument), argument, template_name)
		     : mem_strdup(template_name);
}

/* The file of an argument: as given, or with the suffix that was left out. */
static int read_argument_file(
	const char *argument, const char *name, struct unit_file **ret, struct buf *reterr)
{
	_cleanup_free_ char *path = template_path(argument, name);
	int r = read_unit_file(path, name, ret, reterr);

	return r;
}

/* What the registry said of the last template that was asked for: a thousand instances ask once. */
struct known_template {
	char *name;
	json_t *unit; /* NULL: it has none of that name */
};

static void known_template_done(struct known_template *known)
{
	free(known->name);
	json_decref(known->unit);
	*known = (struct known_template){0};
}

static int find_template(
	struct fleetctl *ctl, const char *name, struct known_template *known, struct buf *reterr)
{
	int r;

	if (known->name && strcmp(known->name, name) == 0)
		return known->unit ? 0 : -ENOENT;
	known_template_done(known);
	r = ctl_unit(ctl, name, &known->unit, reterr);
	if (r >= 0 || r == -ENOENT)
		known->name = mem_strdup(name);
	return r;
}

static int read_template(struct fleetctl *ctl, const char *argument, const char *name,
	struct known_template *known, struct unit_file **ret, struct buf *reterr)
{
	_cleanup_buf_ struct buf template_name = BUF_INIT(4096);
	_cleanup_free_ char *path = NULL;
	int r = unit_name_template(slice_str(name), &template_name);

	if (r < 0)
		return -ENOENT;
	r = find_template(ctl, buf_text(&template_name), known, reterr);
	if (r >= 0) {
		*ret = ctl_unit_object_file(known->unit);
		return 0;
	}
	if (r != -ENOENT)
		return r;
	buf_clear(reterr);
	path = template_path(argument, buf_text(&template_name));
	r = read_unit_file(path, buf_text(&template_name), ret, reterr);
	if (r == -ENOENT) {
		buf_printf(reterr,
			"failed getting Unit(%s) from template: unable to find template Unit(%s) in Registry "
			"or on filesystem",
			name, buf_text(&template_name));
		return -EINVAL;
	}
	return r;
}

static int find_contents(struct fleetctl *ctl, const char *argument, const char *name,
	struct known_template *known, struct unit_file **ret, struct buf *reterr)
{
	int r = read_argument_file(argument, name, ret, reterr);

	if (r == -ENOENT && unit_name_is_instance(slice_str(name)))
		return read_template(ctl, argument, name, known, ret, reterr);
	if (r == -ENOENT) {
		buf_printf(reterr, "unable to find Unit(%s) in Registry or on filesystem", name);
		return -EINVAL;
	}
	return r;
}

/* ---- creating ---- */

static char *unit_body(const char *name, const struct unit_file *file, const char *desired)
{
	json_t *options = json_array(), *root;
	char *text;

	for (size_t i = 0; i < file->count; i++) {
		const struct unit_option *option = &file->options[i];

		json_array_append_new(
			options, json_pack("{s:s%, s:s%, s:s%}", "section", option->section.data,
					 option->section.len, "name", option->name.data, option->name.len,
					 "value", option->value.data, option->value.len));
	}
	root = json_pack("{s:s, s:s, s:o}", "name", name, "desiredState", desired, "options", options);
	text = json_dumps(root, JSON_COMPACT);
	json_decref(root);
	return text;
}

static void warn_odd_values(
	const struct unit_slices *values, const char *name, const char *takes, const char *then)
{
	for (size_t i = 0; i < values->count; i++)
		fprintf(stderr, "WARNING: Unit %s: %s, not \"%.*s\", which %s\n", name, takes,
			(int)values->items[i].len, values->items[i].data, then);
}

/* What the server takes, and does not heed. */
static void warn_ignored(const struct unit_file *file, const char *name)
{
	_cleanup_(unit_requirements_done) struct unit_requirements requirements = {0};
	struct unit_slices unknown = {0};

	(void)unit_file_unknown_fleet_keys(file, &unknown);
	for (size_t i = 0; i < unknown.count; i++)
		fprintf(stderr, "WARNING: Unit %s: unrecognized requirement in [X-Fleet] section: \"%.*s\"\n",
			name, (int)unknown.items[i].len, unknown.items[i].data);
	unit_slices_done(&unknown);
	unit_requirements_read(file, slice_str(name), &requirements);
	warn_odd_values(&requirements.odd_metadata, name, "MachineMetadata= takes KEY=VALUE", "is ignored");
	warn_odd_values(&requirements.odd_global, name, "Global= takes true or false", "counts as false");
}

/* Its body for the API. */
static int check_unit(const char *name, const struct unit_file *file, const char *desired, char **ret_body,
	struct buf *reterr)
{
	struct unit_error error;

	if (unit_file_validate(file, &error) < 0) {
		buf_add_str(reterr, error.text);
		return -EINVAL;
	}
	warn_ignored(file, name);
	*ret_body = unit_body(name, file, desired);
	if (!*ret_body) {
		buf_printf(reterr, "failed creating unit %s: its text is not UTF-8", name);
		return -EINVAL;
	}
	return 0;
}

static int create_unit(struct fleetctl *ctl, const char *name, const struct unit_file *file,
	const char *desired, struct buf *reterr)
{
	_cleanup_free_ char *path = ctl_path("/fleet/v1/units/", name, ""), *body = NULL;
	_cleanup_buf_ struct buf why = BUF_INIT(64 * 1024);
	int status, r = check_unit(name, file, desired, &body, reterr);

	if (r < 0)
		return r;
	r = ctl_call(ctl, "PUT", path, body, NULL, &status, &why);
	if (r < 0)
		buf_printf(reterr, "failed creating unit %s: %s", name, buf_text(&why));
	return r;
}

static int state_rank(const char *state)
{
	return strcmp(state, "launched") == 0 ? 2 : strcmp(state, "loaded") == 0;
}

/* The unit exists: does a local file differ, and shall it be put in its place? */
static int consider_replacing(struct fleetctl *ctl, const char *argument, struct target_unit *item,
	const char *state, struct buf *reterr)
{
	_cleanup_(unit_file_freep) struct unit_file *local = NULL, *remote = ctl_unit_object_file(item->unit);
	_cleanup_buf_ struct buf ignored = BUF_INIT(64 * 1024), template_name = BUF_INIT(4096);
	_cleanup_free_ char *path = NULL;
	int r = read_argument_file(argument, item->name, &local, ctl->options.replace ? reterr : &ignored);

	if (r == -ENOENT && unit_name_is_instance(slice_str(item->name)) &&
		unit_name_template(slice_str(item->name), &template_name) >= 0) {
		path = template_path(argument, buf_text(&template_name));
		r = read_unit_file(path, item->name, &local, ctl->options.replace ? reterr : &ignored);
	}
	if (r < 0)
		return ctl->options.replace && r != -ENOENT ? r : 0;
	if (same_file(local, remote)) {
		if (ctl->options.replace)
			printf("Found same Unit(%s) in Registry, nothing to do\n", item->name);
		return 0;
	}
	if (!ctl->options.replace) {
		fprintf(stderr,
			"WARNING: Unit %s in registry differs from local unit file %s. Add --replace to "
			"override.\n",
			item->name, path ? buf_text(&template_name) : item->name);
		return 0;
	}
	if (state_rank(ctl_text(item->unit, "desiredState")) > state_rank(state)) {
		fprintf(stderr,
			"Warning: can not replace Unit(%s) in state '%s', use the appropriate command\n",
			item->name, ctl_text(item->unit, "desiredState"));
		item->kept = true;
		return 0;
	}
	r = create_unit(ctl, item->name, local, "inactive", reterr);
	if (r < 0)
		return r;
	item->created = true;
	json_decref(item->unit);
	item->unit = NULL;
	return ctl_unit(ctl, item->name, &item->unit, reterr);
}

/* One request for each of the units that `picked` picks. */
static struct ctl_request *unit_requests(
	const char *method, const struct target_units *units, const bool *picked, size_t *ret_count)
{
	struct ctl_request *requests = mem_new_array(struct ctl_request, units->count + 1);

	*ret_count = 0;
	for (size_t i = 0; i < units->count; i++) {
		if (!picked[i])
			continue;
		requests[*ret_count].method = method;
		requests[(*ret_count)++].path = ctl_path("/fleet/v1/units/", units->items[i].name, "");
	}
	return requests;
}

/* What the registry has of those that were not read yet. `what` stands before the name in a message, if any.
 */
static int read_units(struct fleetctl *ctl, struct target_units *units, const char *what, struct buf *reterr)
{
	_cleanup_free_ bool *unread = mem_new_array(bool, units->count + 1);
	struct ctl_request *requests;
	size_t count, at = 0;
	int r = 0;

	for (size_t i = 0; i < units->count; i++)
		unread[i] = !units->items[i].unit;
	requests = unit_requests("GET", units, unread, &count);
	ctl_call_all(ctl, requests, count);
	for (size_t i = 0; i < units->count && r >= 0; i++) {
		struct target_unit *item = &units->items[i];
		struct ctl_request *request = &requests[at];

		if (!unread[i])
			continue;
		at++;
		if (request->result >= 0) {
			item->unit = json_incref(request->answer);
			item->global = item->unit && ctl_unit_object_is_global(item->unit);
		} else if (request->result != -ENOENT) {
			r = request->result;
			if (what)
				buf_printf(reterr, "%s Unit(%s) from Registry: ", what, item->name);
			buf_add_slice(reterr, buf_slice(&request->error));
		}
	}
	ctl_requests_free(requests, count);
	return r;
}

/* Creates those that have a body, which is taken. */
static int create_all(struct fleetctl *ctl, struct target_units *units, char **bodies, struct buf *reterr)
{
	_cleanup_free_ bool *missing = mem_new_array(bool, units->count + 1);
	struct ctl_request *requests;
	size_t count, at = 0;
	int r = 0;

	for (size_t i = 0; i < units->count; i++)
		missing[i] = bodies[i] != NULL;
	requests = unit_requests("PUT", units, missing, &count);
	for (size_t i = 0; i < units->count; i++)
		if (missing[i])
			requests[at++].body = take_ptr(bodies[i]);
	ctl_call_all(ctl, requests, count);
	at = 0;
	for (size_t i = 0; i < units->count; i++) {
		const struct ctl_request *request = &requests[at];

		if (!missing[i])
			continue;
		at++;
		units->items[i].created = request->result >= 0;
		if (request->result < 0 && request->result != -ECANCELED && r >= 0) {
			r = request->result;
			buf_printf(reterr, "failed creating unit %s: %s", units->items[i].name,
				buf_text(&request->error));
		}
	}
	ctl_requests_free(requests, count);
	return r;
}

static bool is_named_before(const struct target_units *units, size_t position)
{
	for (size_t i = 0; i < position; i++)
		if (strcmp(units->items[i].name, units->items[position].name) == 0)
			return true;
	return false;
}

/* What is to be done for one argument: its body, if it is to be created. */
static int prepare_one(struct fleetctl *ctl, const char *argument, const char *state, bool at_once,
	struct known_template *known, struct target_unit *item, char **ret_body, struct buf *reterr)
{
	_cleanup_(unit_file_freep) struct unit_file *file = NULL;
	int r;

	if (item->unit)
		return consider_replacing(ctl, argument, item, state, reterr);
	r = find_contents(ctl, argument, item->name, known, &file, reterr);
	if (r < 0)
		return r;
	return check_unit(item->name, file,
		at_once && !unit_name_is_template(slice_str(item->name)) ? state : "inactive", ret_body,
		reterr);
}

static void drop_from(struct target_units *units, size_t position)
{
	while (units->count > position)
		ctl_target_unit_done(&units->items[--units->count]);
}

/* Fills in names; those before one that is none stay. */
static int name_arguments(int count, char **arguments, struct target_units *ret, struct buf *reterr)
{
	for (int i = 0; i < count; i++) {
		_cleanup_free_ char *name = ctl_unit_argument(arguments[i]);
		struct unit_error error;

		if (unit_name_validate(slice_str(name), &error) < 0) {
			buf_add_str(reterr, error.text);
			return -EINVAL;
		}
		add_target(ret, name, NULL);
	}
	return 0;
}

/* What is wrong with one argument does not keep those before it from being created, as in 1.0. */
int ctl_units_create(struct fleetctl *ctl, int count, char **arguments, const char *state,
	struct target_units *ret, struct buf *reterr)
{
	_cleanup_(known_template_done) struct known_template known = {0};
	_cleanup_buf_ struct buf error = BUF_INIT(1024 * 1024), later = BUF_INIT(1024 * 1024);
	int bad = name_arguments(count, arguments, ret, &error),
	    r = read_units(ctl, ret, "error retrieving", reterr);
	char **bodies = mem_new_array(char *, ret->count + 1);

	for (size_t i = 0; i < ret->count && r >= 0; i++) {
		int one;

		if (!ret->items[i].unit && is_named_before(ret, i))
			continue;
		buf_clear(&later);
		/* One unit is created as what it shall become; of several none is started unless all can be
		 * created. */
		one = prepare_one(
			ctl, arguments[i], state, count == 1, &known, &ret->items[i], &bodies[i], &later);
		if (one < 0) {
			bad = one;
			buf_clear(&error);
			buf_add_slice(&error, buf_slice(&later));
			drop_from(ret, i);
		}
	}
	if (r >= 0)
		r = create_all(ctl, ret, bodies, reterr);
	free(bodies);
	if (r >= 0)
		r = read_units(ctl, ret, "error retrieving", reterr);
	if (r >= 0 && bad < 0) {
		r = bad;
		buf_add_slice(reterr, buf_slice(&error));
	}
	return r;
}

/* ---- patterns ---- */

static bool is_pattern(const char *argument)
{
	return strpbrk(argument, "*?[") != NULL; /* no name has these */
}

/* "web@*" means "web@*.service", as "web@1" means "web@1.service"; and "*" everything. */
static bool matches(const char *pattern, const char *name)
{
	_cleanup_free_ char *with_type = mem_printf("%s.service", pattern);

	return unit_glob_match(slice_str(pattern), slice_str(name)) ||
	       unit_glob_match(slice_str(with_type), slice_str(name));
}

bool ctl_unit_is_idle(const char *name, const json_t *unit)
{
	if (unit_name_is_template(slice_str(name)))
		return true;
	if (ctl_unit_object_is_global(unit))
		return strcmp(ctl_text(unit, "desiredState"), "inactive") == 0;
	return !ctl_text(unit, "machineID")[0] && strcmp(ctl_text(unit, "currentState"), "inactive") == 0;
}

/* `found` NULL: it was typed. */
static void add_name(struct unit_names *names, const char *name, const json_t *found)
{
	struct named_unit *item;

	for (size_t i = 0; i < names->count; i++)
		if (strcmp(names->items[i].name, name) == 0) {
			names->items[i].typed |= !found;
			return;
		}
	names->items = mem_reallocarray(names->items, names->count + 1, sizeof(*names->items));
	item = &names->items[names->count++];
	*item = (struct named_unit){
		.name = mem_strdup(name), .typed = !found, .idle = found && ctl_unit_is_idle(name, found)};
}

int ctl_units_name(
	struct fleetctl *ctl, int count, char **arguments, struct unit_names *ret, struct buf *reterr)
{
	json_t *units = NULL, *unit;
	int r = 0;

	for (int i = 0; i < count && r >= 0; i++) {
		_cleanup_free_ char *name = ctl_unit_argument(arguments[i]);
		size_t at;

		if (!is_pattern(arguments[i])) {
			add_name(ret, name, NULL);
			continue;
		}
		if (!units)
			r = ctl_list(ctl, "/fleet/v1/units", "units", &units, reterr);
		json_array_foreach(units, at, unit) if (matches(arguments[i], ctl_text(unit, "name")))
			add_name(ret, ctl_text(unit, "name"), unit);
	}
	json_decref(units);
	return r;
}

void ctl_unit_names_done(struct unit_names *names)
{
	for (size_t i = 0; i < names->count; i++)
		free(names->items[i].name);
	free(names->items);
}

int ctl_units_find(
	struct fleetctl *ctl, int count, char **arguments, struct target_units *ret, struct buf *reterr)
{
	_cleanup_(ctl_unit_names_done) struct unit_names names = {0};
	struct target_units all = {0};
	int r = ctl_units_name(ctl, count, arguments, &names, reterr);

	for (size_t i = 0; i < names.count && r >= 0; i++)
		add_target(&all, names.items[i].name, NULL);
	if (r >= 0)
		r = read_units(ctl, &all, NULL, reterr);
	for (size_t i = 0; i < all.count && r >= 0; i++)
		if (all.items[i].unit)
			add_target(ret, all.items[i].name, all.items[i].unit)->typed = names.items[i].typed;
	ctl_target_units_done(&all);
	return MIN(r, 0);
}
