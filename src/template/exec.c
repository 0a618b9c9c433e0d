/* Statements run on a stack of frames of our own (a body of {{if}}/{{with}}, the rounds of a {{range}}, a
 * called template), so that 100000 nested templates need no C stack. */
#include "template/exec.h"
#include "template/format.h"

#include <errno.h>
#include <stdlib.h>

/* ---- statements ---- */

static struct frame *frame_push(struct state *s, enum frame_kind kind, const struct node *list,
	struct template_value dot, size_t var_mark)
{
	struct frame *frame;

	if (s->frame_count == s->frame_cap) {
		s->frame_cap = s->frame_cap ? s->frame_cap * 2 : 32;
		s->frames = mem_reallocarray(s->frames, s->frame_cap, sizeof(*s->frames));
	}
	frame = &s->frames[s->frame_count++];
	*frame = (struct frame){.kind = kind, .list = list, .dot = dot, .var_mark = var_mark};
	return frame;
}

static bool print_result(struct state *s, const struct node *node, struct template_value value)
{
	s->node = node;
	if (!value.type || !value.type->add_text)
		template_indirect(&value);
	if (!value.type) {
		buf_add_str(s->out, "<no value>");
		return true;
	}
	if (value.type->kind == TEMPLATE_FUNC) {
		exec_error_place(s);
		buf_add_str(s->error, "can't print ");
		node_add_text(s->error, node);
		buf_add_str(s->error, " of type ");
		template_type_add_name(s->error, &value);
		return false;
	}
	format_print(s->arena, s->out, &value, 1);
	return true;
}

static bool walk_if_or_with(struct state *s, struct template_value dot, const struct node *node)
{
	size_t mark = s->var_count;
	struct template_value value;

	if (!exec_pipeline(s, dot, node->pipe, &value))
		return false;
	if (template_truth(value))
		frame_push(s, FRAME_BODY, node->list, node->type == NODE_WITH ? value : dot, mark);
	else if (node->else_list)
		frame_push(s, FRAME_BODY, node->else_list, dot, mark);
	else
		s->var_count = mark;
	return true;
}

/* Sets dot and the variables of the round that begins. */
static bool range_begin_round(struct state *s, struct frame *frame)
{
	const struct node *pipe = frame->range->pipe;
	struct template_value index, element;
	size_t round = frame->round++;

	if (frame->over.type->kind == TEMPLATE_MAP) {
		index = frame->over.map->entries[round].key;
		element = frame->over.map->entries[round].value;
	} else {
		index = template_int((int64_t)round);
		element = frame->over.list.items[round];
	}
	frame->index = 0;
	frame->dot = element;
	if (pipe->is_assign) {
		bool two = pipe->variables.count > 1;

		return exec_var_set(s, pipe->variables.items[0]->idents[0], two ? index : element) &&
		       (!two || exec_var_set(s, pipe->variables.items[1]->idents[0], element));
	}
	if (pipe->variables.count > 0)
		s->vars[frame->round_mark - 1].value = element;
	if (pipe->variables.count > 1)
		s->vars[frame->round_mark - 2].value = index;
	return true;
}

static size_t range_rounds(const struct template_value *over)
{
	if (over->type->kind == TEMPLATE_MAP)
		return over->map ? over->map->count : 0;
	return over->list.len;
}

static bool walk_range(struct state *s, struct template_value dot, const struct node *node)
{
	size_t mark = s->var_count;
	struct template_value over;
	struct frame *frame;

	s->node = node;
	if (!exec_pipeline(s, dot, node->pipe, &over))
		return false;
	template_indirect(&over);
	if (over.type && over.type->kind != TEMPLATE_LIST && over.type->kind != TEMPLATE_MAP) {
		exec_error_place(s);
		buf_add_str(s->error, "range can't iterate over ");
		format_print(s->arena, s->error, &over, 1);
		return false;
	}
	if (over.type && over.type->kind == TEMPLATE_MAP)
		template_map_sort(s->arena, over.map);
	if (over.type && range_rounds(&over)) {
		frame = frame_push(s, FRAME_RANGE, node->list, dot, mark);
		frame->range = node;
		frame->over = over;
		frame->round_mark = s->var_count;
		return range_begin_round(s, frame);
	}
	if (node->else_list)
		frame_push(s, FRAME_BODY, node->else_list, dot, mark);
	else
		s->var_count = mark;
	return true;
}

static bool walk_template(struct state *s, struct template_value dot, const struct node *node)
{
	const struct tree *tree = map_get(&s->template->trees, node->text);
	struct template_value value;
	struct frame *frame;

	s->node = node;
	if (!tree) {
		exec_error_place(s);
		buf_add_str(s->error, "template ");
		quote_text(s->error, node->text, false);
		buf_add_str(s->error, " not defined");
		return false;
	}
	if (s->depth == TEMPLATE_DEPTH_MAX)
		return exec_fail(s, "exceeded maximum template depth (%d)", TEMPLATE_DEPTH_MAX);
	if (!exec_pipeline(s, dot, node->pipe, &value))
		return false;
	frame = frame_push(s, FRAME_TEMPLATE, tree->root, value, s->var_count);
	frame->caller = s->tree;
	frame->caller_base = s->var_base;
	s->tree = tree;
	s->depth++;
	s->var_base = s->var_count;
	exec_var_push(s, SLICE_LITERAL("$"), value);
	return true;
}

/* Leaves the innermost frame for good. */
static void frame_leave(struct state *s)
{
	struct frame *frame = &s->frames[s->frame_count - 1];

	s->var_count = frame->var_mark;
	if (frame->kind == FRAME_TEMPLATE) {
		s->tree = frame->caller;
		s->var_base = frame->caller_base;
		s->depth--;
	}
	s->frame_count--;
}

static void walk_break_or_continue(struct state *s, bool is_break)
{
	while (s->frames[s->frame_count - 1].kind != FRAME_RANGE)
		frame_leave(s);
	if (is_break)
		frame_leave(s);
	else
		s->frames[s->frame_count - 1].index = s->frames[s->frame_count - 1].list->items.count;
}

static bool walk_node(struct state *s, struct template_value dot, const struct node *node)
{
	struct template_value value;

	s->node = node;
	switch (node->type) {
	case NODE_TEXT:
		buf_add_slice(s->out, node->text);
		return true;
	case NODE_ACTION:
		if (!exec_pipeline(s, dot, node->pipe, &value))
			return false;
		return node->pipe->variables.count > 0 || print_result(s, node, value);
	case NODE_IF:
	case NODE_WITH:
		return walk_if_or_with(s, dot, node);
	case NODE_RANGE:
		return walk_range(s, dot, node);
	case NODE_TEMPLATE:
		return walk_template(s, dot, node);
	case NODE_BREAK:
	case NODE_CONTINUE:
		walk_break_or_continue(s, node->type == NODE_BREAK);
		return true;
	default:
		return exec_fail(s, "unknown node");
	}
}

static bool check_limits(struct state *s)
{
	if (s->out->failed)
		return exec_fail(s, "the output is larger than %zu bytes", s->out->max);
	if (s->arena->total_bytes > s->max_memory)
		return exec_fail(
			s, "the template uses more than %llu bytes", (unsigned long long)s->max_memory);
	if (s->run->max_steps && ++s->steps > s->run->max_steps)
		return exec_fail(
			s, "the template takes more than %llu steps", (unsigned long long)s->run->max_steps);
	return true;
}

static bool walk_all(struct state *s)
{
	while (s->frame_count > 0) {
		struct frame *frame = &s->frames[s->frame_count - 1];

		if (!check_limits(s))
			return false;
		if (frame->index < frame->list->items.count) {
			const struct node *node = frame->list->items.items[frame->index++];

			if (!walk_node(s, frame->dot, node))
				return false;
			continue;
		}
		if (frame->kind != FRAME_RANGE) {
			frame_leave(s);
			continue;
		}
		s->var_count = frame->round_mark;
		if (frame->round >= range_rounds(&frame->over))
			frame_leave(s);
		else if (!range_begin_round(s, frame))
			return false;
	}
	return check_limits(s);
}

int template_execute(const struct template *template, const struct template_run *run,
	struct template_value data, struct buf *out, struct buf *reterr)
{
	struct state s = {
		.template = template,
		.tree = template->main,
		.run = run,
		.arena = run->arena,
		.out = out,
		.error = reterr,
		.max_memory = run->max_memory ? run->max_memory : TEMPLATE_MEMORY_DEFAULT,
	};
	bool done;

	exec_var_push(&s, SLICE_LITERAL("$"), data);
	frame_push(&s, FRAME_BODY, template->main->root, data, 0);
	done = walk_all(&s);
	free(s.vars);
	free(s.frames);
	return done ? 0 : -EINVAL;
}
