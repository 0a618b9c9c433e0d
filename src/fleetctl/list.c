/* list-machines, list-units, list-unit-files: rows from the API, columns by --fields. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "fleetctl/fleetctl.h"

#define LIST_HASH_SHORT 7

/* A column: its name for --fields, and what it prints for a row. The text is owned. */
struct column {
	const char *name;
	char *(*cell)(struct fleetctl *ctl, const json_t *row);
};

static char *or_dash(const char *text)
{
	return mem_strdup(text[0] ? text : "-");
}

static char *hash_text(const struct fleetctl *ctl, const char *hash)
{
	return hash[0] ? mem_strndup(hash, ctl->options.full ? strlen(hash)
							     : MIN(strlen(hash), (size_t)LIST_HASH_SHORT))
		       : mem_strdup("-");
}

/* ---- machines ---- */

static char *machine_id_cell(struct fleetctl *ctl, const json_t *row)
{
	const char *id = ctl_text(row, "id");

	return ctl->options.full || strlen(id) <= 8 ? mem_strdup(id) : mem_printf("%.8s...", id);
}

static char *machine_ip_cell(struct fleetctl *ctl, const json_t *row)
{
	(void)ctl;
	return or_dash(ctl_text(row, "primaryIP"));
}

static char *machine_metadata_cell(struct fleetctl *ctl, const json_t *row)
{
	json_t *metadata = json_object_get(row, "metadata"), *value;
	struct buf out = BUF_INIT(1024 * 1024);
	const char *key;

	(void)ctl;
	/* Sorted by the server. */
	json_object_foreach(metadata, key, value)
		buf_printf(&out, "%s%s=%s", out.len ? "," : "", key, json_string_value(value));
	if (!out.len)
		buf_add_char(&out, '-');
	return buf_take(&out, NULL);
}

/* ---- states ---- */

static char *state_unit(struct fleetctl *ctl, const json_t *row)
{
	(void)ctl;
	return mem_strdup(ctl_text(row, "name"));
}

static char *state_load(struct fleetctl *ctl, const json_t *row)
{
	(void)ctl;
	return or_dash(ctl_text(row, "systemdLoadState"));
}

static char *state_active(struct fleetctl *ctl, const json_t *row)
{
	(void)ctl;
	return or_dash(ctl_text(row, "systemdActiveState"));
}

static char *state_sub(struct fleetctl *ctl, const json_t *row)
{
	(void)ctl;
	return or_dash(ctl_text(row, "systemdSubState"));
}

static char *state_machine(struct fleetctl *ctl, const json_t *row)
{
	return ctl_machine_legend(ctl, ctl_text(row, "machineID"), ctl->options.full);
}

static char *state_hash(struct fleetctl *ctl, const json_t *row)
{
	return hash_text(ctl, ctl_text(row, "hash"));
}

/* ---- unit files ---- */

static char *file_hash(struct fleetctl *ctl, const json_t *row)
{
	struct unit_file *file = ctl_unit_object_file(row);
	uint8_t bytes[UNIT_HASH_SIZE];
	char hex[UNIT_HASH_HEX_SIZE];

	unit_file_hash(file, bytes);
	unit_hash_hex(bytes, hex);
	unit_file_free(file);
	return hash_text(ctl, hex);
}

static char *file_dstate(struct fleetctl *ctl, const json_t *row)
{
	(void)ctl;
	return or_dash(ctl_text(row, "desiredState"));
}

static char *file_state(struct fleetctl *ctl, const json_t *row)
{
	(void)ctl;
	return ctl_unit_object_is_global(row) ? mem_strdup("-") : or_dash(ctl_text(row, "currentState"));
}

static char *file_target(struct fleetctl *ctl, const json_t *row)
{
	if (ctl_unit_object_is_global(row))
		return mem_strdup("global");
	return ctl_machine_legend(ctl, ctl_text(row, "machineID"), ctl->options.full);
}

static char *file_tmachine(struct fleetctl *ctl, const json_t *row)
{
	return file_target(ctl, row);
}

static char *file_global(struct fleetctl *ctl, const json_t *row)
{
	(void)ctl;
	return mem_strdup(ctl_unit_object_is_global(row) ? "true" : "false");
}

static char *file_desc(struct fleetctl *ctl, const json_t *row)
{
	struct unit_file *file = ctl_unit_object_file(row);
	struct slice text = unit_file_description(file);
	char *cell = text.len ? mem_strndup(text.data, text.len) : mem_strdup("-");

	(void)ctl;
	unit_file_free(file);
	return cell;
}

static const struct column machine_columns[] = {
	{"machine", machine_id_cell}, {"ip", machine_ip_cell}, {"metadata", machine_metadata_cell}, {0}};
static const struct column state_columns[] = {{"unit", state_unit}, {"load", state_load},
	{"active", state_active}, {"sub", state_sub}, {"machine", state_machine}, {"hash", state_hash}, {0}};
static const struct column file_columns[] = {{"unit", state_unit}, {"hash", file_hash},
	{"dstate", file_dstate}, {"state", file_state}, {"target", file_target}, {"tmachine", file_tmachine},
	{"global", file_global}, {"desc", file_desc}, {0}};

/* ---- printing ---- */

enum { COLUMNS_MAX = 32 };

static size_t choose_columns(
	const struct column *all, const char *fields, const struct column **ret, struct buf *reterr)
{
	struct slice rest = slice_str(fields), name;
	size_t count = 0;

	if (!rest.len)
		buf_add_str(reterr, "Must define output format");
	while (rest.len && count < COLUMNS_MAX) {
		const struct column *column = all;

		(void)text_cut(rest, ',', &name, &rest);
		while (column->name && !slice_is(name, column->name))
			column++;
		if (!column->name) {
			buf_printf(
				reterr, "Invalid key in output format: \"%.*s\"", (int)name.len, name.data);
			return 0;
		}
		if (strcmp(column->name, "tmachine") == 0)
			fputs("WARNING: The \"tmachine\" field is deprecated. Use \"target\" instead\n",
				stderr);
		ret[count++] = column;
	}
	return count;
}

static void print_rows(
	struct fleetctl *ctl, const struct column *const *columns, size_t count, const json_t *rows)
{
	struct table table = {.columns = count};
	_cleanup_buf_ struct buf out = BUF_INIT(0);
	const json_t *row;
	size_t i;

	for (size_t k = 0; k < count && !ctl->options.no_legend; k++) {
		_cleanup_free_ char *head = mem_strdup(columns[k]->name);

		for (char *at = head; *at; at++)
			if (*at >= 'a' && *at <= 'z')
				*at = (char)(*at - 'a' + 'A');
		ctl_table_add(&table, head);
	}
	json_array_foreach(rows, i, row) for (size_t k = 0; k < count; k++)
	{
		_cleanup_free_ char *cell = columns[k]->cell(ctl, row);

		ctl_table_add(&table, cell);
	}
	ctl_table_print(&table, &out);
	ctl_table_done(&table);
	fwrite(buf_text(&out), 1, out.len, stdout);
}

static int list(struct fleetctl *ctl, const struct column *all, const char *fields, const char *path,
	const char *key, const char *failure, const char *hint)
{
	const struct column *columns[COLUMNS_MAX];
	_cleanup_buf_ struct buf error = BUF_INIT(64 * 1024);
	json_t *rows = NULL;
	size_t count =
		choose_columns(all, ctl->options.fields ? ctl->options.fields : fields, columns, &error);

	if (!count) {
		fprintf(stderr, "%s\n", buf_text(&error));
		return 1;
	}
	if (ctl_list(ctl, path, key, &rows, &error) < 0) {
		fprintf(stderr, "%s%s%s\n", failure, buf_text(&error), hint);
		return 1;
	}
	print_rows(ctl, columns, count, rows);
	json_decref(rows);
	return 0;
}

int ctl_command_list_machines(struct fleetctl *ctl, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return list(ctl, machine_columns, "machine,ip,metadata", "/fleet/v1/machines", "machines",
		"Error retrieving list of active machines from fleet API (",
		")\nPossible issues:\n  etcd is unhealthy and/or lost quorum\n"
		"  connection cannot be established to any etcd servers");
}

int ctl_command_list_units(struct fleetctl *ctl, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return list(ctl, state_columns, "unit,machine,active,sub", "/fleet/v1/state", "states",
		"Error retrieving list of units from repository: ", "");
}

int ctl_command_list_unit_files(struct fleetctl *ctl, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return list(ctl, file_columns, "unit,hash,dstate,state,target", "/fleet/v1/units", "units",
		"Error retrieving list of units from repository: ", "");
}
