/* fleetctl's inside: one context for a run, the API client, tables, and the commands. Everything blocks; one
 * thread. */
#pragma once
#include <jansson.h>
#include <uv.h>

#include "base/buf.h"
#include "base/flags.h"
#include "base/memory.h"
#include "fleet/registry_api.h"
#include "io/http_client.h"
#include "unit/unit.h"

#define FLEETCTL_VERSION "1.0.0+flotilla-" FLOTILLA_VERSION
#define FLEETCTL_ENDPOINT_DEFAULT "unix:///var/run/fleet.sock"
#define FLEETCTL_POLL_MS 10 /* between looks while waiting; slower the longer it takes */
#define FLEETCTL_POLL_MAX_MS 100
#define FLEETCTL_CALLS_AT_ONCE 32
#define FLEETCTL_LINES_UNSAID INT64_MIN /* without --lines: 10, or with --since all */
#define FLEETCTL_ATTEMPT_MS 2000	/* one of --block-attempts */
#define FLEETCTL_EXIT_UNREAD (128 + 13) /* nobody reads the output any more: as of SIGPIPE */

struct fleetctl_options {
	/* For all commands. */
	const char *endpoint, *driver, *prefix, *key_file, *cert_file, *ca_file, *tunnel;
	const char *ssh_username, *known_hosts_file;
	double ssh_timeout, request_timeout;
	bool strict_host_keys, debug, experimental, help, version;
	/* Of commands. */
	const char *fields, *output, *since, *until, *ssh_machine,
		*ssh_unit; /* since, until: NULL: no bound */
	bool full, no_legend, no_block, replace, sign, follow, sudo, forward_agent;
	int64_t block_attempts, lines, ssh_port;
};

/* The words of a command line: owned, with a NULL after the last one. */
struct ctl_words {
	char **items;
	size_t count;
};

struct fleetctl {
	struct fleetctl_options options;
	uv_loop_t loop;
	struct http_client *http;
	char *base;	      /* "http://host:port" or "http://domain-sock" */
	char *unix_path;      /* or NULL */
	uv_process_t *tunnel; /* the ssh of --tunnel, or NULL */
	char *directory;      /* of `sockets`, or NULL */
	struct ctl_words sockets;
	struct registry_api *registry; /* with --driver=etcd: the API, in this process */
	json_t *machines;	       /* id -> ip, read once; NULL: not yet */
};

/* ---- client.c ---- */

/* Finds out where the API is. -errno with a message. */
int ctl_open(struct fleetctl *ctl, struct buf *reterr) _must_check_;
void ctl_close(struct fleetctl *ctl);
/* One call. 0 for 2xx with the body (may be NULL; ret_body NULL: not wanted), else -errno with a message in
 * Go's words; *ret_status is the HTTP status or 0. */
int ctl_call(struct fleetctl *ctl, const char *method, const char *path, const char *body, json_t **ret_body,
	int *ret_status, struct buf *reterr) _must_check_;
/* Many calls: FLEETCTL_CALLS_AT_ONCE are under way when there are more than that, else one. What fails (404
 * does not count) lets no further ones be sent. The result of each is as that of ctl_call(); -ECANCELED: it
 * was not sent. */
struct ctl_request {
	const char *method;
	char *path, *body; /* owned; body may be NULL */
	int result;
	json_t *answer; /* or NULL */
	struct buf error;
};
void ctl_call_all(struct fleetctl *ctl, struct ctl_request *requests, size_t count);
void ctl_requests_free(struct ctl_request *requests, size_t count);
/* All pages of a list: the items under `key`, a new array. */
int ctl_list(struct fleetctl *ctl, const char *path, const char *key, json_t **ret_items,
	struct buf *reterr) _must_check_;
/* One unit: 0 and the object, -ENOENT, or another error with a message. */
int ctl_unit(struct fleetctl *ctl, const char *name, json_t **ret_unit, struct buf *reterr) _must_check_;
int ctl_set_desired(
	struct fleetctl *ctl, const char *name, const char *desired, struct buf *reterr) _must_check_;
/* A path with an escaped unit name: ctl_path("/fleet/v1/units/", name, ""). Owned. */
char *ctl_path(const char *before, const char *name, const char *after);
/* Machine as fleet shows it: "1a2b3c4d.../172.31.78.11", the full id with --full; "-" for an empty id. Owned.
 */
char *ctl_machine_legend(struct fleetctl *ctl, const char *id, bool full);
/* The machine's address, or NULL; borrowed. */
const char *ctl_machine_address(struct fleetctl *ctl, const char *id);
const char *ctl_text(const json_t *object, const char *key); /* "" when absent */

/* How long the API may take to begin an answer. */
uint32_t ctl_timeout_ms(const struct fleetctl *ctl);
/* With --debug: what is asked (status 0), or answered. */
void ctl_trace(const struct fleetctl *ctl, const char *method, const char *url, int status);

/* ---- stream.c ---- */

/* Streams the text of one of Flotilla's own routes to stdout. 0, or -errno with a message; -ENOTSUP: the
 * server or the machine does not have it (fleet 1.0): go by ssh; -EHOSTUNREACH: the machine's fleetd does not
 * answer; -EPIPE: nobody reads what is printed any more. ret_exit (may be NULL): the X-Exit-Status. */
int ctl_stream(struct fleetctl *ctl, const char *path, int *ret_exit, struct buf *reterr) _must_check_;
/* What became of the last start of a unit that does not run there: 0: it began (and has ended since), or
 * nobody knows; 1: it waits for other units, or begins by now; -EIO: it did not begin; -EHOSTUNREACH: its
 * machine cannot be asked. ret_why (owned): what it waits for, or why it did not. */
int ctl_start_outcome(
	struct fleetctl *ctl, const char *name, const char *machine, char **ret_why) _must_check_;

/* What the unit's machine says of it by now, fresher than what is published; a member that it does not say is
 * NULL. Owned. -ENOTSUP: the machine does not tell (fleet 1.0); -EHOSTUNREACH, with a message: it cannot be
 * asked. */
struct unit_now {
	char *active, *job, *start_error;
};
int ctl_unit_now(struct fleetctl *ctl, const char *name, const char *machine, struct unit_now *ret,
	struct buf *reterr) _must_check_;
void ctl_unit_now_done(struct unit_now *now);
bool ctl_unit_now_runs_on(const struct unit_now *now); /* it is up, and is not about to stop */

/* ---- table.c ---- */

/* Cells separated by tabs, rows by newlines, aligned as Go's tabwriter does with tabs of 8. */
struct table {
	char **cells;
	size_t count, cap, columns;
};
void ctl_table_add(struct table *table, const char *cell); /* copied */
void ctl_table_print(const struct table *table, struct buf *out);
void ctl_table_done(struct table *table);

/* ---- units.c ---- */

/* A unit that a command is about. */
struct target_unit {
	char *name;
	json_t *unit; /* as the registry had it before the command */
	bool global;
	bool created;
	bool typed; /* a word named it, not only a pattern */
	bool quiet; /* waited for without a word */
	bool kept;  /* asked to be replaced, and left alone: it is further on than it would be put */
};
struct target_units {
	struct target_unit *items;
	size_t count;
};
void ctl_target_unit_done(struct target_unit *item);
void ctl_target_units_done(struct target_units *units);
/* The argument as a unit name: base name, ".service" appended when it has no suffix. Owned. */
char *ctl_unit_argument(const char *argument);
/* Makes sure that each unit of the arguments is in the registry, from file or template where it is not; with
 * --replace puts new contents in place of those whose desired state is at most `state`; others are `kept`.
 * Prints as fleet does. -errno with a message. */
int ctl_units_create(struct fleetctl *ctl, int count, char **arguments, const char *state,
	struct target_units *ret, struct buf *reterr) _must_check_;
/* The names that arguments stand for, each once: patterns (path.Match's: * ? [a-z]) for the units of the
 * registry that match. -errno with a message. */
struct unit_names {
	struct named_unit *items;
	size_t count;
};
struct named_unit {
	char *name; /* owned */
	bool typed; /* a word named it, not only a pattern */
	bool idle;  /* as the pattern found it */
};
int ctl_units_name(struct fleetctl *ctl, int count, char **arguments, struct unit_names *ret,
	struct buf *reterr) _must_check_;
void ctl_unit_names_done(struct unit_names *names);
/* The units of the arguments, patterns included, that the registry knows. */
int ctl_units_find(struct fleetctl *ctl, int count, char **arguments, struct target_units *ret,
	struct buf *reterr) _must_check_;
bool ctl_unit_object_is_global(const json_t *unit);
/* Neither loaded nor running anywhere, as a template never is: a pattern passes over it when a command is
 * about what does. */
bool ctl_unit_is_idle(const char *name, const json_t *unit);
/* The unit file made of the object's options. */
struct unit_file *ctl_unit_object_file(const json_t *unit);

/* ---- wait.c ---- */

enum wait_for {
	WAIT_EXISTS,   /* known as inactive */
	WAIT_INACTIVE, /* unscheduled and its processes gone */
	WAIT_LOADED,   /* on a machine and not running */
	WAIT_LAUNCHED, /* asked to start */
	WAIT_ACTIVE, /* and running, or ended without failure; what failed is told. A global unit: on each of
			its machines */
	WAIT_GONE,   /* destroyed and its processes gone */
};
/* Waits until each unit is there, printing as fleet does ("Unit X launched on …"). attempts 0: for ever.
 * -ETIME, -EIO (a unit failed) or -EALREADY (what was to be stopped has been started again) with a message.
 * Reasons why units are not placed go to stderr meanwhile. */
int ctl_wait_units(struct fleetctl *ctl, const struct target_units *units, enum wait_for what,
	int64_t attempts, bool print, struct buf *reterr) _must_check_;
/* True when no machine takes the unit, which is said with the reason of each. False also for a server that
 * does not know (fleet 1.0). */
bool ctl_runs_nowhere(struct fleetctl *ctl, const char *name);

/* The state published by the unit's machine, or NULL. */
const json_t *ctl_target_state(const json_t *unit, const json_t *states);
/* Neither inactive nor failed. */
bool ctl_state_is_busy(const json_t *state);

/* ---- restart.c ---- */

/* What something else has started (a socket, a timer, another unit) is not fleet's to stop. Those of the
 * units that are loaded and run so are asked for, that is launched, so that they can be stopped like the
 * others; a machine that does not hear of it in a few seconds changes nothing. */
void ctl_ask_for_running(struct fleetctl *ctl, const struct target_units *units);
/* Stops and starts the unit, waiting for both, then starts what systemd has stopped with it. -errno with a
 * message. */
int ctl_restart(struct fleetctl *ctl, struct target_unit *item, struct buf *reterr) _must_check_;

/* ---- commands ---- */

int ctl_command_list_machines(struct fleetctl *ctl, int argc, char **argv);
int ctl_command_list_units(struct fleetctl *ctl, int argc, char **argv);
int ctl_command_list_unit_files(struct fleetctl *ctl, int argc, char **argv);
int ctl_command_submit(struct fleetctl *ctl, int argc, char **argv);
int ctl_command_load(struct fleetctl *ctl, int argc, char **argv);
int ctl_command_start(struct fleetctl *ctl, int argc, char **argv);
int ctl_command_stop(struct fleetctl *ctl, int argc, char **argv);
int ctl_command_unload(struct fleetctl *ctl, int argc, char **argv);
int ctl_command_destroy(struct fleetctl *ctl, int argc, char **argv);
int ctl_command_restart(struct fleetctl *ctl, int argc, char **argv);
int ctl_command_cat(struct fleetctl *ctl, int argc, char **argv);
int ctl_command_status(struct fleetctl *ctl, int argc, char **argv);
int ctl_command_journal(struct fleetctl *ctl, int argc, char **argv);
int ctl_command_ssh(struct fleetctl *ctl, int argc, char **argv);

/* forward.c: copies stdin to the Unix socket of the argument, and what comes from there to stdout, until both
 * have ended. */
int ctl_command_fd_forward(int argc, char **argv);

/* ---- tunnel.c ---- */

struct url;
/* Paths for that many Unix sockets, which nobody else can reach; ctl_sockets_remove() removes what is there
 * by then, and so does an end by a signal. Once a run. */
int ctl_sockets_make(struct fleetctl *ctl, size_t count, struct buf *reterr) _must_check_;
void ctl_sockets_remove(struct fleetctl *ctl);
/* What a tunnel leads to, in ssh's words: a socket of the far host, or what an URL names as seen from there.
 * Owned. */
char *ctl_tunnel_to_path(const char *path);
char *ctl_tunnel_to_host(const struct url *url);
/* Starts the ssh of --tunnel: the first of ctl->sockets lead to `far`, in its order, once this has returned.
 * That somebody listens there is not known before something is sent. Needs the loop. */
int ctl_tunnel_open(struct fleetctl *ctl, const struct ctl_words *far, struct buf *reterr) _must_check_;
void ctl_tunnel_close(struct fleetctl *ctl); /* ssh has ended when the loop has nothing more to do */

/* ---- ssh.c ---- */

void ctl_words_take(struct ctl_words *words, char *word); /* owns it from here on */
void ctl_words_add(struct ctl_words *words, const char *word);
void ctl_words_done(struct ctl_words *words);
/* Quoted for a shell. Owned; NULL for NULL. */
char *ctl_shell_word(const char *text);
/* For what ssh looks for %h and the like in: each % is one. Owned. */
char *ctl_ssh_literal(const char *text);
/* The options that every ssh is called with: port, timeout, how host keys are checked. */
void ctl_ssh_add_options(const struct fleetctl *ctl, int64_t port, struct ctl_words *words);
/* The same for the host of --tunnel, and USER@HOST. */
void ctl_ssh_add_tunnel_host(const struct fleetctl *ctl, struct ctl_words *words);
/* Runs `ssh` to the address with the options' settings, through --tunnel where that is given; command NULL: a
 * shell. Answers its exit status; 1 when there was no connection. */
int ctl_ssh_run(struct fleetctl *ctl, const char *address, int count, char *const *command);
