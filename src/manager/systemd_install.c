/* What a unit's text may not say, because it would reach for units that are not fleet's or could not be
 * undone.
 *
 * The text is fleet's reading of it, written anew option by option; here it is made sure that systemd finds
 * the same lines in it, as far as that matters. */
#include "base/memory.h"
#include "io/file.h"
#include "manager/systemd_internal.h"
#include "unit/words.h"
#include <errno.h>
#include <stdlib.h>

#define INSTALL_NAMES_MAX 256

const char *systemd_reach_key(enum systemd_reach reach)
{
	static const char *const keys[REACH_MAX] = {"Alias", "Also", "RequiredBy", "UpheldBy"};

	return keys[reach];
}

static void set_bad(struct systemd_install *install, char *text)
{
	if (install->bad)
		free(text);
	else
		install->bad = text;
}

/* For systemd a line ends at any of these, unless a backslash stands before a newline. */
static bool is_one_line(struct slice text, bool may_continue)
{
	for (size_t i = 0; i < text.len; i++) {
		char c = text.data[i];

		if (c == '\r' || c == '\0' || (c == '\n' && !(may_continue && i && text.data[i - 1] == '\\')))
			return false;
	}
	return true;
}

static void check_lines(struct systemd_install *install, const struct unit_option *option)
{
	if (is_one_line(option->section, false) && is_one_line(option->name, false) &&
		is_one_line(option->value, true))
		return;
	set_bad(install, mem_printf("%.*s= in [%.*s] has a line end that systemd reads otherwise than fleet",
				 (int)MIN(option->name.len, (size_t)64), option->name.data,
				 (int)MIN(option->section.len, (size_t)64), option->section.data));
}

/* Nothing in it that systemd may take for something else than a part of a name: specifiers that fleet does
 * not know, quotes, comments between continued lines, escapes. ("\\x2d" is a part of names; Also= alone
 * unescapes it.) */
static bool is_plain(struct slice word, enum systemd_reach reach)
{
	for (size_t i = 0; i < word.len; i++) {
		if (strchr("%\"'#;", word.data[i]))
			return false;
		if (word.data[i] == '\\' &&
			(reach == REACH_ALSO || i + 3 >= word.len || word.data[i + 1] != 'x'))
			return false;
	}
	return true;
}

static void add_name(struct systemd_install *install, struct slice word, enum systemd_reach reach,
	const struct unit_name *name)
{
	_cleanup_buf_ struct buf text = BUF_INIT(UNIT_TEXT_MAX);

	unit_name_expand(name, word, &text);
	if (install->bad)
		return;
	if (!is_plain(buf_slice(&text), reach) || install->count >= INSTALL_NAMES_MAX) {
		set_bad(install,
			mem_printf("%s=%.*s in [Install] is not supported: it cannot be told which "
				   "units it names",
				systemd_reach_key(reach), (int)MIN(word.len, (size_t)256), word.data));
		return;
	}
	if (slice_equal(buf_slice(&text), name->full))
		return;
	install->names =
		mem_reallocarray(install->names, install->count + 1, sizeof(struct systemd_install_name));
	install->names[install->count++] =
		(struct systemd_install_name){mem_strndup(text.data, text.len), reach};
}

/* Words between blanks and continued lines. A backslash within a word belongs to it ("a\\x2db.service"). */
static void add_names(struct systemd_install *install, struct slice value, enum systemd_reach reach,
	const struct unit_name *name)
{
	size_t begin = 0;

	for (size_t i = 0; i <= value.len; i++) {
		bool continues = i + 1 < value.len && value.data[i] == '\\' && value.data[i + 1] == '\n';

		if (i < value.len && !continues && !strchr(" \t\n", value.data[i]))
			continue;
		if (i > begin)
			add_name(install, slice_make(value.data + begin, i - begin), reach, name);
		begin = i + 1;
	}
}

static void take_option(
	struct systemd_install *install, const struct unit_option *option, const struct unit_name *name)
{
	bool refuses;

	check_lines(install, option);
	if (slice_is(option->section, "Unit") && slice_is(option->name, "RefuseManualStop") &&
		unit_parse_bool(option->value, &refuses) >= 0 && refuses)
		set_bad(install,
			mem_strdup("RefuseManualStop= in [Unit] would leave fleet no way to stop it"));
	if (!slice_is(option->section, "Install"))
		return;
	install->any = true;
	for (enum systemd_reach reach = 0; reach < REACH_MAX; reach++)
		if (slice_is(option->name, systemd_reach_key(reach)))
			add_names(install, option->value, reach, name);
}

struct systemd_install *systemd_install_read(const char *name, struct slice text)
{
	struct systemd_install *install = mem_new(struct systemd_install);
	struct unit_file *file;
	struct unit_name parts;

	if (unit_name_parse(slice_str(name), &parts) < 0 || unit_file_parse(text, &file, NULL) < 0)
		return install;
	for (size_t i = 0; i < file->count; i++)
		take_option(install, &file->options[i], &parts);
	unit_file_free(file);
	return install;
}

struct systemd_install *systemd_install_of_unit(const struct systemd_unit *unit)
{
	_cleanup_free_ char *path = systemd_files_path(unit->systemd, unit->name);
	_cleanup_buf_ struct buf text = BUF_INIT(UNIT_TEXT_MAX);

	/* Without its file it was made of what is remembered of it, if of anything. */
	if (file_read(path, UNIT_TEXT_MAX, &text) < 0)
		return systemd_install_read(unit->name, slice_make(unit->text, unit->text_len));
	return systemd_install_read(unit->name, buf_slice(&text));
}

struct systemd_install *systemd_install_free(struct systemd_install *install)
{
	if (!install)
		return NULL;
	for (size_t i = 0; i < install->count; i++)
		free(install->names[i].name);
	free(install->names);
	free(install->bad);
	free(install);
	return NULL;
}
