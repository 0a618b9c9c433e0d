/* cat, status, journal. Status and journal come over the API from the machine's own fleetd, or by ssh from a
 * machine whose fleetd is a fleet 1.0. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fleetctl/fleetctl.h"
#include "io/url.h"

#define RUNTIME_COMMAND_MAX 16

int ctl_command_cat(struct fleetctl *ctl, int argc, char **argv)
{
	_cleanup_free_ char *name = NULL;
	_cleanup_buf_ struct buf error = BUF_INIT(64 * 1024), text = BUF_INIT(UNIT_TEXT_MAX);
	_cleanup_(unit_file_freep) struct unit_file *file = NULL;
	json_t *unit = NULL;
	int r;

	if (argc != 1) {
		fputs("One unit file must be provided\n", stderr);
		return 1;
	}
	name = ctl_unit_argument(argv[0]);
	r = ctl_unit(ctl, name, &unit, &error);
	if (r < 0) {
		if (r == -ENOENT)
			fprintf(stderr, "Unit %s not found\n", name);
		else
			fprintf(stderr, "Error retrieving Unit %s: %s\n", name, buf_text(&error));
		return 1;
	}
	file = ctl_unit_object_file(unit);
	unit_file_serialise(file, &text);
	fwrite(buf_text(&text), 1, text.len, stdout);
	json_decref(unit);
	return 0;
}

/* By ssh, for machines with a fleet 1.0, or without a fleetd that answers. */
static int remote(struct fleetctl *ctl, const char *machine, char *const *command, int count)
{
	const char *address = ctl_machine_address(ctl, machine);

	if (!address || !address[0]) {
		fprintf(stderr, "machine %s has no known address\n", machine);
		return 1;
	}
	return ctl_ssh_run(ctl, address, count, command);
}

/* What came of asking the machine's fleetd: whether to go on by ssh. */
static bool goes_by_ssh(struct fleetctl *ctl, int result, const char *machine, const struct buf *error)
{
	const char *address;

	if (result != -EHOSTUNREACH)
		return result == -ENOTSUP;
	address = ctl_machine_address(ctl, machine);
	if (!address || !address[0])
		return false;
	fprintf(stderr, "%s; trying ssh\n", buf_text(error));
	return true;
}

/* What was to be shown could not be: says why, unless nobody reads. Answers the exit status. */
static int not_shown(int result, const char *what, const char *name, const struct buf *error)
{
	if (result == -EPIPE)
		return FLEETCTL_EXIT_UNREAD;
	fprintf(stderr, "Error retrieving the %s of unit %s: %s\n", what, name, buf_text(error));
	return 1;
}

static int status_on(struct fleetctl *ctl, const char *name, const char *machine)
{
	_cleanup_free_ char *query = ctl_path("/status?machine=", machine, "");
	_cleanup_free_ char *path = ctl_path("/flotilla/v1/units/", name, query);
	_cleanup_buf_ struct buf error = BUF_INIT(64 * 1024);
	char *command[] = {"systemctl", "status", "-l", (char *)name};
	int exit_status = 0, r = ctl_stream(ctl, path, &exit_status, &error);

	if (goes_by_ssh(ctl, r, machine, &error))
		return remote(ctl, machine, command, 4);
	return r < 0 ? not_shown(r, "status", name, &error) : exit_status;
}

/* A global unit: what each machine says. */
static int status_global(struct fleetctl *ctl, const char *name)
{
	_cleanup_free_ char *path = ctl_path("/fleet/v1/state?unitName=", name, "");
	_cleanup_buf_ struct buf error = BUF_INIT(64 * 1024);
	json_t *states = NULL, *state;
	size_t i;
	int worst = 0;

	if (ctl_list(ctl, path, "states", &states, &error) < 0) {
		fprintf(stderr, "Error retrieving the states of unit %s: %s\n", name, buf_text(&error));
		return 1;
	}
	json_array_foreach(states, i, state)
	{
		_cleanup_free_ char *legend = ctl_machine_legend(ctl, ctl_text(state, "machineID"), false);
		int one;

		printf("%s-- on %s\n", i ? "\n" : "", legend);
		fflush(stdout);
		one = status_on(ctl, name, ctl_text(state, "machineID"));
		worst = one ? one : worst;
	}
	json_decref(states);
	return worst;
}

/* The unit, and that it is on a machine; else a message and NULL. */
static json_t *loaded_unit(struct fleetctl *ctl, const char *name, const char *not_loaded)
{
	_cleanup_buf_ struct buf error = BUF_INIT(64 * 1024);
	json_t *unit = NULL;
	int r = ctl_unit(ctl, name, &unit, &error);

	if (r == -ENOENT) {
		fprintf(stderr, "Unit %s does not exist.\n", name);
	} else if (r < 0) {
		fprintf(stderr, "Error retrieving Unit %s: %s\n", name, buf_text(&error));
	} else if (!ctl_unit_object_is_global(unit) && !ctl_text(unit, "machineID")[0]) {
		fprintf(stderr, "Unit %s does not appear to be %s.\n", name, not_loaded);
		json_decref(unit);
		unit = NULL;
	}
	return unit;
}

/* What is wrong with one does not keep the others from being shown; of a pattern only what is loaded is. */
int ctl_command_status(struct fleetctl *ctl, int argc, char **argv)
{
	_cleanup_(ctl_unit_names_done) struct unit_names names = {0};
	_cleanup_buf_ struct buf error = BUF_INIT(64 * 1024);
	size_t asked = 0, shown = 0;
	int status = 0;

	if (ctl_units_name(ctl, argc, argv, &names, &error) < 0) {
		fprintf(stderr, "Error retrieving the list of units: %s\n", buf_text(&error));
		return 1;
	}
	if (argc && !names.count) {
		fputs("No unit has such a name.\n", stderr);
		return 1;
	}
	for (size_t i = 0; i < names.count; i++) {
		const char *name = names.items[i].name;
		json_t *unit;
		int one;

		if (names.items[i].idle && !names.items[i].typed)
			continue;
		asked++;
		unit = loaded_unit(ctl, name, "loaded");
		if (!unit) {
			status = 1;
			continue;
		}
		if (shown++)
			putchar('\n');
		fflush(stdout);
		one = ctl_unit_object_is_global(unit) ? status_global(ctl, name)
						      : status_on(ctl, name, ctl_text(unit, "machineID"));
		status = one ? one : status;
		json_decref(unit);
	}
	if (names.count && !asked) {
		fputs("No unit that matches is loaded.\n", stderr);
		status = 1;
	}
	return status;
}

static int journal_by_ssh(struct fleetctl *ctl, const char *name, const char *machine)
{
	_cleanup_free_ char *since = ctl_shell_word(ctl->options.since),
			    *until = ctl_shell_word(ctl->options.until);
	char lines[32] = "all";
	char *command[RUNTIME_COMMAND_MAX];
	int count = 0;

	if (ctl->options.lines != FLEETCTL_LINES_UNSAID || !ctl->options.since)
		snprintf(lines, sizeof(lines), "%lld",
			ctl->options.lines == FLEETCTL_LINES_UNSAID ? 10LL : (long long)ctl->options.lines);
	if (ctl->options.sudo)
		command[count++] = "sudo";
	command[count++] = "journalctl";
	command[count++] = "--unit";
	command[count++] = (char *)name;
	command[count++] = "--no-pager";
	command[count++] = "-n";
	command[count++] = lines;
	command[count++] = "--output";
	command[count++] = (char *)ctl->options.output;
	if (ctl->options.follow)
		command[count++] = "-f";
	if (since) {
		command[count++] = "--since";
		command[count++] = since;
	}
	if (until) {
		command[count++] = "--until";
		command[count++] = until;
	}
	return remote(ctl, machine, command, count);
}

static void add_parameter(struct buf *query, const char *name, const char *value)
{
	if (!value)
		return;
	buf_printf(query, "&%s=", name);
	url_escape(query, slice_str(value), URL_PART_QUERY);
}

int ctl_command_journal(struct fleetctl *ctl, int argc, char **argv)
{
	_cleanup_free_ char *name = NULL, *path = NULL;
	_cleanup_buf_ struct buf error = BUF_INIT(64 * 1024), query = BUF_INIT(64 * 1024);
	json_t *unit;
	int status = 0, r;

	if (argc != 1) {
		fputs("One unit file must be provided.\n", stderr);
		return 1;
	}
	name = ctl_unit_argument(argv[0]);
	unit = loaded_unit(ctl, name, "running");
	if (!unit)
		return 1;
	if (ctl_unit_object_is_global(unit)) {
		fprintf(stderr, "Unable to retrieve journal of global unit %s.\n", name);
		json_decref(unit);
		return 1;
	}
	buf_printf(&query, "/journal?follow=%s", ctl->options.follow ? "true" : "false");
	if (ctl->options.lines != FLEETCTL_LINES_UNSAID)
		buf_printf(&query, "&lines=%lld", (long long)ctl->options.lines);
	add_parameter(&query, "output", ctl->options.output);
	add_parameter(&query, "since", ctl->options.since);
	add_parameter(&query, "until", ctl->options.until);
	path = ctl_path("/flotilla/v1/units/", name, buf_text(&query));
	r = ctl_stream(ctl, path, NULL, &error);
	if (goes_by_ssh(ctl, r, ctl_text(unit, "machineID"), &error))
		status = journal_by_ssh(ctl, name, ctl_text(unit, "machineID"));
	else if (r < 0)
		status = not_shown(r, "journal", name, &error);
	json_decref(unit);
	return status;
}
