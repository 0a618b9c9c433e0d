/* One table of flags. A row's fate says what the program does with it: use it, accept it silently or with a
 * warning because nothing depends on it here, or refuse it because ignoring it would do something else than
 * asked. */
#include "etcd/config.h"
#include "base/flags.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/url.h"
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

extern char **environ;

#define NAME "default"
#define PEER_URLS "http://localhost:2380,http://localhost:7001"
#define CLIENT_URLS "http://localhost:2379,http://localhost:4001"
#define STATE "new"
#define TOKEN "etcd-cluster"

enum fate { USED, SILENT, WARNED, REFUSED, REPLACED, FATE_MAX };

struct values {
	const char *name, *data_dir, *listen_peer_urls, *listen_client_urls, *initial_advertise_peer_urls,
		*advertise_client_urls, *initial_cluster, *initial_cluster_state, *initial_cluster_token,
		*refused;
	uint64_t heartbeat_ms, election_ms, snapshot_count;
	bool rebuild, strict_changes, debug, version, help, refused_bool;
};

struct option {
	struct flag flag;
	enum fate fate;
	const char *instead; /* of a REFUSED or REPLACED row: what to do */
};

enum { OPTIONS_MAX = 96 };

struct options {
	struct option rows[OPTIONS_MAX];
	struct flag flags[OPTIONS_MAX];
	char env[OPTIONS_MAX][64];
	size_t count;
};

static struct option *option_add(struct options *options, const char *name, enum flag_type type, void *value,
	enum fate fate, const char *help)
{
	struct option *option = &options->rows[options->count];
	char *env = options->env[options->count];
	int len;

	assert(options->count + 1 < OPTIONS_MAX);
	len = snprintf(env, sizeof(options->env[0]), "ETCD_%s", name);
	assert(len > 0 && (size_t)len < sizeof(options->env[0]));
	for (int i = 0; i < len; i++)
		env[i] = env[i] == '-' ? '_' : (char)toupper((unsigned char)env[i]);
	*option = (struct option){
		.flag = {.name = name, .type = type, .value = value, .help = help, .env = env}, .fate = fate};
	options->count++;
	return option;
}

static void options_used(struct options *options, struct values *values)
{
	static const struct {
		const char *name, *help;
		size_t at;
	} texts[] = {
		{"name", "human-readable name of this member (default " NAME ")",
			offsetof(struct values, name)},
		{"data-dir", "directory of this member's data (default NAME.etcd)",
			offsetof(struct values, data_dir)},
		{"listen-peer-urls", "URLs to listen on for the other members (default " PEER_URLS ")",
			offsetof(struct values, listen_peer_urls)},
		{"listen-client-urls", "URLs to listen on for clients (default " CLIENT_URLS ")",
			offsetof(struct values, listen_client_urls)},
		{"initial-advertise-peer-urls",
			"this member's URLs for the other members (default " PEER_URLS ")",
			offsetof(struct values, initial_advertise_peer_urls)},
		{"advertise-client-urls", "this member's URLs for clients (default " CLIENT_URLS ")",
			offsetof(struct values, advertise_client_urls)},
		{"initial-cluster",
			"name=URL,... of the members that the cluster begins with (default this member "
			"alone)",
			offsetof(struct values, initial_cluster)},
		{"initial-cluster-state",
			"new, or existing: this member was added to the running cluster that "
			"initial-cluster names, and joins it (default " STATE ")",
			offsetof(struct values, initial_cluster_state)},
		{"initial-cluster-token", "tells clusters with the same URLs apart (default " TOKEN ")",
			offsetof(struct values, initial_cluster_token)},
	};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		(void)option_add(options, texts[i].name, FLAG_STRING, (char *)values + texts[i].at, USED,
			texts[i].help);
	(void)option_add(options, "heartbeat-interval", FLAG_UINT, &values->heartbeat_ms, USED,
		"milliseconds between heartbeats (default 100)");
	(void)option_add(options, "election-timeout", FLAG_UINT, &values->election_ms, USED,
		"milliseconds without a leader before an election (default 1000)");
	(void)option_add(options, "snapshot-count", FLAG_UINT, &values->snapshot_count, USED,
		"write a checkpoint after so many changes (default: when the log has grown by 64 MiB)");
	(void)option_add(options, "rebuild", FLAG_BOOL, &values->rebuild, USED,
		"if this member's data is damaged, get it anew from the others; the damaged files are kept");
	(void)option_add(options, "strict-reconfig-check", FLAG_BOOL, &values->strict_changes, USED,
		"do not remove a member when too few of those left have ever started to be a quorum");
	(void)option_add(options, "debug", FLAG_BOOL, &values->debug, USED, "log more");
	(void)option_add(options, "version", FLAG_BOOL, &values->version, USED, "print the version and exit");
	(void)option_add(options, "help,h", FLAG_BOOL, &values->help, USED, "print this and exit");
}

static void options_other(struct options *options, struct values *values)
{
	static const char *const ignored[] = {"max-snapshots", "max-wals", "log-package-levels",
		"proxy-failure-wait", "proxy-refresh-interval", "proxy-dial-timeout", "proxy-write-timeout",
		"proxy-read-timeout", "discovery-fallback", "cluster-active-size", "cluster-remove-delay",
		"cluster-sync-interval", "config", "max-result-buffer", "max-retry-attempts",
		"peer-heartbeat-interval", "peer-election-timeout", "retry-interval"};
	static const char *const ignored_bools[] = {"enable-pprof", "force", "snapshot", "v", "vv"};
	static const struct {
		const char *name, *instead;
	} refused[] = {
		{"wal-dir", "the log lives in the data directory; mount a faster disk there"},
		{"cors", "CORS is not supported yet"},
		{"discovery", "discovery is not supported yet; use --initial-cluster"},
		{"discovery-proxy", "discovery is not supported yet; use --initial-cluster"},
		{"discovery-srv", "discovery is not supported yet; use --initial-cluster"},
		{"cert-file", "TLS is not supported yet"},
		{"key-file", "TLS is not supported yet"},
		{"ca-file", "TLS is not supported yet"},
		{"trusted-ca-file", "TLS is not supported yet"},
		{"peer-cert-file", "TLS is not supported yet"},
		{"peer-key-file", "TLS is not supported yet"},
		{"peer-ca-file", "TLS is not supported yet"},
		{"peer-trusted-ca-file", "TLS is not supported yet"},
		{"addr", "use --advertise-client-urls"},
		{"bind-addr", "use --listen-client-urls"},
		{"peer-addr", "use --initial-advertise-peer-urls"},
		{"peer-bind-addr", "use --listen-peer-urls"},
		{"peers", "use --initial-cluster"},
		{"peers-file", "use --initial-cluster"},
	};
	static const char *const refused_bools[] = {
		"client-cert-auth", "peer-client-cert-auth", "force-new-cluster"};

	(void)option_add(options, "enable-v2", FLAG_BOOL, NULL, SILENT, NULL);
	for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
		(void)option_add(options, ignored[i], FLAG_IGNORED, NULL, WARNED, NULL);
	for (size_t i = 0; i < ARRAY_LEN(ignored_bools); i++)
		(void)option_add(options, ignored_bools[i], FLAG_BOOL, NULL, WARNED, NULL);
	for (size_t i = 0; i < ARRAY_LEN(refused); i++)
		option_add(options, refused[i].name, FLAG_STRING, &values->refused, REFUSED, NULL)->instead =
			refused[i].instead;
	option_add(options, "proxy", FLAG_STRING, &values->refused, REPLACED, NULL)->instead =
		"only --proxy=off is supported yet";
	for (size_t i = 0; i < ARRAY_LEN(refused_bools); i++)
		option_add(options, refused_bools[i], FLAG_BOOL, &values->refused_bool, REFUSED, NULL)
			->instead = "it is not supported yet";
}

static void print_help(const struct options *options)
{
	_cleanup_buf_ struct buf help = BUF_INIT(0);

	buf_add_str(&help, "usage: etcd [flags]\n\nA member of a replicated key-value store with etcd's v2 "
			   "API. Every flag "
			   "--a-b can also be given as ETCD_A_B.\n\n");
	flags_add_help(&help, options->flags);
	(void)!write(STDOUT_FILENO, help.data, help.len);
}

/* What becomes of the flags that are not used. -EINVAL: one of them is refused. */
static int options_judge(const struct options *options, struct buf *warnings, struct buf *reterr)
{
	for (size_t i = 0; i < options->count; i++) {
		const struct option *option = &options->rows[i];
		const struct flag *flag = &options->flags[i];
		const char *text;

		if (!flag->set || option->fate == USED || option->fate == SILENT)
			continue;
		if (option->fate == WARNED) {
			buf_printf(warnings, "%s%s has no effect here\n", flag->from_env ? "" : "--",
				flag->from_env ? flag->env : flag->name);
			continue;
		}
		text = flag->type == FLAG_STRING ? *(const char **)flag->value : NULL;
		if (flag->type == FLAG_BOOL && !*(bool *)flag->value)
			continue;
		if (text && (!*text || (option->fate == REPLACED && strcmp(text, "off") == 0)))
			continue;
		buf_printf(reterr, "%s%s: %s", flag->from_env ? "" : "--",
			flag->from_env ? flag->env : flag->name, option->instead);
		return -EINVAL;
	}
	return 0;
}

static void warn_unknown_env(const struct options *options, struct buf *warnings)
{
	for (char **entry = environ; *entry; entry++) {
		size_t len = strcspn(*entry, "=");
		bool known = false;

		if (strncmp(*entry, "ETCD_", 5) != 0)
			continue;
		for (size_t i = 0; i < options->count && !known; i++)
			known = strlen(options->env[i]) == len && strncmp(options->env[i], *entry, len) == 0;
		if (!known)
			buf_printf(warnings, "unrecognized environment variable %.*s\n", (int)len, *entry);
	}
}

static int url_order(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int urls_read(
	const char *flag, const char *text, char *urls[CONFIG_URLS_MAX + 1], bool sorted, struct buf *reterr)
{
	struct slice rest = slice_str(text), item;
	size_t count = 0;

	while (rest.len) {
		_cleanup_buf_ struct buf why = BUF_INIT(0);

		(void)text_cut(rest, ',', &item, &rest);
		item = text_trim(item);
		if (!item.len)
			continue;
		if (count == CONFIG_URLS_MAX) {
			buf_printf(reterr, "--%s: more than %d URLs", flag, CONFIG_URLS_MAX);
			return -EINVAL;
		}
		urls[count++] = mem_strndup(item.data, item.len);
		if (identity_check_url(urls[count - 1], &why) < 0) {
			buf_printf(reterr, "--%s: %s", flag, buf_text(&why));
			return -EINVAL;
		}
		if (strncmp(urls[count - 1], "https:", 6) == 0) {
			buf_printf(reterr, "--%s: %s: TLS is not supported yet, use http", flag,
				urls[count - 1]);
			return -EINVAL;
		}
	}
	if (!count) {
		buf_printf(reterr, "--%s: no URL is given", flag);
		return -EINVAL;
	}
	if (sorted)
		qsort(urls, count, sizeof(urls[0]), url_order);
	return 0;
}

static bool lists_equal(char *const *a, char *const *b)
{
	for (; *a && *b; a++, b++)
		if (strcmp(*a, *b) != 0)
			return false;
	return !*a && !*b;
}

static int cluster_read(struct config *config, const struct values *values, struct buf *reterr)
{
	const char *text = values->initial_cluster;
	const struct identity_member *self;
	_cleanup_buf_ struct buf why = BUF_INIT(0);

	if (!text) {
		_cleanup_buf_ struct buf own = BUF_INIT(0);

		for (char **url = config->advertise_peer_urls; *url; url++)
			buf_printf(&own, "%s%s=%s", url == config->advertise_peer_urls ? "" : ",",
				config->name, *url);
		text = config->own_cluster_text = buf_take(&own, NULL);
	}
	if (identity_parse(text, config->initial_cluster_token, &config->cluster, &why) < 0) {
		buf_printf(reterr, "--initial-cluster: %s", buf_text(&why));
		return -EINVAL;
	}
	self = identity_find(&config->cluster, config->name);
	if (!self) {
		buf_printf(reterr,
			"couldn't find local name \"%s\" in the initial cluster configuration: add %s=URL to "
			"--initial-cluster, or correct --name",
			config->name, config->name);
		return -EINVAL;
	}
	if (!lists_equal(self->urls, config->advertise_peer_urls)) {
		buf_printf(reterr,
			"%s has different URLs in --initial-cluster and --initial-advertise-peer-urls",
			config->name);
		return -EINVAL;
	}
	return 0;
}

static int config_check(struct config *config, const struct values *values, bool listen_given,
	bool advertise_given, struct buf *reterr)
{
	_cleanup_buf_ struct buf cluster_error = BUF_INIT(0), name_error = BUF_INIT(0);
	int r;

	if (listen_given && !advertise_given) {
		buf_add_str(reterr,
			"--advertise-client-urls is required when --listen-client-urls is set explicitly");
		return -EINVAL;
	}
	if (identity_check_name(slice_str(values->name), &name_error) < 0) {
		buf_printf(reterr, "--name: %s", buf_text(&name_error));
		return -EINVAL;
	}
	if (strcmp(values->initial_cluster_state, "new") != 0 &&
		strcmp(values->initial_cluster_state, "existing") != 0) {
		buf_printf(reterr, "--initial-cluster-state: \"%s\" is neither new nor existing",
			values->initial_cluster_state);
		return -EINVAL;
	}
	if (values->heartbeat_ms < 1) {
		buf_add_str(reterr, "--heartbeat-interval[0ms] must be at least 1ms");
		return -EINVAL;
	}
	if (values->election_ms > 50000 || values->election_ms / 5 < values->heartbeat_ms) {
		buf_printf(reterr,
			"--election-timeout[%llums] should be at least as 5 times as "
			"--heartbeat-interval[%llums], and "
			"at most 50000ms",
			(unsigned long long)values->election_ms, (unsigned long long)values->heartbeat_ms);
		return -EINVAL;
	}
	r = urls_read("listen-peer-urls", values->listen_peer_urls, config->listen_peer_urls, false, reterr);
	if (r == 0)
		r = urls_read("listen-client-urls", values->listen_client_urls, config->listen_client_urls,
			false, reterr);
	if (r == 0)
		r = urls_read("advertise-client-urls", values->advertise_client_urls,
			config->advertise_client_urls, true, reterr);
	if (r == 0)
		r = urls_read("initial-advertise-peer-urls", values->initial_advertise_peer_urls,
			config->advertise_peer_urls, true, reterr);
	if (r == 0 && cluster_read(config, values, &cluster_error) < 0)
		config->cluster_error = buf_take(&cluster_error, NULL);
	return r;
}

static bool option_set(const struct options *options, const char *name)
{
	for (size_t i = 0; i < options->count; i++)
		if (strcmp(options->flags[i].name, name) == 0)
			return options->flags[i].set;
	return false;
}

static int fail(int status, const struct buf *why)
{
	(void)fprintf(stderr, "etcd: %s\n", buf_text(why));
	if (status == 2)
		(void)fprintf(stderr, "run \"etcd --help\" for the flags\n");
	return status;
}

int config_read(struct config *config, int argc, char **argv, struct buf *warnings)
{
	struct values values = {.name = NAME,
		.data_dir = "",
		.listen_peer_urls = PEER_URLS,
		.listen_client_urls = CLIENT_URLS,
		.initial_advertise_peer_urls = PEER_URLS,
		.advertise_client_urls = CLIENT_URLS,
		.initial_cluster_state = STATE,
		.initial_cluster_token = TOKEN,
		.heartbeat_ms = 100,
		.election_ms = 1000};
	_cleanup_free_ struct options *options = mem_new(struct options);
	_cleanup_buf_ struct buf why = BUF_INIT(0);
	int words = 0;

	*config = (struct config){0};
	options_used(options, &values);
	options_other(options, &values);
	for (size_t i = 0; i < options->count; i++)
		options->flags[i] = options->rows[i].flag;
	if (flags_parse(options->flags, FLAGS_GO, argc, argv, &words, &why) < 0)
		return fail(2, &why);
	if (values.help) {
		print_help(options);
		return 0;
	}
	if (values.version) {
		(void)printf("etcd Version: %s\nFlotilla Version: %s\n", ETCD_VERSION, FLOTILLA_VERSION);
		return 0;
	}
	if (words > 0) {
		buf_printf(&why, "'%s' is not a valid flag", argv[1]);
		return fail(1, &why);
	}
	warn_unknown_env(options, warnings);
	config->name = values.name;
	config->initial_cluster_token = values.initial_cluster_token;
	config->heartbeat_ms = values.heartbeat_ms;
	config->election_ms = values.election_ms;
	config->snapshot_count = values.snapshot_count;
	config->debug = values.debug;
	config->rebuild = values.rebuild;
	config->strict_changes = values.strict_changes;
	config->state_existing = strcmp(values.initial_cluster_state, "existing") == 0;
	config->cluster_given =
		option_set(options, "initial-cluster") || option_set(options, "initial-cluster-token");
	config->data_dir = values.data_dir;
	if (!*values.data_dir)
		config->data_dir = config->own_data_dir = mem_printf("%s.etcd", values.name);
	if (options_judge(options, warnings, &why) < 0)
		return fail(1, &why);
	if (config_check(config, &values, option_set(options, "listen-client-urls"),
		    option_set(options, "advertise-client-urls"), &why) < 0)
		return fail(1, &why);
	return -1;
}

static void urls_done(char *urls[CONFIG_URLS_MAX + 1])
{
	for (char **url = urls; *url; url++)
		free(*url);
}

void config_done(struct config *config)
{
	urls_done(config->listen_peer_urls);
	urls_done(config->listen_client_urls);
	urls_done(config->advertise_client_urls);
	urls_done(config->advertise_peer_urls);
	identity_cluster_done(&config->cluster);
	free(config->own_data_dir);
	free(config->own_cluster_text);
	free(config->cluster_error);
	*config = (struct config){0};
}
