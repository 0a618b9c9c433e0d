/* What the two halves of the parser share: expressions (expression.c) and statements (parse.c). Private to
 * the room. */
#pragma once
#include "template/lex.h"
#include "template/node.h"

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

/* Each writes the error and answers NULL, so that a caller can return it. */
void *parser_fail(struct parser *p, const char *format, ...) _printf_(2, 3);
void *parser_fail_quoted(struct parser *p, const char *before, struct slice text, const char *after);
void *parser_unexpected(struct parser *p, struct token token, const char *context);

struct token parser_next(struct parser *p);
struct token parser_next_non_space(struct parser *p);
struct token parser_peek(struct parser *p);
struct token parser_peek_non_space(struct parser *p);
void parser_backup(struct parser *p);
void parser_backup2(struct parser *p, struct token first);
bool parser_expect(struct parser *p, enum token_type type, const char *context);

struct node *parser_node_new(struct parser *p, enum node_type type, size_t position);
bool parser_unquote(struct parser *p, struct token token, struct slice *ret_text);
/* A pipeline up to the token `end`, which is taken; NULL: error. */
struct node *parser_pipeline(struct parser *p, const char *context, enum token_type end);
