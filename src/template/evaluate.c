/* Expressions: recursion, bounded by the parser's limit on parentheses. `node` is what an error is blamed on,
 * set at the same points as in Go. Functions answer false after they have written the error. */
#include "template/exec.h"
#include "template/format.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ARGUMENTS_ON_STACK 8

static bool eval_arg(struct state *s, struct template_value dot, const struct template_type *type,
	const struct node *node, struct template_value *ret);

/* ---- errors ---- */

void exec_error_place(struct state *s)
{
	_cleanup_buf_ struct buf context = BUF_INIT(0);
	const char *text = s->template->text.data;
	unsigned line = 1;
	size_t line_start = 0;

	buf_add_str(s->error, "template: ");
	buf_add_slice(s->error, s->template->name);
	if (!s->node) {
		buf_add_str(s->error, ": ");
		return;
	}
	for (size_t i = 0; i < s->node->position; i++) {
		if (text[i] != '\n')
			continue;
		line++;
		line_start = i + 1;
	}
	buf_printf(s->error, ":%u:%zu: executing ", line, s->node->position - line_start);
	quote_text(s->error, s->tree->name, false);
	node_add_text(&context, s->node);
	buf_add_str(s->error, " at <");
	buf_add_slice(s->error, buf_slice(&context));
	buf_add_str(s->error, ">: ");
}

bool exec_fail(struct state *s, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	exec_error_place(s);
	buf_add_str(s->error, text);
	return false;
}

/* `before` NODE `after` */
static bool fail_node(struct state *s, const char *before, const struct node *node, const char *after)
{
	exec_error_place(s);
	buf_add_str(s->error, before);
	node_add_text(s->error, node);
	buf_add_str(s->error, after);
	return false;
}

static bool fail_text(struct state *s, const char *before, struct slice text, const char *after)
{
	exec_error_place(s);
	buf_add_str(s->error, before);
	buf_add_slice(s->error, text);
	buf_add_str(s->error, after);
	return false;
}

/* ---- variables ---- */

void exec_var_push(struct state *s, struct slice name, struct template_value value)
{
	if (s->var_count == s->var_cap) {
		s->var_cap = s->var_cap ? s->var_cap * 2 : 32;
		s->vars = mem_reallocarray(s->vars, s->var_cap, sizeof(*s->vars));
	}
	s->vars[s->var_count++] = (struct variable){name, value};
}

static struct variable *var_find(struct state *s, struct slice name)
{
	for (size_t i = s->var_count; i > s->var_base; i--)
		if (slice_equal(s->vars[i - 1].name, name))
			return &s->vars[i - 1];
	fail_text(s, "undefined variable: ", name, "");
	return NULL;
}

bool exec_var_set(struct state *s, struct slice name, struct template_value value)
{
	struct variable *variable = var_find(s, name);

	if (!variable)
		return false;
	variable->value = value;
	return true;
}

/* ---- fields ---- */

static const struct template_func *method_find(const struct template_type *type, struct slice name)
{
	for (size_t i = 0; i < type->method_count; i++)
		if (slice_is(name, type->methods[i].name))
			return &type->methods[i];
	return NULL;
}

static const struct template_field *field_find(const struct template_type *type, struct slice name)
{
	for (size_t i = 0; i < type->field_count; i++)
		if (slice_is(name, type->fields[i].name))
			return &type->fields[i];
	return NULL;
}

struct arguments {
	struct node **nodes; /* without the function's own */
	size_t count;
	const struct template_value *final; /* from the pipeline; NULL: none */
};
static const struct arguments no_arguments;

static bool has_arguments(const struct arguments *args)
{
	return args->count > 0 || args->final;
}

static bool eval_call(struct state *s, struct template_value dot, const struct template_func *func,
	bool is_builtin, struct template_value receiver, const struct node *node,
	const struct arguments *args, struct template_value *ret);

static bool fail_evaluate(
	struct state *s, const char *before, const char *between, struct slice name, const char *type)
{
	exec_error_place(s);
	buf_add_str(s->error, before);
	if (between) {
		buf_add_slice(s->error, name);
		buf_add_str(s->error, between);
		buf_add_str(s->error, type);
	} else {
		buf_add_str(s->error, type);
		buf_add_char(s->error, '.');
		buf_add_slice(s->error, name);
	}
	return false;
}

static bool eval_field(struct state *s, struct template_value dot, struct slice name, const struct node *node,
	const struct arguments *args, struct template_value receiver, struct template_value *ret)
{
	const struct template_type *type = template_static_type(&receiver);
	const struct template_func *method;
	const struct template_field *field;
	bool is_nil;

	if (!receiver.type && !receiver.is_interface) {
		*ret = template_nil();
		return true;
	}
	is_nil = template_indirect(&receiver);
	if (is_nil && receiver.is_interface)
		return fail_evaluate(s, "nil pointer evaluating ", NULL, name, type->name);
	method = method_find(receiver.type, name);
	if (method)
		return eval_call(s, dot, method, false, receiver, node, args, ret);
	switch (receiver.type->kind) {
	case TEMPLATE_STRUCT:
		field = field_find(receiver.type, name);
		if (!field)
			break;
		if (has_arguments(args))
			return fail_text(s, "", name, " has arguments but cannot be invoked as function");
		*ret = field->get(receiver.object);
		return true;
	case TEMPLATE_MAP: {
		struct template_value key = template_text(name);
		const struct template_value *found;

		if (receiver.type->key != &template_type_string)
			break;
		if (has_arguments(args))
			return fail_text(s, "", name, " is not a method but has arguments");
		template_map_sort(s->arena, receiver.map);
		found = template_map_get(receiver.map, &key);
		*ret = found ? *found : template_nil();
		return true;
	}
	case TEMPLATE_POINTER:
		if (field_find(receiver.type->elem, name) && is_nil)
			return fail_evaluate(s, "nil pointer evaluating ", NULL, name, type->name);
		break;
	default:
		break;
	}
	return fail_evaluate(s, "can't evaluate field ", " in type ", name, type->name);
}

static bool eval_field_chain(struct state *s, struct template_value dot, struct template_value receiver,
	const struct node *node, size_t first, const struct arguments *args, struct template_value *ret)
{
	for (size_t i = first; i < node->ident_count; i++) {
		const struct arguments *given = i + 1 == node->ident_count ? args : &no_arguments;

		if (!eval_field(s, dot, node->idents[i], node, given, receiver, &receiver))
			return false;
	}
	*ret = receiver;
	return true;
}

static bool not_a_function(struct state *s, const struct node *first, const struct arguments *args)
{
	if (!has_arguments(args))
		return true;
	exec_error_place(s);
	buf_add_str(s->error, "can't give argument to non-function ");
	node_add_text(s->error, first);
	return false;
}

static bool eval_variable(struct state *s, struct template_value dot, const struct node *node,
	const struct arguments *args, struct template_value *ret)
{
	struct variable *variable;

	s->node = node;
	variable = var_find(s, node->idents[0]);
	if (!variable)
		return false;
	if (node->ident_count == 1) {
		*ret = variable->value;
		return not_a_function(s, node, args);
	}
	return eval_field_chain(s, dot, variable->value, node, 1, args, ret);
}

static bool eval_chain(struct state *s, struct template_value dot, const struct node *node,
	const struct arguments *args, struct template_value *ret)
{
	struct template_value receiver;

	s->node = node;
	if (!eval_arg(s, dot, NULL, node->operand, &receiver))
		return false;
	return eval_field_chain(s, dot, receiver, node, 0, args, ret);
}

/* ---- constants ---- */

/* A number where nothing says which kind is wanted. */
static bool eval_constant(struct state *s, const struct node *node, struct template_value *ret)
{
	const struct number *number = node->number;
	struct slice text = node->text;
	bool hex_int = text.len > 2 && text.data[0] == '0' && (text.data[1] | 0x20) == 'x' &&
		       !memchr(text.data, 'p', text.len) && !memchr(text.data, 'P', text.len);
	bool looks_float = false;

	s->node = node;
	for (size_t i = 0; i < text.len; i++)
		looks_float |= text.data[i] && strchr(".eEpP", text.data[i]);
	if (number->is_complex) {
		*ret = (struct template_value){.type = &template_type_complex128, .complex = number->complex};
		return true;
	}
	if (number->is_float && !hex_int && text.data[0] != '\'' && looks_float) {
		*ret = template_float(number->real);
		return true;
	}
	if (number->is_int) {
		*ret = template_int(number->integer);
		return true;
	}
	if (number->is_uint)
		return fail_text(s, "", text, " overflows int");
	*ret = template_nil();
	return true;
}

static bool fits_int(int64_t value, unsigned bits)
{
	return bits == 64 || (value >= -(INT64_C(1) << (bits - 1)) && value < INT64_C(1) << (bits - 1));
}

/* A literal as an argument of a declared type. */
static bool eval_literal(struct state *s, const struct template_type *type, const struct node *node,
	struct template_value *ret)
{
	const struct number *number = node->type == NODE_NUMBER ? node->number : NULL;

	s->node = node;
	*ret = (struct template_value){.type = type};
	switch (type->kind) {
	case TEMPLATE_BOOL:
		ret->boolean = node->type == NODE_BOOL && node->boolean;
		return node->type == NODE_BOOL || fail_node(s, "expected bool; found ", node, "");
	case TEMPLATE_STRING:
		if (node->type != NODE_STRING)
			return fail_node(s, "expected string; found ", node, "");
		ret->text = node->value;
		return true;
	case TEMPLATE_INT:
		if (!number || !number->is_int || !fits_int(number->integer, type->bits))
			return fail_node(s, "expected integer; found ", node, "");
		ret->integer = number->integer;
		return true;
	case TEMPLATE_UINT:
		if (!number || !number->is_uint || (type->bits < 64 && number->natural >> type->bits))
			return fail_node(s, "expected unsigned integer; found ", node, "");
		ret->natural = number->natural;
		return true;
	case TEMPLATE_FLOAT:
		if (!number || !number->is_float)
			return fail_node(s, "expected float; found ", node, "");
		ret->number = number->real;
		return true;
	case TEMPLATE_COMPLEX:
		if (!number || !number->is_complex)
			return fail_node(s, "expected complex; found ", node, "");
		ret->complex = number->complex;
		return true;
	case TEMPLATE_INTERFACE:
		break;
	default:
		if (type == &template_type_reflect)
			break;
		exec_error_place(s);
		buf_add_str(s->error, "can't handle ");
		node_add_text(s->error, node);
		buf_printf(s->error, " for arg of type %s", type->name);
		return false;
	}
	if (node->type == NODE_NUMBER)
		return eval_constant(s, node, ret);
	*ret = node->type == NODE_BOOL ? template_bool(node->boolean) : template_text(node->value);
	return true;
}

/* ---- arguments and calls ---- */

static bool validate_type(struct state *s, struct template_value value, const struct template_type *type,
	struct template_value *ret)
{
	if (!value.type && !value.is_interface) {
		if (type && !template_type_nilable(type))
			return exec_fail(s, "invalid value; expected %s", type->name);
		*ret = type ? template_zero(type) : value;
		return true;
	}
	*ret = value;
	if (!type || type == &template_type_reflect)
		return true;
	if (type->kind == TEMPLATE_INTERFACE)
		return true;
	if (value.is_interface && value.type)
		value.is_interface = false;
	if (!value.is_interface && template_type_assignable(value.type, type)) {
		*ret = value;
		return true;
	}
	if (!value.is_interface && value.type->kind == TEMPLATE_POINTER &&
		template_type_assignable(value.type->elem, type)) {
		if (!value.object)
			return exec_fail(s, "dereference of nil pointer of type %s", type->name);
		*ret = template_object(value.type->elem, value.object);
		return true;
	}
	exec_error_place(s);
	buf_printf(s->error, "wrong type for value; expected %s; got ", type->name);
	template_type_add_name(s->error, &value);
	return false;
}

static bool eval_function(struct state *s, struct template_value dot, const struct node *node,
	const struct node *blame, const struct arguments *args, struct template_value *ret)
{
	s->node = node;
	return eval_call(s, dot, node->func, node->is_builtin, template_nil(), blame, args, ret);
}

/* type NULL: whatever it is. */
static bool eval_arg(struct state *s, struct template_value dot, const struct template_type *type,
	const struct node *node, struct template_value *ret)
{
	struct template_value value;

	s->node = node;
	switch (node->type) {
	case NODE_DOT:
		value = dot;
		break;
	case NODE_NIL:
		if (!type || !template_type_nilable(type))
			return exec_fail(s, "cannot assign nil to %s", type ? type->name : "nil");
		*ret = template_zero(type);
		return true;
	case NODE_FIELD:
		if (!eval_field_chain(s, dot, dot, node, 0, &no_arguments, &value))
			return false;
		break;
	case NODE_VARIABLE:
		if (!eval_variable(s, dot, node, &no_arguments, &value))
			return false;
		break;
	case NODE_PIPE:
		if (!exec_pipeline(s, dot, node, &value))
			return false;
		break;
	case NODE_IDENTIFIER:
		if (!eval_function(s, dot, node, node, &no_arguments, &value))
			return false;
		break;
	case NODE_CHAIN:
		if (!eval_chain(s, dot, node, &no_arguments, &value))
			return false;
		break;
	default:
		return eval_literal(s, type ? type : &template_type_any, node, ret);
	}
	return validate_type(s, value, type, ret);
}

/* and, or: arguments are evaluated only until the result is known. */
static bool eval_and_or(struct state *s, struct template_value dot, bool is_or, const struct arguments *args,
	struct template_value *ret)
{
	for (size_t i = 0; i < args->count; i++) {
		if (!eval_arg(s, dot, &template_type_reflect, args->nodes[i], ret))
			return false;
		if (template_truth(*ret) == is_or)
			return true;
	}
	if (args->final)
		return validate_type(s, *args->final, &template_type_reflect, ret);
	return true;
}

static bool check_argument_count(
	struct state *s, const struct template_func *func, const struct arguments *args)
{
	size_t given = args->count + (args->final ? 1 : 0);

	if (func->variadic && given + 1 < func->in_count)
		return exec_fail(s, "wrong number of args for %s: want at least %u got %zu", func->name,
			func->in_count - 1, args->count);
	if (!func->variadic && given != func->in_count)
		return exec_fail(
			s, "wrong number of args for %s: want %u got %zu", func->name, func->in_count, given);
	return true;
}

static const struct template_type *parameter_type(const struct template_func *func, size_t index)
{
	return func->in[MIN(index, (size_t)func->in_count - 1)];
}

static bool eval_call(struct state *s, struct template_value dot, const struct template_func *func,
	bool is_builtin, struct template_value receiver, const struct node *node,
	const struct arguments *args, struct template_value *ret)
{
	struct template_value on_stack[ARGUMENTS_ON_STACK], *values = on_stack;
	size_t count = args->count + (args->final ? 1 : 0);
	_cleanup_buf_ struct buf error = BUF_INIT(1 << 20);
	struct template_call call = {
		.arena = s->arena, .user = s->run->user, .receiver = receiver, .error = &error};

	if (!check_argument_count(s, func, args))
		return false;
	if (is_builtin && !func->fn)
		return eval_and_or(s, dot, func->name[0] == 'o', args, ret);
	if (count > ARGUMENTS_ON_STACK)
		values = arena_alloc(s->arena, count * sizeof(*values));
	for (size_t i = 0; i < args->count; i++)
		if (!eval_arg(s, dot, parameter_type(func, i), args->nodes[i], &values[i]))
			return false;
	if (args->final &&
		!validate_type(s, *args->final, parameter_type(func, count - 1), &values[count - 1]))
		return false;
	/* Functions see what is in an interface; only reflect.Value parameters tell the difference. */
	for (size_t i = 0; i < count; i++)
		if (parameter_type(func, i) != &template_type_reflect)
			values[i].is_interface = false;
	*ret = template_nil();
	if (func->fn(&call, values, count, ret) < 0) {
		s->node = node;
		exec_error_place(s);
		buf_printf(s->error, "error calling %s: ", func->name);
		buf_add_slice(s->error, buf_slice(&error));
		return false;
	}
	return true;
}

/* ---- commands and pipelines ---- */

static bool eval_command(struct state *s, struct template_value dot, const struct node *command,
	const struct template_value *final, struct template_value *ret)
{
	const struct node *first = command->items.items[0];
	struct arguments args = {command->items.items + 1, command->items.count - 1, final};

	switch (first->type) {
	case NODE_FIELD:
		s->node = first;
		return eval_field_chain(s, dot, dot, first, 0, &args, ret);
	case NODE_CHAIN:
		return eval_chain(s, dot, first, &args, ret);
	case NODE_IDENTIFIER:
		return eval_function(s, dot, first, command, &args, ret);
	case NODE_PIPE:
		return not_a_function(s, first, &args) && exec_pipeline(s, dot, first, ret);
	case NODE_VARIABLE:
		return eval_variable(s, dot, first, &args, ret);
	default:
		break;
	}
	s->node = first;
	if (!not_a_function(s, first, &args))
		return false;
	switch (first->type) {
	case NODE_BOOL:
		*ret = template_bool(first->boolean);
		return true;
	case NODE_DOT:
		*ret = dot;
		return true;
	case NODE_NUMBER:
		return eval_constant(s, first, ret);
	case NODE_STRING:
		*ret = template_text(first->value);
		return true;
	default:
		return exec_fail(s, "nil is not a command");
	}
}

bool exec_pipeline(
	struct state *s, struct template_value dot, const struct node *pipe, struct template_value *ret)
{
	struct template_value value = template_nil(), final;

	if (!pipe) {
		*ret = value;
		return true;
	}
	s->node = pipe;
	for (size_t i = 0; i < pipe->commands.count; i++) {
		final = value;
		if (!eval_command(s, dot, pipe->commands.items[i], i ? &final : NULL, &value))
			return false;
		value.is_interface = false;
	}
	for (size_t i = 0; i < pipe->variables.count; i++) {
		struct slice name = pipe->variables.items[i]->idents[0];

		if (!pipe->is_assign)
			exec_var_push(s, name, value);
		else if (!exec_var_set(s, name, value))
			return false;
	}
	*ret = value;
	return true;
}
