/* Splitting and unescaping after the rules of systemd.syntax(7). Quotes may open anywhere in a word; escapes
 * count inside both kinds of quotes. */
#include "unit/words.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/when.h"
#include "unit/runes.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <strings.h>

#define WORD_MAX (1024 * 1024)
#define COMMAND_WORDS_MAX 4096
#define COMMANDS_MAX 256

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static struct slice skip(struct slice text, size_t len)
{
	return slice_make(text.data + len, text.len - len);
}

static struct slice skip_blanks(struct slice text)
{
	while (text.len && is_blank(text.data[0]))
		text = skip(text, 1);
	return text;
}

void unit_value_join(struct slice value, struct buf *out)
{
	bool first = true;

	while (value.len) {
		const char *newline = memchr(value.data, '\n', value.len);
		struct slice line =
			slice_make(value.data, newline ? (size_t)(newline - value.data) : value.len);
		struct slice trimmed = skip_blanks(line);

		value = skip(value, newline ? line.len + 1 : line.len);
		if (!first && trimmed.len && (trimmed.data[0] == '#' || trimmed.data[0] == ';'))
			continue;
		first = false;
		if (newline && line.len && line.data[line.len - 1] == '\\') {
			buf_add(out, line.data, line.len - 1);
			buf_add_char(out, ' ');
		} else {
			buf_add_slice(out, line);
		}
	}
	while (out->len && is_blank(out->data[out->len - 1]))
		buf_truncate(out, out->len - 1);
}

static int hex_value(struct slice text, size_t digits, uint32_t *ret)
{
	uint64_t value;

	if (text.len < digits || text_hex_to_u64(slice_make(text.data, digits), &value) < 0)
		return -EINVAL;
	*ret = (uint32_t)value;
	return 0;
}

static int unescape_code(struct slice text, size_t digits, bool unicode, struct buf *out)
{
	uint32_t value;

	if (hex_value(skip(text, 1), digits, &value) < 0 || value == 0)
		return -EINVAL;
	if (unicode && (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)))
		return -EINVAL;
	if (unicode)
		rune_add(out, value);
	else
		buf_add_char(out, (char)value);
	return (int)digits + 1;
}

/* `text` begins after the backslash: appends what the escape stands for and answers the bytes used, or
 * -EINVAL. */
static int unescape(struct slice text, struct buf *out)
{
	static const char from[] = "abfnrtv\\\"'s", to[] = "\a\b\f\n\r\t\v\\\"' ";
	const char *hit;
	unsigned octal = 0;

	if (!text.len)
		return -EINVAL;
	hit = text.data[0] ? strchr(from, text.data[0]) : NULL;
	if (hit) {
		buf_add_char(out, to[hit - from]);
		return 1;
	}
	if (text.data[0] == 'x')
		return unescape_code(text, 2, false, out);
	if (text.data[0] == 'u')
		return unescape_code(text, 4, true, out);
	if (text.data[0] == 'U')
		return unescape_code(text, 8, true, out);
	if (text.len < 3)
		return -EINVAL;
	for (size_t i = 0; i < 3; i++) {
		if (text.data[i] < '0' || text.data[i] > '7')
			return -EINVAL;
		octal = octal * 8 + (unsigned)(text.data[i] - '0');
	}
	if (octal == 0 || octal > 255)
		return -EINVAL;
	buf_add_char(out, (char)octal);
	return 3;
}

static size_t word_escape(struct slice rest, bool escapes, struct buf *out, bool *odd)
{
	int used;

	if (!escapes) {
		if (rest.len)
			buf_add_char(out, rest.data[0]);
		return rest.len ? 1 : 0;
	}
	used = unescape(rest, out);
	if (used > 0)
		return (size_t)used;
	*odd = true;
	buf_add_char(out, '\\');
	if (rest.len)
		buf_add_char(out, rest.data[0]);
	return rest.len ? 1 : 0;
}

int unit_word_next(struct slice *text, bool escapes, struct buf *out, bool *ret_odd)
{
	struct slice rest = skip_blanks(*text);
	char quote = 0;
	bool odd = false;

	buf_clear(out);
	if (!rest.len) {
		*text = rest;
		return 0;
	}
	while (rest.len) {
		char c = rest.data[0];

		rest = skip(rest, 1);
		if (c == '\\')
			rest = skip(rest, word_escape(rest, escapes, out, &odd));
		else if (quote && c == quote)
			quote = 0;
		else if (!quote && (c == '\'' || c == '"'))
			quote = c;
		else if (!quote && is_blank(c))
			break;
		else
			buf_add_char(out, c);
	}
	if (quote)
		return -EINVAL;
	if (ret_odd && odd)
		*ret_odd = true;
	*text = skip_blanks(rest);
	return 1;
}

static void command_done(struct unit_command *command)
{
	for (size_t i = 0; i < command->count; i++)
		free(command->words[i]);
	free(command->words);
	*command = (struct unit_command){0};
}

void unit_commands_clear(struct unit_commands *commands)
{
	for (size_t i = 0; i < commands->count; i++)
		command_done(&commands->items[i]);
	free(commands->items);
	*commands = (struct unit_commands){0};
}

static int command_add(struct unit_command *command, const char *word)
{
	if (command->count >= COMMAND_WORDS_MAX)
		return -E2BIG;
	command->words = mem_reallocarray(command->words, command->count + 2, sizeof(char *));
	command->words[command->count++] = mem_strdup(word);
	command->words[command->count] = NULL;
	return 0;
}

/* Prefixes may stand in any order, each once; '+', '!' and '!!' exclude each other. */
static struct slice command_prefixes(struct slice word, unsigned *flags)
{
	for (; word.len; word = skip(word, 1)) {
		unsigned privileges = *flags & (UNIT_COMMAND_FULL | UNIT_COMMAND_NO_SETUID);

		if (word.data[0] == '-' && !(*flags & UNIT_COMMAND_IGNORE_FAILURE))
			*flags |= UNIT_COMMAND_IGNORE_FAILURE;
		else if (word.data[0] == '@' && !(*flags & UNIT_COMMAND_ARGV0))
			*flags |= UNIT_COMMAND_ARGV0;
		else if (word.data[0] == ':' && !(*flags & UNIT_COMMAND_NO_ENV))
			*flags |= UNIT_COMMAND_NO_ENV;
		else if (word.data[0] == '+' && !privileges)
			*flags |= UNIT_COMMAND_FULL;
		else if (word.data[0] == '!' && !(privileges & UNIT_COMMAND_FULL))
			*flags |= UNIT_COMMAND_NO_SETUID;
		else
			break;
	}
	return word;
}

static int command_executable(struct unit_command *command, struct slice word, unit_expand_fn expand,
	void *userdata, struct buf *reterr)
{
	_cleanup_buf_ struct buf path = BUF_INIT(WORD_MAX);
	int r = expand(userdata, command_prefixes(word, &command->flags), &path);

	if (r < 0) {
		buf_printf(reterr, "cannot expand the specifiers in \"%.*s\"", (int)MIN(word.len, 200u),
			word.data);
		return r;
	}
	if (!path.len) {
		buf_add_str(reterr, "the command has no executable");
		return -EINVAL;
	}
	if (memchr(path.data, 0, path.len)) {
		buf_add_str(reterr, "the executable's name holds a NUL byte");
		return -EINVAL;
	}
	if (path.data[0] != '/' && memchr(path.data, '/', path.len)) {
		buf_printf(reterr, "\"%.200s\" is neither an absolute path nor a plain file name", path.data);
		return -EINVAL;
	}
	if (path.data[path.len - 1] == '/') {
		buf_printf(reterr, "\"%.200s\" is a directory, not an executable", path.data);
		return -EINVAL;
	}
	return command_add(command, buf_text(&path));
}

static bool is_separator(struct slice text, const char *what)
{
	size_t len = strlen(what);

	return slice_starts_with(text, slice_str(what)) && (text.len == len || is_blank(text.data[len]));
}

static int command_parse(struct unit_command *command, struct slice *text, unit_expand_fn expand,
	void *userdata, struct buf *reterr)
{
	_cleanup_buf_ struct buf word = BUF_INIT(WORD_MAX), expanded = BUF_INIT(WORD_MAX);
	int r = unit_word_next(text, true, &word, NULL);

	if (r > 0)
		r = command_executable(command, buf_slice(&word), expand, userdata, reterr);
	while (r >= 0 && text->len) {
		if (is_separator(*text, ";"))
			break;
		if (is_separator(*text, "\\;")) {
			*text = skip_blanks(skip(*text, 2));
			r = command_add(command, ";");
			continue;
		}
		r = unit_word_next(text, true, &word, NULL);
		if (r <= 0)
			break;
		buf_clear(&expanded);
		r = expand(userdata, buf_slice(&word), &expanded);
		if (r >= 0)
			r = command_add(command, buf_text(&expanded));
	}
	if (r == -EINVAL && !reterr->len)
		buf_add_str(reterr, "unbalanced quotes");
	if (r < 0 && !reterr->len)
		buf_add_str(reterr, "the command is too long");
	if (r >= 0 && (command->flags & UNIT_COMMAND_ARGV0) && command->count < 2) {
		buf_add_str(reterr, "'@' needs a second word, which becomes argv[0]");
		return -EINVAL;
	}
	return r < 0 ? r : 0;
}

int unit_commands_parse(struct unit_commands *commands, struct slice value, unit_expand_fn expand,
	void *userdata, struct buf *reterr)
{
	struct slice text = skip_blanks(value);

	if (!text.len) {
		unit_commands_clear(commands);
		return 0;
	}
	while (text.len) {
		struct unit_command command = {0};
		int r;

		if (is_separator(text, ";")) {
			text = skip_blanks(skip(text, 1));
			continue;
		}
		if (commands->count >= COMMANDS_MAX) {
			buf_add_str(reterr, "too many commands");
			return -E2BIG;
		}
		r = command_parse(&command, &text, expand, userdata, reterr);
		if (r < 0) {
			command_done(&command);
			return r;
		}
		if (commands->count == commands->cap) {
			commands->cap = commands->cap ? commands->cap * 2 : 2;
			commands->items =
				mem_reallocarray(commands->items, commands->cap, sizeof(*commands->items));
		}
		commands->items[commands->count++] = command;
	}
	return 0;
}

int unit_parse_bool(struct slice text, bool *ret)
{
	static const char *const words[2][6] = {
		{"0", "no", "n", "false", "f", "off"}, {"1", "yes", "y", "true", "t", "on"}};

	for (size_t value = 0; value < 2; value++)
		for (size_t i = 0; i < 6; i++)
			if (text.len == strlen(words[value][i]) &&
				strncasecmp(text.data, words[value][i], text.len) == 0) {
				*ret = value;
				return 0;
			}
	return -EINVAL;
}

int unit_parse_span(struct slice text, int64_t *ret_ns)
{
	int64_t us;
	int r;

	if (slice_is(text_trim(text), "infinity")) {
		*ret_ns = UNIT_SPAN_INFINITY;
		return 0;
	}
	r = when_parse_span(text, &us);
	if (r < 0)
		return r;
	if (us > INT64_MAX / 1000)
		return -ERANGE;
	*ret_ns = us * 1000;
	return 0;
}

static const struct {
	int number;
	const char *name;
} signals[] = {
	{SIGHUP, "HUP"},
	{SIGINT, "INT"},
	{SIGQUIT, "QUIT"},
	{SIGILL, "ILL"},
	{SIGTRAP, "TRAP"},
	{SIGABRT, "ABRT"},
	{SIGBUS, "BUS"},
	{SIGFPE, "FPE"},
	{SIGKILL, "KILL"},
	{SIGUSR1, "USR1"},
	{SIGSEGV, "SEGV"},
	{SIGUSR2, "USR2"},
	{SIGPIPE, "PIPE"},
	{SIGALRM, "ALRM"},
	{SIGTERM, "TERM"},
	{SIGSTKFLT, "STKFLT"},
	{SIGCHLD, "CHLD"},
	{SIGCONT, "CONT"},
	{SIGSTOP, "STOP"},
	{SIGTSTP, "TSTP"},
	{SIGTTIN, "TTIN"},
	{SIGTTOU, "TTOU"},
	{SIGURG, "URG"},
	{SIGXCPU, "XCPU"},
	{SIGXFSZ, "XFSZ"},
	{SIGVTALRM, "VTALRM"},
	{SIGPROF, "PROF"},
	{SIGWINCH, "WINCH"},
	{SIGIO, "IO"},
	{SIGPWR, "PWR"},
	{SIGSYS, "SYS"},
	{SIGIO, "POLL"},
};

int unit_parse_signal(struct slice text, int *ret)
{
	uint64_t number;

	if (text_to_u64(text, &number) == 0) {
		if (number < 1 || number > (uint64_t)SIGRTMAX)
			return -EINVAL;
		*ret = (int)number;
		return 0;
	}
	if (slice_starts_with(text, SLICE_LITERAL("SIG")))
		text = skip(text, 3);
	for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
		if (slice_is(text, signals[i].name)) {
			*ret = signals[i].number;
			return 0;
		}
	}
	if (slice_is(text, "RTMIN"))
		text = SLICE_LITERAL("RTMIN+0");
	if (slice_starts_with(text, SLICE_LITERAL("RTMIN+")) && text_to_u64(skip(text, 6), &number) == 0 &&
		number <= (uint64_t)(SIGRTMAX - SIGRTMIN)) {
		*ret = SIGRTMIN + (int)number;
		return 0;
	}
	return -EINVAL;
}

const char *unit_signal_name(int signal_number)
{
	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		if (signals[i].number == signal_number)
			return signals[i].name;
	return NULL;
}
