/* The command line: global flags, the command, its flags. One table of commands and one of flags per command;
 * help comes from the same rows. Flags are taken in fleet 1.0's forms and in those of the releases before
 * 0.13 (-l, -f, -A, -lines=3). */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/programs.h"
#include "fleetctl/fleetctl.h"

enum { FLAGS_MAX = 48 };

enum command_flags {
	FLAGS_NONE,
	FLAGS_LIST,
	FLAGS_CREATE,
	FLAGS_SUBMIT,
	FLAGS_BLOCK,
	FLAGS_RESTART,
	FLAGS_STATUS,
	FLAGS_JOURNAL,
	FLAGS_SSH
};

struct command {
	const char *name;
	int (*run)(struct fleetctl *ctl, int argc, char **argv); /* NULL: needs no server */
	enum command_flags flags;
	const char *usage, *help;
};

static const struct command commands[] = {
	{"cat", ctl_command_cat, FLAGS_NONE, "cat UNIT", "Output the contents of a submitted unit"},
	{"destroy", ctl_command_destroy, FLAGS_BLOCK, "destroy [--no-block|--block-attempts=N] UNIT...",
		"Destroy one or more units in the cluster"},
	{"fd-forward", NULL, FLAGS_NONE, "fd-forward SOCKET",
		"Join stdin and stdout to a Unix socket, for --tunnel of a fleet 1.0"},
	{"help", NULL, FLAGS_NONE, "help [COMMAND]", "Help about any command"},
	{"journal", ctl_command_journal, FLAGS_JOURNAL,
		"journal [-n|--lines=N] [-f|--follow] [-o|--output=short|cat|json] [--since=TIME] "
		"[--until=TIME] UNIT",
		"Print the journal of a unit in the cluster to stdout"},
	{"list-machines", ctl_command_list_machines, FLAGS_LIST,
		"list-machines [-l|--full] [--no-legend] [--fields=LIST]",
		"Enumerate the current hosts in the cluster"},
	{"list-unit-files", ctl_command_list_unit_files, FLAGS_LIST,
		"list-unit-files [-l|--full] [--no-legend] [--fields=LIST]",
		"List the units that exist in the cluster."},
	{"list-units", ctl_command_list_units, FLAGS_LIST,
		"list-units [-l|--full] [--no-legend] [--fields=LIST]",
		"List the current state of units in the cluster"},
	{"load", ctl_command_load, FLAGS_CREATE, "load [--no-block|--block-attempts=N] [--replace] UNIT...",
		"Schedule one or more units in the cluster, first submitting them if necessary."},
	{"restart", ctl_command_restart, FLAGS_RESTART, "restart [--block-attempts=N] UNIT...",
		"Stop and start one or more units in the cluster, one after the other."},
	{"ssh", ctl_command_ssh, FLAGS_SSH,
		"ssh [-A|--forward-agent] [--ssh-port=N] [--machine=M|--unit=U] {MACHINE|UNIT} [COMMAND...]",
		"Open interactive shell on a machine in the cluster"},
	{"start", ctl_command_start, FLAGS_CREATE,
		"start [--no-block|--block-attempts=N] [--replace] UNIT...",
		"Start one or more units in the cluster, first submitting and loading if necessary."},
	{"status", ctl_command_status, FLAGS_STATUS, "status UNIT...",
		"Output the status of one or more units in the cluster"},
	{"stop", ctl_command_stop, FLAGS_BLOCK, "stop [--no-block|--block-attempts=N] UNIT...",
		"Stop one or more units in the cluster."},
	{"submit", ctl_command_submit, FLAGS_SUBMIT, "submit [--replace] UNIT...",
		"Upload one or more units to the cluster without starting them"},
	{"unload", ctl_command_unload, FLAGS_BLOCK, "unload [--no-block|--block-attempts=N] UNIT...",
		"Unschedule one or more units in the cluster."},
	{"verify", NULL, FLAGS_NONE, "verify UNIT", "No longer works: signed units are gone from fleet"},
	{"version", NULL, FLAGS_NONE, "version", "Print the version and exit"},
	{0},
};

static size_t certificate_flags(struct fleetctl_options *o, struct flag *out)
{
	const struct flag rows[] = {
		{.name = "key-file",
			.type = FLAG_STRING,
			.value = &o->key_file,
			.env = "FLEETCTL_KEY_FILE",
			.help_value = "PATH",
			.help = "Its key"},
		{.name = "cert-file",
			.type = FLAG_STRING,
			.value = &o->cert_file,
			.env = "FLEETCTL_CERT_FILE",
			.help_value = "PATH",
			.help = "Certificate to show to https servers"},
		{.name = "ca-file",
			.type = FLAG_STRING,
			.value = &o->ca_file,
			.env = "FLEETCTL_CA_FILE",
			.help_value = "PATH",
			.help = "Authority that https servers must be certified by"},
		{.name = "etcd-keyfile", .type = FLAG_STRING, .value = &o->key_file},
		{.name = "etcd-certfile", .type = FLAG_STRING, .value = &o->cert_file},
		{.name = "etcd-cafile", .type = FLAG_STRING, .value = &o->ca_file},
	};

	memcpy(out, rows, sizeof(rows));
	return ARRAY_LEN(rows);
}

static size_t global_flags(struct fleetctl_options *o, struct flag *out)
{
	const struct flag rows[] = {
		{.name = "endpoint",
			.type = FLAG_STRING,
			.value = &o->endpoint,
			.env = "FLEETCTL_ENDPOINT",
			.help_value = "URL",
			.help = "The fleet API: unix:///path, http://host:port or https://host:port; with "
				"--driver=etcd the store"},
		{.name = "driver",
			.type = FLAG_STRING,
			.value = &o->driver,
			.env = "FLEETCTL_DRIVER",
			.help_value = "NAME",
			.help = "API (the default), or etcd: without a fleetd, by the registry in the store"},
		{.name = "tunnel",
			.type = FLAG_STRING,
			.value = &o->tunnel,
			.env = "FLEETCTL_TUNNEL",
			.help_value = "HOST[:PORT]",
			.help = "Reach the endpoint from this host, by ssh"},
		{.name = "request-timeout",
			.type = FLAG_FLOAT,
			.value = &o->request_timeout,
			.env = "FLEETCTL_REQUEST_TIMEOUT",
			.help_value = "SECONDS",
			.help = "How long the API may take to begin an answer (at least 10)"},
		{.name = "ssh-username",
			.type = FLAG_STRING,
			.value = &o->ssh_username,
			.env = "FLEETCTL_SSH_USERNAME",
			.help_value = "USER",
			.help = "Login name on the machines"},
		{.name = "ssh-timeout",
			.type = FLAG_FLOAT,
			.value = &o->ssh_timeout,
			.env = "FLEETCTL_SSH_TIMEOUT",
			.help_value = "SECONDS",
			.help = "How long an ssh connection may take"},
		{.name = "strict-host-key-checking",
			.type = FLAG_BOOL,
			.value = &o->strict_host_keys,
			.env = "FLEETCTL_STRICT_HOST_KEY_CHECKING",
			.help = "Verify host keys (default true)"},
		{.name = "known-hosts-file",
			.type = FLAG_STRING,
			.value = &o->known_hosts_file,
			.env = "FLEETCTL_KNOWN_HOSTS_FILE",
			.help_value = "PATH",
			.help = "Host keys seen before"},
		{.name = "etcd-key-prefix",
			.type = FLAG_STRING,
			.value = &o->prefix,
			.env = "FLEETCTL_ETCD_KEY_PREFIX"},
		{.name = "experimental-api", .type = FLAG_BOOL, .value = &o->experimental},
		{.name = "debug",
			.type = FLAG_BOOL,
			.value = &o->debug,
			.env = "FLEETCTL_DEBUG",
			.help = "Print requests to stderr"},
		{.name = "version,v",
			.type = FLAG_BOOL,
			.value = &o->version,
			.help = "Print the version and exit"},
		{.name = "help,h", .type = FLAG_BOOL, .value = &o->help, .help = "Print this"},
	};

	memcpy(out, rows, sizeof(rows));
	return ARRAY_LEN(rows) + certificate_flags(o, out + ARRAY_LEN(rows));
}

static size_t journal_flags(struct fleetctl_options *o, struct flag *out)
{
	const struct flag rows[] = {
		{.name = "lines,n",
			.type = FLAG_INT,
			.value = &o->lines,
			.help_value = "N",
			.help = "Number of recent log lines (default 10, with --since all)"},
		{.name = "follow,f",
			.type = FLAG_BOOL,
			.value = &o->follow,
			.help = "Go on with new lines as they come"},
		{.name = "output,o",
			.type = FLAG_STRING,
			.value = &o->output,
			.help_value = "MODE",
			.help = "As journalctl's --output (default short)"},
		{.name = "since",
			.type = FLAG_STRING,
			.value = &o->since,
			.help_value = "TIME",
			.help = "Only lines since then: \"2026-11-22 08:05:31\", today, -1h, \"2h ago\", "
				"@SECONDS"},
		{.name = "until",
			.type = FLAG_STRING,
			.value = &o->until,
			.help_value = "TIME",
			.help = "Only lines until then"},
		{.name = "sudo",
			.type = FLAG_BOOL,
			.value = &o->sudo,
			.help = "Run journalctl with sudo where ssh is needed"},
	};

	memcpy(out, rows, sizeof(rows));
	return ARRAY_LEN(rows);
}

static size_t ssh_flags(struct fleetctl_options *o, struct flag *out)
{
	const struct flag rows[] = {
		{.name = "machine",
			.type = FLAG_STRING,
			.value = &o->ssh_machine,
			.help_value = "ID",
			.help = "This machine (its ID or how it begins)"},
		{.name = "unit",
			.type = FLAG_STRING,
			.value = &o->ssh_unit,
			.help_value = "NAME",
			.help = "The machine that runs this unit"},
		{.name = "forward-agent,A",
			.type = FLAG_BOOL,
			.value = &o->forward_agent,
			.help = "Forward the local ssh agent"},
	};

	memcpy(out, rows, sizeof(rows));
	return ARRAY_LEN(rows);
}

static size_t command_flags(struct fleetctl_options *o, enum command_flags which, struct flag *out)
{
	const struct flag fields = {.name = "fields",
		.type = FLAG_STRING,
		.value = &o->fields,
		.help_value = "LIST",
		.help = "Columns to print, separated by commas"};
	const struct flag full = {.name = "full,l",
		.type = FLAG_BOOL,
		.value = &o->full,
		.help = "Print machine IDs and hashes in full"};
	const struct flag no_legend = {.name = "no-legend",
		.type = FLAG_BOOL,
		.value = &o->no_legend,
		.help = "Print no column headers"};
	const struct flag no_block = {.name = "no-block",
		.type = FLAG_BOOL,
		.value = &o->no_block,
		.help = "Do not wait until it has happened"};
	const struct flag attempts = {.name = "block-attempts",
		.type = FLAG_INT,
		.value = &o->block_attempts,
		.help_value = "N",
		.help = "Wait N times two seconds at most; 0: without end"};
	const struct flag replace = {.name = "replace",
		.type = FLAG_BOOL,
		.value = &o->replace,
		.help = "Put the local file in place of a different unit of that name"};
	const struct flag sign = {.name = "sign", .type = FLAG_BOOL, .value = &o->sign};
	const struct flag port = {.name = "ssh-port",
		.type = FLAG_INT,
		.value = &o->ssh_port,
		.help_value = "N",
		.help = "Port of the ssh servers (default 22)"};
	size_t n = 0;

	switch (which) {
	case FLAGS_NONE:
		break;
	case FLAGS_LIST:
		out[n++] = fields;
		out[n++] = full;
		out[n++] = no_legend;
		break;
	case FLAGS_CREATE:
		out[n++] = no_block;
		out[n++] = attempts;
		/* fall through */
	case FLAGS_SUBMIT:
		out[n++] = replace;
		out[n++] = sign;
		break;
	case FLAGS_BLOCK:
		out[n++] = no_block;
		/* fall through */
	case FLAGS_RESTART:
		out[n++] = attempts;
		break;
	case FLAGS_JOURNAL:
		n += journal_flags(o, out);
		/* fall through */
	case FLAGS_STATUS:
		out[n++] = port;
		break;
	case FLAGS_SSH:
		n += ssh_flags(o, out);
		out[n++] = port;
		break;
	}
	return n;
}

/* ---- help ---- */

static void print_general_help(struct fleetctl_options *o)
{
	struct flag flags[FLAGS_MAX] = {0};
	_cleanup_buf_ struct buf text = BUF_INIT(64 * 1024);

	(void)global_flags(o, flags);
	printf("NAME:\n\tfleetctl - fleetctl is a command-line interface to fleet, the cluster-wide init "
	       "system.\n\n"
	       "USAGE:\n\tfleetctl [GLOBAL OPTIONS] COMMAND [OPTIONS] "
	       "[ARGUMENTS]\n\nVERSION:\n\t" FLEETCTL_VERSION "\n\nCOMMANDS:\n");
	for (const struct command *command = commands; command->name; command++)
		printf("\t%s\t%s%s\n", command->name, strlen(command->name) < 8 ? "\t" : "", command->help);
	flags_add_help(&text, flags);
	printf("\nOPTIONS:\n%s\nEach can also be set by the environment as FLEETCTL_<NAME>, e.g. "
	       "FLEETCTL_ENDPOINT. The older\nFLEETCTL_ETCD_KEYFILE, _CERTFILE and _CAFILE are "
	       "read, too.\n",
		buf_text(&text));
}

static void print_command_help(struct fleetctl_options *o, const struct command *command)
{
	struct flag flags[FLAGS_MAX] = {0};
	_cleanup_buf_ struct buf text = BUF_INIT(64 * 1024);

	(void)command_flags(o, command->flags, flags);
	flags_add_help(&text, flags);
	printf("NAME:\n\t%s - %s\n\nUSAGE:\n\tfleetctl %s\n", command->name, command->help, command->usage);
	if (text.len)
		printf("\nOPTIONS:\n%s", buf_text(&text));
	printf("\n`fleetctl --help` lists the options that all commands take.\n");
}

/* ---- which command ---- */

/* The command of that name, or the only one that begins so. NULL: told why. */
static const struct command *find_command(const char *word)
{
	const struct command *found = NULL;
	bool several = false;

	for (const struct command *command = commands; command->name; command++) {
		if (strcmp(command->name, word) == 0)
			return command;
		if (strncmp(command->name, word, strlen(word)) != 0)
			continue;
		several = found != NULL;
		found = found ? found : command;
		if (several)
			break;
	}
	if (found && !several)
		return found;
	fprintf(stderr, "Error: unknown command \"%s\" for \"fleetctl\"\n", word);
	if (several) {
		fputs("\nDid you mean this?\n", stderr);
		for (const struct command *command = commands; command->name; command++)
			if (strncmp(command->name, word, strlen(word)) == 0)
				fprintf(stderr, "\t%s\n", command->name);
		fputs("\n", stderr);
	}
	fputs("Run 'fleetctl --help' for usage.\n", stderr);
	return NULL;
}

static int print_version(void)
{
	puts("fleetctl version " FLEETCTL_VERSION);
	return 0;
}

/* The commands that need no server. -1: none of them. */
static int run_without_server(
	struct fleetctl_options *o, const struct command *command, int argc, char **argv)
{
	if (o->help) {
		print_command_help(o, command);
		return 0;
	}
	if (strcmp(command->name, "version") == 0)
		return print_version();
	if (strcmp(command->name, "help") == 0) {
		const struct command *about = argc > 0 ? find_command(argv[0]) : NULL;

		if (about)
			print_command_help(o, about);
		else if (!argc)
			print_general_help(o);
		return argc && !about;
	}
	if (strcmp(command->name, "verify") == 0) {
		fputs("Command \"verify\" is deprecated, DEPRECATED - No longer works\n", stderr);
		fputs("WARNING: The signed/verified units feature is DEPRECATED and cannot be used.\n",
			stderr);
		return 2;
	}
	if (strcmp(command->name, "fd-forward") == 0)
		return ctl_command_fd_forward(argc, argv);
	return -1;
}

static int run_command(struct fleetctl *ctl, const struct command *command, int argc, char **argv)
{
	struct flag flags[FLAGS_MAX] = {0};
	size_t count = command_flags(&ctl->options, command->flags, flags);
	_cleanup_buf_ struct buf error = BUF_INIT(64 * 1024);
	int words, status;

	/* Global flags may also follow the command. Their environment was read before it. */
	count += global_flags(&ctl->options, flags + count);
	for (size_t i = 0; i < count; i++)
		flags[i].env = NULL;
	/* What follows the machine of `ssh` belongs to the remote command. */
	if (flags_parse(flags, command->run == ctl_command_ssh ? FLAGS_GO : FLAGS_ANYWHERE, argc, argv,
		    &words, &error) < 0) {
		fprintf(stderr, "Error: %s\nRun 'fleetctl help %s' for usage.\n", buf_text(&error),
			command->name);
		return 2;
	}
	status = run_without_server(&ctl->options, command, words, argv + 1);
	if (status >= 0)
		return status;
	if (ctl_open(ctl, &error) < 0) {
		fprintf(stderr, "Unable to initialize client: %s\n", buf_text(&error));
		status = 1;
	} else {
		status = command->run(ctl, words, argv + 1);
	}
	ctl_close(ctl);
	flags_done(flags);
	return status;
}

/* What was printed must have arrived: a list that a full disk cut short is no success. */
static int end_of_output(int status)
{
	struct pollfd output = {.fd = STDOUT_FILENO};
	int error =
		fflush(stdout) != 0 ? errno : 0; /* else it was at an earlier flush, whose errno is gone */

	if ((!error && !ferror(stdout)) || status == FLEETCTL_EXIT_UNREAD)
		return status;
	if (poll(&output, 1, 0) == 1 && (output.revents & POLLERR))
		return FLEETCTL_EXIT_UNREAD;
	fprintf(stderr, "Error writing to standard output%s%s\n", error ? ": " : "",
		error ? strerror(error) : "");
	return status ? status : 1;
}

/* The names of these variables as they were before fleet 1.0. */
static void read_old_environment(struct fleetctl_options *o)
{
	const struct {
		const char **value, *name;
	} rows[] = {{&o->key_file, "FLEETCTL_ETCD_KEYFILE"}, {&o->cert_file, "FLEETCTL_ETCD_CERTFILE"},
		{&o->ca_file, "FLEETCTL_ETCD_CAFILE"}};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (!*rows[i].value || !**rows[i].value)
			*rows[i].value = getenv(rows[i].name);
}

static int run_words(int argc, char **argv)
{
	struct fleetctl ctl = {.options = {.endpoint = FLEETCTL_ENDPOINT_DEFAULT,
				       .driver = "",
				       .prefix = "/_coreos.com/fleet/",
				       .tunnel = "",
				       .ssh_username = "core",
				       .known_hosts_file = "~/.fleetctl/known_hosts",
				       .ssh_timeout = 10,
				       .request_timeout = 3,
				       .strict_host_keys = true,
				       .experimental = true,
				       .output = "short",
				       .lines = FLEETCTL_LINES_UNSAID,
				       .ssh_port = 22}};
	struct flag flags[FLAGS_MAX] = {0};
	_cleanup_buf_ struct buf error = BUF_INIT(64 * 1024);
	const struct command *command;
	int words;

	(void)global_flags(&ctl.options, flags);
	if (flags_parse(flags, FLAGS_GO, argc, argv, &words, &error) < 0) {
		fprintf(stderr, "Error: %s\nRun 'fleetctl --help' for usage.\n", buf_text(&error));
		return 2;
	}
	read_old_environment(&ctl.options);
	if (ctl.options.version)
		return print_version();
	if (!words || ctl.options.help) {
		command = words ? find_command(argv[1]) : NULL;
		if (command)
			print_command_help(&ctl.options, command);
		else
			print_general_help(&ctl.options);
		return 0;
	}
	command = find_command(argv[1]);
	return command ? run_command(&ctl, command, words, argv + 1) : 1;
}

int fleetctl_main(int argc, char **argv)
{
	return end_of_output(run_words(argc, argv));
}
