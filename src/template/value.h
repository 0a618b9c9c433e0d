/* The values of the template language: Go's kinds as far as templates can meet them, with their types,
 * because error texts and formatting name types. A value is 40 bytes, copied freely; what it points to (text,
 * list items, maps, objects) is borrowed, usually from the arena of one execution. Pure, no thread may change
 * what another reads.
 *
 * Interfaces: Go tells a concrete value from one that sits in an interface (an element of []interface{}, a
 * value of map[string]interface{}). `is_interface` marks the latter: its static type is "interface {}",
 * `type` is the dynamic one, and type NULL is a nil interface. A value with type NULL and no interface is
 * Go's zero reflect.Value ("<no value>"). */
#pragma once
#include "base/buf.h"
#include "base/memory.h"
#include "base/slice.h"

enum template_kind {
	TEMPLATE_INVALID,
	TEMPLATE_BOOL,
	TEMPLATE_INT,
	TEMPLATE_UINT,
	TEMPLATE_FLOAT,
	TEMPLATE_COMPLEX,
	TEMPLATE_STRING,
	TEMPLATE_LIST,
	TEMPLATE_MAP,
	TEMPLATE_STRUCT,
	TEMPLATE_POINTER, /* to a struct; same `object`, NULL is nil */
	TEMPLATE_FUNC,
	TEMPLATE_INTERFACE, /* static only */
	TEMPLATE_KIND_MAX,
};

struct template_value;
struct template_func;

struct template_field {
	const char *name;
	struct template_value (*get)(
		const void *object); /* is_interface set when the field's type is an interface */
};

struct template_type {
	const char *name; /* as Go prints it: "int", "[]string", "memkv.KVPair" */
	enum template_kind kind;
	unsigned bits;				/* numbers: 8 to 64 (complex: 128) */
	const struct template_type *elem;	/* lists, maps, pointers */
	const struct template_type *key;	/* maps: string or an int type */
	const struct template_type *underlying; /* a named list or map type: its unnamed form; else NULL */
	const struct template_field *fields;	/* structs */
	size_t field_count;
	const struct template_func *methods; /* structs and pointers; called with call->receiver */
	size_t method_count;
	/* Error() or String(); NULL: none. Integers: object points to the int64_t. */
	void (*add_text)(const void *object, struct buf *out);
	bool (*equal)(const void *a, const void *b); /* structs; NULL: field by field */
};

struct template_complex {
	double real, imaginary;
};
struct template_items {
	struct template_value *items;
	size_t len, cap;
};

struct template_value {
	const struct template_type *type;
	bool is_interface;
	union {
		bool boolean;
		int64_t integer;
		uint64_t natural;
		double number; /* float32 too */
		struct template_complex complex;
		struct slice text;
		struct template_items list;
		struct template_map *map; /* NULL: a nil map */
		const void *object;
		const struct template_func *func;
	};
};

struct template_map_entry {
	struct template_value key, value;
};
/* Entries in key order once template_map_sort() ran, which every reader calls. A key put twice keeps the last
 * value. */
struct template_map {
	struct template_map_entry *entries;
	size_t count, cap;
	bool sorted;
};

extern const struct template_type template_type_bool, template_type_int, template_type_int8,
	template_type_int16, template_type_int32, template_type_int64, template_type_uint,
	template_type_uint8, template_type_uint16, template_type_uint32, template_type_uint64,
	template_type_float32, template_type_float64, template_type_complex128, template_type_string;
extern const struct template_type template_type_any; /* interface {} */
extern const struct template_type
	template_type_reflect; /* reflect.Value: a parameter that takes anything as it is */
extern const struct template_type template_type_list;		/* []interface {} */
extern const struct template_type template_type_strings;	/* []string */
extern const struct template_type template_type_ints;		/* []int */
extern const struct template_type template_type_bytes;		/* []uint8 */
extern const struct template_type template_type_map;		/* map[string]interface {} */
extern const struct template_type template_type_map_string;	/* map[string]string */
extern const struct template_type template_type_map_int_string; /* map[int]string */

/* What a function sees of its call. `error` takes the message when the function answers -EINVAL. */
struct template_call {
	struct arena *arena;		/* of this execution: results may point into it */
	void *user;			/* as given to template_execute() */
	struct template_value receiver; /* methods: what they were called on */
	struct buf *error;
};
/* args: as many as given (the fixed ones are all there), each of the declared type, nil where that may be
 * nil. Answers 0 and *ret_value, or -EINVAL with a message. */
typedef int (*template_call_fn)(struct template_call *call, const struct template_value *args, size_t count,
	struct template_value *ret_value);

#define TEMPLATE_PARAMETERS_MAX 6
struct template_func {
	const char *name;
	template_call_fn fn;
	const struct template_type *result;
	const struct template_type
		*in[TEMPLATE_PARAMETERS_MAX]; /* the last one of a variadic function: its element type */
	unsigned in_count;
	bool variadic;
};

struct template_value template_nil(void); /* the zero reflect.Value */
struct template_value template_bool(bool value);
struct template_value template_int(int64_t value);
struct template_value template_float(double value);
struct template_value template_text(struct slice text);
struct template_value template_str(const char *text);
struct template_value template_object(const struct template_type *type, const void *object);
struct template_value template_in_interface(struct template_value value); /* nil becomes a nil interface */
struct template_value template_out_of_interface(struct template_value value);

/* A list of `len` zero items to be filled in; cap is len. */
struct template_value template_list_new(struct arena *arena, const struct template_type *type, size_t len);
/* Appends, moving the items when needed. Items of a list of interfaces are put into one. */
void template_list_add(struct arena *arena, struct template_value *list, struct template_value item);

struct template_value template_map_new(struct arena *arena, const struct template_type *type);
void template_map_put(struct arena *arena, struct template_value *map, struct template_value key,
	struct template_value value);
void template_map_sort(struct arena *arena, struct template_map *map);
/* NULL: not there. The map must be sorted. */
const struct template_value *template_map_get(
	const struct template_map *map, const struct template_value *key);

/* The zero value of a type: 0, "", an empty (nil) list, a nil interface. */
struct template_value template_zero(const struct template_type *type);
enum template_kind template_kind(
	const struct template_value *value); /* TEMPLATE_INTERFACE when it sits in one */
const struct template_type *template_static_type(const struct template_value *value);
bool template_type_assignable(const struct template_type *from, const struct template_type *to);
bool template_type_nilable(const struct template_type *type);
void template_type_add_name(
	struct buf *out, const struct template_value *value); /* static; functions by signature */
bool template_truth(struct template_value value);
/* Follows an interface and a pointer to what is behind them; true: there is nothing behind. */
bool template_indirect(struct template_value *value);
