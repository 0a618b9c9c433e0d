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

#define SSH_ARGUMENTS_OWN 24

char *ctl_ssh_known_hosts(const struct fleetctl *ctl)
{
	const char *path = ctl->options.known_hosts_file, *home = getenv("HOME");
	_cleanup_free_ char *full = path[0] == '~' && path[1] == '/' && home
					    ? mem_printf("%s%s", home, path + 1)
					    : mem_strdup(path);
	_cleanup_free_ char *directory = mem_strdup(full);
	char *slash = strrchr(directory, '/');

	if (!ctl->options.strict_host_keys)
		return mem_strdup("UserKnownHostsFile=/dev/null");
	if (slash && slash != directory) {
		*slash = '\0';
		(void)!mkdir(directory, 0700);
	}
	return mem_printf("UserKnownHostsFile=%s", full);
}

int ctl_ssh_run(struct fleetctl *ctl, const char *address, int count, char *const *command)
{
	_cleanup_free_ char *known_hosts = ctl_ssh_known_hosts(ctl);
	_cleanup_free_ char *timeout =
		mem_printf("ConnectTimeout=%d", (int)MAX(ctl->options.ssh_timeout, 1.0));
	_cleanup_free_ char *port = mem_printf("%lld", (long long)ctl->options.ssh_port);
	_cleanup_free_ char *to = mem_printf("%s@%s", ctl->options.ssh_username, address);
	_cleanup_free_ const char **argv = mem_new_array(const char *, (size_t)count + SSH_ARGUMENTS_OWN);
	int n = 0, status;
	pid_t pid;

	argv[n++] = "ssh";
	argv[n++] = "-p";
	argv[n++] = port;
	argv[n++] = "-o";
	argv[n++] = timeout;
	argv[n++] = "-o";
	argv[n++] = ctl->options.strict_host_keys ? "StrictHostKeyChecking=ask" : "StrictHostKeyChecking=no";
	argv[n++] = "-o";
	argv[n++] = known_hosts;
	if (!ctl->options.strict_host_keys) {
		argv[n++] = "-o";
		argv[n++] = "LogLevel=ERROR";
	}
	if (ctl->options.forward_agent)
		argv[n++] = "-A";
	if (ctl->options.tunnel[0]) {
		argv[n++] = "-J";
		argv[n++] = ctl->options.tunnel;
	}
	argv[n++] = to;
	if (count)
		argv[n++] = "--";
	for (int i = 0; i < count; i++)
		argv[n++] = command[i];
	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		fprintf(stderr, "cannot start ssh: %s\n", strerror(errno));
		return 1;
	}
	if (pid == 0) {
		execvp("ssh", (char *const *)argv);
		fprintf(stderr, "cannot run ssh: %s (install the OpenSSH client)\n", strerror(errno));
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

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
