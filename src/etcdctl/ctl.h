/* What the parts of etcdctl share: one run of the program, its exit codes, the rows of commands. Main thread.
 */
#pragma once
#include "base/buf.h"
#include "base/flags.h"
#include "flotilla/etcd.h"

/* The version of the original whose commands, texts and exit codes these are. */
#define CTL_VERSION "2.3.8"

enum ctl_exit {
	CTL_OK = 0,
	CTL_BAD_ARGS = 1, /* also: everything that fails in the member commands */
	CTL_BAD_CONNECTION = 2,
	CTL_SERVER_ERROR = 4,
	CTL_UNHEALTHY = 5,
};

/* The global flags that matter where the client is made. */
struct ctl_globals {
	const char *discovery_srv, *peers, *endpoint, *endpoints, *cert_file, *key_file, *ca_file;
	bool help, version;
};

struct ctl {
	uv_loop_t loop;
	const struct ctl_globals *globals;
	struct etcd_client *client; /* NULL until ctl_connect() */
	const char *output;	    /* simple, extended, json, or what the user wrote */
	const char *username;	    /* name[:password] or NULL */
	char *password;		    /* owned; the name's half of username, then the password */
	char *user;		    /* owned */
	int64_t timeout_ns, total_timeout_ns;
	bool debug, no_sync;
};

/* The values of all commands' flags; a command reads those of its own row. */
struct ctl_options {
	const char *prev_value, *path;
	struct flag_list roles;
	int64_t ttl_s, prev_index, after_index;
	bool sort, recursive, quorum, append_slash, dir, in_order, forever, read, write, readwrite;
};
extern struct ctl_options ctl_options;

struct ctl_command {
	const char *name;	  /* NULL ends a table */
	const char *help;	  /* one line */
	const char *args;	  /* after the name in the usage line */
	const char *description;  /* or NULL */
	const struct flag *flags; /* ends in a row with name NULL; or NULL */
	/* argv[0..argc) are the words after the flags. Answers the exit status. */
	int (*run)(struct ctl *ctl, int argc, char **argv);
	const struct ctl_command *sub; /* a table instead of run */
};
extern const struct ctl_command ctl_commands[];

/* help.c */
void ctl_add_app_help(struct buf *out, const struct flag *global_flags);
void ctl_add_group_help(struct buf *out, const struct ctl_command *group);
/* group: the command that holds this one, or NULL. */
void ctl_add_command_help(
	struct buf *out, const struct ctl_command *group, const struct ctl_command *command);

/* connect.c: the endpoints that flags and environment name. */
const char *ctl_endpoints(const struct ctl_globals *globals);
/* Makes the client, and asks the cluster for its endpoints unless told not to. 0, or an exit
 * status after the error was printed. */
int ctl_connect(struct ctl *ctl, bool sync);
/* Waits for the request. The answer is the caller's. */
struct etcd_response *ctl_wait(struct ctl *ctl, struct etcd_request *request);
/* Prints what went wrong to stderr in the original's form; answers `status`. */
int ctl_print_failure(struct ctl *ctl, const struct etcd_response *response, int status);
int ctl_fail(int status, const char *text);
/* The forms of the member, user, role and auth commands: without "Error:", exit status 1. */
int ctl_complain(const char *text);
int ctl_print_bare_failure(const struct etcd_response *response);
/* Prints the prompt and reads a line from stdin, without echo on a terminal. The text is the caller's. */
char *ctl_read_password(const char *prompt);

/* output.c */
void ctl_print_key(const struct ctl *ctl, const struct etcd_response *response);
void ctl_add_json(struct buf *out, const struct etcd_response *response);

/* keys.c, watch.c, members.c, auth.c: the commands. */
int ctl_get(struct ctl *ctl, int argc, char **argv);
int ctl_ls(struct ctl *ctl, int argc, char **argv);
int ctl_set(struct ctl *ctl, int argc, char **argv);
int ctl_mk(struct ctl *ctl, int argc, char **argv);
int ctl_update(struct ctl *ctl, int argc, char **argv);
int ctl_mkdir(struct ctl *ctl, int argc, char **argv);
int ctl_setdir(struct ctl *ctl, int argc, char **argv);
int ctl_updatedir(struct ctl *ctl, int argc, char **argv);
int ctl_rm(struct ctl *ctl, int argc, char **argv);
int ctl_rmdir(struct ctl *ctl, int argc, char **argv);
int ctl_watch(struct ctl *ctl, int argc, char **argv);
int ctl_exec_watch(struct ctl *ctl, int argc, char **argv);
int ctl_cluster_health(struct ctl *ctl, int argc, char **argv);
int ctl_member_list(struct ctl *ctl, int argc, char **argv);
int ctl_member_add(struct ctl *ctl, int argc, char **argv);
int ctl_member_remove(struct ctl *ctl, int argc, char **argv);
int ctl_member_update(struct ctl *ctl, int argc, char **argv);
int ctl_member_replace(struct ctl *ctl, int argc, char **argv);
int ctl_user_list(struct ctl *ctl, int argc, char **argv);
int ctl_user_add(struct ctl *ctl, int argc, char **argv);
int ctl_user_passwd(struct ctl *ctl, int argc, char **argv);
int ctl_user_remove(struct ctl *ctl, int argc, char **argv);
int ctl_user_get(struct ctl *ctl, int argc, char **argv);
int ctl_user_grant(struct ctl *ctl, int argc, char **argv);
int ctl_user_revoke(struct ctl *ctl, int argc, char **argv);
int ctl_role_list(struct ctl *ctl, int argc, char **argv);
int ctl_role_add(struct ctl *ctl, int argc, char **argv);
int ctl_role_remove(struct ctl *ctl, int argc, char **argv);
int ctl_role_get(struct ctl *ctl, int argc, char **argv);
int ctl_role_grant(struct ctl *ctl, int argc, char **argv);
int ctl_role_revoke(struct ctl *ctl, int argc, char **argv);
int ctl_auth_enable(struct ctl *ctl, int argc, char **argv);
int ctl_auth_disable(struct ctl *ctl, int argc, char **argv);
