/* Printing of nodes, and the literals. */
#include "template/node.h"
#include "template/format.h"

#include <errno.h>

void node_list_add(struct arena *arena, struct node_list *list, struct node *node)
{
	if (list->count == list->cap) {
		size_t cap = list->cap ? list->cap * 2 : 4;
		struct node **moved = arena_alloc(arena, cap * sizeof(*moved));

		if (list->count)
			memcpy(moved, list->items, list->count * sizeof(*moved));
		list->items = moved;
		list->cap = cap;
	}
	list->items[list->count++] = node;
}

static void add_idents(struct buf *out, const struct node *node, const char *first_prefix)
{
	for (size_t i = 0; i < node->ident_count; i++) {
		buf_add_str(out, i ? "." : first_prefix);
		buf_add_slice(out, node->idents[i]);
	}
}

static void add_pipe(struct buf *out, const struct node *pipe)
{
	for (size_t i = 0; i < pipe->variables.count; i++) {
		if (i)
			buf_add_str(out, ", ");
		node_add_text(out, pipe->variables.items[i]);
	}
	if (pipe->variables.count)
		buf_add_str(out, " := ");
	for (size_t i = 0; i < pipe->commands.count; i++) {
		if (i)
			buf_add_str(out, " | ");
		node_add_text(out, pipe->commands.items[i]);
	}
}

/* A pipe as an operand is one in parentheses. */
static void add_operand(struct buf *out, const struct node *node)
{
	if (node->type == NODE_PIPE)
		buf_add_char(out, '(');
	node_add_text(out, node);
	if (node->type == NODE_PIPE)
		buf_add_char(out, ')');
}

static void add_control(struct buf *out, const struct node *node, const char *word)
{
	buf_printf(out, "{{%s ", word);
	node_add_text(out, node->pipe);
	buf_add_str(out, "}}");
	node_add_text(out, node->list);
	if (node->else_list) {
		buf_add_str(out, "{{else}}");
		node_add_text(out, node->else_list);
	}
	buf_add_str(out, "{{end}}");
}

void node_add_text(struct buf *out, const struct node *node)
{
	switch (node->type) {
	case NODE_TEXT:
	case NODE_NUMBER:
	case NODE_STRING:
	case NODE_IDENTIFIER:
		buf_add_slice(out, node->text);
		return;
	case NODE_BOOL:
		buf_add_str(out, node->boolean ? "true" : "false");
		return;
	case NODE_BREAK:
		buf_add_str(out, "{{break}}");
		return;
	case NODE_CONTINUE:
		buf_add_str(out, "{{continue}}");
		return;
	case NODE_DOT:
		buf_add_char(out, '.');
		return;
	case NODE_NIL:
		buf_add_str(out, "nil");
		return;
	case NODE_FIELD:
		add_idents(out, node, ".");
		return;
	case NODE_VARIABLE:
		add_idents(out, node, "");
		return;
	case NODE_CHAIN:
		add_operand(out, node->operand);
		add_idents(out, node, ".");
		return;
	case NODE_COMMAND:
		for (size_t i = 0; i < node->items.count; i++) {
			if (i)
				buf_add_char(out, ' ');
			add_operand(out, node->items.items[i]);
		}
		return;
	case NODE_LIST:
		for (size_t i = 0; i < node->items.count; i++)
			node_add_text(out, node->items.items[i]);
		return;
	case NODE_PIPE:
		add_pipe(out, node);
		return;
	case NODE_ACTION:
		buf_add_str(out, "{{");
		node_add_text(out, node->pipe);
		buf_add_str(out, "}}");
		return;
	case NODE_TEMPLATE:
		buf_add_str(out, "{{template ");
		quote_text(out, node->text, false);
		if (node->pipe) {
			buf_add_char(out, ' ');
			node_add_text(out, node->pipe);
		}
		buf_add_str(out, "}}");
		return;
	case NODE_IF:
		add_control(out, node, "if");
		return;
	case NODE_RANGE:
		add_control(out, node, "range");
		return;
	case NODE_WITH:
		add_control(out, node, "with");
		return;
	}
}

static int parse_char(struct slice text, struct number *ret, struct buf *reterr)
{
	bool is_byte;
	uint32_t rune;
	int len = unquote_rune(slice_make(text.data + 1, text.len - 1), text.data[0], &rune, &is_byte);

	if (len < 0) {
		buf_add_str(reterr, "invalid syntax");
		return -EINVAL;
	}
	if (text.len != (size_t)len + 2) {
		buf_add_str(reterr, "malformed character constant: ");
		buf_add_slice(reterr, text);
		return -EINVAL;
	}
	*ret = (struct number){.is_int = true,
		.integer = rune,
		.is_uint = true,
		.natural = rune,
		.is_float = true,
		.real = rune};
	return 0;
}

/* A complex literal without an imaginary part is a real one too. */
static void simplify_complex(struct number *number)
{
	number->is_complex = true;
	number->is_float = number->complex.imaginary == 0;
	if (!number->is_float)
		return;
	number->real = number->complex.real;
	number->is_int = number->real >= -0x1p63 && number->real < 0x1p63 &&
			 number->real == (double)(int64_t)number->real;
	if (number->is_int)
		number->integer = (int64_t)number->real;
	number->is_uint =
		number->real >= 0 && number->real < 0x1p64 && number->real == (double)(uint64_t)number->real;
	if (number->is_uint)
		number->natural = (uint64_t)number->real;
}

/* "1+2i": the last sign that is not part of an exponent parts the two. */
static int parse_complex(struct slice text, struct number *ret, struct buf *reterr)
{
	size_t split = 0;

	for (size_t i = 1; i < text.len; i++) {
		char before = (char)(text.data[i - 1] | 0x20);
		bool hex = text.len > 2 && (text.data[1] | 0x20) == 'x';

		if ((text.data[i] == '+' || text.data[i] == '-') && before != 'p' && (hex || before != 'e')) {
			split = i;
			break;
		}
	}
	*ret = (struct number){0};
	if (!split || number_parse_float(slice_make(text.data, split), &ret->complex.real) < 0 ||
		number_parse_float(
			slice_make(text.data + split, text.len - split - 1), &ret->complex.imaginary) < 0) {
		buf_add_str(reterr, "syntax error scanning complex number");
		return -EINVAL;
	}
	simplify_complex(ret);
	return 0;
}

static bool contains_any(struct slice text, const char *characters)
{
	for (size_t i = 0; i < text.len; i++)
		if (text.data[i] && strchr(characters, text.data[i]))
			return true;
	return false;
}

int number_parse(struct slice text, bool is_char, bool is_complex, struct number *ret, struct buf *reterr)
{
	struct number number = {0};

	if (is_char)
		return parse_char(text, ret, reterr);
	if (is_complex)
		return parse_complex(text, ret, reterr);
	if (text.len && text.data[text.len - 1] == 'i' &&
		number_parse_float(slice_make(text.data, text.len - 1), &number.complex.imaginary) >= 0) {
		simplify_complex(&number);
		*ret = number;
		return 0;
	}
	number.is_uint = number_parse_uint(text, 0, &number.natural) >= 0;
	number.is_int = number_parse_int(text, 0, &number.integer) >= 0;
	if (number.is_int && number.integer == 0)
		number.is_uint = true;
	if (number.is_int || number.is_uint) {
		number.is_float = true;
		number.real = number.is_int ? (double)number.integer : (double)number.natural;
	} else if (number_parse_float(text, &number.real) >= 0) {
		if (!contains_any(text, ".eEpP")) {
			buf_add_str(reterr, "integer overflow: ");
			quote_text(reterr, text, false);
			return -EINVAL;
		}
		number.is_float = true;
		if (number.real >= -0x1p63 && number.real < 0x1p63 &&
			(double)(int64_t)number.real == number.real) {
			number.is_int = true;
			number.integer = (int64_t)number.real;
		}
		if (number.real >= 0 && number.real < 0x1p64 &&
			(double)(uint64_t)number.real == number.real) {
			number.is_uint = true;
			number.natural = (uint64_t)number.real;
		}
	} else {
		buf_add_str(reterr, "illegal number syntax: ");
		quote_text(reterr, text, false);
		return -EINVAL;
	}
	*ret = number;
	return 0;
}
