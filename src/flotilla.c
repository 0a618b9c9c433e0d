/* The one executable: picks the program by the name it was called by, or by its first argument. */
#include "base/programs.h"
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct program {
	const char *name;
	int (*main)(int argc, char **argv);
	bool linked; /* installed as a link of that name; the others are reached by `flotilla NAME` only */
	const char *help;
};

static const struct program programs[] = {
	{"etcd", etcd_main, true, "the consistent, replicated key-value store"},
	{"etcdctl", etcdctl_main, true, "command line of the store"},
	{"fleetd", fleetd_main, true, "the cluster-wide init system"},
	{"fleetctl", fleetctl_main, true, "command line of fleetd"},
	{"confd", confd_main, true, "renders configuration files from the store"},
	{"keeper", keeper_main, false, "owns the processes of the embedded supervisor"},
	{"dev", dev_main, false, "a whole cluster on this machine, each member a world of its own"},
	{0},
};

static const struct program *program_find(const char *name)
{
	for (const struct program *program = programs; program->name; program++)
		if (strcmp(program->name, name) == 0)
			return program;
	return NULL;
}

static void usage(FILE *out)
{
	fputs("Flotilla: etcd, fleet and confd as one program.\n\nUsage:\n  flotilla PROGRAM [ARGUMENTS]\n"
	      "  PROGRAM [ARGUMENTS]   through a link of that name\n\nPrograms:\n",
		out);
	for (const struct program *program = programs; program->name; program++)
		fprintf(out, "  %-10s %s\n", program->name, program->help);
	fputs("\n`flotilla PROGRAM --help` tells more. `flotilla --version` prints the version.\n", out);
}

/* Who was started without one of the standard streams would get its number for the next file or connection,
 * and what is meant for a person would be written there. */
static void open_standard_streams(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
			_exit(1);
}

int main(int argc, char **argv)
{
	const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
	const char *called = argc > 0 ? (slash ? slash + 1 : argv[0]) : "flotilla";
	const struct program *program = program_find(called);

	open_standard_streams();
	etcdctl_snapshot = snapshot_main;
	if (program && program->linked)
		return program->main(argc, argv);
	if (argc < 2) {
		usage(stderr);
		return 2;
	}
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "version") == 0) {
		puts("flotilla " FLOTILLA_VERSION);
		return 0;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
		usage(stdout);
		return 0;
	}
	program = program_find(argv[1]);
	if (program)
		return program->main(argc - 1, argv + 1);
	fprintf(stderr, "flotilla: unknown program %s\nRun 'flotilla --help' for the list.\n", argv[1]);
	return 2;
}
