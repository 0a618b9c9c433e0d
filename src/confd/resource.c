/* Keys of the [template] table are rows of a table; names fold case as in the original. */
#include "confd/resource.h"
#include "base/text.h"
#include "confd/report.h"
#include "confd/toml.h"
#include "confd/tree.h"
#include "io/file.h"
#include "template/format.h"

#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>

#define RESOURCE_DEPTH_MAX 64 /* directories below conf.d */

/* The [template] table as it stands. */
struct raw {
	struct slice src, dest, prefix, mode, owner, group, check_cmd, reload_cmd;
	int64_t uid, gid;
	const struct toml *keys;
	unsigned mode_line, owner_line, group_line;
};

static int fail_line(struct buf *error, unsigned line, const char *key, const char *format, ...)
	_printf_(4, 5);
static int fail_line(struct buf *error, unsigned line, const char *key, const char *format, ...)
{
	char text[300];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	buf_printf(error, "toml: line %u (last key \"template.%s\"): %s", line, key, text);
	return -EINVAL;
}

static const char *const known_keys[] = {"src", "dest", "keys", "prefix", "mode", "uid", "gid", "owner",
	"group", "check_cmd", "reload_cmd", NULL};
static const char *const known_tables[] = {"template", NULL};

static void warn_unknown(const char *path, const struct toml *value, const char *const *known)
{
	_cleanup_free_ char *name = mem_strndup(value->key.data, value->key.len);
	const char *nearest = text_nearest(name, known);

	if (nearest)
		report_warning(
			"%s:%u: unknown key \"%s\" (did you mean %s?)", path, value->line, name, nearest);
	else
		report_warning("%s:%u: unknown key \"%s\"", path, value->line, name);
}

static int take_keys(const struct toml *value, struct buf *error)
{
	if (value->type != TOML_ARRAY)
		return fail_line(error, value->line, "keys", "expected an array of strings but found %s",
			toml_type_phrase(value->type));
	for (const struct toml *item = value->first; item; item = item->next)
		if (item->type != TOML_STRING)
			return fail_line(error, item->line, "keys", "expected a string but found %s",
				toml_type_phrase(item->type));
	return 0;
}

static int take_table(struct raw *raw, const struct toml *table, const char *path, struct buf *error)
{
	const struct {
		const char *name;
		struct slice *text;
		int64_t *number;
		unsigned *line;
	} rows[] = {
		{"src", &raw->src, NULL, NULL},
		{"dest", &raw->dest, NULL, NULL},
		{"prefix", &raw->prefix, NULL, NULL},
		{"mode", &raw->mode, NULL, &raw->mode_line},
		{"owner", &raw->owner, NULL, &raw->owner_line},
		{"group", &raw->group, NULL, &raw->group_line},
		{"check_cmd", &raw->check_cmd, NULL, NULL},
		{"reload_cmd", &raw->reload_cmd, NULL, NULL},
		{"uid", NULL, &raw->uid, NULL},
		{"gid", NULL, &raw->gid, NULL},
	};

	raw->keys = toml_get(table, "keys", true);
	if (raw->keys && take_keys(raw->keys, error) < 0)
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct toml *value = toml_get(table, rows[i].name, true);
		enum toml_type wanted = rows[i].text ? TOML_STRING : TOML_INTEGER;

		if (!value)
			continue;
		if (value->type != wanted)
			return fail_line(error, value->line, rows[i].name, "expected %s but found %s%s",
				toml_type_phrase(wanted), toml_type_phrase(value->type),
				strcmp(rows[i].name, "mode") == 0 ? " (write it as \"0644\")" : "");
		if (rows[i].text)
			*rows[i].text = value->text;
		else
			*rows[i].number = value->integer;
		if (rows[i].line)
			*rows[i].line = value->line;
	}
	for (const struct toml *value = table->first; value; value = value->next) {
		bool known = false;

		for (const char *const *name = known_keys; *name && !known; name++)
			known = value->key.len == strlen(*name) &&
				strncasecmp(value->key.data, *name, value->key.len) == 0;
		if (!known)
			warn_unknown(path, value, known_keys);
	}
	return 0;
}

static int take_mode(struct resource *resource, const struct raw *raw, struct buf *error)
{
	_cleanup_buf_ struct buf quoted = BUF_INIT(0);
	uint64_t mode;
	int r;

	if (!raw->mode.len)
		return 0;
	r = number_parse_uint(raw->mode, 0, &mode);
	if (r >= 0 && mode > UINT32_MAX)
		r = -ERANGE;
	if (r < 0) {
		quote_text(&quoted, raw->mode, false);
		return fail_line(error, raw->mode_line, "mode", "strconv.ParseUint: parsing %s: %s",
			buf_text(&quoted), r == -ERANGE ? "value out of range" : "invalid syntax");
	}
	resource->has_mode = true;
	resource->mode = (mode_t)(mode & 07777);
	return 0;
}

/* uid and gid by number; owner and group by name, which the original only ever ignored although people write
 * it. */
static int take_owner(struct resource *resource, const struct raw *raw, struct buf *error)
{
	resource->uid = raw->uid < 0 ? (uid_t)-1 : (uid_t)raw->uid;
	resource->gid = raw->gid < 0 ? (gid_t)-1 : (gid_t)raw->gid;
	if (raw->owner.len && raw->uid < 0) {
		const struct passwd *user = getpwnam(raw->owner.data);

		if (!user)
			return fail_line(error, raw->owner_line, "owner",
				"there is no user \"%s\" on this host", raw->owner.data);
		resource->uid = user->pw_uid;
	}
	if (raw->group.len && raw->gid < 0) {
		const struct group *group = getgrnam(raw->group.data);

		if (!group)
			return fail_line(error, raw->group_line, "group",
				"there is no group \"%s\" on this host", raw->group.data);
		resource->gid = group->gr_gid;
	}
	return 0;
}

static void take_queries(struct resource *resource, const struct raw *raw, const struct confd_config *config)
{
	struct arena *arena = &resource->arena;
	struct slice prefix = config->prefix[0] ? slice_str(config->prefix) : raw->prefix;
	size_t count = raw->keys ? raw->keys->count : 0;

	if (prefix.len && prefix.data[0] != '/')
		prefix = slice_str(arena_printf(arena, "/%.*s", (int)prefix.len, prefix.data));
	resource->prefix =
		slice_make(arena_strndup(arena, prefix.len ? prefix.data : "", prefix.len), prefix.len);
	resource->queries = arena_alloc(arena, MAX(count, (size_t)1) * sizeof(*resource->queries));
	for (const struct toml *key = raw->keys ? raw->keys->first : NULL; key; key = key->next) {
		struct slice joined = path_join(arena, resource->prefix, key->text);

		resource->queries[resource->query_count++] = path_join(arena, SLICE_LITERAL("/"), joined);
	}
}

static int take_raw(struct resource *resource, const struct raw *raw, const struct confd_config *config,
	struct buf *error)
{
	struct arena *arena = &resource->arena;
	struct slice source;
	int r;

	if (!raw->src.len) {
		buf_add_str(error, "empty src template");
		return -EINVAL;
	}
	if (!raw->dest.len) {
		buf_add_str(error, "empty dest: the resource does not say which file to write");
		return -EINVAL;
	}
	source = path_join(arena, slice_str(arena_printf(arena, "%s/templates", config->confdir)), raw->src);
	resource->source = source.data;
	resource->name = arena_strndup(arena, path_base(source).data, path_base(source).len);
	resource->dest = raw->dest.data;
	resource->check_cmd = raw->check_cmd.len ? raw->check_cmd.data : "";
	resource->reload_cmd = raw->reload_cmd.len ? raw->reload_cmd.data : "";
	r = take_mode(resource, raw, error);
	if (r >= 0)
		r = take_owner(resource, raw, error);
	if (r >= 0)
		take_queries(resource, raw, config);
	return r;
}

int resource_load(const char *path, const struct confd_config *config, struct resource **ret_resource,
	struct buf *reterr)
{
	_cleanup_(resource_freep) struct resource *resource = mem_new(struct resource);
	_cleanup_buf_ struct buf text = BUF_INIT(TOML_TEXT_MAX);
	_cleanup_buf_ struct buf error = BUF_INIT(1 << 16);
	struct raw raw = {.uid = -1, .gid = -1};
	struct toml *root = NULL, *table;
	int r;

	arena_init(&resource->arena);
	resource->path = arena_strndup(&resource->arena, path, strlen(path));
	r = file_read(path, TOML_TEXT_MAX, &text);
	if (r < 0)
		buf_add_str(&error, strerror(-r));
	if (r >= 0) {
		_cleanup_buf_ struct buf problem = BUF_INIT(1 << 16);

		r = toml_parse(buf_slice(&text), &resource->arena, &root, &problem);
		if (r < 0)
			buf_printf(&error, "toml: %s", buf_text(&problem));
	}
	table = r >= 0 ? toml_get(root, "template", true) : NULL;
	for (const struct toml *other = r >= 0 ? root->first : NULL; other; other = other->next)
		if (other != table)
			warn_unknown(path, other, known_tables);
	if (table && table->type == TOML_TABLE)
		r = take_table(&raw, table, path, &error);
	if (r >= 0)
		r = take_raw(resource, &raw, config, &error);
	if (r < 0) {
		buf_printf(reterr, "Cannot process template resource %s - %s", path, buf_text(&error));
		return r;
	}
	*ret_resource = take_ptr(resource);
	return 0;
}

struct resource *resource_free(struct resource *resource)
{
	if (!resource)
		return NULL;
	arena_done(&resource->arena);
	return mem_free(resource);
}

/* ---- the directory ---- */

static void paths_add(struct resource_paths *paths, const char *path)
{
	if (paths->count == paths->cap) {
		paths->cap = paths->cap ? paths->cap * 2 : 16;
		paths->items = mem_reallocarray(paths->items, paths->cap, sizeof(*paths->items));
	}
	paths->items[paths->count++] = mem_strdup(path);
}

void resource_paths_done(struct resource_paths *paths)
{
	for (size_t i = 0; i < paths->count; i++)
		free(paths->items[i]);
	free(paths->items);
	*paths = (struct resource_paths){0};
}

static int name_compare(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int list_below(const char *dir, struct resource_paths *paths, unsigned depth, struct buf *reterr)
{
	struct dirent **entries;
	int count = scandir(dir, &entries, NULL, name_compare), r = 0;

	if (count < 0) {
		r = -errno;
		buf_printf(reterr, "open %s: %s", dir, strerror(-r));
		return r;
	}
	for (int i = 0; i < count; i++) {
		_cleanup_free_ char *path = mem_printf("%s/%s", dir, entries[i]->d_name);
		struct slice name = slice_str(entries[i]->d_name);
		struct stat status;

		if (r >= 0 && !slice_is(name, ".") && !slice_is(name, "..") && lstat(path, &status) == 0) {
			if (S_ISDIR(status.st_mode) && depth < RESOURCE_DEPTH_MAX)
				r = list_below(path, paths, depth + 1, reterr);
			else if (!S_ISDIR(status.st_mode) && slice_ends_with(name, SLICE_LITERAL("toml")))
				paths_add(paths, path);
		}
		free(entries[i]);
	}
	free(entries);
	return r;
}

int resource_list(const char *confdir, struct resource_paths *paths, struct buf *reterr)
{
	_cleanup_free_ char *dir = mem_printf("%s/conf.d", confdir);
	struct stat status;

	if (stat(dir, &status) < 0) {
		buf_printf(reterr, "stat %s: %s", dir, strerror(errno));
		return -errno;
	}
	return list_below(dir, paths, 0, reterr);
}
