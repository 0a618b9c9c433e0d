/* Running units on this host, behind one interface. Implementations: `systemd`, over D-Bus; `supervisor`, the
 * embedded one where PID 1 is something else (a client of the keeper process, which owns the units' processes
 * and outlives this one).
 *
 * Everything is asynchronous on one uv loop and belongs to its thread: calls return at once, callbacks come
 * from the loop, never from inside the call. The manager keeps a mirror of all units' states, so reading them
 * costs nothing. While systemd or the keeper cannot be reached requests wait, and are sent when it answers;
 * the keeper is started when none runs. Units run on when this process dies; a new manager on the same
 * directory finds them running and touches nothing.
 *
 * A unit that was not loaded through this interface is never touched. With systemd, where others have units
 * too, loading a name that is one of the host's gives a unit whose load state is error, whose start does
 * nothing, and whose start_error says why. */
#pragma once
#include "base/buf.h"
#include "base/slice.h"
#include <uv.h>

struct manager;
struct manager_stream;

enum manager_kind {
	MANAGER_AUTO,
	MANAGER_SUPERVISOR,
	MANAGER_SYSTEMD,
	MANAGER_KIND_MAX,
	MANAGER_KIND_INVALID = -22
};
/* "auto", "supervisor", "systemd"; MANAGER_KIND_INVALID for anything else. */
enum manager_kind manager_kind_from_name(const char *name);
/* MANAGER_AUTO decided for this host: systemd where it is PID 1, or for `user`. */
enum manager_kind manager_kind_here(enum manager_kind kind, bool user);

/* What a unit does, in systemd's words. Borrowed: valid until the next turn of the loop. */
struct manager_unit_state {
	const char *name;
	const char *hash;     /* as given to manager_load(); "" when unknown */
	const char *load;     /* loaded, error, bad-setting, not-found, masked */
	const char *active;   /* active, reloading, inactive, failed, activating, deactivating */
	const char *sub;      /* dead, start-pre, start, start-post, running, exited, stop, stop-sigterm, …,
				 auto-restart, failed */
	const char *result;   /* success, exit-code, signal, timeout, start-limit-hit, resources,
				 exec-condition, … */
	int main_pid;	      /* 0: none */
	int exec_main_status; /* of the last main process: exit status or signal; 0 when it has not ended */
	uint64_t restarts;    /* automatic restarts since it was started */
	bool wanted;	      /* the last request was start (or restart), not stop */
	const char *job; /* start, stop or restart, while such a request waits or is under way; else "" */
	const char *start_error; /* why the last start did not begin, e.g. for a missing requirement; "": it
				    did */
	const char *const
		*warnings; /* e.g. "web.service:7: PrivateTmp= in section 'Service' is not supported …" */
	size_t warning_count;
};

struct manager_events {
	/* The mirror is complete: the keeper has been reached (again), and states were told for all its
	 * units. */
	void (*ready)(void *userdata);
	/* A unit's state changed, or it is new. */
	void (*state_changed)(void *userdata, const struct manager_unit_state *state);
	/* A unit was unloaded and its processes are gone. */
	void (*unloaded)(void *userdata, const char *name);
	/* The connection is lost (`why` for the log); the mirror keeps the last known states. ready() follows
	 * when it is back. May be NULL. */
	void (*lost)(void *userdata, const char *why);
};

struct manager_config {
	enum manager_kind kind;
	uv_loop_t *loop;
	/* supervisor */
	const char *state_dir;	 /* units, desired states and journal; made (0700) when missing. Copied */
	const char *socket_path; /* the keeper's; NULL: STATE_DIR/keeper.sock. Copied */
	const char *program; /* the executable that knows `keeper`; NULL: this one (/proc/self/exe). Copied */
	/* systemd */
	bool user;	       /* this user's (systemd --user), not the system's */
	const char *units_dir; /* fleet's unit files, and nothing else; made when missing; NULL or "":
				  /run/fleet/units, for a user XDG_RUNTIME_DIR/fleet/units. Copied */
	struct manager_events events;
	void *userdata;
};

/* result: 0, or -errno with a message for the user (else ""). */
typedef void (*manager_done_fn)(void *userdata, int result, const char *message);
/* A piece of text; `last` comes exactly once, with a result (0, -ENOENT for no such unit, …) and perhaps
 * text. */
typedef void (*manager_text_fn)(
	void *userdata, int result, const char *message, struct slice text, bool last);

/* -ENOTSUP with a message in `reterr` for a kind that is not there, -EINVAL for a bad configuration, -errno
 * when the directory cannot be made. Connecting goes on in the background: ready() tells. */
int manager_new(const struct manager_config *config, struct manager **ret, struct buf *reterr) _must_check_;
/* Lets go of the connection; units run on. Waiting requests end with -ECANCELED from inside this call. The
 * memory is freed once the loop has closed the handles: run the loop afterwards. `closed` may be NULL. */
void manager_close(struct manager *manager, void (*closed)(void *userdata), void *userdata);
bool manager_is_ready(const struct manager *manager);

/* Makes the unit known, not started; text is the unit file, hash its identity (40 hex digits, or ""). The
 * same name with another text replaces it from its next start on; while an unload of that name goes on, the
 * load waits for its end. Done when recorded in the state directory. Broken directives do not fail it: load
 * state is then bad-setting, and start fails. `done` may be NULL in all of these. */
void manager_load(struct manager *manager, const char *name, struct slice text, const char *hash,
	manager_done_fn done, void *userdata);
/* Stops the unit and forgets it. Done when its processes are gone; an unknown unit is no error. */
void manager_unload(struct manager *manager, const char *name, manager_done_fn done, void *userdata);
/* Start, stop, restart: done when accepted and recorded (states follow by callback). -ENOENT for a unit that
 * is not loaded. Starting what is active and stopping what is not are no errors and do nothing. */
void manager_start(struct manager *manager, const char *name, manager_done_fn done, void *userdata);
void manager_stop(struct manager *manager, const char *name, manager_done_fn done, void *userdata);
void manager_restart(struct manager *manager, const char *name, manager_done_fn done, void *userdata);

/* Reads from the mirror: false when the unit is not known. */
bool manager_state(const struct manager *manager, const char *name, struct manager_unit_state *ret);
size_t manager_count(const struct manager *manager);
/* Calls `each` for every unit, sorted by name. */
void manager_list(const struct manager *manager,
	void (*each)(void *userdata, const struct manager_unit_state *state), void *userdata);

/* What `systemctl status NAME` prints, in one piece. The exit status that systemctl would give stands in the
 * state: manager_status_exit(). -ENOENT: "Unit NAME could not be found.", or "Unit NAME could not be loaded:
 * WHY" when a load was the last thing tried. */
void manager_status(struct manager *manager, const char *name, manager_text_fn text, void *userdata);
/* systemctl's exit status for a state: 0 active or reloading, 3 any other; 4 for NULL (no such unit). */
int manager_status_exit(const struct manager_unit_state *state);
struct manager_journal_options {
	long lines;	    /* the last so many; negative: all */
	const char *output; /* "short" (or NULL), "cat", "json"; with systemd all that journalctl knows */
	bool follow;	    /* go on with new lines as they come */
	int64_t since_us;   /* only what came then or later, in microseconds since 1970; 0: no bound */
	int64_t until_us;   /* and not later than that; 0: no bound */
};
/* What `journalctl --unit NAME --no-pager -n LINES --output OUTPUT [-f] [--since T] [--until T]` prints; an
 * output that is not known gives -ENOTSUP. A unit that was unloaded still has its entries, until others have
 * taken their room. Without any entry the text is "-- No entries --\n" (in JSON nothing). With `follow`
 * pieces keep coming until manager_stream_cancel() (no callback after it). The stream is gone once `last` was
 * called; without `follow` the answer may be ignored. The options are copied. */
struct manager_stream *manager_journal(struct manager *manager, const char *name,
	const struct manager_journal_options *options, manager_text_fn text, void *userdata);
void manager_stream_cancel(struct manager_stream *stream);
