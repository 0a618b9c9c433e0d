/* Only strings and braces are looked at: each leaf is a text of JSON of its own, and is read as such by who
 * asked for it. */
#include "etcdclient/pieces.h"

#include <errno.h>

void pieces_init(struct pieces *pieces, size_t leaf_max_bytes)
{
	*pieces = (struct pieces){.leaf = BUF_INIT(leaf_max_bytes)};
}

void pieces_done(struct pieces *pieces)
{
	buf_done(&pieces->leaf);
}

/* How much of the text is of the string that has begun, its end included. */
static size_t string_len(struct pieces *pieces, struct slice text)
{
	for (size_t i = 0; i < text.len; i++) {
		if (pieces->escaped) {
			pieces->escaped = false;
		} else if (text.data[i] == '\\') {
			pieces->escaped = true;
		} else if (text.data[i] == '"') {
			pieces->in_string = false;
			return i + 1;
		}
	}
	return text.len;
}

/* How much of it is neither a string nor the brace of an object. */
static size_t plain_len(struct slice text)
{
	size_t len = 0;

	while (len < text.len && text.data[len] != '"' && text.data[len] != '{' && text.data[len] != '}')
		len++;
	return len;
}

static void take(struct pieces *pieces, struct slice *rest, size_t len)
{
	if (pieces->leaf.len)
		buf_add(&pieces->leaf, rest->data, len);
	rest->data += len;
	rest->len -= len;
}

int pieces_next(struct pieces *pieces, struct slice *rest, struct slice *ret_leaf)
{
	while (rest->len) {
		if (pieces->in_string) {
			take(pieces, rest, string_len(pieces, *rest));
		} else if (*rest->data == '"') {
			pieces->in_string = true;
			take(pieces, rest, 1);
		} else if (*rest->data == '{') {
			/* Whatever was open is no leaf. */
			buf_clear(&pieces->leaf);
			buf_add_char(&pieces->leaf, '{');
			pieces->depth++;
			pieces->begun = true;
			rest->data++;
			rest->len--;
		} else if (*rest->data == '}') {
			bool leaf = pieces->leaf.len;

			if (!pieces->depth)
				return -EBADMSG;
			pieces->depth--;
			take(pieces, rest, 1);
			if (leaf && buf_error(&pieces->leaf) == 0) {
				*ret_leaf = buf_slice(&pieces->leaf);
				/* Its bytes stay where they are until the next call adds some. */
				pieces->leaf.len = 0;
				return 1;
			}
		} else {
			take(pieces, rest, plain_len(*rest));
		}
		if (buf_error(&pieces->leaf) < 0)
			return -EBADMSG;
	}
	return 0;
}

bool pieces_are_complete(const struct pieces *pieces)
{
	return pieces->begun && !pieces->depth && !pieces->in_string;
}
