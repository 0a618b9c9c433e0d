/* Tokens with three places of look-ahead, error texts, and expressions by recursion (bounded by
 * TEMPLATE_PARENS_MAX). */
#include "template/format.h"
#include "template/parse.h"
#include "template/unicode.h"

#include <stdarg.h>
#include <stdio.h>

/* ---- errors and tokens ---- */

void *parser_fail(struct parser *p, const char *format, ...)
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

void *parser_fail_quoted(struct parser *p, const char *before, struct slice text, const char *after)
{
	_cleanup_buf_ struct buf quoted = BUF_INIT(0);

	quote_text(&quoted, text, false);
	parser_fail(p, "%s", before);
	buf_add_slice(p->error, buf_slice(&quoted));
	buf_add_str(p->error, after);
	return NULL;
}

struct token parser_next(struct parser *p)
{
	struct definition *d = p->definition;

	if (d->peeked > 0)
		d->peeked--;
	else
		d->tokens[0] = lexer_next(&p->lexer);
	return d->tokens[d->peeked];
}

void parser_backup(struct parser *p)
{
	p->definition->peeked++;
}

void parser_backup2(struct parser *p, struct token first)
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

struct token parser_peek(struct parser *p)
{
	struct definition *d = p->definition;

	if (d->peeked == 0) {
		d->peeked = 1;
		d->tokens[0] = lexer_next(&p->lexer);
	}
	return d->tokens[d->peeked - 1];
}

struct token parser_next_non_space(struct parser *p)
{
	struct token token;

	do
		token = parser_next(p);
	while (token.type == TOKEN_SPACE);
	return token;
}

struct token parser_peek_non_space(struct parser *p)
{
	struct token token = parser_next_non_space(p);

	parser_backup(p);
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

void *parser_unexpected(struct parser *p, struct token token, const char *context)
{
	unsigned line = p->definition->action_line;

	if (token.type != TOKEN_ERROR) {
		parser_fail(p, "unexpected ");
		add_token_text(p->error, token);
		buf_printf(p->error, " in %s", context);
		return NULL;
	}
	parser_fail(p, "%s", "");
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

bool parser_expect(struct parser *p, enum token_type type, const char *context)
{
	struct token token = parser_next_non_space(p);

	if (token.type == type)
		return true;
	parser_unexpected(p, token, context);
	return false;
}

struct node *parser_node_new(struct parser *p, enum node_type type, size_t position)
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
	struct node *node = parser_node_new(p, NODE_VARIABLE, token.position);

	add_ident(p, node, token.text);
	return node;
}

/* ---- expressions ---- */

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
		return parser_fail_quoted(p, "function ", token.text, " not defined");
	node = parser_node_new(p, NODE_IDENTIFIER, token.position);
	node->text = token.text;
	node->func = func;
	node->is_builtin = is_builtin;
	return node;
}

static struct node *parse_number(struct parser *p, struct token token)
{
	_cleanup_buf_ struct buf error = BUF_INIT(0);
	struct node *node = parser_node_new(p, NODE_NUMBER, token.position);

	node->text = token.text;
	node->number = arena_alloc(p->arena, sizeof(*node->number));
	if (number_parse(token.text, token.type == TOKEN_CHAR_CONSTANT, token.type == TOKEN_COMPLEX,
		    node->number, &error) < 0) {
		parser_fail(p, "%s", "");
		buf_add_slice(p->error, buf_slice(&error));
		return NULL;
	}
	return node;
}

bool parser_unquote(struct parser *p, struct token token, struct slice *ret_text)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0);

	if (unquote_text(token.text, &text) < 0) {
		parser_fail(p, "invalid syntax");
		return false;
	}
	*ret_text = slice_make(arena_strndup(p->arena, buf_text(&text), text.len), text.len);
	return true;
}

static struct node *parse_string(struct parser *p, struct token token)
{
	struct node *node = parser_node_new(p, NODE_STRING, token.position);

	node->text = token.text;
	return parser_unquote(p, token, &node->value) ? node : NULL;
}

static struct node *parse_parens(struct parser *p)
{
	struct node *node;

	if (p->parens >= TEMPLATE_PARENS_MAX)
		return parser_fail(p, "parentheses nested more than %d deep", TEMPLATE_PARENS_MAX);
	p->parens++;
	node = parser_pipeline(p, "parenthesized pipeline", TOKEN_RIGHT_PAREN);
	p->parens--;
	return node;
}

/* Sets *ret_node to NULL when what follows is no term. False: error. */
static bool parse_term(struct parser *p, struct node **ret_node)
{
	struct token token = parser_next_non_space(p);
	struct node *node;

	switch (token.type) {
	case TOKEN_IDENTIFIER:
		node = parse_identifier(p, token);
		break;
	case TOKEN_DOT:
		node = parser_node_new(p, NODE_DOT, token.position);
		break;
	case TOKEN_NIL:
		node = parser_node_new(p, NODE_NIL, token.position);
		break;
	case TOKEN_VARIABLE:
		if (var_known(p, token.text))
			node = variable_new(p, token);
		else
			node = parser_fail_quoted(p, "undefined variable ", token.text, "");
		break;
	case TOKEN_FIELD:
		node = parser_node_new(p, NODE_FIELD, token.position);
		add_ident(p, node, slice_make(token.text.data + 1, token.text.len - 1));
		break;
	case TOKEN_BOOL:
		node = parser_node_new(p, NODE_BOOL, token.position);
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
		parser_backup(p);
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
	if (!node || parser_peek(p).type != TOKEN_FIELD)
		return true;
	switch (node->type) {
	case NODE_BOOL:
	case NODE_STRING:
	case NODE_NUMBER:
	case NODE_NIL:
	case NODE_DOT: {
		_cleanup_buf_ struct buf text = BUF_INIT(0);

		while (parser_peek(p).type == TOKEN_FIELD)
			parser_next(p);
		node_add_text(&text, node);
		parser_fail_quoted(p, "unexpected . after term ", buf_slice(&text), "");
		return false;
	}
	case NODE_FIELD:
	case NODE_VARIABLE:
		chain = node;
		chain->position = parser_peek(p).position;
		break;
	default:
		chain = parser_node_new(p, NODE_CHAIN, parser_peek(p).position);
		chain->operand = node;
		break;
	}
	while (parser_peek(p).type == TOKEN_FIELD) {
		struct token token = parser_next(p);

		add_ident(p, chain, slice_make(token.text.data + 1, token.text.len - 1));
	}
	*ret_node = chain;
	return true;
}

static struct node *parse_command(struct parser *p)
{
	struct node *command = parser_node_new(p, NODE_COMMAND, parser_peek_non_space(p).position);

	for (;;) {
		struct node *operand;
		struct token token;

		parser_peek_non_space(p);
		if (!parse_operand(p, &operand))
			return NULL;
		if (operand)
			node_list_add(p->arena, &command->items, operand);
		token = parser_next(p);
		if (token.type == TOKEN_SPACE)
			continue;
		if (token.type == TOKEN_RIGHT_DELIM || token.type == TOKEN_RIGHT_PAREN)
			parser_backup(p);
		else if (token.type != TOKEN_PIPE)
			return parser_unexpected(p, token, "operand");
		break;
	}
	if (!command->items.count)
		return parser_fail(p, "empty command");
	return command;
}

/* "$x :=", "$x =", "$i, $e :=" at the start of a pipeline. */
static bool parse_declarations(struct parser *p, struct node *pipe, const char *context)
{
	for (;;) {
		struct token variable = parser_peek_non_space(p), after, following;

		if (variable.type != TOKEN_VARIABLE)
			return true;
		parser_next(p);
		after = parser_peek(p);
		following = parser_peek_non_space(p);
		if (following.type == TOKEN_ASSIGN || following.type == TOKEN_DECLARE) {
			pipe->is_assign = following.type == TOKEN_ASSIGN;
			parser_next_non_space(p);
			node_list_add(p->arena, &pipe->variables, variable_new(p, variable));
			var_push(p, variable.text);
			return true;
		}
		if (following.type == TOKEN_CHAR && slice_is(following.text, ",")) {
			enum token_type type;

			parser_next_non_space(p);
			node_list_add(p->arena, &pipe->variables, variable_new(p, variable));
			var_push(p, variable.text);
			if (strcmp(context, "range") != 0 || pipe->variables.count >= 2) {
				parser_fail(p, "too many declarations in %s", context);
				return false;
			}
			type = parser_peek_non_space(p).type;
			if (type == TOKEN_VARIABLE || type == TOKEN_RIGHT_DELIM || type == TOKEN_RIGHT_PAREN)
				continue;
			parser_fail(p, "range can only initialize variables");
			return false;
		}
		if (after.type == TOKEN_SPACE)
			backup3(p, variable, after);
		else
			parser_backup2(p, variable);
		return true;
	}
}

static struct node *check_pipeline(struct parser *p, struct node *pipe, const char *context)
{
	if (!pipe->commands.count)
		return parser_fail(p, "missing value for %s", context);
	for (size_t i = 1; i < pipe->commands.count; i++) {
		switch (pipe->commands.items[i]->items.items[0]->type) {
		case NODE_BOOL:
		case NODE_DOT:
		case NODE_NIL:
		case NODE_NUMBER:
		case NODE_STRING:
			return parser_fail(p, "non executable command in pipeline stage %zu", i + 1);
		default:
			break;
		}
	}
	return pipe;
}

struct node *parser_pipeline(struct parser *p, const char *context, enum token_type end)
{
	struct node *pipe = parser_node_new(p, NODE_PIPE, parser_peek_non_space(p).position), *command;

	if (!parse_declarations(p, pipe, context))
		return NULL;
	for (;;) {
		struct token token = parser_next_non_space(p);

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
			parser_backup(p);
			command = parse_command(p);
			if (!command)
				return NULL;
			node_list_add(p->arena, &pipe->commands, command);
			break;
		default:
			return parser_unexpected(p, token, context);
		}
	}
}
