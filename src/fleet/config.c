/* One table of keys; the file's lines and the environment go through the same setter. */
#include "fleet/config.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/text.h"
#include "io/file.h"

#define CONFIG_FILE_MAX (1024 * 1024)
#define CONFIG_FILE_DEFAULT "/etc/fleet/fleet.conf"

enum key_kind {
	KEY_TEXT,
	KEY_LIST, /* a,b or ["a","b"]: kept comma separated */
	KEY_BOOL,
	KEY_INT,
	KEY_SECONDS, /* a float, kept in ms */
	KEY_TTL,     /* Go's duration, kept in whole seconds */
	KEY_METADATA,
	KEY_MANAGER,
	KEY_LIMIT,
	KEY_IGNORED, /* fleet 1.0's, without a meaning here */
};
struct config_key {
	const char *name;
	enum key_kind kind;
	size_t offset;
	const char *fallback;
	bool live; /* takes effect when the configuration is read again */
};
#define FIELD(member) offsetof(struct fleetd_config, member)

static const struct config_key keys[] = {
	{"verbosity", KEY_INT, FIELD(verbosity), "0", true},
	{"etcd_servers", KEY_LIST, FIELD(etcd_servers), "http://127.0.0.1:2379,http://127.0.0.1:4001"},
	{"etcd_username", KEY_TEXT, FIELD(etcd_username), ""},
	{"etcd_password", KEY_TEXT, FIELD(etcd_password), ""},
	{"etcd_keyfile", KEY_TEXT, FIELD(etcd_keyfile), "", true},
	{"etcd_certfile", KEY_TEXT, FIELD(etcd_certfile), "", true},
	{"etcd_cafile", KEY_TEXT, FIELD(etcd_cafile), "", true},
	{"etcd_key_prefix", KEY_TEXT, FIELD(prefix), REGISTRY_PREFIX_DEFAULT},
	{"etcd_request_timeout", KEY_SECONDS, FIELD(etcd_request_timeout_ms), "1.0"},
	{"engine_reconcile_interval", KEY_SECONDS, FIELD(reconcile_ms), "2.0"},
	{"public_ip", KEY_TEXT, FIELD(public_ip), "", true},
	{"metadata", KEY_METADATA, 0, "", true},
	{"agent_ttl", KEY_TTL, FIELD(agent_ttl_s), "30s"},
	{"token_limit", KEY_LIMIT, FIELD(token_limit), "100"},
	{"disable_engine", KEY_BOOL, FIELD(disable_engine), "false"},
	{"units_directory", KEY_TEXT, FIELD(units_dir), ""},
	{"systemd_user", KEY_BOOL, FIELD(systemd_user), "false"},
	{"enable_grpc", KEY_IGNORED, 0, ""},
	{"disable_watches", KEY_IGNORED, 0, ""},
	{"verify_units", KEY_IGNORED, 0, ""},
	{"authorized_keys_file", KEY_IGNORED, 0, ""},
	{"machine_id", KEY_TEXT, FIELD(machine_id), ""},
	{"listen", KEY_LIST, FIELD(listen), "unix:///var/run/fleet.sock"},
	{"api_certfile", KEY_TEXT, FIELD(api_certfile), "", true},
	{"api_keyfile", KEY_TEXT, FIELD(api_keyfile), "", true},
	{"api_cafile", KEY_TEXT, FIELD(api_cafile), "", true},
	{"api_writers", KEY_LIST, FIELD(api_writers), "", true},
	{"peer_listen", KEY_TEXT, FIELD(peer_listen), ":49153"},
	{"agent_data_dir", KEY_TEXT, FIELD(data_dir), "/var/lib/fleet"},
	{"supervisor_dir", KEY_TEXT, FIELD(supervisor_dir), "/run/fleet/supervisor"},
	{"unit_manager", KEY_MANAGER, FIELD(unit_manager), "auto"},
	{"keep_units_on_stop", KEY_BOOL, FIELD(keep_units_on_stop), "false", true},
};

static void warn(struct fleetd_config *config, const char *where, const char *key, const char *what)
{
	buf_printf(&config->warnings, "%s: %s: %s\n", where, key, what);
}

static void pairs_free(struct fleetd_config *config)
{
	for (size_t i = 0; i < config->metadata_count; i++) {
		free(config->metadata[i].key);
		free(config->metadata[i].value);
	}
	free(config->metadata);
	config->metadata = NULL;
	config->metadata_count = 0;
}

/* "k=v,k=v": trimmed; pairs without '=' are dropped; the last of a key wins. */
static void set_metadata(struct fleetd_config *config, struct slice text)
{
	struct slice pair, key, value;

	pairs_free(config);
	while (text.len && config->metadata_count < REGISTRY_METADATA_MAX) {
		(void)text_cut(text, ',', &pair, &text);
		if (!text_cut(pair, '=', &key, &value))
			continue;
		key = text_trim(key);
		value = text_trim(value);
		if (!key.len)
			continue;
		config->metadata = mem_reallocarray(
			config->metadata, config->metadata_count + 1, sizeof(struct registry_pair));
		config->metadata[config->metadata_count++] = (struct registry_pair){
			mem_strndup(key.data, key.len), mem_strndup(value.data, value.len)};
	}
	config->metadata_count = registry_pairs_sort(config->metadata, config->metadata_count);
}

static char *list_text(struct slice text)
{
	struct buf out = BUF_INIT(CONFIG_FILE_MAX);
	struct slice item;

	text = text_trim(text);
	if (text.len >= 2 && text.data[0] == '[' && text.data[text.len - 1] == ']')
		text = slice_make(text.data + 1, text.len - 2);
	while (text.len) {
		(void)text_cut(text, ',', &item, &text);
		item = text_trim(item);
		if (item.len >= 2 && (item.data[0] == '"' || item.data[0] == '\'') &&
			item.data[item.len - 1] == item.data[0])
			item = slice_make(item.data + 1, item.len - 2);
		if (!item.len)
			continue;
		if (out.len)
			buf_add_char(&out, ',');
		buf_add_slice(&out, item);
	}
	return buf_take(&out, NULL);
}

static bool parse_seconds(const char *text, int64_t *ret_ms)
{
	char *end;
	double seconds = strtod(text, &end);

	if (end == text || *end || !(seconds > 0) || seconds > 86400)
		return false;
	*ret_ms = MAX((int64_t)(seconds * 1000), (int64_t)1);
	return true;
}

static int set_ttl(struct fleetd_config *config, const char *where, const char *text, struct buf *reterr)
{
	int64_t ns;

	if (text_to_duration(slice_str(text), &ns) < 0 || ns <= 0) {
		buf_printf(reterr, "%s: agent_ttl: time: invalid duration \"%s\" (write it as 30s or 1m)",
			where, text);
		return -EINVAL;
	}
	config->agent_ttl_s = (ns + 999999999) / 1000000000;
	return 0;
}

static int set_key(struct fleetd_config *config, const struct config_key *key, const char *where,
	const char *text, struct buf *reterr)
{
	void *field = (char *)config + key->offset;
	bool yes;
	uint64_t number;
	int64_t ms;

	switch (key->kind) {
	case KEY_TEXT:
		free(*(char **)field);
		*(char **)field = mem_strdup(text);
		break;
	case KEY_LIST:
		free(*(char **)field);
		*(char **)field = list_text(slice_str(text));
		break;
	case KEY_BOOL:
		if (text_to_bool(slice_str(text), &yes) < 0)
			warn(config, where, key->name, "is neither true nor false: ignored");
		else
			*(bool *)field = yes;
		break;
	case KEY_INT:
	case KEY_LIMIT:
		if (text_to_u64(slice_str(text), &number) < 0 || number > 65535 ||
			(key->kind == KEY_LIMIT && !number))
			warn(config, where, key->name, "is no number that fits: ignored");
		else if (key->kind == KEY_LIMIT)
			*(uint16_t *)field = (uint16_t)number;
		else
			*(int *)field = (int)number;
		break;
	case KEY_SECONDS:
		if (!parse_seconds(text, &ms))
			warn(config, where, key->name, "is no number of seconds: ignored");
		else
			*(int64_t *)field = ms;
		break;
	case KEY_TTL:
		return set_ttl(config, where, text, reterr);
	case KEY_METADATA:
		set_metadata(config, slice_str(text));
		break;
	case KEY_MANAGER:
		if (manager_kind_from_name(text) < 0) {
			buf_printf(reterr,
				"%s: unit_manager: \"%s\" is unknown: it is auto, supervisor or systemd",
				where, text);
			return -EINVAL;
		}
		*(enum manager_kind *)field = manager_kind_from_name(text);
		break;
	case KEY_IGNORED:
		if (text[0])
			warn(config, where, key->name, "has no meaning here: ignored");
		break;
	}
	return 0;
}

/* What the file or the environment says. */
static int take_key(struct fleetd_config *config, const struct config_key *key, const char *where,
	const char *text, struct buf *reterr)
{
	static_assert(ARRAY_LEN(keys) <= 64, "a bit of `named` for each");
	config->named |= UINT64_C(1) << (key - keys);
	return set_key(config, key, where, text, reterr);
}

void fleetd_config_defaults(struct fleetd_config *config)
{
	_cleanup_buf_ struct buf unused = BUF_INIT(4096);

	*config = (struct fleetd_config){.warnings = BUF_INIT(64 * 1024)};
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		(void)!set_key(config, &keys[i], "default", keys[i].fallback, &unused);
}

static const struct config_key *find_key(struct slice name)
{
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		if (strlen(keys[i].name) == name.len && strncasecmp(keys[i].name, name.data, name.len) == 0)
			return &keys[i];
	return NULL;
}

bool fleetd_config_names(const struct fleetd_config *config, const char *name)
{
	const struct config_key *key = find_key(slice_str(name));

	assert(key);
	return config->named >> (key - keys) & 1;
}

/* "…", '…', or bare up to a '#' or ';'. */
static struct slice value_of(struct slice text)
{
	text = text_trim(text);
	if (text.len >= 2 && (text.data[0] == '"' || text.data[0] == '\'')) {
		const char *end = memchr(text.data + 1, text.data[0], text.len - 1);

		if (end)
			return slice_make(text.data + 1, (size_t)(end - text.data - 1));
	}
	for (size_t i = 0; i < text.len; i++)
		if (text.data[i] == '#' || text.data[i] == ';')
			return text_trim(slice_make(text.data, i));
	return text;
}

static int parse_line(struct fleetd_config *config, const char *name, unsigned number, struct slice line,
	bool *in_section, struct buf *reterr)
{
	struct slice key_text, value;
	const struct config_key *key;
	_cleanup_free_ char *where = mem_printf("%s:%u", name, number), *text = NULL, *key_name = NULL;

	line = text_trim(line);
	if (!line.len || line.data[0] == '#' || line.data[0] == ';')
		return 0;
	if (line.data[0] == '[') {
		*in_section = true;
		return 0;
	}
	if (!text_cut(line, '=', &key_text, &value)) {
		buf_printf(reterr, "%s: iniparser: syntax error: expected KEY=VALUE", where);
		return -EINVAL;
	}
	key_text = text_trim(key_text);
	value = value_of(value);
	key = find_key(key_text);
	key_name = mem_strndup(key_text.data, key_text.len);
	if (*in_section) {
		warn(config, where, key_name,
			"stands in a section: ignored (keys belong above any [section])");
		return 0;
	}
	if (!key) {
		warn(config, where, key_name, "is no known key: ignored");
		return 0;
	}
	text = mem_strndup(value.data, value.len);
	return take_key(config, key, where, text, reterr);
}

int fleetd_config_parse(struct fleetd_config *config, const char *name, struct slice text, struct buf *reterr)
{
	unsigned number = 1;
	bool in_section = false;
	_cleanup_buf_ struct buf line = BUF_INIT(CONFIG_FILE_MAX);

	while (text.len) {
		struct slice part;
		unsigned first = number;
		int r;

		buf_clear(&line);
		/* A backslash at the end of a line continues it. */
		do {
			(void)text_cut(text, '\n', &part, &text);
			number++;
			if (line.len)
				buf_truncate(&line, line.len - 1);
			buf_add_slice(&line, part);
		} while (line.len && line.data[line.len - 1] == '\\' && text.len);
		r = parse_line(config, name, first, buf_slice(&line), &in_section, reterr);
		if (r < 0)
			return r;
	}
	return 0;
}

static int read_environment(struct fleetd_config *config, struct buf *reterr)
{
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		_cleanup_free_ char *name = mem_printf("FLEET_%s", keys[i].name);
		const char *value;
		int r;

		for (char *at = name; *at; at++)
			*at = (char)toupper((unsigned char)*at);
		value = getenv(name);
		if (!value)
			continue;
		r = take_key(config, &keys[i], name, value, reterr);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The value becomes the key's, unless one is named. Takes it. */
static void set_default(struct fleetd_config *config, const char *name, char **field, char *value)
{
	if (fleetd_config_names(config, name)) {
		free(value);
		return;
	}
	free(*field);
	*field = value;
}

static const char *absolute_env(const char *name)
{
	const char *path = getenv(name);

	return path && path[0] == '/' ? path : NULL;
}

void fleetd_config_for_user(struct fleetd_config *config)
{
	const char *runtime = absolute_env("XDG_RUNTIME_DIR"), *state = absolute_env("XDG_STATE_HOME");
	const char *home = absolute_env("HOME");

	/* One that somebody made for this user is the user's. */
	if ((state || home) && access(config->data_dir, W_OK) < 0)
		set_default(config, "agent_data_dir", &config->data_dir,
			state ? mem_printf("%s/fleet", state) : mem_printf("%s/.local/state/fleet", home));
	if (!runtime)
		return;
	set_default(config, "listen", &config->listen, mem_printf("unix://%s/fleet.sock", runtime));
	set_default(config, "supervisor_dir", &config->supervisor_dir,
		mem_printf("%s/fleet/supervisor", runtime));
}

int fleetd_config_load(const char *path, struct fleetd_config *ret, struct buf *reterr)
{
	const char *name = path ? path : CONFIG_FILE_DEFAULT;
	_cleanup_buf_ struct buf text = BUF_INIT(CONFIG_FILE_MAX);
	struct fleetd_config config;
	int r = file_read(name, CONFIG_FILE_MAX, &text);

	fleetd_config_defaults(&config);
	if (r < 0 && (path || r != -ENOENT)) {
		buf_printf(reterr, "cannot read the configuration %s: %s", name, strerror(-r));
		fleetd_config_done(&config);
		return r;
	}
	r = fleetd_config_parse(&config, name, buf_slice(&text), reterr);
	if (r >= 0)
		r = read_environment(&config, reterr);
	if (r < 0) {
		fleetd_config_done(&config);
		return r;
	}
	if (geteuid() != 0)
		fleetd_config_for_user(&config);
	for (size_t len = strlen(config.prefix); len > 0 && config.prefix[len - 1] == '/'; len--)
		config.prefix[len - 1] = '\0';
	*ret = config;
	return 0;
}

static bool key_differs(
	const struct config_key *key, const struct fleetd_config *a, const struct fleetd_config *b)
{
	const void *left = (const char *)a + key->offset, *right = (const char *)b + key->offset;

	switch (key->kind) {
	case KEY_TEXT:
	case KEY_LIST:
		return strcmp(*(char *const *)left, *(char *const *)right) != 0;
	case KEY_BOOL:
		return *(const bool *)left != *(const bool *)right;
	case KEY_INT:
		return *(const int *)left != *(const int *)right;
	case KEY_SECONDS:
	case KEY_TTL:
		return *(const int64_t *)left != *(const int64_t *)right;
	case KEY_LIMIT:
		return *(const uint16_t *)left != *(const uint16_t *)right;
	case KEY_MANAGER:
		return *(const enum manager_kind *)left != *(const enum manager_kind *)right;
	case KEY_METADATA:
	case KEY_IGNORED:
		break;
	}
	return false;
}

void fleetd_config_add_fixed(
	struct buf *out, const struct fleetd_config *present, const struct fleetd_config *wanted)
{
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		if (!keys[i].live && key_differs(&keys[i], present, wanted))
			buf_printf(out, "%s%s", out->len ? ", " : "", keys[i].name);
}

void fleetd_config_done(struct fleetd_config *config)
{
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		if (keys[i].kind == KEY_TEXT || keys[i].kind == KEY_LIST) {
			char **field = (char **)(void *)((char *)config + keys[i].offset);

			*field = mem_free(*field);
		}
	pairs_free(config);
	buf_done(&config->warnings);
}
