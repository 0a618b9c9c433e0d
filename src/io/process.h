/* Child processes: arguments (no shell), environment, input text, captured output with a ceiling, a timeout
 * that kills the whole process group. The child leads a process group of its own. Loop's thread.
 *
 * A run ends when the child has exited: what is in the pipes then is still read, but a grandchild that keeps
 * them open does not hold the run up. */
#pragma once
#include "base/buf.h"
#include <uv.h>

struct process;

struct process_options {
	const char *const *argv; /* ends in NULL; argv[0] is looked for in PATH when it has no '/' */
	const char *const *env;	 /* "NAME=value", ends in NULL; NULL: this process's own */
	const char *cwd;	 /* NULL: this process's own */
	struct slice input;	 /* standard input, copied; empty: /dev/null */
	bool inherit_input;	 /* standard input is this process's own */
	bool inherit_output;	 /* both outputs are this process's own; nothing is captured */
	bool separate_errors;	 /* standard error goes to result.errors instead of result.output */
	bool set_uid, set_gid;
	uid_t uid;
	gid_t gid;
	size_t max_output_bytes; /* of each output; default 1 MiB; the rest is read and dropped */
	/* Both outputs piece by piece as they come, instead of in the result. It may cancel the process. */
	void (*on_output)(struct process *process, struct slice piece, void *user);
	uint32_t timeout_ms; /* 0: none. SIGTERM to the group, SIGKILL kill_grace_ms later (default 2 s) */
	uint32_t kill_grace_ms;
};
struct process_result {
	int exit_code; /* 0-255, or -1 when a signal ended it */
	int signal;    /* the signal, or 0 */
	bool timed_out;
	bool output_cut; /* the ceiling was hit */
	struct slice output,
		errors; /* NUL-terminated; borrowed until the callback returns (blocking form: until done) */
};
/* Go's words for how it ended: "exit status 3", "signal: killed", or "" after success. */
void process_add_status(struct buf *out, const struct process_result *result);

/* Starts; on_done is called once, in a later turn. -errno with a text in reterr (may be NULL) when it cannot
 * be started: `exec: "foo": executable file not found in $PATH`, `fork/exec /x: permission denied`. */
int process_start(uv_loop_t *loop, const struct process_options *options,
	void (*on_done)(struct process *process, const struct process_result *result, void *user), void *user,
	struct process **ret_process, struct buf *reterr) _must_check_;
pid_t process_pid(const struct process *process);
int process_signal_group(struct process *process, int signal);
/* Kills the group (SIGKILL); on_done is not called. The handle is gone when this returns. */
void process_cancel(struct process *process);

/* The blocking form, on a loop of its own. `output` and `errors` hold the texts that the result points to. */
int process_run(const struct process_options *options, struct process_result *ret_result, struct buf *output,
	struct buf *errors, struct buf *reterr) _must_check_;
