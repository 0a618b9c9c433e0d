/* The parser. Expressions are parsed by recursion (bounded by TEMPLATE_PARENS_MAX); what {{if}}, {{range}},
 * {{with}},
 * {{block}} and {{define}} open is kept on a stack of its own, so that any depth of nesting costs only heap.
 * Every definition has its own three-token look-ahead over the one scanner, as in Go, since error lines come
 * from it. */
#include "template/lex.h"
#include "template/node.h"
#include "template/format.h"
#include "template/unicode.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

struct definition {
	struct slice name;
	struct node *root;
	struct token tokens[3];
	int peeked;
	struct slice *vars;
	size_t var_count, var_cap;
	unsigned range_depth, action_line;
};

enum opened_kind { OPENED_TOP, OPENED_DEFINE, OPENED_BLOCK, OPENED_CONTROL };

struct opened {
	enum opened_kind kind;
	struct definition *definition;
	struct node *node; /* the control, or the {{template}} that a block stands for */
	struct node *list; /* what nodes are added to now */
	size_t var_mark;
	bool in_else, is_else_if;
};

struct parser {
	struct template *template;
	struct arena *arena;
	struct lexer lexer;
	struct definition *definition;
	struct opened *opened;
	size_t opened_count, opened_cap;
	unsigned parens;
	struct buf *error;
};

enum parsed { PARSED_FAILED = -1, PARSED_NODE, PARSED_OPENED, PARSED_END, PARSED_ELSE };

/* ---- errors and tokens ---- */

static void *fail(struct parser *p, const char *format, ...) _printf_(2, 3);
static void *fail(struct parser *p, const char *format, ...)
{
	va_list args;
	char text[512];

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	buf_add_str(p->error, "template: ");
	buf_add_slice(p->error, p->template->name);
	buf_printf(p->error, ":%u: %s", p->definition->tokens[0].line, text);
	return NULL;
}

static void *fail_quoted(struct parser *p, const char *before, struct slice text, const char *after)
{
	_cleanup_buf_ struct buf quoted = BUF_INIT(0);

	quote_text(&quoted, text, false);
	fail(p, "%s", before);
	buf_add_slice(p->error, buf_slice(&quoted));
	buf_add_str(p->error, after);
	return NULL;
}

static struct token next(struct parser *p)
{
	struct definition *d = p->definition;

	if (d->peeked > 0)
		d->peeked--;
	else
		d->tokens[0] = lexer_next(&p->lexer);
	return d->tokens[d->peeked];
}

static void backup(struct parser *p)
{
	p->definition->peeked++;
}

static void backup2(struct parser *p, struct token first)
{
	p->definition->tokens[1] = first;
	p->definition->peeked = 2;
}

static void backup3(struct parser *p, struct token first, struct token second)
{
	p->definition->tokens[1] = second;
	p->definition->tokens[2] = first;
	p->definition->peeked = 3;
}

static struct token peek(struct parser *p)
{
	struct definition *d = p->definition;

	if (d->peeked == 0) {
		d->peeked = 1;
		d->tokens[0] = lexer_next(&p->lexer);
	}
	return d->tokens[d->peeked - 1];
}

static struct token next_non_space(struct parser *p)
{
	struct token token;

	do
		token = next(p);
	while (token.type == TOKEN_SPACE);
	return token;
}

static struct token peek_non_space(struct parser *p)
{
	struct token token = next_non_space(p);

	backup(p);
	return token;
}

/* At most ten characters of a token are shown. */
static void add_token_text(struct buf *out, struct token token)
{
	size_t used = 0;

	if (token.type == TOKEN_EOF) {
		buf_add_str(out, "EOF");
		return;
	}
	if (token.type == TOKEN_ERROR) {
		buf_add_slice(out, token.text);
		return;
	}
	if (token.type > TOKEN_KEYWORD) {
		buf_add_char(out, '<');
		buf_add_slice(out, token.text);
		buf_add_char(out, '>');
		return;
	}
	if (token.text.len <= 10) {
		quote_text(out, token.text, false);
		return;
	}
	for (int count = 0; used < token.text.len && count < 10; count++) {
		uint32_t rune;

		used += unicode_decode(slice_make(token.text.data + used, token.text.len - used), &rune);
	}
	quote_text(out, slice_make(token.text.data, used), false);
	buf_add_str(out, "...");
}

static void *unexpected(struct parser *p, struct token token, const char *context)
{
	unsigned line = p->definition->action_line;

	if (token.type != TOKEN_ERROR) {
		fail(p, "unexpected ");
		add_token_text(p->error, token);
		buf_printf(p->error, " in %s", context);
		return NULL;
	}
	fail(p, "%s", "");
	buf_add_slice(p->error, token.text);
	if (line && line != token.line) {
		if (!slice_ends_with(token.text, SLICE_LITERAL(" action")))
			buf_add_str(p->error, " in action");
		buf_add_str(p->error, " started at ");
		buf_add_slice(p->error, p->template->name);
		buf_printf(p->error, ":%u", line);
	}
	return NULL;
}

static bool expect(struct parser *p, enum token_type type, const char *context)
{
	struct token token = next_non_space(p);

	if (token.type == type)
		return true;
	unexpected(p, token, context);
	return false;
}

static struct node *node_new(struct parser *p, enum node_type type, size_t position)
{
	struct node *node = arena_alloc(p->arena, sizeof(*node));

	node->type = type;
	node->position = position;
	return node;
}

/* ---- variables ---- */

static void var_push(struct parser *p, struct slice name)
{
	struct definition *d = p->definition;

	if (d->var_count == d->var_cap) {
		d->var_cap = d->var_cap ? d->var_cap * 2 : 16;
		d->vars = mem_reallocarray(d->vars, d->var_cap, sizeof(*d->vars));
	}
	d->vars[d->var_count++] = name;
}

static bool var_known(struct parser *p, struct slice name)
{
	struct definition *d = p->definition;

	if (slice_is(name, "$"))
		return true;
	for (size_t i = d->var_count; i > 0; i--)
		if (slice_equal(d->vars[i - 1], name))
			return true;
	return false;
}

static void add_ident(struct parser *p, struct node *node, struct slice ident)
{
	struct slice *moved;

	/* Grows at powers of two. */
	if ((node->ident_count & (node->ident_count - 1)) == 0) {
		moved = arena_alloc(p->arena, MAX(node->ident_count * 2, (size_t)1) * sizeof(*moved));
		if (node->ident_count)
			memcpy(moved, node->idents, node->ident_count * sizeof(*moved));
		node->idents = moved;
	}
	node->idents[node->ident_count++] = ident;
}

static struct node *variable_new(struct parser *p, struct token token)
{
	struct node *node = node_new(p, NODE_VARIABLE, token.position);

	add_ident(p, node, token.text);
	return node;
}

/* ---- expressions ---- */

static struct node *parse_pipeline(struct parser *p, const char *context, enum token_type end);

const struct template_func *func_find(const struct template *template, struct slice name, bool *ret_builtin)
{
	*ret_builtin = false;
	for (size_t i = 0; i < template->func_count; i++)
		if (slice_is(name, template->funcs[i].name))
			return &template->funcs[i];
	*ret_builtin = true;
	for (size_t i = 0; i < builtin_func_count; i++)
		if (slice_is(name, builtin_funcs[i].name))
			return &builtin_funcs[i];
	return NULL;
}

static struct node *parse_identifier(struct parser *p, struct token token)
{
	bool is_builtin;
	const struct template_func *func = func_find(p->template, token.text, &is_builtin);
	struct node *node;

	if (!func)
		return fail_quoted(p, "function ", token.text, " not defined");
	node = node_new(p, NODE_IDENTIFIER, token.position);
	node->text = token.text;
	node->func = func;
	node->is_builtin = is_builtin;
	return node;
}

static struct node *parse_number(struct parser *p, struct token token)
{
	_cleanup_buf_ struct buf error = BUF_INIT(0);
	struct node *node = node_new(p, NODE_NUMBER, token.position);

	node->text = token.text;
	node->number = arena_alloc(p->arena, sizeof(*node->number));
	if (number_parse(token.text, token.type == TOKEN_CHAR_CONSTANT, token.type == TOKEN_COMPLEX,
		    node->number, &error) < 0) {
		fail(p, "%s", "");
		buf_add_slice(p->error, buf_slice(&error));
		return NULL;
	}
	return node;
}

static bool unquote_token(struct parser *p, struct token token, struct slice *ret_text)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0);

	if (unquote_text(token.text, &text) < 0) {
		fail(p, "invalid syntax");
		return false;
	}
	*ret_text = slice_make(arena_strndup(p->arena, buf_text(&text), text.len), text.len);
	return true;
}

static struct node *parse_string(struct parser *p, struct token token)
{
	struct node *node = node_new(p, NODE_STRING, token.position);

	node->text = token.text;
	return unquote_token(p, token, &node->value) ? node : NULL;
}

static struct node *parse_parens(struct parser *p)
{
	struct node *node;

	if (p->parens >= TEMPLATE_PARENS_MAX)
		return fail(p, "parentheses nested more than %d deep", TEMPLATE_PARENS_MAX);
	p->parens++;
	node = parse_pipeline(p, "parenthesized pipeline", TOKEN_RIGHT_PAREN);
	p->parens--;
	return node;
}

/* Sets *ret_node to NULL when what follows is no term. False: error. */
static bool parse_term(struct parser *p, struct node **ret_node)
{
	struct token token = next_non_space(p);
	struct node *node;

	switch (token.type) {
	case TOKEN_IDENTIFIER:
		node = parse_identifier(p, token);
		break;
	case TOKEN_DOT:
		node = node_new(p, NODE_DOT, token.position);
		break;
	case TOKEN_NIL:
		node = node_new(p, NODE_NIL, token.position);
		break;
	case TOKEN_VARIABLE:
		if (var_known(p, token.text))
			node = variable_new(p, token);
		else
			node = fail_quoted(p, "undefined variable ", token.text, "");
		break;
	case TOKEN_FIELD:
		node = node_new(p, NODE_FIELD, token.position);
		add_ident(p, node, slice_make(token.text.data + 1, token.text.len - 1));
		break;
	case TOKEN_BOOL:
		node = node_new(p, NODE_BOOL, token.position);
		node->boolean = slice_is(token.text, "true");
		break;
	case TOKEN_CHAR_CONSTANT:
	case TOKEN_COMPLEX:
	case TOKEN_NUMBER:
		node = parse_number(p, token);
		break;
	case TOKEN_LEFT_PAREN:
		node = parse_parens(p);
		break;
	case TOKEN_STRING:
	case TOKEN_RAW_STRING:
		node = parse_string(p, token);
		break;
	default:
		backup(p);
		*ret_node = NULL;
		return true;
	}
	*ret_node = node;
	return node != NULL;
}

/* A term and the fields behind it. Fields behind a field or a variable join it; what then is blamed in errors
 * is the position of the first that joined. */
static bool parse_operand(struct parser *p, struct node **ret_node)
{
	struct node *node, *chain;

	if (!parse_term(p, &node))
		return false;
	*ret_node = node;
	if (!node || peek(p).type != TOKEN_FIELD)
		return true;
	switch (node->type) {
	case NODE_BOOL:
	case NODE_STRING:
	case NODE_NUMBER:
	case NODE_NIL:
	case NODE_DOT: {
		_cleanup_buf_ struct buf text = BUF_INIT(0);

		while (peek(p).type == TOKEN_FIELD)
			next(p);
		node_add_text(&text, node);
		fail_quoted(p, "unexpected . after term ", buf_slice(&text), "");
		return false;
	}
	case NODE_FIELD:
	case NODE_VARIABLE:
		chain = node;
		chain->position = peek(p).position;
		break;
	default:
		chain = node_new(p, NODE_CHAIN, peek(p).position);
		chain->operand = node;
		break;
	}
	while (peek(p).type == TOKEN_FIELD) {
		struct token token = next(p);

		add_ident(p, chain, slice_make(token.text.data + 1, token.text.len - 1));
	}
	*ret_node = chain;
	return true;
}

static struct node *parse_command(struct parser *p)
{
	struct node *command = node_new(p, NODE_COMMAND, peek_non_space(p).position);

	for (;;) {
		struct node *operand;
		struct token token;

		peek_non_space(p);
		if (!parse_operand(p, &operand))
			return NULL;
		if (operand)
			node_list_add(p->arena, &command->items, operand);
		token = next(p);
		if (token.type == TOKEN_SPACE)
			continue;
		if (token.type == TOKEN_RIGHT_DELIM || token.type == TOKEN_RIGHT_PAREN)
			backup(p);
		else if (token.type != TOKEN_PIPE)
			return unexpected(p, token, "operand");
		break;
	}
	if (!command->items.count)
		return fail(p, "empty command");
	return command;
}

/* "$x :=", "$x =", "$i, $e :=" at the start of a pipeline. */
static bool parse_declarations(struct parser *p, struct node *pipe, const char *context)
{
	for (;;) {
		struct token variable = peek_non_space(p), after, following;

		if (variable.type != TOKEN_VARIABLE)
			return true;
		next(p);
		after = peek(p);
		following = peek_non_space(p);
		if (following.type == TOKEN_ASSIGN || following.type == TOKEN_DECLARE) {
			pipe->is_assign = following.type == TOKEN_ASSIGN;
			next_non_space(p);
			node_list_add(p->arena, &pipe->variables, variable_new(p, variable));
			var_push(p, variable.text);
			return true;
		}
		if (following.type == TOKEN_CHAR && slice_is(following.text, ",")) {
			enum token_type type;

			next_non_space(p);
			node_list_add(p->arena, &pipe->variables, variable_new(p, variable));
			var_push(p, variable.text);
			if (strcmp(context, "range") != 0 || pipe->variables.count >= 2) {
				fail(p, "too many declarations in %s", context);
				return false;
			}
			type = peek_non_space(p).type;
			if (type == TOKEN_VARIABLE || type == TOKEN_RIGHT_DELIM || type == TOKEN_RIGHT_PAREN)
				continue;
			fail(p, "range can only initialize variables");
			return false;
		}
		if (after.type == TOKEN_SPACE)
			backup3(p, variable, after);
		else
			backup2(p, variable);
		return true;
	}
}

static struct node *check_pipeline(struct parser *p, struct node *pipe, const char *context)
{
	if (!pipe->commands.count)
		return fail(p, "missing value for %s", context);
	for (size_t i = 1; i < pipe->commands.count; i++) {
		switch (pipe->commands.items[i]->items.items[0]->type) {
		case NODE_BOOL:
		case NODE_DOT:
		case NODE_NIL:
		case NODE_NUMBER:
		case NODE_STRING:
			return fail(p, "non executable command in pipeline stage %zu", i + 1);
		default:
			break;
		}
	}
	return pipe;
}

static struct node *parse_pipeline(struct parser *p, const char *context, enum token_type end)
{
	struct node *pipe = node_new(p, NODE_PIPE, peek_non_space(p).position), *command;

	if (!parse_declarations(p, pipe, context))
		return NULL;
	for (;;) {
		struct token token = next_non_space(p);

		if (token.type == end)
			return check_pipeline(p, pipe, context);
		switch (token.type) {
		case TOKEN_BOOL:
		case TOKEN_CHAR_CONSTANT:
		case TOKEN_COMPLEX:
		case TOKEN_DOT:
		case TOKEN_FIELD:
		case TOKEN_IDENTIFIER:
		case TOKEN_NUMBER:
		case TOKEN_NIL:
		case TOKEN_RAW_STRING:
		case TOKEN_STRING:
		case TOKEN_VARIABLE:
		case TOKEN_LEFT_PAREN:
			backup(p);
			command = parse_command(p);
			if (!command)
				return NULL;
			node_list_add(p->arena, &pipe->commands, command);
			break;
		default:
			return unexpected(p, token, context);
		}
	}
}

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
	fail_quoted(p, "template: multiple definition of template ", d->name, "");
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
	opened->list = node_new(p, NODE_LIST, peek_non_space(p).position);
}

static bool parse_definition_name(
	struct parser *p, struct token token, const char *context, struct slice *ret_name)
{
	if (token.type != TOKEN_STRING && token.type != TOKEN_RAW_STRING) {
		unexpected(p, token, context);
		return false;
	}
	return unquote_token(p, token, ret_name);
}

static enum parsed open_define(struct parser *p)
{
	struct opened *opened;
	struct definition *definition = definition_new((struct slice){0});

	p->definition = definition;
	opened = opened_push(p, OPENED_DEFINE);
	if (!parse_definition_name(p, next_non_space(p), "define clause", &definition->name) ||
		!expect(p, TOKEN_RIGHT_DELIM, "define clause"))
		return PARSED_FAILED;
	opened_begin_list(p, opened);
	definition->root = opened->list;
	return PARSED_OPENED;
}

static enum parsed open_block(struct parser *p)
{
	struct token token = next_non_space(p);
	struct opened *opened;
	struct node *node;
	struct slice name;

	if (!parse_definition_name(p, token, "block clause", &name))
		return PARSED_FAILED;
	node = node_new(p, NODE_TEMPLATE, token.position);
	node->text = name;
	node->pipe = parse_pipeline(p, "block clause", TOKEN_RIGHT_DELIM);
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
	struct node *pipe = parse_pipeline(p, context, TOKEN_RIGHT_DELIM);
	struct opened *opened;

	if (!pipe)
		return PARSED_FAILED;
	if (type == NODE_RANGE)
		p->definition->range_depth++;
	opened = opened_push(p, OPENED_CONTROL);
	opened->var_mark = mark;
	opened->is_else_if = is_else_if;
	opened->node = node_new(p, type, pipe->position);
	opened->node->pipe = pipe;
	opened_begin_list(p, opened);
	opened->node->list = opened->list;
	return PARSED_OPENED;
}

static enum parsed parse_template_call(struct parser *p, struct node **ret_node)
{
	struct token token = next_non_space(p);
	struct node *node = node_new(p, NODE_TEMPLATE, token.position);

	if (!parse_definition_name(p, token, "template clause", &node->text))
		return PARSED_FAILED;
	if (next_non_space(p).type != TOKEN_RIGHT_DELIM) {
		backup(p);
		node->pipe = parse_pipeline(p, "template clause", TOKEN_RIGHT_DELIM);
		if (!node->pipe)
			return PARSED_FAILED;
	}
	*ret_node = node;
	return PARSED_NODE;
}

static enum parsed parse_break(struct parser *p, struct token token, struct node **ret_node)
{
	bool is_break = token.type == TOKEN_BREAK;

	if (!expect(p, TOKEN_RIGHT_DELIM, is_break ? "{{break}}" : "{{continue}}"))
		return PARSED_FAILED;
	if (!p->definition->range_depth) {
		fail(p, "%s outside {{range}}", is_break ? "{{break}}" : "{{continue}}");
		return PARSED_FAILED;
	}
	*ret_node = node_new(p, is_break ? NODE_BREAK : NODE_CONTINUE, token.position);
	return PARSED_NODE;
}

static enum parsed parse_action(struct parser *p, struct node **ret_node)
{
	struct token token = next_non_space(p);
	struct node *node;

	switch (token.type) {
	case TOKEN_BLOCK:
		return open_block(p);
	case TOKEN_BREAK:
	case TOKEN_CONTINUE:
		return parse_break(p, token, ret_node);
	case TOKEN_ELSE:
		if (peek_non_space(p).type == TOKEN_IF)
			return PARSED_ELSE; /* {{else if}}: the "if" is left for who takes it */
		return expect(p, TOKEN_RIGHT_DELIM, "else") ? PARSED_ELSE : PARSED_FAILED;
	case TOKEN_END:
		return expect(p, TOKEN_RIGHT_DELIM, "end") ? PARSED_END : PARSED_FAILED;
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
	backup(p);
	node = node_new(p, NODE_ACTION, peek(p).position);
	node->pipe = parse_pipeline(p, "command", TOKEN_RIGHT_DELIM);
	*ret_node = node;
	return node->pipe ? PARSED_NODE : PARSED_FAILED;
}

static enum parsed parse_text_or_action(struct parser *p, struct node **ret_node)
{
	struct token token = next_non_space(p);
	enum parsed parsed;

	if (token.type == TOKEN_TEXT) {
		*ret_node = node_new(p, NODE_TEXT, token.position);
		(*ret_node)->text = token.text;
		return PARSED_NODE;
	}
	if (token.type != TOKEN_LEFT_DELIM) {
		unexpected(p, token, "input");
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
		fail(p, "expected end; found {{else}}");
		return false;
	}
	if (opened->node->type == NODE_RANGE)
		p->definition->range_depth--;
	opened->in_else = true;
	if (opened->node->type == NODE_IF && peek(p).type == TOKEN_IF) {
		struct token token = next(p);

		opened->list = opened->node->else_list = node_new(p, NODE_LIST, token.position);
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
		fail(p, "unexpected %s", what);
		return false;
	case OPENED_DEFINE:
	case OPENED_BLOCK:
		if (parsed == PARSED_END)
			return close_opened(p);
		fail(p, "unexpected %s in %s", what,
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

	if (opened_top(p)->kind != OPENED_TOP || peek(p).type != TOKEN_LEFT_DELIM)
		return false;
	delim = next(p);
	if (next_non_space(p).type != TOKEN_DEFINE) {
		backup2(p, delim);
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

		if (peek_non_space(p).type == TOKEN_EOF) {
			if (opened_top(p)->kind == OPENED_TOP)
				return tree_add(p, p->definition);
			fail(p, "unexpected EOF");
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
