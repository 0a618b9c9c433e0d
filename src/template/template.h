/* Go's text/template language (as of Go 1.19), complete: what it accepts, rejects and prints, with the same
 * error texts and positions. Pure: no I/O, no clock, no global state; knows nothing of who uses it.
 *
 *   struct template *t; struct buf out = BUF_INIT(16 << 20), error = BUF_INIT(64 << 10);
 *   r = template_parse("nginx.tmpl", text, functions, ARRAY_LEN(functions), &t, &error);
 *   r = template_execute(t, &(struct template_run){.arena = &arena}, data, &out, &error);
 *
 * Errors: "template: NAME:LINE: message" from parsing and "template: NAME:LINE:COLUMN: executing "NAME" at
 * <node>: message" from executing; columns are bytes from 0. What was written before an execution error stays
 * in the output. Limits: TEMPLATE_TEXT_MAX bytes of text, TEMPLATE_PARENS_MAX nested parentheses,
 * TEMPLATE_DEPTH_MAX template calls within each other (on the heap, not on the C stack), the output's
 * ceiling, run->max_memory, run->max_steps. */
#pragma once
#include "template/value.h"

#define TEMPLATE_TEXT_MAX (4u << 20)
#define TEMPLATE_PARENS_MAX 500
#define TEMPLATE_DEPTH_MAX 100000
#define TEMPLATE_MEMORY_DEFAULT (1ull << 30)

struct template;

/* Parses `text` (copied). `funcs` is borrowed and must outlive the template; it comes before the builtin
 * functions. -EINVAL with the message in reterr. */
int template_parse(const char *name, struct slice text, const struct template_func *funcs, size_t func_count,
	struct template **ret_template, struct buf *reterr) _must_check_;
struct template *template_free(struct template *template);
DEFINE_CLEANUP(struct template *, template_free)

struct template_run {
	struct arena *arena; /* holds what the execution makes; the caller frees it when done */
	void *user;	     /* handed to functions */
	uint64_t max_memory; /* bytes of the arena; 0: TEMPLATE_MEMORY_DEFAULT */
	uint64_t max_steps;  /* nodes executed; 0: no limit */
};
/* Executes with `data` as dot, appending to `out`. The same template may be executed by several threads at
 * once as long as data and arena are not shared. -EINVAL with the message in reterr. */
int template_execute(const struct template *template, const struct template_run *run,
	struct template_value data, struct buf *out, struct buf *reterr) _must_check_;
