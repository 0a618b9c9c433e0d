/* What evaluating expressions (evaluate.c) and running statements (exec.c) share. Private to the room. */
#pragma once
#include "template/node.h"

enum frame_kind { FRAME_BODY, FRAME_RANGE, FRAME_TEMPLATE };

struct frame {
	enum frame_kind kind;
	const struct node *list;
	size_t index; /* next node of the list */
	struct template_value dot;
	size_t var_mark;
	/* ranges */
	const struct node *range;
	struct template_value over;
	size_t round, round_mark;
	/* templates */
	const struct tree *caller;
	size_t caller_base;
};

struct variable {
	struct slice name;
	struct template_value value;
};

struct state {
	const struct template *template;
	const struct tree *tree;
	const struct template_run *run;
	struct arena *arena;
	struct buf *out, *error;
	const struct node *node;
	struct variable *vars;
	size_t var_count, var_cap, var_base; /* the running template sees those from var_base on */
	struct frame *frames;
	size_t frame_count, frame_cap, depth;
	uint64_t steps, max_memory;
};

/* Writes "template: NAME:LINE:COLUMN: executing ... at <...>: "; the caller adds what is wrong. */
void exec_error_place(struct state *s);
bool exec_fail(struct state *s, const char *format, ...) _printf_(2, 3); /* answers false */
void exec_var_push(struct state *s, struct slice name, struct template_value value);
bool exec_var_set(struct state *s, struct slice name, struct template_value value);
/* False after an error. pipe NULL: the zero value. */
bool exec_pipeline(
	struct state *s, struct template_value dot, const struct node *pipe, struct template_value *ret);
