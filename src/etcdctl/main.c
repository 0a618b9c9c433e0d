/* etcdctl: global flags, then the command's row, then the command's own flags. As in the original, flags may
 * follow a command's words (everything from the first word that begins with a dash up to "--" is moved to the
 * front), while global flags must precede the command; usage errors print the help to stdout and exit with 0.
 */
#include "base/memory.h"
#include "base/programs.h"
#include "base/time.h"
#include "etcdctl/ctl.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FLAGS_MAX = 24 };

static void print_help(const struct buf *text, bool incorrect)
{
	printf("%s%s", incorrect ? "Incorrect Usage.\n\n" : "", buf_text(text));
}

static int show_app_help(const struct flag *flags, bool incorrect)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0);

	ctl_add_app_help(&text, flags);
	print_help(&text, incorrect);
	return CTL_OK;
}

static int show_group_help(const struct ctl_command *group, bool incorrect)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0);

	ctl_add_group_help(&text, group);
	print_help(&text, incorrect);
	return CTL_OK;
}

static int show_command_help(
	const struct ctl_command *group, const struct ctl_command *command, bool incorrect)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0);

	if (command->sub)
		return show_group_help(command, incorrect);
	ctl_add_command_help(&text, group, command);
	print_help(&text, incorrect);
	return CTL_OK;
}

static const struct ctl_command *find(const struct ctl_command *commands, const char *name)
{
	for (; commands->name; commands++)
		if (!strcmp(commands->name, name))
			return commands;
	return NULL;
}

static int no_topic(const char *name)
{
	printf("No help topic for '%s'\n", name);
	return CTL_OK;
}

int (*etcdctl_snapshot)(const struct snapshot_source *from, int argc, char **argv);

static bool is_snapshot(const char *word)
{
	return !strcmp(word, "snapshot") && etcdctl_snapshot;
}

/* What a request to the keys may take by default is not enough for a whole store: only what was asked for
 * counts. */
static int64_t asked_ns(const struct flag *flags, const char *name)
{
	while (strcmp(flags->name, name) != 0)
		flags++;
	return flags->set ? MAX(*(const int64_t *)flags->value, (int64_t)0) : -1;
}

static int run_snapshot(const struct ctl_globals *globals, const struct flag *flags, int argc, char **argv)
{
	struct snapshot_source from = {.endpoints = ctl_endpoints(globals),
		.timeout_ns = asked_ns(flags, "timeout"),
		.total_timeout_ns = asked_ns(flags, "total-timeout")};

	return etcdctl_snapshot(&from, argc, argv);
}

/* `help [command]` in the program or in a group. */
static int run_help(const struct ctl_command *group, const struct flag *global_flags, int argc, char **argv)
{
	const struct ctl_command *command;

	if (argc < 2)
		return group ? show_group_help(group, false) : show_app_help(global_flags, false);
	if (!group && is_snapshot(argv[1]))
		return etcdctl_snapshot(
			&(struct snapshot_source){.endpoints = ""}, 2, (char *[]){argv[1], argv[0], NULL});
	command = find(group ? group->sub : ctl_commands, argv[1]);
	return command ? show_command_help(group, command, false) : no_topic(argv[1]);
}

/* Moves the flags to the front: from the first word with a dash up to "--", then the words before it, then
 * "--" and what follows. argv[0] stays. */
static void order_words(int argc, char **argv)
{
	_cleanup_free_ char **ordered = mem_new_array(char *, (size_t)argc + 1);
	int first = 0, end = argc, count = 0;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--")) {
			end = i;
			break;
		}
		if (!first && argv[i][0] == '-')
			first = i;
	}
	if (!first)
		return;
	for (int i = first; i < end; i++)
		ordered[count++] = argv[i];
	for (int i = 1; i < first; i++)
		ordered[count++] = argv[i];
	for (int i = end; i < argc; i++)
		ordered[count++] = argv[i];
	memcpy(argv + 1, ordered, (size_t)count * sizeof(*argv));
}

/* The rows of a command and --help; the caller frees. */
static struct flag *with_help_flag(const struct flag *flags, bool *help)
{
	size_t count = 0;
	struct flag *all;

	while (flags && flags[count].name)
		count++;
	all = mem_new_array(struct flag, count + 2);
	if (count)
		memcpy(all, flags, count * sizeof(*all));
	all[count] = (struct flag){.name = "help,h", .type = FLAG_BOOL, .value = help};
	return all;
}

static int run_command(struct ctl *ctl, const struct ctl_command *group, const struct ctl_command *command,
	int argc, char **argv)
{
	_cleanup_buf_ struct buf error = BUF_INIT(4096);
	bool help = false;
	_cleanup_free_ struct flag *flags = with_help_flag(command->flags, &help);
	int count, r;

	order_words(argc, argv);
	r = flags_parse(flags, FLAGS_GO, argc, argv, &count, &error);
	if (r < 0)
		return show_command_help(group, command, true);
	if (help)
		return show_command_help(group, command, false);
	if (!command->run) {
		fprintf(stderr, "etcdctl: %s%s%s is not supported by this version\n",
			group ? group->name : "", group ? " " : "", command->name);
		return CTL_BAD_ARGS;
	}
	r = command->run(ctl, count, argv + 1);
	flags_done(flags);
	return r;
}

static int run_group(struct ctl *ctl, const struct ctl_command *group, int argc, char **argv)
{
	_cleanup_buf_ struct buf error = BUF_INIT(4096);
	bool help = false;
	_cleanup_free_ struct flag *flags = with_help_flag(NULL, &help);
	const struct ctl_command *command;
	int count;

	if (flags_parse(flags, FLAGS_GO, argc, argv, &count, &error) < 0)
		return show_group_help(group, true);
	if (help || !count)
		return show_group_help(group, false);
	if (!strcmp(argv[1], "help") || !strcmp(argv[1], "h"))
		return run_help(group, NULL, count, argv + 1);
	command = find(group->sub, argv[1]);
	return command ? run_command(ctl, group, command, count, argv + 1) : no_topic(argv[1]);
}

static int dispatch(
	struct ctl *ctl, const struct ctl_globals *globals, const struct flag *flags, int argc, char **argv)
{
	const struct ctl_command *command;

	if (globals->help)
		return show_app_help(flags, false);
	if (globals->version) {
		puts("etcdctl version " CTL_VERSION);
		return CTL_OK;
	}
	if (!argc)
		return show_app_help(flags, false);
	if (!strcmp(argv[0], "help") || !strcmp(argv[0], "h"))
		return run_help(NULL, flags, argc, argv);
	if (is_snapshot(argv[0]))
		return run_snapshot(globals, flags, argc, argv);
	command = find(ctl_commands, argv[0]);
	if (!command)
		return no_topic(argv[0]);
	if (command->sub)
		return run_group(ctl, command, argc, argv);
	return run_command(ctl, NULL, command, argc, argv);
}

/* With a loop and a client as long as the command runs. */
static int run(
	struct ctl *ctl, const struct ctl_globals *globals, const struct flag *flags, int argc, char **argv)
{
	int status;

	(void)uv_loop_init(&ctl->loop);
	status = dispatch(ctl, globals, flags, argc, argv);
	ctl->client = etcd_client_free(ctl->client);
	(void)uv_run(&ctl->loop, UV_RUN_NOWAIT);
	(void)uv_run(&ctl->loop, UV_RUN_NOWAIT);
	(void)uv_loop_close(&ctl->loop);
	free(ctl->user);
	free(ctl->password);
	if (fflush(stdout) < 0 && status == CTL_OK) {
		fprintf(stderr, "etcdctl: cannot write the output: %s\n", strerror(errno));
		status = CTL_BAD_ARGS;
	}
	return status;
}

/* Which servers, and how they are known. */
static size_t server_flags(struct ctl_globals *globals, struct flag *out)
{
	const struct flag rows[] = {
		{.name = "discovery-srv,D",
			.type = FLAG_STRING,
			.value = &globals->discovery_srv,
			.env = "ETCDCTL_DISCOVERY_SRV",
			.help = "domain name to query for SRV records describing cluster endpoints"},
		{.name = "peers,C",
			.type = FLAG_STRING,
			.value = &globals->peers,
			.help = "DEPRECATED - \"--endpoints\" should be used instead"},
		{.name = "endpoint",
			.type = FLAG_STRING,
			.value = &globals->endpoint,
			.help = "DEPRECATED - \"--endpoints\" should be used instead"},
		{.name = "endpoints",
			.type = FLAG_STRING,
			.value = &globals->endpoints,
			.help = "a comma-delimited list of machine addresses in the cluster (default: "
				"\"http://127.0.0.1:2379,http://127.0.0.1:4001\")"},
		{.name = "cert-file",
			.type = FLAG_STRING,
			.value = &globals->cert_file,
			.env = "ETCDCTL_CERT_FILE",
			.help = "identify HTTPS client using this SSL certificate file"},
		{.name = "key-file",
			.type = FLAG_STRING,
			.value = &globals->key_file,
			.env = "ETCDCTL_KEY_FILE",
			.help = "identify HTTPS client using this SSL key file"},
		{.name = "ca-file",
			.type = FLAG_STRING,
			.value = &globals->ca_file,
			.env = "ETCDCTL_CA_FILE",
			.help = "verify certificates of HTTPS-enabled servers using this CA bundle"},
	};

	memcpy(out, rows, sizeof(rows));
	return ARRAY_LEN(rows);
}

static void app_flags(struct ctl *ctl, struct ctl_globals *globals, struct flag *out)
{
	const struct flag before[] = {
		{.name = "debug",
			.type = FLAG_BOOL,
			.value = &ctl->debug,
			.help = "output cURL commands which can be used to reproduce the request"},
		{.name = "no-sync",
			.type = FLAG_BOOL,
			.value = &ctl->no_sync,
			.help = "don't synchronize cluster information before sending request"},
		{.name = "output,o",
			.type = FLAG_STRING,
			.value = &ctl->output,
			.help_value = "simple",
			.help = "output response in the given format (`simple`, `extended` or `json`)"},
	};
	const struct flag after[] = {
		{.name = "username,u",
			.type = FLAG_STRING,
			.value = &ctl->username,
			.help = "provide username[:password] and prompt if password is not supplied."},
		{.name = "timeout",
			.type = FLAG_DURATION,
			.value = &ctl->timeout_ns,
			.help_value = "1s",
			.help = "connection timeout per request"},
		{.name = "total-timeout",
			.type = FLAG_DURATION,
			.value = &ctl->total_timeout_ns,
			.help_value = "5s",
			.help = "timeout for the command execution (except watch)"},
		{.name = "help,h", .type = FLAG_BOOL, .value = &globals->help, .help = "show help"},
		{.name = "version,v",
			.type = FLAG_BOOL,
			.value = &globals->version,
			.help = "print the version"},
	};

	memcpy(out, before, sizeof(before));
	out += ARRAY_LEN(before);
	out += server_flags(globals, out);
	memcpy(out, after, sizeof(after));
}

int etcdctl_main(int argc, char **argv)
{
	struct ctl_globals globals = {0};
	struct ctl ctl = {.globals = &globals,
		.output = "simple",
		.timeout_ns = NS_PER_S,
		.total_timeout_ns = 5 * NS_PER_S};
	struct flag flags[FLAGS_MAX] = {0};
	_cleanup_buf_ struct buf error = BUF_INIT(4096);
	int count;

	app_flags(&ctl, &globals, flags);
	ctl_options = (struct ctl_options){0};
	(void)signal(SIGPIPE, SIG_IGN);
	if (flags_parse(flags, FLAGS_GO, argc, argv, &count, &error) < 0)
		return show_app_help(flags, true);
	return run(&ctl, &globals, flags, count, argv + 1);
}
