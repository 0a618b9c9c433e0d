/* Variables are kept as the strings that execve() wants. The file format is systemd's: a small state machine
 * over bytes, where a quoted part, an unquoted part and escapes may follow each other in one value. */
#include "unit/environment.h"
#include "base/memory.h"
#include "unit/words.h"
#include <errno.h>

#define ARGV_MAX 4096
#define ARGV_BYTES_MAX (1024 * 1024)

void unit_environment_done(struct unit_environment *environment)
{
	for (size_t i = 0; i < environment->count; i++)
		free(environment->items[i]);
	free(environment->items);
	*environment = (struct unit_environment){0};
}

static bool is_name(struct slice name)
{
	if (!name.len || (name.data[0] >= '0' && name.data[0] <= '9'))
		return false;
	for (size_t i = 0; i < name.len; i++) {
		char c = name.data[i];

		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'))
			return false;
	}
	return true;
}

static bool is_value(struct slice value)
{
	for (size_t i = 0; i < value.len; i++) {
		unsigned char c = (unsigned char)value.data[i];

		if ((c < ' ' && c != '\t' && c != '\n' && c != '\r') || c == 0x7F)
			return false;
	}
	return true;
}

static char **find(const struct unit_environment *environment, struct slice name)
{
	for (size_t i = 0; i < environment->count; i++)
		if (strncmp(environment->items[i], name.data, name.len) == 0 &&
			environment->items[i][name.len] == '=')
			return &environment->items[i];
	return NULL;
}

int unit_environment_set(struct unit_environment *environment, struct slice name, struct slice value)
{
	char **there, *item;

	if (!is_name(name) || !is_value(value))
		return -EINVAL;
	if (name.len + value.len + 2 > UNIT_ENVIRONMENT_VALUE_MAX)
		return -E2BIG;
	item = mem_alloc(name.len + value.len + 2);
	memcpy(item, name.data, name.len);
	item[name.len] = '=';
	if (value.len)
		memcpy(item + name.len + 1, value.data, value.len);
	item[name.len + 1 + value.len] = 0;
	there = find(environment, name);
	if (there) {
		free(*there);
		*there = item;
		return 0;
	}
	if (environment->count >= UNIT_ENVIRONMENT_MAX) {
		free(item);
		return -E2BIG;
	}
	if (environment->count + 1 >= environment->cap) {
		environment->cap = environment->cap ? environment->cap * 2 : 16;
		environment->items = mem_reallocarray(environment->items, environment->cap, sizeof(char *));
	}
	environment->items[environment->count++] = item;
	environment->items[environment->count] = NULL;
	return 0;
}

int unit_environment_assign(struct unit_environment *environment, struct slice assignment)
{
	const char *equals = assignment.len ? memchr(assignment.data, '=', assignment.len) : NULL;
	size_t len = equals ? (size_t)(equals - assignment.data) : 0;

	if (!equals)
		return -EINVAL;
	return unit_environment_set(environment, slice_make(assignment.data, len),
		slice_make(equals + 1, assignment.len - len - 1));
}

const char *unit_environment_get(const struct unit_environment *environment, struct slice name)
{
	char **there = find(environment, name);

	return there ? *there + name.len + 1 : NULL;
}

enum file_state {
	AT_START,
	IN_KEY,
	BEFORE_VALUE,
	IN_VALUE,
	IN_ESCAPE,
	IN_SINGLE,
	IN_DOUBLE,
	IN_DOUBLE_ESCAPE,
	IN_COMMENT,
	IN_COMMENT_ESCAPE
};

struct file_reader {
	struct unit_environment *environment;
	enum file_state state;
	struct buf key, value;
	size_t kept; /* bytes of the value that are not trailing white space */
	size_t skipped;
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static void reader_push(struct file_reader *reader)
{
	struct slice key = buf_slice(&reader->key);

	while (key.len && is_blank(key.data[key.len - 1]))
		key.len--;
	if (unit_environment_set(
		    reader->environment, key, slice_make(buf_text(&reader->value), reader->kept)) < 0)
		reader->skipped++;
	reader->state = AT_START;
}

static void reader_keep(struct file_reader *reader, char c)
{
	buf_add_char(&reader->value, c);
	reader->kept = reader->value.len;
}

static void reader_value(struct file_reader *reader, char c)
{
	if (c == '\n') {
		reader_push(reader);
	} else if (c == '\\') {
		reader->state = IN_ESCAPE;
	} else if (reader->state == BEFORE_VALUE && (c == '\'' || c == '"')) {
		reader->state = c == '"' ? IN_DOUBLE : IN_SINGLE;
	} else if (is_blank(c)) {
		if (reader->state == IN_VALUE)
			buf_add_char(&reader->value, c);
	} else {
		reader->state = IN_VALUE;
		reader_keep(reader, c);
	}
}

static void reader_byte(struct file_reader *reader, char c)
{
	switch (reader->state) {
	case AT_START:
		if (c == '#' || c == ';') {
			reader->state = IN_COMMENT;
		} else if (!is_blank(c) && c != '\n') {
			buf_clear(&reader->key);
			buf_clear(&reader->value);
			reader->kept = 0;
			buf_add_char(&reader->key, c);
			reader->state = IN_KEY;
		}
		break;
	case IN_KEY:
		if (c == '=') {
			reader->state = BEFORE_VALUE;
		} else if (c == '\n') {
			reader->skipped++;
			reader->state = AT_START;
		} else {
			buf_add_char(&reader->key, c);
		}
		break;
	case BEFORE_VALUE:
	case IN_VALUE:
		reader_value(reader, c);
		break;
	case IN_ESCAPE:
		reader->state = IN_VALUE;
		if (c != '\n')
			reader_keep(reader, c);
		break;
	case IN_SINGLE:
		if (c == '\'')
			reader->state = BEFORE_VALUE;
		else
			reader_keep(reader, c);
		break;
	case IN_DOUBLE:
		if (c == '"')
			reader->state = BEFORE_VALUE;
		else if (c == '\\')
			reader->state = IN_DOUBLE_ESCAPE;
		else
			reader_keep(reader, c);
		break;
	case IN_DOUBLE_ESCAPE:
		reader->state = IN_DOUBLE;
		if (c && strchr("\"\\`$", c)) {
			reader_keep(reader, c);
		} else if (c != '\n') {
			reader_keep(reader, '\\');
			reader_keep(reader, c);
		}
		break;
	case IN_COMMENT:
		if (c == '\\')
			reader->state = IN_COMMENT_ESCAPE;
		else if (c == '\n')
			reader->state = AT_START;
		break;
	case IN_COMMENT_ESCAPE:
		reader->state = IN_COMMENT;
		break;
	}
}

size_t unit_environment_read(struct unit_environment *environment, struct slice text)
{
	struct file_reader reader = {.environment = environment,
		.key = BUF_INIT(4096),
		.value = BUF_INIT(UNIT_ENVIRONMENT_VALUE_MAX)};

	for (size_t i = 0; i < text.len; i++)
		reader_byte(&reader, text.data[i]);
	if (reader.state == IN_KEY)
		reader.skipped++;
	else if (reader.state != AT_START && reader.state != IN_COMMENT && reader.state != IN_COMMENT_ESCAPE)
		reader_push(&reader);
	buf_done(&reader.key);
	buf_done(&reader.value);
	return reader.skipped;
}

struct argv {
	char **items;
	size_t count, bytes;
	bool failed;
};

static void argv_add(struct argv *argv, const char *word)
{
	argv->bytes += strlen(word) + 1;
	if (argv->count >= ARGV_MAX || argv->bytes > ARGV_BYTES_MAX) {
		argv->failed = true;
		return;
	}
	argv->items = mem_reallocarray(argv->items, argv->count + 2, sizeof(char *));
	argv->items[argv->count++] = mem_strdup(word);
	argv->items[argv->count] = NULL;
}

static const char *lookup(const struct unit_environment *environment, struct slice name, struct buf *unset)
{
	const char *value = unit_environment_get(environment, name);

	if (!value && unset) {
		if (unset->len)
			buf_add_char(unset, ' ');
		buf_add_slice(unset, name);
	}
	return value;
}

static void add_split(struct argv *argv, const char *value)
{
	_cleanup_buf_ struct buf word = BUF_INIT(ARGV_BYTES_MAX);
	struct slice rest = slice_str(value);
	int r;

	while ((r = unit_word_next(&rest, false, &word, NULL)) > 0)
		argv_add(argv, buf_text(&word));
	if (r < 0)
		argv_add(argv, buf_text(&word)); /* relaxed: an open quote ends with the value */
}

static void add_replaced(
	struct argv *argv, const char *word, const struct unit_environment *environment, struct buf *unset)
{
	_cleanup_buf_ struct buf out = BUF_INIT(ARGV_BYTES_MAX);

	for (const char *at = word; *at; at++) {
		const char *end;

		if (at[0] == '$' && at[1] == '$') {
			buf_add_char(&out, '$');
			at++;
		} else if (at[0] == '$' && at[1] == '{' && (end = strchr(at, '}'))) {
			const char *value =
				lookup(environment, slice_make(at + 2, (size_t)(end - at - 2)), unset);

			buf_add_str(&out, value ? value : "");
			at = end;
		} else {
			buf_add_char(&out, *at);
		}
	}
	if (buf_error(&out) < 0)
		argv->failed = true;
	else
		argv_add(argv, buf_text(&out));
}

char **unit_argv_expand(char *const *words, const struct unit_environment *environment, struct buf *unset)
{
	struct argv argv = {.items = mem_new(char *)};

	for (; *words && !argv.failed; words++) {
		const char *word = *words;

		if (word[0] == '$' && word[1] != '{' && word[1] != '$') {
			const char *value = lookup(environment, slice_str(word + 1), unset);

			if (value)
				add_split(&argv, value);
		} else if (strchr(word, '$')) {
			add_replaced(&argv, word, environment, unset);
		} else {
			argv_add(&argv, word);
		}
	}
	if (argv.failed) {
		unit_argv_free(argv.items);
		return NULL;
	}
	return argv.items;
}

void unit_argv_free(char **argv)
{
	for (size_t i = 0; argv && argv[i]; i++)
		free(argv[i]);
	free(argv);
}
