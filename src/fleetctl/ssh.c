/* ssh: finds the machine and runs the system's OpenSSH client, which knows keys, agents and host keys better
 * than we do. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fleetctl/fleetctl.h"
#include "io/url.h"

/* What no shell takes for anything but itself. */
#define SSH_PLAIN_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_"

/* ssh(1): it has failed itself, or the remote command has ended so. fleet says 1. */
#define SSH_EXIT_NO_CONNECTION 255

/* ---- words ---- */

void ctl_words_take(struct ctl_words *words, char *word)
{
	words->items = mem_reallocarray(words->items, words->count + 2, sizeof(*words->items));
	words->items[words->count++] = word;
	words->items[words->count] = NULL;
}

void ctl_words_add(struct ctl_words *words, const char *word)
{
	ctl_words_take(words, mem_strdup(word));
}

void ctl_words_done(struct ctl_words *words)
{
	for (size_t i = 0; i < words->count; i++)
		free(words->items[i]);
	free(words->items);
	*words = (struct ctl_words){0};
}

char *ctl_shell_word(const char *text)
{
	struct buf word = BUF_INIT(0); /* an argument of ours */

	if (!text)
		return NULL;
	buf_add_char(&word, '\'');
	for (; *text; text++) {
		if (*text == '\'')
			buf_add_str(&word, "'\\'");
		buf_add_char(&word, *text);
	}
	buf_add_char(&word, '\'');
	return buf_take(&word, NULL);
}

char *ctl_ssh_literal(const char *text)
{
	struct buf word = BUF_INIT(0);

	for (; *text; text++) {
		if (*text == '%')
			buf_add_char(&word, '%');
		buf_add_char(&word, *text);
	}
	return buf_take(&word, NULL);
}

/* ---- what every ssh of ours is called with ---- */

/* The file, whose directory is made, as ssh's configuration has it: several are separated by blanks. */
static char *known_hosts(const struct fleetctl *ctl)
{
	const char *path = ctl->options.known_hosts_file, *home = getenv("HOME");
	_cleanup_free_ char *full = path[0] == '~' && path[1] == '/' && home
					    ? mem_printf("%s%s", home, path + 1)
					    : mem_strdup(path);
	_cleanup_free_ char *directory = mem_strdup(full), *literal = ctl_ssh_literal(full);
	struct buf quoted = BUF_INIT(0);
	char *slash = strrchr(directory, '/');

	if (slash && slash != directory) {
		*slash = '\0';
		(void)mkdir(directory, 0700);
	}
	if (!strpbrk(literal, " \t\"'\\"))
		return take_ptr(literal);
	buf_add_char(&quoted, '"');
	for (const char *at = literal; *at; at++) {
		if (*at == '"' || *at == '\\')
			buf_add_char(&quoted, '\\');
		buf_add_char(&quoted, *at);
	}
	buf_add_char(&quoted, '"');
	return buf_take(&quoted, NULL);
}

void ctl_ssh_add_options(const struct fleetctl *ctl, int64_t port, struct ctl_words *words)
{
	bool strict = ctl->options.strict_host_keys;
	_cleanup_free_ char *hosts = strict ? known_hosts(ctl) : mem_strdup("/dev/null");

	ctl_words_add(words, "-p");
	ctl_words_take(words, mem_printf("%lld", (long long)port));
	ctl_words_add(words, "-o");
	ctl_words_take(words, mem_printf("ConnectTimeout=%d", (int)MAX(ctl->options.ssh_timeout, 1.0)));
	ctl_words_add(words, "-o");
	ctl_words_add(words, strict ? "StrictHostKeyChecking=ask" : "StrictHostKeyChecking=no");
	ctl_words_add(words, "-o");
	ctl_words_take(words, mem_printf("UserKnownHostsFile=%s", hosts));
	if (!strict) {
		ctl_words_add(words, "-o");
		ctl_words_add(words, "LogLevel=ERROR");
	}
}

void ctl_ssh_add_tunnel_host(const struct fleetctl *ctl, struct ctl_words *words)
{
	_cleanup_free_ char *host = NULL;
	uint16_t port = 22;

	if (url_split_host_port(ctl->options.tunnel, &host, &port, NULL) < 0)
		host = mem_strdup(ctl->options.tunnel);
	ctl_ssh_add_options(ctl, port, words);
	ctl_words_take(words, mem_printf("%s@%s", ctl->options.ssh_username, host));
}

/* To the machine through the tunnel's host. OpenSSH's own -J logs in there with none of our options. Each
 * word is read by the user's shell, after ssh has put the machine's name and port into the first. */
static char *proxy_command(const struct fleetctl *ctl)
{
	_cleanup_(ctl_words_done) struct ctl_words words = {0};
	struct buf command = BUF_INIT(0);

	buf_add_str(&command, "ProxyCommand=ssh -W '[%h]:%p'");
	ctl_ssh_add_tunnel_host(ctl, &words);
	for (size_t i = 0; i < words.count; i++) {
		const char *word = words.items[i];
		_cleanup_free_ char *quoted =
			word[strspn(word, SSH_PLAIN_CHARACTERS)] ? ctl_shell_word(word) : mem_strdup(word);
		_cleanup_free_ char *literal = ctl_ssh_literal(quoted);

		buf_printf(&command, " %s", literal);
	}
	return buf_take(&command, NULL);
}

int ctl_ssh_run(struct fleetctl *ctl, const char *address, int count, char *const *command)
{
	_cleanup_(ctl_words_done) struct ctl_words words = {0};
	int status;
	pid_t pid;

	ctl_words_add(&words, "ssh");
	ctl_ssh_add_options(ctl, ctl->options.ssh_port, &words);
	if (ctl->options.forward_agent)
		ctl_words_add(&words, "-A");
	if (ctl->options.tunnel[0]) {
		ctl_words_add(&words, "-o");
		ctl_words_take(&words, proxy_command(ctl));
	}
	ctl_words_take(&words, mem_printf("%s@%s", ctl->options.ssh_username, address));
	if (count)
		ctl_words_add(&words, "--");
	for (int i = 0; i < count; i++)
		ctl_words_add(&words, command[i]);
	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		fprintf(stderr, "cannot start ssh: %s\n", strerror(errno));
		return 1;
	}
	if (pid == 0) {
		execvp("ssh", words.items);
		fprintf(stderr, "cannot run ssh: %s (install the OpenSSH client)\n", strerror(errno));
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status))
		return 128 + WTERMSIG(status);
	return WEXITSTATUS(status) == SSH_EXIT_NO_CONNECTION ? 1 : WEXITSTATUS(status);
}

/* ---- which machine ---- */

/* The machine of that ID or beginning of one. 1 found, 0 none, -1 several (told). */
static int find_machine(struct fleetctl *ctl, const char *prefix, char **ret)
{
	const char *id, *found = NULL;
	json_t *unused;

	(void)ctl_machine_address(ctl, prefix);
	json_object_foreach(ctl->machines, id, unused)
	{
		if (!json_string_length(unused) || strncmp(id, prefix, strlen(prefix)) != 0)
			continue;
		if (strcmp(id, prefix) == 0) {
			found = id;
			break;
		}
		if (found) {
			fprintf(stderr,
				"Unable to proceed: found more than one machine that begins with %s\n",
				prefix);
			return -1;
		}
		found = id;
	}
	if (!found)
		return 0;
	*ret = mem_strdup(found);
	return 1;
}

static int find_unit_machine(struct fleetctl *ctl, const char *argument, char **ret)
{
	_cleanup_free_ char *name = ctl_unit_argument(argument);
	_cleanup_buf_ struct buf error = BUF_INIT(64 * 1024);
	json_t *unit = NULL;

	if (ctl_unit(ctl, name, &unit, &error) < 0)
		return 0;
	if (ctl_text(unit, "machineID")[0])
		*ret = mem_strdup(ctl_text(unit, "machineID"));
	json_decref(unit);
	return *ret != NULL;
}

static int resolve(struct fleetctl *ctl, const char *word, char **ret)
{
	int r;

	if (ctl->options.ssh_machine)
		return find_machine(ctl, ctl->options.ssh_machine, ret);
	if (ctl->options.ssh_unit)
		return find_unit_machine(ctl, ctl->options.ssh_unit, ret);
	r = find_machine(ctl, word, ret);
	return r ? r : find_unit_machine(ctl, word, ret);
}

int ctl_command_ssh(struct fleetctl *ctl, int argc, char **argv)
{
	bool named = ctl->options.ssh_machine || ctl->options.ssh_unit;
	_cleanup_free_ char *machine = NULL;
	const char *address;
	int r;

	if (ctl->options.ssh_machine && ctl->options.ssh_unit) {
		fputs("Both machine and unit flags provided, please specify only one.\n", stderr);
		return 1;
	}
	if (!named && argc < 1) {
		fputs("Unable to proceed: one machine or unit must be provided\n", stderr);
		return 1;
	}
	r = resolve(ctl, named ? NULL : argv[0], &machine);
	if (r < 0)
		return 1;
	if (!r) {
		fputs("Unable to proceed: could not find matching unit or machine\n", stderr);
		return 1;
	}
	if (!named) {
		argc--;
		argv++;
	}
	if (argc > 0 && strcmp(argv[0], "--") == 0) {
		argc--;
		argv++;
	}
	address = ctl_machine_address(ctl, machine);
	if (!address || !address[0]) {
		fprintf(stderr, "Unable to proceed: machine %s has published no address\n", machine);
		return 1;
	}
	return ctl_ssh_run(ctl, address, argc, argv);
}
