/* The functions confd adds to the template language, and the data they work on. */
#pragma once
#include "confd/tree.h"
#include "template/template.h"

/* `user` of template_execute(). */
struct functions_data {
	const struct confd_tree *tree;
	int64_t started_mono_ns; /* of the process, for what datetime prints behind m= */
};

extern const struct template_func confd_funcs[];
extern const size_t confd_func_count;

/* The first generation's dot: for each leaf an entry named by its path without prefix and first slash, '/'
 * and '-' as '_', with its value; for each directory fetched an entry with the list of its children. */
struct template_value functions_dot(struct arena *arena, const struct confd_tree *tree, struct slice prefix);

/* Tables of other files (functions_values.c: text, numbers, time; functions_net.c). */
#define FUNCTION(name)                                                                        \
	int name(struct template_call *call, const struct template_value *args, size_t count, \
		struct template_value *ret)
FUNCTION(function_base);
FUNCTION(function_dir);
FUNCTION(function_split);
FUNCTION(function_join);
FUNCTION(function_map);
FUNCTION(function_json);
FUNCTION(function_json_array);
FUNCTION(function_getenv);
FUNCTION(function_datetime);
FUNCTION(function_to_upper);
FUNCTION(function_to_lower);
FUNCTION(function_contains);
FUNCTION(function_replace);
FUNCTION(function_trim_suffix);
FUNCTION(function_lookup_ip);
FUNCTION(function_lookup_ipv4);
FUNCTION(function_lookup_ipv6);
FUNCTION(function_lookup_srv);
FUNCTION(function_file_exists);
FUNCTION(function_base64_encode);
FUNCTION(function_base64_decode);
FUNCTION(function_parse_bool);
FUNCTION(function_reverse);
FUNCTION(function_sort_by_length);
FUNCTION(function_add);
FUNCTION(function_sub);
FUNCTION(function_div);
FUNCTION(function_mod);
FUNCTION(function_mul);
FUNCTION(function_seq);
FUNCTION(function_atoi);
extern const struct template_type function_type_services; /* []*net.SRV */
extern const struct template_type function_type_pairs;	  /* []memkv.KVPair */

int function_fail(struct template_call *call, const char *format, ...) _printf_(2, 3);
/* The same with a quoted text behind `before`, then `after`. */
int function_fail_quoted(
	struct template_call *call, const char *before, struct slice text, const char *after);
int function_text_result(struct template_call *call, const struct buf *text, struct template_value *ret);
