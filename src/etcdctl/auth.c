/* The user, role and auth commands: JSON over /v2/auth. Their errors are the server's messages, printed bare;
 * everything that fails exits with 1. As in the original, what a command changes is looked up first, so that
 * "does not exist" and "already exists" are told before a password is asked for. */
#include "base/json.h"
#include "base/memory.h"
#include "etcdctl/ctl.h"
#include "io/url.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

DEFINE_CLEANUP(struct etcd_response *, etcd_response_unref)
#define _cleanup_response_ _cleanup_(etcd_response_unrefp)

static void json_freep(json_t **json)
{
	json_decref(*json);
}

/* One request below /v2/auth; name and body may be NULL. */
static struct etcd_response *call(
	struct ctl *ctl, const char *method, const char *kind, const char *name, const char *body)
{
	_cleanup_buf_ struct buf path = BUF_INIT(0);

	buf_printf(&path, "/v2/auth/%s%s", kind, name ? "/" : "");
	if (name)
		url_escape(&path, slice_str(name), URL_PART_SEGMENT);
	return ctl_wait(ctl, etcd_raw(ctl->client,
				     &(struct etcd_raw_request){
					     .method = method,
					     .target = buf_text(&path),
					     .content_type = body ? "application/json" : NULL,
					     .body = body,
				     },
				     NULL, NULL));
}

/* Sends and prints `done` (with the name in the place of %s) when it went well. */
static int change(struct ctl *ctl, const char *method, const char *kind, const char *name, const char *body,
	const char *before, const char *after)
{
	_cleanup_response_ struct etcd_response *response = call(ctl, method, kind, name, body);

	if (response->outcome != ETCD_OK)
		return ctl_print_bare_failure(response);
	printf("%s%s%s\n", before, name && after[0] ? name : "", after);
	return CTL_OK;
}

static json_t *parse(const struct etcd_response *response)
{
	return json_loadb(response->body, response->body_len, 0, NULL);
}

/* Connects after the words were checked: `wanted` of them (0 or 1), else `complaint`. */
static int begin(struct ctl *ctl, int argc, int wanted, const char *complaint)
{
	if (argc != wanted)
		return ctl_complain(complaint);
	return ctl_connect(ctl, true);
}

static int begin_user(struct ctl *ctl, int argc)
{
	return begin(ctl, argc, 1, "Please provide a username");
}

static int begin_role(struct ctl *ctl, int argc)
{
	return begin(ctl, argc, 1, "Please provide a role name");
}

static int check_exists(struct ctl *ctl, const char *kind, const char *name)
{
	_cleanup_response_ struct etcd_response *response = call(ctl, "GET", kind, name, NULL);

	return response->outcome == ETCD_OK ? CTL_OK : ctl_print_bare_failure(response);
}

static int check_is_new(struct ctl *ctl, const char *kind, const char *word, const char *name)
{
	_cleanup_response_ struct etcd_response *response = call(ctl, "GET", kind, name, NULL);

	if (response->outcome != ETCD_OK)
		return CTL_OK; /* not there; any other reason comes back with the creation */
	fflush(stdout);
	fprintf(stderr, "%s %s already exists\n", word, name);
	return CTL_BAD_ARGS;
}

/* Prints the member `field` of every object in the array `list`, one a line. */
static int print_names(struct ctl *ctl, int argc, const char *kind, const char *field)
{
	_cleanup_response_ struct etcd_response *response = NULL;
	_cleanup_(json_freep) json_t *json = NULL;
	json_t *list;
	int status = begin(ctl, argc, 0, "No arguments accepted");

	if (status)
		return status;
	response = call(ctl, "GET", kind, NULL, NULL);
	if (response->outcome != ETCD_OK)
		return ctl_print_bare_failure(response);
	json = parse(response);
	list = json_object_get(json, kind);
	for (size_t i = 0; i < json_array_size(list); i++) {
		/* Later servers answer names instead of objects. */
		json_t *item = json_array_get(list, i);
		const char *name =
			json_string_value(json_is_string(item) ? item : json_object_get(item, field));
		if (name)
			puts(name);
	}
	return CTL_OK;
}

/* ---- user ---- */

int ctl_user_list(struct ctl *ctl, int argc, char **argv _unused_)
{
	return print_names(ctl, argc, "users", "user");
}

static int put_user(
	struct ctl *ctl, const char *name, const char *password, const char *before, const char *after)
{
	_cleanup_buf_ struct buf body = BUF_INIT(0);

	buf_add_str(&body, "{\"user\":");
	json_add_string(&body, slice_str(name));
	buf_add_str(&body, ",\"password\":");
	json_add_string(&body, slice_str(password));
	buf_add_char(&body, '}');
	return change(ctl, "PUT", "users", name, buf_text(&body), before, after);
}

int ctl_user_add(struct ctl *ctl, int argc, char **argv)
{
	_cleanup_free_ char *name = argc ? mem_strdup(argv[0]) : NULL, *asked = NULL;
	char *colon = name ? strchr(name, ':') : NULL;
	int status = begin_user(ctl, argc);

	if (status)
		return status;
	if (colon)
		*colon = 0;
	status = check_is_new(ctl, "users", "User", name);
	if (status)
		return status;
	if (!colon)
		asked = ctl_read_password("New password: ");
	return put_user(ctl, name, colon ? colon + 1 : asked, "User ", " created");
}

int ctl_user_passwd(struct ctl *ctl, int argc, char **argv)
{
	_cleanup_free_ char *password = NULL;
	int status = begin_user(ctl, argc);

	if (!status)
		status = check_exists(ctl, "users", argv[0]);
	if (status)
		return status;
	password = ctl_read_password("New password: ");
	return put_user(ctl, argv[0], password, "Password updated", "");
}

int ctl_user_remove(struct ctl *ctl, int argc, char **argv)
{
	int status = begin_user(ctl, argc);

	return status ? status : change(ctl, "DELETE", "users", argv[0], NULL, "User ", " removed");
}

int ctl_user_get(struct ctl *ctl, int argc, char **argv)
{
	_cleanup_response_ struct etcd_response *response = NULL;
	_cleanup_(json_freep) json_t *json = NULL;
	json_t *roles;
	int status = begin_user(ctl, argc);

	if (status)
		return status;
	response = call(ctl, "GET", "users", argv[0], NULL);
	if (response->outcome != ETCD_OK)
		return ctl_print_bare_failure(response);
	json = parse(response);
	roles = json_object_get(json, "roles");
	printf("User: %s\nRoles: ", argv[0]);
	/* The original joins a list that begins with as many empty names. */
	for (size_t i = 0; i < json_array_size(roles); i++)
		putchar(' ');
	for (size_t i = 0; i < json_array_size(roles); i++) {
		json_t *item = json_array_get(roles, i);
		const char *name =
			json_string_value(json_is_string(item) ? item : json_object_get(item, "role"));
		printf("%s%s", i ? " " : "", name ? name : "");
	}
	putchar('\n');
	return CTL_OK;
}

static int change_roles(struct ctl *ctl, int argc, char **argv, const char *verb)
{
	_cleanup_buf_ struct buf body = BUF_INIT(0);
	int status;

	if (argc != 1)
		return ctl_complain("Please provide a username");
	if (!ctl_options.roles.count)
		return ctl_complain("No roles specified; please use `-roles`");
	status = ctl_connect(ctl, true);
	if (!status)
		status = check_exists(ctl, "users", argv[0]);
	if (status)
		return status;
	buf_add_str(&body, "{\"user\":");
	json_add_string(&body, slice_str(argv[0]));
	buf_printf(&body, ",\"%s\":[", verb);
	for (size_t i = 0; i < ctl_options.roles.count; i++) {
		if (i)
			buf_add_char(&body, ',');
		json_add_string(&body, slice_str(ctl_options.roles.items[i]));
	}
	buf_add_str(&body, "]}");
	return change(ctl, "PUT", "users", argv[0], buf_text(&body), "User ", " updated");
}

int ctl_user_grant(struct ctl *ctl, int argc, char **argv)
{
	return change_roles(ctl, argc, argv, "grant");
}

int ctl_user_revoke(struct ctl *ctl, int argc, char **argv)
{
	return change_roles(ctl, argc, argv, "revoke");
}

/* ---- role ---- */

int ctl_role_list(struct ctl *ctl, int argc, char **argv _unused_)
{
	return print_names(ctl, argc, "roles", "role");
}

int ctl_role_add(struct ctl *ctl, int argc, char **argv)
{
	_cleanup_buf_ struct buf body = BUF_INIT(0);
	int status = begin_role(ctl, argc);

	if (!status)
		status = check_is_new(ctl, "roles", "Role", argv[0]);
	if (status)
		return status;
	buf_add_str(&body, "{\"role\":");
	json_add_string(&body, slice_str(argv[0]));
	buf_add_char(&body, '}');
	return change(ctl, "PUT", "roles", argv[0], buf_text(&body), "Role ", " created");
}

int ctl_role_remove(struct ctl *ctl, int argc, char **argv)
{
	int status = begin_role(ctl, argc);

	return status ? status : change(ctl, "DELETE", "roles", argv[0], NULL, "Role ", " removed");
}

static void print_paths(const char *title, const json_t *paths)
{
	puts(title);
	for (size_t i = 0; i < json_array_size(paths); i++) {
		const char *path = json_string_value(json_array_get(paths, i));
		if (path)
			printf("\t%s\n", path);
	}
}

int ctl_role_get(struct ctl *ctl, int argc, char **argv)
{
	_cleanup_response_ struct etcd_response *response = NULL;
	_cleanup_(json_freep) json_t *json = NULL;
	json_t *kv;
	int status = begin_role(ctl, argc);

	if (status)
		return status;
	response = call(ctl, "GET", "roles", argv[0], NULL);
	if (response->outcome != ETCD_OK)
		return ctl_print_bare_failure(response);
	json = parse(response);
	kv = json_object_get(json_object_get(json, "permissions"), "kv");
	printf("Role: %s\n", argv[0]);
	print_paths("KV Read:", json_object_get(kv, "read"));
	print_paths("KV Write:", json_object_get(kv, "write"));
	return CTL_OK;
}

static void add_paths(struct buf *body, const char *name, bool with)
{
	buf_printf(body, "\"%s\":[", name);
	if (with)
		json_add_string(body, slice_str(ctl_options.path));
	buf_add_char(body, ']');
}

static int change_paths(struct ctl *ctl, int argc, char **argv, const char *verb)
{
	_cleanup_buf_ struct buf body = BUF_INIT(0), complaint = BUF_INIT(0);
	const char *path = ctl_options.path;
	int status;

	if (argc != 1)
		return ctl_complain("Please provide a role name");
	if (!path || !path[0])
		return ctl_complain("No path specified; please use `-path`");
	if (ctl_options.read + ctl_options.write + ctl_options.readwrite != 1)
		return ctl_complain("Please specify exactly one of -read, -write or -readwrite");
	if (path[0] != '/') {
		buf_printf(&complaint, "Not canonical path; please use `-path=/%s`", path);
		return ctl_complain(buf_text(&complaint));
	}
	status = ctl_connect(ctl, true);
	if (!status)
		status = check_exists(ctl, "roles", argv[0]);
	if (status)
		return status;
	buf_add_str(&body, "{\"role\":");
	json_add_string(&body, slice_str(argv[0]));
	buf_printf(&body, ",\"%s\":{\"kv\":{", verb);
	add_paths(&body, "read", ctl_options.read || ctl_options.readwrite);
	buf_add_char(&body, ',');
	add_paths(&body, "write", ctl_options.write || ctl_options.readwrite);
	buf_add_str(&body, "}}}");
	return change(ctl, "PUT", "roles", argv[0], buf_text(&body), "Role ", " updated");
}

int ctl_role_grant(struct ctl *ctl, int argc, char **argv)
{
	return change_paths(ctl, argc, argv, "grant");
}

int ctl_role_revoke(struct ctl *ctl, int argc, char **argv)
{
	return change_paths(ctl, argc, argv, "revoke");
}

/* ---- auth ---- */

int ctl_auth_enable(struct ctl *ctl, int argc, char **argv _unused_)
{
	int status = begin(ctl, argc, 0, "No arguments accepted");

	return status ? status : change(ctl, "PUT", "enable", NULL, NULL, "Authentication Enabled", "");
}

int ctl_auth_disable(struct ctl *ctl, int argc, char **argv _unused_)
{
	int status = begin(ctl, argc, 0, "No arguments accepted");

	return status ? status : change(ctl, "DELETE", "enable", NULL, NULL, "Authentication Disabled", "");
}
