/* The commands as rows; parsing, help and dispatch read them. Flags share one set of values: only one command
 * runs. */
#include "etcdctl/ctl.h"

struct ctl_options ctl_options;

#define FLAGS(...) ((const struct flag[]){__VA_ARGS__, {0}})
#define BOOL(word, member, text)                                                            \
	{                                                                                   \
		.name = word, .type = FLAG_BOOL, .value = &ctl_options.member, .help = text \
	}
#define INT(word, member, text)                                                             \
	{                                                                                   \
		.name = word, .type = FLAG_INT, .value = &ctl_options.member, .help = text, \
		.help_value = "0"                                                           \
	}
#define STRING(word, member, text)                                                            \
	{                                                                                     \
		.name = word, .type = FLAG_STRING, .value = &ctl_options.member, .help = text \
	}
#define ROLES                                                                    \
	{                                                                        \
		.name = "roles", .type = FLAG_LIST, .value = &ctl_options.roles, \
		.help = "List of roles to grant or revoke"                       \
	}
#define TTL INT("ttl", ttl_s, "key time-to-live")

static const struct ctl_command member_commands[] = {
	{"list", "enumerate existing cluster members", " ", NULL, NULL, ctl_member_list, NULL},
	{"add", "add a new member to the etcd cluster", "<name> <peerURL>", NULL, NULL, ctl_member_add, NULL},
	{"remove", "remove an existing member from the etcd cluster", "<memberID>", NULL, NULL,
		ctl_member_remove, NULL},
	{"update", "update an existing member in the etcd cluster", "<memberID> <peerURLs>", NULL, NULL,
		ctl_member_update, NULL},
	{"replace", "put a new member in the place of an existing one, in one step",
		"<memberID> <name> <peerURL>",
		"The new member gets the log first. When it is caught up it gets the old one's vote, and "
		"the\n"
		"   old one is removed, in one step. Until then the old one stays a member. Start the new\n"
		"   member with what this prints; it may have the peer URL of the old one.",
		NULL, ctl_member_replace, NULL},
	{0},
};

static const struct ctl_command user_commands[] = {
	{"add", "add a new user for the etcd cluster", "<user>", NULL, NULL, ctl_user_add, NULL},
	{"get", "get details for a user", "<user>", NULL, NULL, ctl_user_get, NULL},
	{"list", "list all current users", " ", NULL, NULL, ctl_user_list, NULL},
	{"remove", "remove a user for the etcd cluster", "<user>", NULL, NULL, ctl_user_remove, NULL},
	{"grant", "grant roles to an etcd user", "<user>", NULL, FLAGS(ROLES), ctl_user_grant, NULL},
	{"revoke", "revoke roles for an etcd user", "<user>", NULL, FLAGS(ROLES), ctl_user_revoke, NULL},
	{"passwd", "change password for a user", "<user>", NULL, NULL, ctl_user_passwd, NULL},
	{0},
};

static const struct ctl_command role_commands[] = {
	{"add", "add a new role for the etcd cluster", "<role> ", NULL, NULL, ctl_role_add, NULL},
	{"get", "get details for a role", "<role>", NULL, NULL, ctl_role_get, NULL},
	{"list", "list all roles", " ", NULL, NULL, ctl_role_list, NULL},
	{"remove", "remove a role from the etcd cluster", "<role>", NULL, NULL, ctl_role_remove, NULL},
	{"grant", "grant path matches to an etcd role", "<role>", NULL,
		FLAGS(STRING("path", path, "Path granted for the role to access"),
			BOOL("read", read, "Grant read-only access"),
			BOOL("write", write, "Grant write-only access"),
			BOOL("readwrite", readwrite, "Grant read-write access")),
		ctl_role_grant, NULL},
	{"revoke", "revoke path matches for an etcd role", "<role>", NULL,
		FLAGS(STRING("path", path, "Path revoked for the role to access"),
			BOOL("read", read, "Revoke read access"), BOOL("write", write, "Revoke write access"),
			BOOL("readwrite", readwrite, "Revoke read-write access")),
		ctl_role_revoke, NULL},
	{0},
};

static const struct ctl_command auth_commands[] = {
	{"enable", "enable auth access controls", " ", NULL, NULL, ctl_auth_enable, NULL},
	{"disable", "disable auth access controls", " ", NULL, NULL, ctl_auth_disable, NULL},
	{0},
};

/* Rows without run and sub are known to the original, and refused here with a clear text; but snapshot has
 * words of its own (base/programs.h). */
const struct ctl_command ctl_commands[] = {
	{"backup", "backup an etcd directory", " ", NULL, NULL, NULL, NULL},
	{"cluster-health", "check the health of the etcd cluster", " ", NULL,
		FLAGS(BOOL("forever", forever, "forever check the health every 10 second until CTRL+C")),
		ctl_cluster_health, NULL},
	{"mk", "make a new key with a given value", "<key> <value>", NULL,
		FLAGS(BOOL("in-order", in_order, "create in-order key under directory <key>"), TTL), ctl_mk,
		NULL},
	{"mkdir", "make a new directory", "<key>", NULL, FLAGS(TTL), ctl_mkdir, NULL},
	{"rm", "remove a key or a directory", "<key>", NULL,
		FLAGS(BOOL("dir", dir, "removes the key if it is an empty directory or a key-value pair"),
			BOOL("recursive", recursive,
				"removes the key and all child keys(if it is a directory)"),
			STRING("with-value", prev_value, "previous value"),
			INT("with-index", prev_index, "previous index")),
		ctl_rm, NULL},
	{"rmdir", "removes the key if it is an empty directory or a key-value pair", "<key>", NULL, NULL,
		ctl_rmdir, NULL},
	{"get", "retrieve the value of a key", "<key>", NULL,
		FLAGS(BOOL("sort", sort, "returns result in sorted order"),
			BOOL("quorum", quorum, "require quorum for get request")),
		ctl_get, NULL},
	{"ls", "retrieve a directory", "[key]", NULL,
		FLAGS(BOOL("sort", sort, "returns result in sorted order"),
			BOOL("recursive", recursive, "returns all key names recursively for the given path"),
			BOOL("p", append_slash, "append slash (/) to directories"),
			BOOL("quorum", quorum, "require quorum for get request")),
		ctl_ls, NULL},
	{"set", "set the value of a key", "<key> <value>",
		"Set sets the value of a key.\n\n"
		"   When <value> begins with '-', <value> is interpreted as a flag.\n"
		"   Insert '--' for workaround:\n\n"
		"   $ set -- <key> <value>",
		FLAGS(TTL, STRING("swap-with-value", prev_value, "previous value"),
			INT("swap-with-index", prev_index, "previous index")),
		ctl_set, NULL},
	{"setdir", "create a new directory or update an existing directory TTL", "<key>", NULL, FLAGS(TTL),
		ctl_setdir, NULL},
	{"update", "update an existing key with a given value", "<key> <value>", NULL, FLAGS(TTL), ctl_update,
		NULL},
	{"updatedir", "update an existing directory", "<key> <value>", NULL, FLAGS(TTL), ctl_updatedir, NULL},
	{"watch", "watch a key for changes", "<key>", NULL,
		FLAGS(BOOL("forever", forever, "forever watch a key until CTRL+C"),
			INT("after-index", after_index, "watch after the given index"),
			BOOL("recursive", recursive, "returns all values for key and child keys")),
		ctl_watch, NULL},
	{"exec-watch", "watch a key for changes and exec an executable", "<key> <command> [args...]", NULL,
		FLAGS(INT("after-index", after_index, "watch after the given index"),
			BOOL("recursive", recursive, "watch all values for key and child keys")),
		ctl_exec_watch, NULL},
	{"member", "member add, remove and list subcommands", NULL, NULL, NULL, NULL, member_commands},
	{"import", "import a snapshot to a cluster", " ", NULL, NULL, NULL, NULL},
	{"user", "user add, grant and revoke subcommands", NULL, NULL, NULL, NULL, user_commands},
	{"role", "role add, grant and revoke subcommands", NULL, NULL, NULL, NULL, role_commands},
	{"auth", "overall auth controls", NULL, NULL, NULL, NULL, auth_commands},
	{"snapshot", "save, check and restore the whole store", " ", NULL, NULL, NULL, NULL},
	{0},
};
