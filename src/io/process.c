/* uv_spawn() with pipes of our own, so that both outputs may share one. The run ends with the child, not with
 * the pipes: at its exit what lies in them is read without waiting, and then they are closed. */
#include "io/process.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/sigpipe.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { READ_STEP_BYTES = 64 * 1024, DEFAULT_OUTPUT_BYTES = 1024 * 1024, DEFAULT_GRACE_MS = 2000 };

struct output {
	struct process *process;
	uv_pipe_t pipe;
	struct buf text;
	bool open;
};

struct process {
	uv_process_t handle;
	uv_timer_t timer;
	uv_pipe_t input;
	uv_write_t write;
	char *input_text;
	bool input_open, timer_open, handle_open;
	struct output outputs[2];
	unsigned int open_handles;
	uint32_t grace_ms;
	bool exited, cancelled, cut, timed_out;
	int exit_code, signal;
	char *read_buf;
	void (*on_done)(struct process *process, const struct process_result *result, void *user);
	void (*on_output)(struct process *process, struct slice piece, void *user);
	void *user;
};

void process_add_status(struct buf *out, const struct process_result *result)
{
	if (result->signal) {
		const char *name = strsignal(result->signal);

		/* strsignal() says "Killed", Go "killed". */
		buf_add_str(out, "signal: ");
		if (name && *name) {
			buf_add_char(
				out, (char)(name[0] >= 'A' && name[0] <= 'Z' ? name[0] | 0x20 : name[0]));
			buf_add_str(out, name + 1);
		}
	} else if (result->exit_code) {
		buf_printf(out, "exit status %d", result->exit_code);
	}
}

static void on_closed(uv_handle_t *handle)
{
	struct process *process = handle->data;

	if (--process->open_handles)
		return;
	buf_done(&process->outputs[0].text);
	buf_done(&process->outputs[1].text);
	free(process->input_text);
	free(process->read_buf);
	free(process);
}

static void close_handle(struct process *process, void *handle)
{
	uv_handle_t *closing = handle;

	closing->data = process;
	uv_close(closing, on_closed);
}

static void close_all(struct process *process)
{
	for (size_t i = 0; i < ARRAY_LEN(process->outputs); i++) {
		if (process->outputs[i].open)
			close_handle(process, &process->outputs[i].pipe);
		process->outputs[i].open = false;
	}
	if (process->input_open)
		close_handle(process, &process->input);
	if (process->timer_open)
		close_handle(process, &process->timer);
	process->input_open = process->timer_open = false;
	if (process->handle_open)
		close_handle(process, &process->handle);
	process->handle_open = false;
}

static void take_output(struct output *output, const char *data, size_t len)
{
	struct process *process = output->process;
	size_t room = output->text.max - output->text.len;

	if (process->on_output) {
		if (!process->cancelled)
			process->on_output(process, slice_make(data, len), process->user);
		return;
	}
	if (len > room)
		process->cut = true;
	buf_add(&output->text, data, MIN(len, room));
}

/* What lies in the pipe, without waiting for more. */
static void drain(struct output *output)
{
	uv_os_fd_t fd;

	if (!output->open || uv_fileno((uv_handle_t *)&output->pipe, &fd) < 0)
		return;
	(void)uv_read_stop((uv_stream_t *)&output->pipe);
	/* A grandchild may go on writing: no more than a full pipe's worth beyond the ceiling is looked at.
	 */
	for (int round = 0; round < 64; round++) {
		ssize_t n = read(fd, output->process->read_buf, READ_STEP_BYTES);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		take_output(output, output->process->read_buf, (size_t)n);
	}
}

static void on_exit_status(uv_process_t *handle, int64_t status, int signal)
{
	struct process *process = container_of(handle, struct process, handle);
	struct process_result result;

	process->exited = true;
	drain(&process->outputs[0]);
	drain(&process->outputs[1]);
	if (process->timed_out)
		(void)kill(-handle->pid, SIGKILL); /* those of the group that outlived their leader */
	result = (struct process_result){
		.exit_code = signal ? -1 : (int)status,
		.signal = signal,
		.timed_out = process->timed_out,
		.output_cut = process->cut,
		.output = buf_slice(&process->outputs[0].text),
		.errors = buf_slice(&process->outputs[1].text),
	};
	if (!process->cancelled)
		process->on_done(process, &result, process->user);
	close_all(process);
}

static void on_timer(uv_timer_t *timer)
{
	struct process *process = container_of(timer, struct process, timer);

	if (process->exited)
		return;
	(void)kill(-process->handle.pid, process->timed_out ? SIGKILL : SIGTERM);
	process->timed_out = true;
	(void)uv_timer_start(&process->timer, on_timer, process->grace_ms, process->grace_ms);
}

static void alloc_read(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf)
{
	struct output *output = container_of((uv_pipe_t *)handle, struct output, pipe);

	(void)suggested;
	*ret_buf = uv_buf_init(output->process->read_buf, READ_STEP_BYTES);
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf)
{
	struct output *output = container_of((uv_pipe_t *)stream, struct output, pipe);

	if (len > 0)
		take_output(output, buf->base, (size_t)len);
	else if (len < 0)
		(void)uv_read_stop(stream);
}

static void on_input_written(uv_write_t *write, int status)
{
	struct process *process = container_of(write, struct process, write);

	(void)status; /* a child need not read its input to the end */
	process->input_text = mem_free(process->input_text);
	if (process->input_open)
		close_handle(process, &process->input);
	process->input_open = false;
}

/* A pipe whose read end belongs to the loop; the write end is for the child. */
static int open_output(uv_loop_t *loop, struct process *process, size_t index, size_t max_bytes, int *ret_fd)
{
	struct output *output = &process->outputs[index];
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	(void)fcntl(fds[0], F_SETFL, O_NONBLOCK);
	output->process = process;
	buf_init(&output->text, max_bytes);
	(void)uv_pipe_init(loop, &output->pipe, 0);
	output->open = true;
	process->open_handles++;
	r = uv_pipe_open(&output->pipe, fds[0]);
	if (r < 0) {
		(void)close(fds[0]);
		(void)close(fds[1]);
		return r;
	}
	*ret_fd = fds[1];
	return uv_read_start((uv_stream_t *)&output->pipe, alloc_read, on_read);
}

struct stdio {
	uv_stdio_container_t slots[3];
	int out_fd, err_fd; /* the child's ends, closed here once it has them */
};

static int prepare_stdio(
	uv_loop_t *loop, struct process *process, const struct process_options *options, struct stdio *stdio)
{
	size_t max_bytes = options->max_output_bytes ? options->max_output_bytes : DEFAULT_OUTPUT_BYTES;
	int r = 0;

	stdio->slots[0].flags = UV_IGNORE;
	if (options->inherit_input) {
		stdio->slots[0] = (uv_stdio_container_t){.flags = UV_INHERIT_FD, .data.fd = 0};
	} else if (options->input.len) {
		(void)uv_pipe_init(loop, &process->input, 0);
		process->input_open = true;
		process->open_handles++;
		stdio->slots[0].flags = (uv_stdio_flags)(UV_CREATE_PIPE | UV_READABLE_PIPE);
		stdio->slots[0].data.stream = (uv_stream_t *)&process->input;
	}
	stdio->slots[1] = (uv_stdio_container_t){.flags = UV_INHERIT_FD, .data.fd = 1};
	stdio->slots[2] = (uv_stdio_container_t){.flags = UV_INHERIT_FD, .data.fd = 2};
	if (options->inherit_output)
		return 0;
	r = open_output(loop, process, 0, max_bytes, &stdio->out_fd);
	if (r >= 0 && options->separate_errors)
		r = open_output(loop, process, 1, max_bytes, &stdio->err_fd);
	stdio->slots[1].data.fd = stdio->out_fd;
	stdio->slots[2].data.fd = options->separate_errors ? stdio->err_fd : stdio->out_fd;
	return r;
}

static void add_start_error(struct buf *reterr, const struct process_options *options, int error)
{
	if (!reterr)
		return;
	if (options->cwd && error == -ENOENT && access(options->cwd, F_OK) < 0) {
		buf_printf(reterr, "chdir %s: ", options->cwd);
	} else if (error == -ENOENT && !strchr(options->argv[0], '/')) {
		buf_add_str(reterr, "exec: ");
		text_add_quoted(reterr, slice_str(options->argv[0]));
		buf_add_str(reterr, ": executable file not found in $PATH");
		return;
	} else {
		buf_printf(reterr, "fork/exec %s: ", options->argv[0]);
	}
	text_add_errno(reterr, error);
}

static int spawn(
	uv_loop_t *loop, struct process *process, const struct process_options *options, struct stdio *stdio)
{
	/* libuv takes the texts without const but does not write to them. */
	uv_process_options_t spawn_options = {
		.exit_cb = on_exit_status,
		.file = options->argv[0],
		.args = (char **)(uintptr_t)options->argv,
		.env = (char **)(uintptr_t)options->env,
		.cwd = options->cwd,
		.flags = UV_PROCESS_DETACHED | (options->set_uid ? UV_PROCESS_SETUID : 0u) |
			 (options->set_gid ? UV_PROCESS_SETGID : 0u),
		.stdio_count = 3,
		.stdio = stdio->slots,
		.uid = options->uid,
		.gid = options->gid,
	};

	/* The handle is there, and must be closed, even when nothing could be started. */
	process->handle_open = true;
	process->open_handles++;
	return uv_spawn(loop, &process->handle, &spawn_options);
}

static void start_input(struct process *process, struct slice input)
{
	uv_buf_t bytes;

	process->input_text = mem_dup(input.data, input.len);
	bytes = uv_buf_init(process->input_text, (unsigned int)input.len);
	if (uv_write(&process->write, (uv_stream_t *)&process->input, &bytes, 1, on_input_written) < 0)
		on_input_written(&process->write, -EPIPE);
}

int process_start(uv_loop_t *loop, const struct process_options *options,
	void (*on_done)(struct process *process, const struct process_result *result, void *user), void *user,
	struct process **ret_process, struct buf *reterr)
{
	struct process *process = mem_new(struct process);
	struct stdio stdio = {.out_fd = -1, .err_fd = -1};
	int r;

	ignore_sigpipe();
	process->on_done = on_done;
	process->on_output = options->on_output;
	process->user = user;
	process->read_buf = mem_alloc(READ_STEP_BYTES);
	process->grace_ms = options->kill_grace_ms ? options->kill_grace_ms : DEFAULT_GRACE_MS;
	process->open_handles = 1;
	(void)uv_timer_init(loop, &process->timer);
	process->timer_open = true;
	r = prepare_stdio(loop, process, options, &stdio);
	if (r >= 0)
		r = spawn(loop, process, options, &stdio);
	closep(&stdio.out_fd);
	closep(&stdio.err_fd);
	if (r < 0) {
		add_start_error(reterr, options, r);
		process->exited = true;
		close_all(process);
		return r;
	}
	if (process->input_open)
		start_input(process, options->input);
	if (options->timeout_ms)
		(void)uv_timer_start(&process->timer, on_timer, options->timeout_ms, 0);
	*ret_process = process;
	return 0;
}

pid_t process_pid(const struct process *process)
{
	return process->handle.pid;
}

int process_signal_group(struct process *process, int signal)
{
	if (process->exited)
		return -ESRCH;
	return kill(-process->handle.pid, signal) < 0 ? -errno : 0;
}

void process_cancel(struct process *process)
{
	if (process->cancelled)
		return;
	process->cancelled = true;
	if (process->exited)
		return; /* from on_output, with its last words */
	/* What is left of it waits for the exit, so that no zombie stays. */
	(void)kill(-process->handle.pid, SIGKILL);
}

struct run {
	struct process_result *result;
	struct buf *output, *errors;
};

static void on_run_done(struct process *process, const struct process_result *result, void *user)
{
	struct run *run = user;

	(void)process;
	*run->result = *result;
	if (run->output)
		buf_add_slice(run->output, result->output);
	if (run->errors)
		buf_add_slice(run->errors, result->errors);
	run->result->output = run->output ? buf_slice(run->output) : slice_make("", 0);
	run->result->errors = run->errors ? buf_slice(run->errors) : slice_make("", 0);
}

int process_run(const struct process_options *options, struct process_result *ret_result, struct buf *output,
	struct buf *errors, struct buf *reterr)
{
	struct process_result result = {0};
	struct run run = {.result = &result, .output = output, .errors = errors};
	struct process *process;
	uv_loop_t loop;
	int r;

	r = uv_loop_init(&loop);
	if (r < 0)
		return r;
	r = process_start(&loop, options, on_run_done, &run, &process, reterr);
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	(void)uv_loop_close(&loop);
	if (r >= 0)
		*ret_result = result;
	return r;
}
