/* The flags are rows of one table; the keys of the file name rows of it, so that a flag's type is told once.
 * A row that the command line has set is left alone by the file. */
#include "confd/config.h"
#include "base/text.h"
#include "confd/lookup.h"
#include "confd/report.h"
#include "confd/toml.h"
#include "io/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define CONFIG_FILE_DEFAULT "/etc/confd/confd.toml"

/* What the flags are parsed into, beside the settings. */
struct given {
	struct flag_list nodes;
	bool version, help, debug, verbose, quiet, consul;
};

enum { FLAG_ROWS_MAX = 64 };

static void flag_rows(struct flag rows[static FLAG_ROWS_MAX], struct confd_config *c, struct given *given)
{
	const struct flag table[] = {
		{"backend", FLAG_STRING, &c->backend, "backend to use: etcd or env", "NAME"},
		{"node", FLAG_LIST, &given->nodes, "backend node, host:port or URL; may be repeated", "NODE"},
		{"confdir", FLAG_STRING, &c->confdir, "directory with conf.d and templates", "DIR"},
		{"config-file", FLAG_STRING, &c->config_file, "main configuration file", "FILE"},
		{"interval", FLAG_INT, &c->interval_s, "seconds between two passes", "SECONDS"},
		{"watch", FLAG_BOOL, &c->watch, "render when keys change"},
		{"onetime", FLAG_BOOL, &c->onetime, "render once and exit"},
		{"noop", FLAG_BOOL, &c->noop, "only show what would change"},
		{"sync-only", FLAG_BOOL, &c->sync_only, "replace files without check_cmd and reload_cmd"},
		{"keep-stage-file", FLAG_BOOL, &c->keep_stage_file, "keep staged files"},
		{"prefix", FLAG_STRING, &c->prefix, "prefix of all keys, instead of the resources' own",
			"PREFIX"},
		{"log-level", FLAG_STRING, &c->log_level, "panic, fatal, error, warn, info or debug",
			"LEVEL"},
		{"scheme,etcd-scheme", FLAG_STRING, &c->scheme, "scheme of nodes without one", "SCHEME"},
		{"srv-domain", FLAG_STRING, &c->srv_domain, "domain whose SRV record names the nodes",
			"DOMAIN"},
		{"srv-record", FLAG_STRING, &c->srv_record, "SRV record that names the nodes", "RECORD"},
		{"basic-auth", FLAG_BOOL, &c->basic_auth, "log in with -username and -password"},
		{"username", FLAG_STRING, &c->username, "user of the backend", "NAME"},
		{"password", FLAG_STRING, &c->password, "password of the backend", "TEXT"},
		{"client-ca-keys", FLAG_STRING, &c->client_cakeys, "CA of the backend's certificate", "FILE"},
		{"client-cert", FLAG_STRING, &c->client_cert, "client certificate", "FILE"},
		{"client-key", FLAG_STRING, &c->client_key, "key of the client certificate", "FILE"},
		{"version", FLAG_BOOL, &given->version, "print the version and exit"},
		{"help,h", FLAG_BOOL, &given->help, NULL},
		/* What unit files of 2014 still pass. */
		{"debug", FLAG_BOOL, &given->debug, NULL},
		{"verbose", FLAG_BOOL, &given->verbose, NULL},
		{"quiet", FLAG_BOOL, &given->quiet, NULL},
		{"consul", FLAG_BOOL, &given->consul, NULL},
		/* Of backends that are not supported; taken so that the message can be about the backend. */
		{"consul-addr", FLAG_IGNORED},
		{"client-insecure", FLAG_BOOL},
		{"file", FLAG_IGNORED},
		{"filter", FLAG_IGNORED},
		{"separator", FLAG_IGNORED},
		{"table", FLAG_IGNORED},
		{"auth-token", FLAG_IGNORED},
		{"auth-type", FLAG_IGNORED},
		{"app-id", FLAG_IGNORED},
		{"user-id", FLAG_IGNORED},
		{"role-id", FLAG_IGNORED},
		{"secret-id", FLAG_IGNORED},
		{"path", FLAG_IGNORED},
		{"secret-keyring", FLAG_IGNORED},
		{0},
	};

	static_assert(ARRAY_LEN(table) <= FLAG_ROWS_MAX, "more flags than rows");
	memcpy(rows, table, sizeof(table));
}

/* Keys of the file and the flags they stand for. */
static const struct {
	const char *key, *flag;
} file_keys[] = {
	{"backend", "backend"},
	{"nodes", "node"},
	{"etcd_nodes", "node"},
	{"confdir", "confdir"},
	{"interval", "interval"},
	{"noop", "noop"},
	{"prefix", "prefix"},
	{"scheme", "scheme,etcd-scheme"},
	{"etcd_scheme", "scheme,etcd-scheme"},
	{"srv_domain", "srv-domain"},
	{"srv_record", "srv-record"},
	{"log-level", "log-level"},
	{"log_level", "log-level"},
	{"watch", "watch"},
	{"onetime", "onetime"},
	{"sync-only", "sync-only"},
	{"sync_only", "sync-only"},
	{"keepstagefile", "keep-stage-file"},
	{"basic_auth", "basic-auth"},
	{"username", "username"},
	{"password", "password"},
	{"client_cakeys", "client-ca-keys"},
	{"client_cert", "client-cert"},
	{"client_key", "client-key"},
	{"debug", "debug"},
	{"verbose", "verbose"},
	{"quiet", "quiet"},
};

static struct flag *row_find(struct flag *rows, const char *name)
{
	for (struct flag *row = rows; row->name; row++)
		if (strcmp(row->name, name) == 0)
			return row;
	return NULL;
}

static int fail_type(const struct toml *value, const char *wanted, struct buf *reterr)
{
	buf_printf(reterr, "line %u (last key \"%.*s\"): expected %s but found %s", value->line,
		(int)value->key.len, value->key.data, wanted, toml_type_phrase(value->type));
	return -EINVAL;
}

static int take_list(
	struct confd_config *config, struct flag *row, const struct toml *value, struct buf *reterr)
{
	if (value->type != TOML_ARRAY)
		return fail_type(value, "an array", reterr);
	(void)row;
	config->nodes = arena_alloc(&config->arena, MAX(value->count, (size_t)1) * sizeof(*config->nodes));
	config->node_count = 0;
	for (const struct toml *item = value->first; item; item = item->next) {
		if (item->type != TOML_STRING)
			return fail_type(value, "an array of strings", reterr);
		config->nodes[config->node_count++] = item->text.data;
	}
	return 0;
}

static int take_value(
	struct confd_config *config, struct flag *row, const struct toml *value, struct buf *reterr)
{
	switch (row->type) {
	case FLAG_LIST:
		return take_list(config, row, value, reterr);
	case FLAG_STRING:
		if (value->type != TOML_STRING)
			return fail_type(value, "a string", reterr);
		*(const char **)row->value = value->text.data;
		return 0;
	case FLAG_INT:
		if (value->type != TOML_INTEGER)
			return fail_type(value, "an integer", reterr);
		*(int64_t *)row->value = value->integer;
		return 0;
	default:
		if (value->type != TOML_BOOL)
			return fail_type(value, "a boolean", reterr);
		*(bool *)row->value = value->boolean;
		return 0;
	}
}

static int apply_table(
	struct confd_config *config, struct flag *rows, const struct toml *table, struct buf *reterr)
{
	for (size_t i = 0; i < ARRAY_LEN(file_keys); i++) {
		const struct toml *value = toml_get(table, file_keys[i].key, true);
		struct flag *row = row_find(rows, file_keys[i].flag);
		int r;

		assert(row);
		if (!value || row->set)
			continue;
		r = take_value(config, row, value, reterr);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Keys of the file win over defaults, not over flags. A [template] table, as of a resource given by mistake,
 * is unknown here and means nothing; [confd] held everything until 0.5. */
static int apply_file(struct confd_config *config, struct flag *rows)
{
	_cleanup_buf_ struct buf text = BUF_INIT(TOML_TEXT_MAX);
	_cleanup_buf_ struct buf error = BUF_INIT(1 << 16);
	struct toml *root, *legacy;
	int r;

	r = file_read(config->config_file, TOML_TEXT_MAX, &text);
	if (r == -ENOENT) {
		report_debug("Skipping confd config file: %s is not there", config->config_file);
		return 0;
	}
	if (r < 0) {
		report_fatal("Cannot read the configuration file %s: %s", config->config_file, strerror(-r));
		return r;
	}
	report_debug("Loading %s", config->config_file);
	r = toml_parse(buf_slice(&text), &config->arena, &root, &error);
	if (r >= 0)
		r = apply_table(config, rows, root, &error);
	legacy = r >= 0 ? toml_get(root, "confd", true) : NULL;
	if (legacy && legacy->type == TOML_TABLE)
		r = apply_table(config, rows, legacy, &error);
	if (r < 0)
		report_fatal("%s - toml: %s", config->config_file, buf_text(&error));
	return r;
}

static void take_environment(struct confd_config *config)
{
	const struct {
		const char **value;
		const char *name;
	} files[] = {
		{&config->client_cakeys, "CONFD_CLIENT_CAKEYS"},
		{&config->client_cert, "CONFD_CLIENT_CERT"},
		{&config->client_key, "CONFD_CLIENT_KEY"},
	};

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		const char *text = getenv(files[i].name);

		if (!**files[i].value && text)
			*files[i].value = text;
	}
}

static void add_node(struct confd_config *config, const char *node)
{
	if ((config->node_count & (config->node_count - 1)) == 0) {
		const char **moved =
			arena_alloc(&config->arena, MAX(config->node_count * 2, (size_t)1) * sizeof(*moved));

		if (config->node_count)
			memcpy(moved, config->nodes, config->node_count * sizeof(*moved));
		config->nodes = moved;
	}
	config->nodes[config->node_count++] = node;
}

/* -node, else the file's, else those of the SRV record, else $ETCDCTL_PEERS, else the port of 2014. */
static int choose_nodes(struct confd_config *config, const struct given *given)
{
	const char *record = config->srv_record, *peers = getenv("ETCDCTL_PEERS");

	if (given->nodes.count) {
		config->node_count = 0;
		for (size_t i = 0; i < given->nodes.count; i++)
			add_node(config, given->nodes.items[i]);
	}
	if (!record[0] && config->srv_domain[0])
		record = arena_printf(&config->arena, "_%s._tcp.%s.", config->backend, config->srv_domain);
	if (record[0] && strcmp(config->backend, "env") != 0) {
		struct lookup_service *services;
		size_t count = lookup_services(&config->arena, record, &services);

		report_info("SRV record set to %s", record);
		if (!count) {
			report_fatal("Cannot get nodes from SRV records of %s: no answer", record);
			return -ENOENT;
		}
		config->node_count = 0;
		for (size_t i = 0; i < count; i++)
			add_node(config, arena_printf(&config->arena, "%s://%.*s:%u", config->scheme,
						 (int)services[i].target.len - 1, services[i].target.data,
						 services[i].port));
	}
	if (config->node_count || strcmp(config->backend, "etcd") != 0)
		return 0;
	if (peers && peers[0]) {
		struct slice rest = slice_str(peers), node;

		while (rest.len) {
			(void)text_cut(rest, ',', &node, &rest);
			if (node.len)
				add_node(config, arena_strndup(&config->arena, node.data, node.len));
		}
		return 0;
	}
	add_node(config, "http://127.0.0.1:4001");
	return 0;
}

static void usage(const struct flag *rows)
{
	_cleanup_buf_ struct buf text = BUF_INIT(1 << 16);

	buf_add_str(&text, "Usage of confd:\n");
	flags_add_help(&text, rows);
	fputs(buf_text(&text), stderr);
}

static int choose_level(const struct confd_config *config, const struct given *given)
{
	if (config->log_level[0]) {
		if (report_set_level(config->log_level) >= 0)
			return 0;
		report_fatal("not a valid level: \"%s\"", config->log_level);
		return -EINVAL;
	}
	if (given->debug || given->quiet)
		return report_set_level(given->debug ? "debug" : "error");
	return 0;
}

int confd_config_load(int argc, char **argv, struct confd_config *ret_config, int *ret_status)
{
	_cleanup_buf_ struct buf error = BUF_INIT(1 << 16);
	struct confd_config *config = ret_config;
	struct given given = {0};
	struct flag rows[FLAG_ROWS_MAX];
	int words, r;

	*config = (struct confd_config){
		.backend = "",
		.confdir = "/etc/confd",
		.config_file = CONFIG_FILE_DEFAULT,
		.interval_s = 600,
		.prefix = "",
		.scheme = "http",
		.log_level = "",
		.srv_domain = "",
		.srv_record = "",
		.username = "",
		.password = "",
		.client_cakeys = "",
		.client_cert = "",
		.client_key = "",
	};
	arena_init(&config->arena);
	flag_rows(rows, config, &given);
	*ret_status = 0;
	r = flags_parse(rows, FLAGS_GO, argc, argv, &words, &error);
	if (r < 0 || given.help) {
		if (r < 0)
			fprintf(stderr, "%s\n", buf_text(&error));
		usage(rows);
		*ret_status = r < 0 ? 2 : 0;
		r = 1;
		goto out;
	}
	if (given.version) {
		printf("confd %s (Flotilla)\n", FLOTILLA_VERSION);
		r = 1;
		goto out;
	}
	r = choose_level(config, &given); /* so that reading the file is reported as asked */
	if (r >= 0)
		r = apply_file(config, rows);
	if (r >= 0)
		r = choose_level(config, &given);
	if (r >= 0) {
		if (!config->backend[0])
			config->backend = given.consul ? "consul" : "etcd";
		take_environment(config);
		report_info("Backend set to %s", config->backend);
		r = choose_nodes(config, &given);
	}
	if (r < 0) {
		*ret_status = 1;
		r = 1;
	}
out:
	flags_done(rows);
	return r;
}

void confd_config_done(struct confd_config *config)
{
	arena_done(&config->arena);
}
