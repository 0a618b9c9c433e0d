/* --tunnel: one ssh of the system's forwards private sockets of ours to what is to be reached from the far
 * host. It runs as long as the command. And those sockets: they lie in a directory that only this user may
 * enter, since whoever connects there speaks to the far side as this user does. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fleetctl/fleetctl.h"
#include "io/url.h"

#define TUNNEL_STEP_MS 20
#define SOCKET_LISTENS 0x10000 /* among the flags in /proc/net/unix: the kernel's __SO_ACCEPTCON */

/* ---- sockets ---- */

/* For the end by a signal: nothing stays in /tmp, and no ssh behind. */
static struct {
	char *const *sockets;
	const char *volatile directory; /* NULL: none */
	volatile pid_t ssh;		/* 0: none */
} left_behind;

static void on_end_signal(int number)
{
	if (left_behind.ssh > 0)
		(void)kill(left_behind.ssh, SIGTERM);
	if (left_behind.directory) {
		for (char *const *socket = left_behind.sockets; *socket; socket++)
			(void)unlink(*socket);
		(void)rmdir(left_behind.directory);
	}
	(void)signal(number, SIG_DFL);
	(void)raise(number);
}

int ctl_sockets_make(struct fleetctl *ctl, size_t count, struct buf *reterr)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
	char directory[] = "/tmp/fleetctl-XXXXXX";

	if (!mkdtemp(directory)) {
		int r = -errno;

		buf_printf(reterr, "cannot make a directory for a socket: %s", strerror(-r));
		return r;
	}
	ctl->directory = mem_strdup(directory);
	for (size_t i = 0; i < count; i++)
		ctl_words_take(&ctl->sockets, mem_printf("%s/%zu.sock", directory, i));
	left_behind.sockets = ctl->sockets.items;
	left_behind.directory = ctl->directory;
	/* What nohup has had ignored stays so. */
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
		if (signal(numbers[i], on_end_signal) == SIG_IGN)
			(void)signal(numbers[i], SIG_IGN);
	return 0;
}

void ctl_sockets_remove(struct fleetctl *ctl)
{
	left_behind.directory = NULL;
	for (size_t i = 0; i < ctl->sockets.count; i++)
		(void)unlink(ctl->sockets.items[i]);
	if (ctl->directory)
		(void)rmdir(ctl->directory);
	ctl->directory = mem_free(ctl->directory);
	ctl_words_done(&ctl->sockets);
}

/* ---- the tunnel ---- */

char *ctl_tunnel_to_path(const char *path)
{
	_cleanup_free_ char *literal = ctl_ssh_literal(path);
	struct buf word = BUF_INIT(0);

	for (const char *at = literal; *at; at++) {
		if (*at == ':' || *at == '\\')
			buf_add_char(&word, '\\');
		buf_add_char(&word, *at);
	}
	return buf_take(&word, NULL);
}

char *ctl_tunnel_to_host(const struct url *url)
{
	struct buf word = BUF_INIT(0);

	url_add_host_port(&word, url->host[0] ? url->host : "127.0.0.1", url->port);
	return buf_take(&word, NULL);
}

static void on_exit_of_ssh(uv_process_t *process, int64_t status, int signal)
{
	(void)status;
	(void)signal;
	left_behind.ssh = 0;
	uv_close((uv_handle_t *)process, NULL);
	process->data = NULL;
}

static int start_ssh(struct fleetctl *ctl, const struct ctl_words *far, struct buf *reterr)
{
	_cleanup_(ctl_words_done) struct ctl_words words = {0};
	uv_process_options_t options = {.file = "ssh", .exit_cb = on_exit_of_ssh};
	uv_stdio_container_t stdio[3] = {
		{.flags = UV_IGNORE}, {.flags = UV_IGNORE}, {.flags = UV_INHERIT_FD, .data.fd = 2}};
	int r;

	ctl_words_add(&words, "ssh");
	ctl_words_add(&words, "-nNT");
	ctl_words_add(&words, "-o");
	ctl_words_add(&words, "ExitOnForwardFailure=yes");
	for (size_t i = 0; i < far->count; i++) {
		ctl_words_add(&words, "-L");
		ctl_words_take(&words, mem_printf("%s:%s", ctl->sockets.items[i], far->items[i]));
	}
	ctl_ssh_add_tunnel_host(ctl, &words);
	options.args = words.items;
	options.stdio = stdio;
	options.stdio_count = 3;
	ctl->tunnel = mem_new(uv_process_t);
	r = uv_spawn(&ctl->loop, ctl->tunnel, &options);
	if (r < 0) {
		uv_close((uv_handle_t *)ctl->tunnel, NULL);
		buf_printf(reterr, "cannot run ssh for --tunnel: %s", uv_strerror(r));
		return r;
	}
	ctl->tunnel->data = ctl;
	left_behind.ssh = ctl->tunnel->pid;
	return 0;
}

/* Whether somebody listens: a socket has its name a moment before that. To connect would tell too, and would
 * go through to the far side. Where the kernel's list cannot be read the name has to do. */
static bool is_listening(const char *path)
{
	size_t path_len = strlen(path);
	struct stat unused;
	char line[512];
	bool found = false;
	FILE *sockets;

	if (stat(path, &unused) < 0)
		return false;
	sockets = fopen("/proc/net/unix", "re");
	if (!sockets)
		return true;
	while (!found && fgets(line, sizeof(line), sockets)) {
		size_t len = strcspn(line, "\n");
		unsigned long flags = 0;

		line[len] = '\0';
		found = len > path_len && strcmp(line + len - path_len, path) == 0 &&
			sscanf(line, "%*s %*s %*s %lx", &flags) == 1 && (flags & SOCKET_LISTENS);
	}
	(void)fclose(sockets);
	return found;
}

static bool is_open(const struct fleetctl *ctl, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!is_listening(ctl->sockets.items[i]))
			return false;
	return true;
}

int ctl_tunnel_open(struct fleetctl *ctl, const struct ctl_words *far, struct buf *reterr)
{
	int64_t left_ms = (int64_t)(MAX(ctl->options.ssh_timeout, 1.0) * 1000);
	int r;

	assert(far->count <= ctl->sockets.count);
	r = start_ssh(ctl, far, reterr);
	if (r < 0)
		return r;
	while (!is_open(ctl, far->count)) {
		uv_run(&ctl->loop, UV_RUN_NOWAIT);
		if (!ctl->tunnel->data || left_ms <= 0) {
			buf_printf(reterr, "failed initializing SSH client: no tunnel through %s",
				ctl->options.tunnel);
			return -ETIMEDOUT;
		}
		usleep(TUNNEL_STEP_MS * 1000);
		left_ms -= TUNNEL_STEP_MS;
	}
	return 0;
}

void ctl_tunnel_close(struct fleetctl *ctl)
{
	if (ctl->tunnel && ctl->tunnel->data)
		(void)uv_process_kill(ctl->tunnel, SIGTERM);
}
