/* Two passes: the command line first, then the environment for every row that the command line did not set,
 * so that a flag hides a broken variable. The words that are no flags are moved to the front of argv as they
 * are met. */
#include "base/flags.h"
#include "base/memory.h"
#include "base/text.h"
#include <errno.h>
#include <stdlib.h>

enum { HELP_COLUMN = 34 };

static bool flag_is_named(const struct flag *flag, struct slice name)
{
	struct slice rest = slice_str(flag->name), spelling;

	while (rest.len) {
		(void)text_cut(rest, ',', &spelling, &rest);
		if (slice_equal(spelling, name))
			return true;
	}
	return false;
}

static struct flag *flag_find(struct flag *flags, struct slice name)
{
	for (struct flag *flag = flags; flag->name; flag++)
		if (flag_is_named(flag, name))
			return flag;
	return NULL;
}

static void add_unknown(struct flag *flags, struct slice name, struct buf *reterr)
{
	_cleanup_free_ const char **words = NULL;
	_cleanup_free_ char *copy = mem_strndup(name.data, name.len);
	_cleanup_free_ char *names = NULL;
	_cleanup_buf_ struct buf all = BUF_INIT(0);
	const char *nearest;
	size_t count = 0;

	for (const struct flag *flag = flags; flag->name; flag++) {
		buf_add_str(&all, flag->name);
		buf_add_char(&all, ',');
	}
	names = buf_take(&all, NULL);
	words = mem_calloc(strlen(names) + 1, sizeof(*words));
	for (char *at = names, *end; *at; at = end + 1) {
		end = strchrnul(at, ',');
		if (end - at > 1)
			words[count++] = at;
		if (!*end)
			break;
		*end = '\0';
	}
	buf_printf(reterr, "flag provided but not defined: -%s", copy);
	nearest = text_nearest(copy, words);
	if (nearest)
		buf_printf(reterr, " (did you mean -%s?)", nearest);
}

/* Go's ParseInt with base 0: a sign, then decimal, 0x hexadecimal, 0b binary, 0o or 0 octal. */
static int parse_int(const char *text, bool sign_allowed, bool *ret_negative, uint64_t *ret_value)
{
	bool negative = *text == '-';
	uint64_t value = 0;
	int base = 10;

	if (*text == '-' || *text == '+') {
		if (!sign_allowed)
			return -EINVAL;
		text++;
	}
	if (text[0] == '0' && text[1]) {
		char letter = (char)(text[1] | 0x20);

		base = letter == 'x' ? 16 : letter == 'b' ? 2 : 8;
		text += letter == 'x' || letter == 'b' || letter == 'o' ? 2 : 1;
	}
	if (!*text)
		return -EINVAL;
	for (; *text; text++) {
		char c = (char)(*text | 0x20);
		int digit = *text >= '0' && *text <= '9' ? *text - '0'
			    : c >= 'a' && c <= 'f'	 ? c - 'a' + 10
							 : 16;

		if (digit >= base)
			return -EINVAL;
		if (__builtin_mul_overflow(value, (uint64_t)base, &value) ||
			__builtin_add_overflow(value, (uint64_t)digit, &value))
			return -ERANGE;
	}
	*ret_negative = negative;
	*ret_value = value;
	return 0;
}

static int parse_float(const char *text, double *ret_value)
{
	char *end;
	double value;

	/* strtod() takes leading blanks and hexadecimal numbers without an exponent, ParseFloat neither. */
	if (!*text || strchr(" \t\n\v\f\r", *text) || (strpbrk(text, "xX") && !strpbrk(text, "pP")))
		return -EINVAL;
	errno = 0;
	value = strtod(text, &end);
	if (*end)
		return -EINVAL;
	if (errno == ERANGE && (value > 1 || value < -1))
		return -ERANGE;
	*ret_value = value;
	return 0;
}

static void list_add(struct flag_list *list, const char *text)
{
	list->items = mem_reallocarray(list->items, list->count + 1, sizeof(*list->items));
	list->items[list->count++] = text;
}

/* A list in the environment is separated by commas; the pieces lie behind the pointers in the same block. */
static void list_from_env(struct flag_list *list, const char *text)
{
	size_t count = 1, len = strlen(text) + 1;
	char *copy, *save = NULL;

	for (const char *at = text; *at; at++)
		count += *at == ',';
	list->items = mem_alloc(count * sizeof(*list->items) + len);
	copy = (char *)(list->items + count);
	memcpy(copy, text, len);
	list->count = 0;
	for (char *item = strtok_r(copy, ",", &save); item; item = strtok_r(NULL, ",", &save))
		list->items[list->count++] = item;
}

static int value_set(struct flag *flag, const char *text, bool from_env)
{
	bool truth, negative;
	uint64_t number;
	int64_t ns;
	double real;
	int r = 0;

	switch (flag->type) {
	case FLAG_BOOL:
		r = text_to_bool(slice_str(text), &truth);
		if (r >= 0 && flag->value)
			*(bool *)flag->value = truth;
		break;
	case FLAG_STRING:
		if (flag->value)
			*(const char **)flag->value = text;
		break;
	case FLAG_LIST:
		if (flag->value && from_env)
			list_from_env(flag->value, text);
		else if (flag->value)
			list_add(flag->value, text);
		break;
	case FLAG_INT:
		r = parse_int(text, true, &negative, &number);
		if (r >= 0 && number > (uint64_t)INT64_MAX + negative)
			r = -ERANGE;
		if (r >= 0 && flag->value)
			*(int64_t *)flag->value = (int64_t)(negative ? 0 - number : number);
		break;
	case FLAG_UINT:
		r = parse_int(text, false, &negative, &number);
		if (r >= 0 && flag->value)
			*(uint64_t *)flag->value = number;
		break;
	case FLAG_FLOAT:
		r = parse_float(text, &real);
		if (r >= 0 && flag->value)
			*(double *)flag->value = real;
		break;
	case FLAG_DURATION:
		r = text_to_duration(slice_str(text), &ns);
		if (r >= 0 && flag->value)
			*(int64_t *)flag->value = ns;
		break;
	case FLAG_IGNORED:
		break;
	}
	return r;
}

static const char *value_problem(int error)
{
	return error == -ERANGE ? "value out of range" : "parse error";
}

static void list_drop(struct flag *flag)
{
	struct flag_list *list = flag->type == FLAG_LIST ? flag->value : NULL;

	if (!list)
		return;
	free(list->items);
	*list = (struct flag_list){0};
}

/* The word argv[*at] is a flag: sets it, taking the next word as its value where it needs one. */
static int flag_take(struct flag *flags, int argc, char **argv, int *at, struct buf *reterr)
{
	const char *word = argv[*at] + (argv[*at][1] == '-' ? 2 : 1);
	const char *equals = strchr(word, '='), *text = equals ? equals + 1 : NULL;
	struct slice name = slice_make(word, equals ? (size_t)(equals - word) : strlen(word));
	struct flag *flag;
	int r;

	if (!name.len || name.data[0] == '-') {
		buf_printf(reterr, "bad flag syntax: %s", argv[*at]);
		return -EINVAL;
	}
	flag = flag_find(flags, name);
	if (!flag) {
		add_unknown(flags, name, reterr);
		return -EINVAL;
	}
	if (!text && flag->type == FLAG_BOOL) {
		text = "true";
	} else if (!text) {
		if (*at + 1 >= argc) {
			buf_printf(reterr, "flag needs an argument: -%.*s", (int)name.len, name.data);
			return -EINVAL;
		}
		text = argv[++*at];
	}
	r = value_set(flag, text, false);
	if (r < 0) {
		buf_add_str(reterr, flag->type == FLAG_BOOL ? "invalid boolean value " : "invalid value ");
		text_add_quoted(reterr, slice_str(text));
		buf_printf(reterr, flag->type == FLAG_BOOL ? " for -%.*s: %s" : " for flag -%.*s: %s",
			(int)name.len, name.data, value_problem(r));
		return -EINVAL;
	}
	flag->set = true;
	return 0;
}

static int env_take(struct flag *flag, struct buf *reterr)
{
	const char *text = flag->env ? getenv(flag->env) : NULL;
	int r;

	if (flag->set || !text || !*text)
		return 0;
	r = value_set(flag, text, true);
	if (r < 0) {
		buf_add_str(reterr, "invalid value ");
		text_add_quoted(reterr, slice_str(text));
		buf_printf(reterr, " for %s: %s", flag->env, value_problem(r));
		return -EINVAL;
	}
	flag->set = flag->from_env = true;
	return 0;
}

int flags_parse(struct flag *flags, enum flags_dialect dialect, int argc, char **argv, int *ret_count,
	struct buf *reterr)
{
	int count = 0, at, r;

	for (struct flag *flag = flags; flag->name; flag++) {
		flag->set = flag->from_env = false;
		list_drop(flag);
	}
	for (at = 1; at < argc; at++) {
		if (argv[at][0] != '-' || !argv[at][1]) {
			if (dialect == FLAGS_GO)
				break;
			argv[1 + count++] = argv[at];
			continue;
		}
		if (strcmp(argv[at], "--") == 0) {
			at++;
			break;
		}
		r = flag_take(flags, argc, argv, &at, reterr);
		if (r < 0)
			return r;
	}
	for (; at < argc; at++)
		argv[1 + count++] = argv[at];
	if (argc > 0)
		argv[1 + count] = NULL;
	for (struct flag *flag = flags; flag->name; flag++) {
		r = env_take(flag, reterr);
		if (r < 0)
			return r;
	}
	*ret_count = count;
	return 0;
}

void flags_add_help(struct buf *out, const struct flag *flags)
{
	for (const struct flag *flag = flags; flag->name; flag++) {
		struct slice rest = slice_str(flag->name), spelling;
		size_t from = out->len;

		if (!flag->help)
			continue;
		buf_add_str(out, "  ");
		while (rest.len) {
			(void)text_cut(rest, ',', &spelling, &rest);
			buf_add_str(out, spelling.len == 1 ? "-" : "--");
			buf_add_slice(out, spelling);
			if (rest.len)
				buf_add_str(out, ", ");
		}
		if (flag->help_value)
			buf_printf(out, " %s", flag->help_value);
		if (out->len - from >= HELP_COLUMN) {
			buf_add_char(out, '\n');
			from = out->len;
		}
		buf_add_fill(out, ' ', HELP_COLUMN - (out->len - from));
		buf_add_str(out, flag->help);
		buf_add_char(out, '\n');
	}
}

void flags_done(struct flag *flags)
{
	for (struct flag *flag = flags; flag->name; flag++)
		list_drop(flag);
}
