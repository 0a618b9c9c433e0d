/* Statements. What {{if}}, {{range}}, {{with}}, {{block}} and {{define}} open is kept on a stack of its own,
 * so that any depth of nesting costs only heap. Every definition has its own three-token look-ahead over the
 * one scanner, as in Go, since error lines come from it. */
#include "template/parse.h"
#include "template/unicode.h"

#include <errno.h>
#include <stdlib.h>

enum parsed { PARSED_FAILED = -1, PARSED_NODE, PARSED_OPENED, PARSED_END, PARSED_ELSE };

/* ---- definitions ---- */

static struct definition *definition_new(struct slice name)
{
	struct definition *definition = mem_new(struct definition);

	definition->name = name;
	return definition;
}

static struct definition *definition_free(struct definition *definition)
{
	free(definition->vars);
	return mem_free(definition);
}

static bool text_is_blank(struct slice text)
{
	while (text.len) {
		uint32_t rune;
		size_t len = unicode_decode(text, &rune);

		if (!(rune == ' ' || (rune >= '\t' && rune <= '\r') || rune == 0x85 || rune == 0xa0 ||
			    rune == 0x1680 || (rune >= 0x2000 && rune <= 0x200a) || rune == 0x2028 ||
			    rune == 0x2029 || rune == 0x202f || rune == 0x205f || rune == 0x3000))
			return false;
		text.data += len;
		text.len -= len;
	}
	return true;
}

static bool tree_is_empty(const struct node *root)
{
	for (size_t i = 0; i < root->items.count; i++) {
		const struct node *node = root->items.items[i];

		if (node->type != NODE_TEXT || !text_is_blank(node->text))
			return false;
	}
	return true;
}

/* A definition replaces an empty one of its name; a second one that is not empty is an error. */
static bool tree_add(struct parser *p, struct definition *d)
{
	struct tree *tree = map_get(&p->template->trees, d->name);

	if (!tree || tree_is_empty(tree->root)) {
		if (!tree) {
			tree = arena_alloc(p->arena, sizeof(*tree));
			tree->name = d->name;
			map_put(&p->template->trees, d->name, tree);
		}
		tree->root = d->root;
		return true;
	}
	if (tree_is_empty(d->root))
		return true;
	parser_fail_quoted(p, "template: multiple definition of template ", d->name, "");
	return false;
}

/* ---- actions ---- */

static struct opened *opened_push(struct parser *p, enum opened_kind kind)
{
	struct opened *opened;

	if (p->opened_count == p->opened_cap) {
		p->opened_cap = p->opened_cap ? p->opened_cap * 2 : 16;
		p->opened = mem_reallocarray(p->opened, p->opened_cap, sizeof(*p->opened));
	}
	opened = &p->opened[p->opened_count++];
	*opened = (struct opened){.kind = kind, .definition = p->definition};
	return opened;
}

static void opened_begin_list(struct parser *p, struct opened *opened)
{
	opened->list = parser_node_new(p, NODE_LIST, parser_peek_non_space(p).position);
}

static bool parse_definition_name(
	struct parser *p, struct token token, const char *context, struct slice *ret_name)
{
	if (token.type != TOKEN_STRING && token.type != TOKEN_RAW_STRING) {
		parser_unexpected(p, token, context);
		return false;
	}
	return parser_unquote(p, token, ret_name);
}

static enum parsed open_define(struct parser *p)
{
	struct opened *opened;
	struct definition *definition = definition_new((struct slice){0});

	p->definition = definition;
	opened = opened_push(p, OPENED_DEFINE);
	if (!parse_definition_name(p, parser_next_non_space(p), "define clause", &definition->name) ||
		!parser_expect(p, TOKEN_RIGHT_DELIM, "define clause"))
		return PARSED_FAILED;
	opened_begin_list(p, opened);
	definition->root = opened->list;
	return PARSED_OPENED;
}

static enum parsed open_block(struct parser *p)
{
	struct token token = parser_next_non_space(p);
	struct opened *opened;
	struct node *node;
	struct slice name;

	if (!parse_definition_name(p, token, "block clause", &name))
		return PARSED_FAILED;
	node = parser_node_new(p, NODE_TEMPLATE, token.position);
	node->text = name;
	node->pipe = parser_pipeline(p, "block clause", TOKEN_RIGHT_DELIM);
	if (!node->pipe)
		return PARSED_FAILED;
	p->definition = definition_new(name);
	opened = opened_push(p, OPENED_BLOCK);
	opened->node = node;
	opened_begin_list(p, opened);
	p->definition->root = opened->list;
	return PARSED_OPENED;
}

static enum parsed open_control(struct parser *p, enum node_type type, const char *context, bool is_else_if)
{
	size_t mark = p->definition->var_count;
	struct node *pipe = parser_pipeline(p, context, TOKEN_RIGHT_DELIM);
	struct opened *opened;

	if (!pipe)
		return PARSED_FAILED;
	if (type == NODE_RANGE)
		p->definition->range_depth++;
	opened = opened_push(p, OPENED_CONTROL);
	opened->var_mark = mark;
	opened->is_else_if = is_else_if;
	opened->node = parser_node_new(p, type, pipe->position);
	opened->node->pipe = pipe;
	opened_begin_list(p, opened);
	opened->node->list = opened->list;
	return PARSED_OPENED;
}

static enum parsed parse_template_call(struct parser *p, struct node **ret_node)
{
	struct token token = parser_next_non_space(p);
	struct node *node = parser_node_new(p, NODE_TEMPLATE, token.position);

	if (!parse_definition_name(p, token, "template clause", &node->text))
		return PARSED_FAILED;
	if (parser_next_non_space(p).type != TOKEN_RIGHT_DELIM) {
		parser_backup(p);
		node->pipe = parser_pipeline(p, "template clause", TOKEN_RIGHT_DELIM);
		if (!node->pipe)
			return PARSED_FAILED;
	}
	*ret_node = node;
	return PARSED_NODE;
}

static enum parsed parse_break(struct parser *p, struct token token, struct node **ret_node)
{
	bool is_break = token.type == TOKEN_BREAK;

	if (!parser_expect(p, TOKEN_RIGHT_DELIM, is_break ? "{{break}}" : "{{continue}}"))
		return PARSED_FAILED;
	if (!p->definition->range_depth) {
		parser_fail(p, "%s outside {{range}}", is_break ? "{{break}}" : "{{continue}}");
		return PARSED_FAILED;
	}
	*ret_node = parser_node_new(p, is_break ? NODE_BREAK : NODE_CONTINUE, token.position);
	return PARSED_NODE;
}

static enum parsed parse_action(struct parser *p, struct node **ret_node)
{
	struct token token = parser_next_non_space(p);
	struct node *node;

	switch (token.type) {
	case TOKEN_BLOCK:
		return open_block(p);
	case TOKEN_BREAK:
	case TOKEN_CONTINUE:
		return parse_break(p, token, ret_node);
	case TOKEN_ELSE:
		if (parser_peek_non_space(p).type == TOKEN_IF)
			return PARSED_ELSE; /* {{else if}}: the "if" is left for who takes it */
		return parser_expect(p, TOKEN_RIGHT_DELIM, "else") ? PARSED_ELSE : PARSED_FAILED;
	case TOKEN_END:
		return parser_expect(p, TOKEN_RIGHT_DELIM, "end") ? PARSED_END : PARSED_FAILED;
	case TOKEN_IF:
		return open_control(p, NODE_IF, "if", false);
	case TOKEN_RANGE:
		return open_control(p, NODE_RANGE, "range", false);
	case TOKEN_TEMPLATE:
		return parse_template_call(p, ret_node);
	case TOKEN_WITH:
		return open_control(p, NODE_WITH, "with", false);
	default:
		break;
	}
	parser_backup(p);
	node = parser_node_new(p, NODE_ACTION, parser_peek(p).position);
	node->pipe = parser_pipeline(p, "command", TOKEN_RIGHT_DELIM);
	*ret_node = node;
	return node->pipe ? PARSED_NODE : PARSED_FAILED;
}

static enum parsed parse_text_or_action(struct parser *p, struct node **ret_node)
{
	struct token token = parser_next_non_space(p);
	enum parsed parsed;

	if (token.type == TOKEN_TEXT) {
		*ret_node = parser_node_new(p, NODE_TEXT, token.position);
		(*ret_node)->text = token.text;
		return PARSED_NODE;
	}
	if (token.type != TOKEN_LEFT_DELIM) {
		parser_unexpected(p, token, "input");
		return PARSED_FAILED;
	}
	p->definition->action_line = token.line;
	parsed = parse_action(p, ret_node);
	if (parsed == PARSED_NODE || parsed == PARSED_END || parsed == PARSED_ELSE)
		p->definition->action_line = 0;
	return parsed;
}

static struct opened *opened_top(struct parser *p)
{
	return &p->opened[p->opened_count - 1];
}

/* The innermost opened thing has its {{end}}; with an {{else if}} its owner ends too. */
static bool close_opened(struct parser *p)
{
	for (;;) {
		struct opened closed = *opened_top(p);

		if (closed.kind != OPENED_CONTROL) {
			bool added = tree_add(p, closed.definition);

			/* On failure the opened entry stays, and with it the one owner of the definition. */
			if (!added)
				return false;
			p->opened_count--;
			definition_free(closed.definition);
			p->definition = opened_top(p)->definition;
			if (closed.kind == OPENED_BLOCK)
				node_list_add(p->arena, &opened_top(p)->list->items, closed.node);
			p->definition->action_line = 0;
			return true;
		}
		if (closed.node->type == NODE_RANGE && !closed.in_else)
			p->definition->range_depth--;
		p->definition->var_count = closed.var_mark;
		p->definition->action_line = 0;
		p->opened_count--;
		node_list_add(p->arena, &opened_top(p)->list->items, closed.node);
		if (!closed.is_else_if)
			return true;
	}
}

static bool take_else(struct parser *p)
{
	struct opened *opened = opened_top(p);

	if (opened->in_else) {
		parser_fail(p, "expected end; found {{else}}");
		return false;
	}
	if (opened->node->type == NODE_RANGE)
		p->definition->range_depth--;
	opened->in_else = true;
	if (opened->node->type == NODE_IF && parser_peek(p).type == TOKEN_IF) {
		struct token token = parser_next(p);

		opened->list = opened->node->else_list = parser_node_new(p, NODE_LIST, token.position);
		return open_control(p, NODE_IF, "if", true) == PARSED_OPENED;
	}
	opened_begin_list(p, opened);
	opened->node->else_list = opened->list;
	return true;
}

static bool take_end_or_else(struct parser *p, enum parsed parsed)
{
	const char *what = parsed == PARSED_END ? "{{end}}" : "{{else}}";

	switch (opened_top(p)->kind) {
	case OPENED_TOP:
		parser_fail(p, "unexpected %s", what);
		return false;
	case OPENED_DEFINE:
	case OPENED_BLOCK:
		if (parsed == PARSED_END)
			return close_opened(p);
		parser_fail(p, "unexpected %s in %s", what,
			opened_top(p)->kind == OPENED_DEFINE ? "define clause" : "block clause");
		return false;
	default:
		return parsed == PARSED_END ? close_opened(p) : take_else(p);
	}
}

/* {{define}} is looked for only at the top. True: *ret_parsed tells what became of it. */
static bool parse_define(struct parser *p, enum parsed *ret_parsed)
{
	struct token delim;

	if (opened_top(p)->kind != OPENED_TOP || parser_peek(p).type != TOKEN_LEFT_DELIM)
		return false;
	delim = parser_next(p);
	if (parser_next_non_space(p).type != TOKEN_DEFINE) {
		parser_backup2(p, delim);
		return false;
	}
	*ret_parsed = open_define(p);
	return true;
}

static bool parse_all(struct parser *p)
{
	for (;;) {
		struct node *node = NULL;
		enum parsed parsed;

		if (parser_peek_non_space(p).type == TOKEN_EOF) {
			if (opened_top(p)->kind == OPENED_TOP)
				return tree_add(p, p->definition);
			parser_fail(p, "unexpected EOF");
			return false;
		}
		if (!parse_define(p, &parsed))
			parsed = parse_text_or_action(p, &node);
		if (parsed == PARSED_FAILED)
			return false;
		if (parsed == PARSED_NODE)
			node_list_add(p->arena, &opened_top(p)->list->items, node);
		else if (parsed != PARSED_OPENED && !take_end_or_else(p, parsed))
			return false;
	}
}

int template_parse(const char *name, struct slice text, const struct template_func *funcs, size_t func_count,
	struct template **ret_template, struct buf *reterr)
{
	_cleanup_(template_freep) struct template *template = mem_new(struct template);
	struct parser p = {.template = template, .arena = &template->arena, .error = reterr};
	bool is_builtin, parsed;
	struct opened *top;

	if (text.len > TEMPLATE_TEXT_MAX) {
		buf_printf(reterr, "template: %s: the template is larger than %u bytes", name,
			TEMPLATE_TEXT_MAX);
		return -EINVAL;
	}
	arena_init(&template->arena);
	map_init(&template->trees, 0);
	template->name = slice_make(arena_strndup(p.arena, name, strlen(name)), strlen(name));
	template->text = slice_make(arena_strndup(p.arena, text.len ? text.data : "", text.len), text.len);
	template->funcs = funcs;
	template->func_count = func_count;
	lexer_init(&p.lexer, p.arena, template->text);
	p.lexer.break_is_function = func_find(template, SLICE_LITERAL("break"), &is_builtin) != NULL;
	p.lexer.continue_is_function = func_find(template, SLICE_LITERAL("continue"), &is_builtin) != NULL;
	p.definition = definition_new(template->name);
	top = opened_push(&p, OPENED_TOP);
	opened_begin_list(&p, top);
	p.definition->root = top->list;
	parsed = parse_all(&p);
	for (size_t i = 0; i < p.opened_count; i++)
		if (p.opened[i].kind != OPENED_CONTROL)
			definition_free(p.opened[i].definition);
	free(p.opened);
	if (!parsed)
		return -EINVAL;
	template->main = map_get(&template->trees, template->name);
	*ret_template = take_ptr(template);
	return 0;
}

struct template *template_free(struct template *template)
{
	if (!template)
		return NULL;
	map_done(&template->trees);
	arena_done(&template->arena);
	return mem_free(template);
}
