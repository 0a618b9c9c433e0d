/* What the parsers of unit options share: config.c has the table and the general ones, config_process.c those
 * of systemd.exec(5), config_resources.c those of systemd.resource-control(5), config_triggers.c and
 * config_socket.c those of timers, paths and sockets. A parser that cannot make
 * sense of a value warns and leaves the setting as it was, as systemd does. */
#pragma once
#include "manager/config.h"

struct reader {
	struct service_config *config;
	const struct unit_specifiers *specifiers;
	const struct unit_option *option; /* NULL: after the last one */
};
/* argument: which field, list or word; each row of the table has its own. */
typedef void (*parse_fn)(struct reader *reader, struct slice value, size_t argument);

struct directive {
	const char *section, *name;
	parse_fn parse;
	size_t argument;
};

#define CONFIG_OFFSET(field) offsetof(struct service_config, field)
#define CONFIG_FIELD(reader, type, offset) ((type *)(void *)((char *)(reader)->config + (offset)))

/* config.c */
void config_warn(struct reader *reader, const char *format, ...) _printf_(2, 3);
void config_warn_value(struct reader *reader, struct slice value, const char *expected);
void config_fail(struct reader *reader, const char *text); /* the first reason stays */
/* The value with its specifiers replaced, owned; NULL when it grows too long. */
char *config_expand(struct reader *reader, struct slice value);
/* Adds the words of a value to a list, as `read` gives them (owned; NULL after a warning), up to `max` in
 * all; an empty value clears it. */
void config_parse_words(struct reader *reader, struct slice value, struct strings *list, size_t max,
	char *(*read)(struct reader *reader, struct slice word));
/* For `read`: expanded, and good in the eyes of `check` (may be NULL). */
char *config_read_word(
	struct reader *reader, struct slice word, bool (*check)(const char *word), const char *expected);
/* A number in [low, high]; false after a warning. */
bool config_parse_number(struct reader *reader, struct slice value, int64_t low, int64_t high, int64_t *ret);

/* An octal mode; false after a warning. */
bool config_parse_mode(struct reader *reader, struct slice value, unsigned *ret);
void parse_string(struct reader *reader, struct slice value, size_t offset);
void parse_bool(struct reader *reader, struct slice value, size_t offset);
void parse_span(struct reader *reader, struct slice value, size_t offset);
void parse_count(struct reader *reader, struct slice value, size_t offset);
void parse_dependency(struct reader *reader, struct slice value, size_t kind);

/* config_process.c */
void parse_umask(struct reader *reader, struct slice value, size_t unused);
void parse_nice(struct reader *reader, struct slice value, size_t unused);
void parse_directory(struct reader *reader, struct slice value, size_t unused);
void parse_stream(struct reader *reader, struct slice value, size_t which); /* 0 input, 1 output, 2 error */
void parse_rlimit(struct reader *reader, struct slice value, size_t resource);
void parse_oom_score(struct reader *reader, struct slice value, size_t unused);
void parse_cpu_policy(struct reader *reader, struct slice value, size_t unused);
void parse_cpu_priority(struct reader *reader, struct slice value, size_t unused);
void parse_affinity(struct reader *reader, struct slice value, size_t unused);
void parse_io_class(struct reader *reader, struct slice value, size_t unused);
void parse_io_priority(struct reader *reader, struct slice value, size_t unused);
void parse_directories(struct reader *reader, struct slice value, size_t kind);
void parse_directory_mode(struct reader *reader, struct slice value, size_t kind);
void parse_groups(struct reader *reader, struct slice value, size_t unused);
void parse_pass_environment(struct reader *reader, struct slice value, size_t unused);
void parse_capabilities(struct reader *reader, struct slice value, size_t offset);

/* config_resources.c */
void parse_memory(struct reader *reader, struct slice value, size_t offset);
void parse_tasks(struct reader *reader, struct slice value, size_t offset);
void parse_cpu_quota(struct reader *reader, struct slice value, size_t unused);
void parse_cpu_period(struct reader *reader, struct slice value, size_t unused);
void parse_cpu_weight(struct reader *reader, struct slice value, size_t shares);
/* "512", "1.5G", in steps of 1024; -EINVAL, -ERANGE. */
int config_parse_size(struct slice text, uint64_t *ret) _must_check_;

/* config_triggers.c: timers, paths and sockets (with config_socket.c). */
extern const struct directive trigger_directives[];
extern const size_t trigger_directive_count;
void config_default_trigger(struct service_config *config);
void config_trigger_done(struct service_config *config);
/* Checks what a unit of these types needs, and adds the dependency that it has without a word; false: it is
 * of none of them. */
bool config_verify_trigger(struct reader *reader);
void parse_sockets(struct reader *reader, struct slice value, size_t unused);
void parse_path_list(struct reader *reader, struct slice value, size_t offset); /* of struct strings */

/* config_socket.c */
void parse_listen(struct reader *reader, struct slice value, size_t type);
void parse_accept(struct reader *reader, struct slice value, size_t unused);
void parse_bind_ipv6_only(struct reader *reader, struct slice value, size_t unused);
void parse_descriptor_name(struct reader *reader, struct slice value, size_t unused);
void parse_bytes(struct reader *reader, struct slice value, size_t offset);
void parse_socket_number(struct reader *reader, struct slice value, size_t offset);
void parse_ip_tos(struct reader *reader, struct slice value, size_t unused);
