/* Flotilla's own routes: status and journal, printed as they come, or only asked for what their head says.
 * What is followed has no end of its own: it ends when nobody reads what is printed. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/text.h"
#include "fleetctl/fleetctl.h"

struct stream_run {
	struct http_call *call;
	bool fine, quiet, done;
	bool unread; /* what it says can no longer be printed */
	int status, exit_status, error;
	char *active, *job, *start_error; /* of the head; owned; NULL: it does not say */
	struct buf text;
};

static void stream_run_done(struct stream_run *run)
{
	free(run->active);
	free(run->job);
	free(run->start_error);
	buf_done(&run->text);
}

/* ---- what comes ---- */

static void keep_header(const struct http_response *response, const char *name, char **ret)
{
	const struct slice *value = http_response_header(response, name);

	if (value && !*ret)
		*ret = mem_strndup(value->data, value->len);
}

static void stream_head(struct http_call *call, const struct http_response *response, void *user)
{
	struct stream_run *run = user;
	const struct slice *exit_status = http_response_header(response, "X-Exit-Status");
	int64_t value;

	(void)call;
	run->status = response->status;
	run->fine = response->status == 200;
	if (exit_status && text_to_i64(*exit_status, &value) >= 0)
		run->exit_status = (int)value;
	keep_header(response, "X-Active-State", &run->active);
	keep_header(response, "X-Job", &run->job);
	keep_header(response, "X-Start-Error", &run->start_error);
}

static void stream_stop(struct stream_run *run, int error)
{
	http_call_cancel(run->call);
	run->done = run->unread = true;
	run->error = error;
}

/* All of it, however slowly it is read. */
static int print(struct slice text)
{
	struct pollfd room = {.fd = STDOUT_FILENO, .events = POLLOUT};

	if (fflush(stdout) != 0)
		return -errno;
	while (text.len) {
		ssize_t n = write(STDOUT_FILENO, text.data, text.len);

		if (n >= 0)
			text = slice_make(text.data + n, text.len - (size_t)n);
		else if (errno == EAGAIN)
			(void)poll(&room, 1, -1); /* who shares it with us has made it so */
		else if (errno != EINTR)
			return -errno;
	}
	return 0;
}

static void stream_piece(struct http_call *call, struct slice piece, void *user)
{
	struct stream_run *run = user;
	int r;

	(void)call;
	if (!run->fine) {
		buf_add_slice(&run->text, piece);
		return;
	}
	r = run->quiet ? 0 : print(piece);
	if (r < 0)
		stream_stop(run, r);
}

static void stream_done(
	struct http_call *call, int error, const char *text, const struct http_response *response, void *user)
{
	struct stream_run *run = user;

	(void)call;
	(void)response;
	run->error = error;
	if (error < 0) {
		buf_clear(&run->text);
		buf_add_str(&run->text, text);
	}
	run->done = true;
}

/* ---- the reader of a pipe, whose end is to be seen before the next line comes ---- */

/* An epoll of its own: libuv's own look at a descriptor would make it non-blocking, for all who share it, and
 * would take a socket that is shut for reading for one that nobody reads. */
static int watch_output(void)
{
	struct epoll_event nothing = {.events = 0}; /* but EPOLLERR and EPOLLHUP */
	int fd = epoll_create1(EPOLL_CLOEXEC);

	if (fd >= 0 && epoll_ctl(fd, EPOLL_CTL_ADD, STDOUT_FILENO, &nothing) < 0) {
		close(fd); /* a file */
		return -1;
	}
	return fd;
}

static void output_polled(uv_poll_t *output, int status, int events)
{
	struct stream_run *run = output->data;

	(void)status;
	(void)events;
	if (!run->done)
		stream_stop(run, -EPIPE);
}

static void output_closed(uv_handle_t *output)
{
	output->data = NULL;
}

static void stream_wait(struct fleetctl *ctl, struct stream_run *run)
{
	_cleanup_close_ int fd = run->quiet ? -1 : watch_output();
	uv_poll_t output;
	bool watched = fd >= 0 && uv_poll_init(&ctl->loop, &output, fd) == 0;

	output.data = run;
	if (watched)
		(void)uv_poll_start(&output, UV_READABLE, output_polled);
	while (!run->done)
		uv_run(&ctl->loop, UV_RUN_ONCE);
	if (watched)
		uv_close((uv_handle_t *)&output, output_closed);
	while (watched && output.data)
		uv_run(&ctl->loop, UV_RUN_NOWAIT);
}

/* ---- the whole ---- */

static int take_refusal(const struct stream_run *run, struct buf *reterr)
{
	json_t *root = json_loadb(buf_text(&run->text), run->text.len, 0, NULL);
	const char *message = ctl_text(json_object_get(root, "error"), "message");
	bool unknown = run->status == 501 ||
		       (run->status == 404 && !message[0]); /* fleet 1.0's own, without a message */

	buf_add_str(reterr, message[0] ? message : http_status_text(run->status));
	json_decref(root);
	if (unknown)
		return -ENOTSUP;
	return run->status == 502 ? -EHOSTUNREACH : -EREMOTEIO;
}

static int run_stream(struct fleetctl *ctl, const char *path, struct stream_run *run, struct buf *reterr)
{
	_cleanup_free_ char *url = mem_printf("%s%s", ctl->base, path);
	bool followed = strstr(path, "follow=true") != NULL;
	struct http_call_options options = {.url = url,
		.unix_path = ctl->unix_path,
		.connect_timeout_ms = ctl_timeout_ms(ctl),
		/* A journal that is followed may have nothing to say for long. */
		.header_timeout_ms = followed ? 0 : ctl_timeout_ms(ctl),
		.on_head = stream_head,
		.on_body = stream_piece,
		.on_done = stream_done,
		.user = run};

	/* The machines' own fleetds are asked from here, and may be out of reach. */
	if (ctl->registry && ctl->options.tunnel[0])
		return -ENOTSUP;
	run->text = BUF_INIT(1024 * 1024);
	ctl_trace(ctl, "GET", url, 0);
	run->call = http_client_send(ctl->http, &options);
	stream_wait(ctl, run);
	if (run->unread) {
		buf_printf(reterr, "cannot print it: %s", strerror(-run->error));
		return run->error == -EPIPE ? -EPIPE : -EIO;
	}
	if (run->error < 0) {
		buf_printf(reterr, "Get \"%s\": %s", url, buf_text(&run->text));
		return -ECONNRESET;
	}
	return run->fine ? 0 : take_refusal(run, reterr);
}

int ctl_stream(struct fleetctl *ctl, const char *path, int *ret_exit, struct buf *reterr)
{
	_cleanup_(stream_run_done) struct stream_run run = {0};
	int r = run_stream(ctl, path, &run, reterr);

	if (ret_exit)
		*ret_exit = run.exit_status;
	return r;
}

void ctl_unit_now_done(struct unit_now *now)
{
	free(now->active);
	free(now->job);
	free(now->start_error);
	*now = (struct unit_now){0};
}

int ctl_unit_now(
	struct fleetctl *ctl, const char *name, const char *machine, struct unit_now *ret, struct buf *reterr)
{
	_cleanup_free_ char *query = ctl_path("/status?machine=", machine, "");
	_cleanup_free_ char *path = ctl_path("/flotilla/v1/units/", name, query);
	_cleanup_(stream_run_done) struct stream_run run = {.quiet = true};
	int r = run_stream(ctl, path, &run, reterr);

	*ret = (struct unit_now){take_ptr(run.active), take_ptr(run.job), take_ptr(run.start_error)};
	return r < 0 && r != -ENOTSUP ? -EHOSTUNREACH : r;
}

static bool is(const char *text, const char *word)
{
	return text && strcmp(text, word) == 0;
}

bool ctl_unit_now_runs_on(const struct unit_now *now)
{
	return !is(now->job, "stop") &&
	       (is(now->active, "active") || is(now->active, "activating") || is(now->active, "reloading"));
}

int ctl_start_outcome(struct fleetctl *ctl, const char *name, const char *machine, char **ret_why)
{
	_cleanup_buf_ struct buf text = BUF_INIT(64 * 1024);
	_cleanup_(ctl_unit_now_done) struct unit_now now;
	int r = ctl_unit_now(ctl, name, machine, &now, &text);

	if (now.start_error) {
		*ret_why = take_ptr(now.start_error);
		return -EIO;
	}
	if (r == -EHOSTUNREACH) {
		*ret_why = mem_printf("cannot be asked about: %s", buf_text(&text));
		return r;
	}
	/* Not inactive: it starts by now, and the list of states that said otherwise is older. */
	if (!is(now.job, "start") && (!now.active || is(now.active, "inactive")))
		return 0;
	*ret_why = mem_strdup("waits for units that it needs");
	return 1;
}
