/* watch and exec-watch: one watch on the loop, an interrupt ends the program with 0. The commands of
 * exec-watch run side by side, as processes of the same loop; what they answer does not matter. */
#include "etcdctl/ctl.h"
#include "base/list.h"
#include "base/memory.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

extern char **environ;

struct watching {
	struct ctl *ctl;
	struct etcd_watch *watch;
	uv_signal_t interrupt;
	char **command;	      /* NULL: print */
	struct list children; /* that run, or are being closed */
	bool opened, done;
	int status;
};

struct child {
	uv_process_t process; /* first */
	struct list entry;
};

static void stop(struct watching *watching, int status)
{
	if (watching->done)
		return;
	watching->done = true;
	watching->status = status;
	watching->watch = etcd_watch_close(watching->watch);
	uv_stop(&watching->ctl->loop);
}

static void interrupted(uv_signal_t *handle, int signum _unused_)
{
	stop(handle->data, CTL_OK);
}

static void child_closed(uv_handle_t *handle)
{
	struct child *child = (struct child *)handle;

	list_remove(&child->entry);
	free(child);
}

static void child_exited(uv_process_t *process, int64_t status _unused_, int signal _unused_)
{
	uv_close((uv_handle_t *)process, child_closed);
}

/* The environment, with the four variables of this event in the place of older ones of the same names. */
static char **make_environment(const struct etcd_response *event)
{
	const struct etcd_node *node = event->node;
	char *added[] = {
		mem_printf("ETCD_WATCH_ACTION=%s", event->action),
		mem_printf("ETCD_WATCH_MODIFIED_INDEX=%llu", (unsigned long long)node->modified_index),
		mem_printf("ETCD_WATCH_KEY=%s", node->key),
		mem_printf("ETCD_WATCH_VALUE=%s", node->value ? node->value : ""),
	};
	size_t count = 0;
	char **env;

	while (environ[count])
		count++;
	env = mem_new_array(char *, count + ARRAY_LEN(added) + 1);
	count = 0;
	for (char **variable = environ; *variable; variable++) {
		bool replaced = false;
		for (size_t i = 0; i < ARRAY_LEN(added); i++)
			replaced |=
				!strncmp(*variable, added[i], (size_t)(strchr(added[i], '=') - added[i]) + 1);
		if (!replaced)
			env[count++] = mem_strdup(*variable);
	}
	for (size_t i = 0; i < ARRAY_LEN(added); i++)
		env[count++] = added[i];
	return env;
}

static void print_start_failure(const char *program, int error)
{
	_cleanup_free_ char *reason = mem_strdup(strerror(-error));

	if (reason[0] >= 'A' && reason[0] <= 'Z')
		reason[0] = (char)(reason[0] | 0x20);
	if (strchr(program, '/'))
		fprintf(stderr, "fork/exec %s: %s", program, reason);
	else if (error == -ENOENT)
		fprintf(stderr, "exec: \"%s\": executable file not found in $PATH", program);
	else
		fprintf(stderr, "exec: \"%s\": %s", program, reason);
}

static int run_command(struct watching *watching, const struct etcd_response *event)
{
	struct child *child = mem_new(struct child);
	char **env = make_environment(event);
	uv_stdio_container_t stdio[3] = {
		{.flags = UV_IGNORE},
		{.flags = UV_INHERIT_FD, .data.fd = 1},
		{.flags = UV_INHERIT_FD, .data.fd = 2},
	};
	uv_process_options_t options = {
		.exit_cb = child_exited,
		.file = watching->command[0],
		.args = watching->command,
		.env = env,
		.stdio = stdio,
		.stdio_count = 3,
	};
	int r;

	list_push_back(&watching->children, &child->entry);
	fflush(stdout);
	r = uv_spawn(&watching->ctl->loop, &child->process, &options);
	for (char **variable = env; *variable; variable++)
		free(*variable);
	free(env);
	if (r >= 0)
		return 0;
	uv_close((uv_handle_t *)&child->process, child_closed);
	print_start_failure(watching->command[0], r);
	return r;
}

static void take_event(struct watching *watching, const struct etcd_response *event)
{
	if (event->node->dir) {
		if (watching->command)
			fprintf(stderr, "Ignored dir %s change", event->node->key);
		return;
	}
	if (watching->command) {
		if (run_command(watching, event) < 0)
			stop(watching, CTL_BAD_ARGS);
		return;
	}
	if (ctl_options.recursive)
		printf("[%s] %s\n", event->action, event->node->key);
	ctl_print_key(watching->ctl, event);
	if (fflush(stdout) < 0)
		stop(watching, CTL_BAD_ARGS);
	if (!ctl_options.forever)
		stop(watching, CTL_OK);
}

static void on_news(struct etcd_watch *watch _unused_, enum etcd_watch_news news,
	const struct etcd_response *response, void *userdata)
{
	struct watching *watching = userdata;

	switch (news) {
	case ETCD_WATCH_OPEN:
		watching->opened = true;
		break;
	case ETCD_WATCH_EVENT:
		take_event(watching, response);
		break;
	case ETCD_WATCH_CLEARED:
	case ETCD_WATCH_REFUSED:
		stop(watching, ctl_print_failure(watching->ctl, response, CTL_SERVER_ERROR));
		break;
	case ETCD_WATCH_OUTAGE:
		/* A cluster that never answered is an error; one that is away for a while is waited for. */
		if (!watching->opened)
			stop(watching, ctl_print_failure(watching->ctl, response, CTL_SERVER_ERROR));
		break;
	case ETCD_WATCH_NEWS_MAX:
		break;
	}
}

/* Commands that still run are left to themselves, but the loop must not hear of them once it is gone. */
static void leave_children(struct watching *watching)
{
	list_for_each (at, &watching->children) {
		struct child *child = list_item(at, struct child, entry);

		if (!uv_is_closing((uv_handle_t *)&child->process))
			uv_close((uv_handle_t *)&child->process, child_closed);
	}
	while (!list_empty(&watching->children))
		(void)uv_run(&watching->ctl->loop, UV_RUN_NOWAIT);
}

static int watch_key(struct ctl *ctl, const char *key, char **command, uint64_t after_index)
{
	struct watching watching = {.ctl = ctl, .command = command};
	struct etcd_watch_options options = {.recursive = ctl_options.recursive, .after_index = after_index};

	list_init(&watching.children);
	(void)uv_signal_init(&ctl->loop, &watching.interrupt);
	watching.interrupt.data = &watching;
	(void)uv_signal_start(&watching.interrupt, interrupted, SIGINT);
	watching.watch = etcd_watch_open(ctl->client, key, &options, on_news, &watching);
	while (!watching.done)
		(void)uv_run(&ctl->loop, UV_RUN_DEFAULT);
	leave_children(&watching);
	uv_close((uv_handle_t *)&watching.interrupt, NULL);
	(void)uv_run(&ctl->loop, UV_RUN_NOWAIT);
	return watching.status;
}

int ctl_watch(struct ctl *ctl, int argc, char **argv)
{
	int status = ctl_connect(ctl, true);

	if (status)
		return status;
	if (argc < 1)
		return ctl_fail(CTL_BAD_ARGS, "key required");
	return watch_key(
		ctl, argv[0], NULL, ctl_options.after_index > 0 ? (uint64_t)ctl_options.after_index : 0);
}

/* KEY -- COMMAND ARG...; without the dashes the last word is the key and those before it are the command. */
int ctl_exec_watch(struct ctl *ctl, int argc, char **argv)
{
	_cleanup_free_ char **command = mem_new_array(char *, (size_t)argc + 1);
	const char *key = argc ? argv[argc - 1] : NULL;
	int status = ctl_connect(ctl, true), separator = 1, count;
	/* As in the original the index given is skipped too. */
	uint64_t after_index = ctl_options.after_index > 0 ? (uint64_t)ctl_options.after_index + 1 : 0;

	if (status)
		return status;
	while (separator < argc && strcmp(argv[separator], "--"))
		separator++;
	if (separator < argc) {
		key = argv[0];
		count = argc - 2;
		memcpy(command, argv + 2, (size_t)MAX(count, 0) * sizeof(*command));
	} else {
		count = argc - 1;
		memcpy(command, argv, (size_t)MAX(count, 0) * sizeof(*command));
	}
	if (argc < 2 || count < 1)
		return ctl_fail(CTL_BAD_ARGS, "key and command to exec required");
	return watch_key(ctl, key, command, after_index);
}
