/* One pass over the text. Letters that the name answers are handled here, the rest by the caller's host
 * function. */
#include "unit/specifier.h"
#include "base/text.h"

void unit_name_unescape(struct slice text, struct buf *out)
{
	for (size_t i = 0; i < text.len; i++) {
		uint64_t byte;

		if (text.data[i] == '-') {
			buf_add_char(out, '/');
		} else if (text.data[i] == '\\' && text.len - i >= 4 && text.data[i + 1] == 'x' &&
			   text_hex_to_u64(slice_make(text.data + i + 2, 2), &byte) == 0) {
			buf_add_char(out, (char)byte);
			i += 3;
		} else {
			buf_add_char(out, text.data[i]);
		}
	}
}

/* The part after the last dash: the final component of the prefix. */
static struct slice last_component(struct slice prefix)
{
	const char *dash = prefix.len ? memrchr(prefix.data, '-', prefix.len) : NULL;
	size_t skip = dash ? (size_t)(dash - prefix.data) + 1 : 0;

	return slice_make(prefix.data + skip, prefix.len - skip);
}

static bool add_name_part(const struct unit_name *name, char letter, struct buf *out)
{
	switch (letter) {
	case '%':
		buf_add_char(out, '%');
		return true;
	case 'n':
		buf_add_slice(out, name->full);
		return true;
	case 'N':
		buf_add_slice(out, name->stem);
		return true;
	case 'p':
		buf_add_slice(out, name->prefix);
		return true;
	case 'P':
		unit_name_unescape(name->prefix, out);
		return true;
	case 'i':
		buf_add_slice(out, name->instance);
		return true;
	case 'I':
		unit_name_unescape(name->instance, out);
		return true;
	case 'j':
		buf_add_slice(out, last_component(name->prefix));
		return true;
	case 'J':
		unit_name_unescape(last_component(name->prefix), out);
		return true;
	case 'f':
		buf_add_char(out, '/');
		unit_name_unescape(name->instance.len ? name->instance : name->prefix, out);
		return true;
	default:
		return false;
	}
}

int unit_specifiers_expand(const struct unit_specifiers *specifiers, struct slice text, struct buf *out)
{
	for (size_t i = 0; i < text.len; i++) {
		if (text.data[i] != '%' || i + 1 == text.len) {
			buf_add_char(out, text.data[i]);
			continue;
		}
		i++;
		if (add_name_part(&specifiers->name, text.data[i], out))
			continue;
		if (specifiers->host && specifiers->host(specifiers->userdata, text.data[i], out))
			continue;
		buf_add_char(out, '%');
		buf_add_char(out, text.data[i]);
	}
	return buf_error(out);
}
