/* The parsed form. Private to the room. Nodes live in the template's arena and never change after parsing. */
#pragma once
#include "base/map.h"
#include "template/template.h"

enum node_type {
	NODE_TEXT,
	NODE_ACTION,
	NODE_BOOL,
	NODE_BREAK,
	NODE_CHAIN, /* a term with fields behind it: (pipe).A.B */
	NODE_COMMAND,
	NODE_CONTINUE,
	NODE_DOT,
	NODE_FIELD,
	NODE_IDENTIFIER,
	NODE_IF,
	NODE_LIST,
	NODE_NIL,
	NODE_NUMBER,
	NODE_PIPE,
	NODE_RANGE,
	NODE_STRING,
	NODE_TEMPLATE,
	NODE_VARIABLE,
	NODE_WITH,
};

struct node_list {
	struct node **items;
	size_t count, cap;
};

/* A literal may be several things at once: 1.0 is a float that can stand where an integer is wanted. */
struct number {
	bool is_int, is_uint, is_float, is_complex;
	int64_t integer;
	uint64_t natural;
	double real;
	struct template_complex complex;
};

struct node {
	enum node_type type;
	size_t position;   /* byte offset in the template's text */
	struct slice text; /* text, numbers and strings as written, name of a function or template */
	union {
		struct slice value; /* strings: unquoted */
		struct number *number;
		bool boolean;
		struct {
			const struct template_func *func; /* identifiers */
			bool is_builtin;
		};
		struct node_list items; /* lists: nodes; commands: operands */
		struct {
			struct node_list commands;  /* pipes */
			struct node_list variables; /* declared or assigned */
			bool is_assign;
		};
		struct {
			struct node *operand; /* chains */
			struct slice *idents; /* fields, variables (the first is "$x"), chains */
			size_t ident_count;
		};
		struct {
			struct node *pipe, *list,
				*else_list; /* controls; pipe: actions and templates (NULL: none) */
		};
	};
};

struct tree {
	struct slice name;
	struct node *root;
};

struct template
{
	struct arena arena;
	struct slice name, text;
	const struct template_func *funcs;
	size_t func_count;
	struct map trees; /* by name */
	struct tree *main;
};

void node_list_add(struct arena *arena, struct node_list *list, struct node *node);
/* The node as the parser understood it, with normalised spaces, for error messages. */
void node_add_text(struct buf *out, const struct node *node);
/* NULL: not defined. */
const struct template_func *func_find(const struct template *template, struct slice name, bool *ret_builtin);
/* A number, character constant or complex literal; -EINVAL with the message. */
int number_parse(struct slice text, bool is_char, bool is_complex, struct number *ret, struct buf *reterr);

/* The builtin functions (builtin.c). */
extern const struct template_func builtin_funcs[];
extern const size_t builtin_func_count;
