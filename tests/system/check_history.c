/* check_history [FILE]: is a recorded history of operations linearizable? Judged by the simulator's checker,
 * key by key. One operation a line, fields separated by blanks, in any order of lines:
 *
 *   KEY OPERATION CALL_NS RETURN_NS VALUE EXPECT SEEN OUTCOME ORDER
 *
 * OPERATION: set create update cas cad delete get. VALUE: what it writes; EXPECT: of cas and cad; SEEN: the
 * value before it, of a get what it read; each a number from 1 on, 0 for "the key is absent" and - for "not
 * told". OUTCOME: ok missing exists mismatch; unknown: no answer, it may have happened or not; failed: it has
 * surely not happened. ORDER: the store's number of a write that succeeded, or 0. Exit status: 0
 * linearizable, 1 not (with the place), 2 no history, 3 too hard to tell. */
#include "linear.h"
#include "base/memory.h"
#include "base/slice.h"
#include "base/text.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { FIELDS = 9, LINE_BYTES_MAX = 512, KEY_BYTES_MAX = 100, STEPS_MAX = 20 * 1000 * 1000 };
enum { SEARCH_STACK_BYTES = 1 << 30 }; /* the search goes one level deeper for each operation */

enum exit_status { FINE, VIOLATION, NO_HISTORY, UNDECIDED };

struct record {
	char key[KEY_BYTES_MAX];
	struct lin_op op;
	size_t line;
};

struct history {
	struct record *records;
	size_t len, cap;
};

static const char *const kind_names[] = {[LIN_SET] = "set",
	[LIN_CREATE] = "create",
	[LIN_UPDATE] = "update",
	[LIN_CAS] = "cas",
	[LIN_CAD] = "cad",
	[LIN_DELETE] = "delete",
	[LIN_GET] = "get"};
static_assert(ARRAY_LEN(kind_names) == LIN_KIND_MAX, "a name for each");
static const char *const result_names[] = {[LIN_OK] = "ok",
	[LIN_MISSING] = "missing",
	[LIN_EXISTS] = "exists",
	[LIN_MISMATCH] = "mismatch",
	[LIN_UNKNOWN] = "unknown",
	[LIN_UNKNOWN + 1] = "failed"};

static bool find_name(const char *const *names, size_t count, const char *name, unsigned *ret_which)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(names[i], name) == 0) {
			*ret_which = (unsigned)i;
			return true;
		}
	return false;
}

static bool read_i64(const char *text, int64_t *ret_value)
{
	char *end;

	errno = 0;
	*ret_value = strtoll(text, &end, 10);
	return !errno && end != text && !*end;
}

/* A value: below LIN_NOT_TOLD, or "-". */
static bool read_value(const char *text, uint32_t *ret_value)
{
	int64_t value;

	*ret_value = LIN_NOT_TOLD;
	if (strcmp(text, "-") == 0)
		return true;
	if (!read_i64(text, &value) || value < 0 || value >= LIN_NOT_TOLD)
		return false;
	*ret_value = (uint32_t)value;
	return true;
}

static bool is_write_of_value(enum lin_kind kind)
{
	return kind == LIN_SET || kind == LIN_CREATE || kind == LIN_UPDATE || kind == LIN_CAS;
}

/* True with *ret_failed for an operation that is to be left out. */
static bool parse_line(char *line, struct record *ret_record, bool *ret_failed)
{
	char *fields[FIELDS], *rest = line;
	struct lin_op *op = &ret_record->op;
	unsigned kind, result;
	int64_t order;

	for (size_t i = 0; i < FIELDS; i++) {
		fields[i] = strtok_r(rest, " \n", &rest);
		if (!fields[i])
			return false;
	}
	if (strtok_r(rest, " \n", &rest) || strlen(fields[0]) >= KEY_BYTES_MAX ||
		!find_name(kind_names, ARRAY_LEN(kind_names), fields[1], &kind) ||
		!find_name(result_names, ARRAY_LEN(result_names), fields[7], &result))
		return false;
	*ret_failed = result > LIN_UNKNOWN;
	*op = (struct lin_op){.kind = kind, .result = *ret_failed ? LIN_UNKNOWN : result};
	if (!read_i64(fields[2], &op->call_ns) || !read_i64(fields[3], &op->return_ns) ||
		!read_value(fields[4], &op->value) || !read_value(fields[5], &op->expect) ||
		!read_value(fields[6], &op->seen) || !read_i64(fields[8], &order) || order < 0)
		return false;
	op->order = (uint64_t)order;
	if (is_write_of_value(op->kind) && (op->value == LIN_ABSENT || op->value == LIN_NOT_TOLD))
		return false;
	if (op->result != LIN_UNKNOWN && op->return_ns < op->call_ns)
		return false;
	if (op->value == LIN_NOT_TOLD)
		op->value = LIN_ABSENT;
	memcpy(ret_record->key, fields[0], strlen(fields[0]) + 1);
	return true;
}

static bool read_history(FILE *file, struct history *history)
{
	char line[LINE_BYTES_MAX];

	for (size_t number = 1; fgets(line, sizeof(line), file); number++) {
		struct record record = {.line = number};
		bool failed;

		if (line[0] == '#')
			continue;
		if (!strchr(line, '\n') || !parse_line(line, &record, &failed)) {
			fprintf(stderr, "check_history: line %zu is no operation\n", number);
			return false;
		}
		if (failed)
			continue;
		if (history->len == history->cap) {
			history->cap = MAX(history->cap * 2, (size_t)1024);
			history->records =
				mem_reallocarray(history->records, history->cap, sizeof(*history->records));
		}
		history->records[history->len++] = record;
	}
	return !ferror(file);
}

static int by_key_and_call(const void *a, const void *b)
{
	const struct record *left = a, *right = b;
	int order = strcmp(left->key, right->key);

	if (order)
		return order;
	if (left->op.call_ns != right->op.call_ns)
		return left->op.call_ns < right->op.call_ns ? -1 : 1;
	return left->line < right->line ? -1 : left->line > right->line;
}

static void print_record(const struct record *record)
{
	const struct lin_op *op = &record->op;

	printf("line %zu: %s %s from %" PRId64 " to %" PRId64 ", value %" PRIu32 ", expect %" PRIu32
	       ", seen %" PRIu32 ", %s, order %" PRIu64 "\n",
		record->line, record->key, kind_names[op->kind], op->call_ns, op->return_ns, op->value,
		op->expect, op->seen, result_names[op->result], op->order);
}

/* The operations of one key, sorted. */
static enum exit_status judge(const struct record *records, size_t count)
{
	struct lin_op *ops = mem_new_array(struct lin_op, count);
	enum lin_verdict verdict;
	size_t stuck = 0;

	for (size_t i = 0; i < count; i++)
		ops[i] = records[i].op;
	verdict = lin_check(ops, count, STEPS_MAX, &stuck);
	mem_free(ops);
	if (verdict == LIN_FINE)
		return FINE;
	printf("%s: the history of %zu operations is %s; the search ends at\n", records->key, count,
		verdict == LIN_VIOLATION ? "not linearizable" : "too hard to judge");
	for (size_t i = stuck > 5 ? stuck - 5 : 0; i < count && i <= stuck + 5; i++) {
		fputs(i == stuck ? "> " : "  ", stdout);
		print_record(&records[i]);
	}
	return verdict == LIN_VIOLATION ? VIOLATION : UNDECIDED;
}

static enum exit_status judge_all(struct history *history)
{
	enum exit_status status = FINE;
	size_t keys = 0;

	qsort(history->records, history->len, sizeof(*history->records), by_key_and_call);
	for (size_t from = 0, to; from < history->len; from = to) {
		enum exit_status one;

		for (to = from; to < history->len &&
				strcmp(history->records[to].key, history->records[from].key) == 0;)
			to++;
		one = judge(&history->records[from], to - from);
		if (one == VIOLATION || status == FINE)
			status = one;
		keys++;
	}
	if (status == FINE)
		printf("linearizable: %zu operations on %zu keys\n", history->len, keys);
	return status;
}

/* A larger stack is only had by a program that begins with the limit set. */
static void enlarge_stack(char **argv)
{
	struct rlimit limit;

	if (getenv("CHECK_HISTORY_STACK") || getrlimit(RLIMIT_STACK, &limit) < 0)
		return;
	limit.rlim_cur = MIN(limit.rlim_max, (rlim_t)SEARCH_STACK_BYTES);
	if (setrlimit(RLIMIT_STACK, &limit) == 0 && setenv("CHECK_HISTORY_STACK", "set", 1) == 0)
		(void)execv("/proc/self/exe", argv);
}

int main(int argc, char **argv)
{
	struct history history = {0};
	FILE *file;
	enum exit_status status;

	if (argc > 2) {
		fputs("usage: check_history [FILE]\n", stderr);
		return NO_HISTORY;
	}
	enlarge_stack(argv);
	file = argc == 2 ? fopen(argv[1], "re") : stdin;
	if (!file) {
		perror(argv[1]);
		return NO_HISTORY;
	}
	status = read_history(file, &history) ? judge_all(&history) : NO_HISTORY;
	if (file != stdin)
		(void)fclose(file);
	mem_free(history.records);
	return (int)status;
}
