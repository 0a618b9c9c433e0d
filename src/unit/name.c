/* Unit names: fleet's rules, their parts, templates, and fleetctl's completion of arguments. */
#include "unit/unit.h"
#include "unit/runes.h"
#include <errno.h>
#include <stdio.h>

const char *const unit_agent_types[] = {"service", "socket", "timer", "path", "device", "mount", "automount",
	"target", "swap", "slice", NULL};

static const char *const known_types[] = {"automount", "busname", "device", "mount", "path", "scope",
	"service", "slice", "snapshot", "socket", "swap", "target", "timer", NULL};
static const char *const template_types[] = {"path", "service", "socket", "target", "timer", NULL};

static bool is_one_of(struct slice word, const char *const *words)
{
	for (; *words; words++)
		if (slice_is(word, *words))
			return true;
	return false;
}

static size_t last_dot(struct slice name)
{
	const char *dot = name.len ? memrchr(name.data, '.', name.len) : NULL;

	return dot ? (size_t)(dot - name.data) : SIZE_MAX;
}

static bool is_name_char(uint32_t rune)
{
	return (rune >= '0' && rune <= '9') || (rune >= 'a' && rune <= 'z') || (rune >= 'A' && rune <= 'Z') ||
	       (rune && rune < 0x80 && strchr(":-_.\\@", (int)rune));
}

static int fail(struct unit_error *reterr, const char *text)
{
	if (reterr) {
		reterr->line = 0;
		(void)snprintf(reterr->text, sizeof(reterr->text), "%s", text);
	}
	return -EINVAL;
}

/* "TEXT: "TYPE"": the type is bounded by the name's length, its odd bytes are escaped as Go's %q does. */
static int fail_quoted(struct unit_error *reterr, const char *text, struct slice type)
{
	_cleanup_buf_ struct buf out = BUF_INIT(sizeof(reterr->text) - 1);

	buf_printf(&out, "%s: \"", text);
	for (size_t i = 0; i < type.len;) {
		_cleanup_buf_ struct buf one = BUF_INIT(32);
		uint32_t rune;
		size_t size = rune_decode(slice_make(type.data + i, type.len - i), &rune);

		if (rune == RUNE_ERROR && size == 1) {
			buf_printf(&out, "\\x%02x", (unsigned char)type.data[i]);
		} else if (rune == '"') {
			buf_add_str(&out, "\\\"");
		} else if (rune == '\'') {
			buf_add_char(&out, '\'');
		} else {
			rune_add_quoted(&one, rune);
			buf_add(&out, one.data + 1, one.len - 2);
		}
		i += size;
	}
	buf_add_char(&out, '"');
	return fail(reterr, buf_text(&out));
}

int unit_name_validate(struct slice name, struct unit_error *reterr)
{
	size_t dot = last_dot(name);
	struct slice type;

	if (!name.len)
		return fail(reterr, "unit name cannot be empty");
	if (name.len > UNIT_NAME_MAX)
		return fail(reterr, "unit name exceeds maximum length (256)");
	if (dot == SIZE_MAX)
		return fail(reterr, "unit name must contain \".\"");
	if (dot == name.len - 1)
		return fail(reterr, "unit name cannot end in \".\"");
	type = slice_make(name.data + dot + 1, name.len - dot - 1);
	if (!is_one_of(type, known_types))
		return fail_quoted(reterr, "invalid unit type", type);
	if (memchr(name.data, '@', name.len) && !is_one_of(type, template_types))
		return fail_quoted(reterr, "invalid unit type for template", type);
	for (size_t i = 0; i < dot;) {
		uint32_t rune;

		i += rune_decode(slice_make(name.data + i, dot - i), &rune);
		if (!is_name_char(rune)) {
			_cleanup_buf_ struct buf text = BUF_INIT(128);

			buf_add_str(&text, "invalid character ");
			rune_add_quoted(&text, rune);
			buf_add_str(&text, " in unit name");
			return fail(reterr, buf_text(&text));
		}
	}
	if (name.data[0] == '@')
		return fail(reterr, "unit name cannot start in \"@\"");
	return 0;
}

int unit_name_parse(struct slice name, struct unit_name *ret)
{
	size_t dot = last_dot(name);
	const char *at;

	if (dot == SIZE_MAX)
		return -EINVAL;
	*ret = (struct unit_name){
		.full = name,
		.stem = slice_make(name.data, dot),
		.prefix = slice_make(name.data, dot),
		.instance = slice_make(name.data + dot, 0),
		.type = slice_make(name.data + dot + 1, name.len - dot - 1),
	};
	at = dot ? memchr(name.data, '@', dot) : NULL;
	if (at) {
		size_t prefix_len = (size_t)(at - name.data);

		ret->prefix.len = prefix_len;
		ret->instance = slice_make(at + 1, dot - prefix_len - 1);
		ret->has_at = true;
	}
	return 0;
}

bool unit_name_is_template(struct slice name)
{
	struct unit_name parts;

	return unit_name_parse(name, &parts) == 0 && parts.has_at && !parts.instance.len;
}

bool unit_name_is_instance(struct slice name)
{
	struct unit_name parts;

	return unit_name_parse(name, &parts) == 0 && parts.has_at && parts.instance.len;
}

int unit_name_template(struct slice name, struct buf *out)
{
	struct unit_name parts;
	int r = unit_name_parse(name, &parts);

	if (r < 0)
		return r;
	if (!parts.has_at)
		return -EINVAL;
	buf_add_slice(out, parts.prefix);
	buf_add_str(out, "@.");
	buf_add_slice(out, parts.type);
	return 0;
}

bool unit_name_has_agent_type(struct slice name)
{
	size_t dot = last_dot(name);

	return dot != SIZE_MAX &&
	       is_one_of(slice_make(name.data + dot + 1, name.len - dot - 1), unit_agent_types);
}

void unit_name_mangle(struct slice argument, struct buf *out)
{
	const char *slash;

	while (argument.len > 1 && argument.data[argument.len - 1] == '/')
		argument.len--;
	slash = argument.len ? memrchr(argument.data, '/', argument.len) : NULL;
	if (slash && argument.len > 1) {
		size_t skip = (size_t)(slash - argument.data) + 1;

		argument = slice_make(slash + 1, argument.len - skip);
	}
	if (!argument.len)
		argument = SLICE_LITERAL("."); /* what Go's path.Base says of an empty path */
	buf_add_slice(out, argument);
	if (!unit_name_has_agent_type(argument))
		buf_add_str(out, ".service");
}

static void replace_all(struct buf *text, char letter, struct slice with)
{
	_cleanup_buf_ struct buf out = BUF_INIT(text->max);

	for (size_t i = 0; i < text->len; i++) {
		if (text->data[i] == '%' && i + 1 < text->len && text->data[i + 1] == letter) {
			buf_add_slice(&out, with);
			i++;
		} else {
			buf_add_char(&out, text->data[i]);
		}
	}
	buf_clear(text);
	buf_add_slice(text, buf_slice(&out));
}

void unit_name_expand(const struct unit_name *name, struct slice value, struct buf *out)
{
	_cleanup_buf_ struct buf text = BUF_INIT(UNIT_TEXT_MAX);

	buf_add_slice(&text, value);
	if (value.len && memchr(value.data, '%', value.len)) {
		replace_all(&text, 'n', name->full);
		replace_all(&text, 'N', name->stem);
		replace_all(&text, 'p', name->prefix);
		replace_all(&text, 'i', name->instance);
	}
	buf_add_slice(out, buf_slice(&text));
}
