/* The keeper: one small process per machine that owns the units' processes. It is a child subreaper with its
 * own event loop, one thread; all state belongs to that thread. Files: keeper.c (the program), server.c (its
 * socket), server_journal.c (who reads the journal), service*.c (the state machine of a unit), spawn*.c
 * (starting one process), activation.c and *_unit.c (timers, paths, sockets, targets), stream.c (their
 * output), journal*.c (the journal on disk), keeper_journal.c (what becomes an entry of it), tracker.c (which
 * processes belong to a unit), limits.c (what they may use), jobs.c (start and stop requests and their
 * order), jobs_pull.c (what a start takes along), host.c (what the host knows or provides), store.c (what
 * survives a crash of the keeper), status.c (`systemctl status`). */
#pragma once
#include "base/list.h"
#include "base/map.h"
#include "manager/config.h"
#include "manager/journal.h"
#include "manager/limits.h"
#include "manager/tracker.h"
#include <sys/types.h>
#include <uv.h>

#define KEEPER_PROTOCOL 1 /* raised when an old client could not talk to a new keeper any more */
#define KEEPER_UNITS_MAX 4096
#define KEEPER_CLIENTS_MAX 64
#define KEEPER_LINE_MAX (4u * 1024 * 1024)   /* one message */
#define KEEPER_QUEUE_MAX (16u * 1024 * 1024) /* what a client may leave unread */
#define KEEPER_ID_SIZE 33		     /* 32 hex digits and a NUL */

enum service_state {
	STATE_DEAD,
	STATE_CONDITION,
	STATE_START_PRE,
	STATE_START,
	STATE_START_POST,
	STATE_RUNNING,
	STATE_RELOAD,
	STATE_EXITED,
	STATE_ACTIVE,	 /* of a target */
	STATE_WAITING,	 /* of a timer or path */
	STATE_LISTENING, /* of a socket */
	STATE_TRIGGERED, /* of a timer, path or socket: the unit it started is not over */
	STATE_ELAPSED,	 /* of a timer */
	STATE_STOP,
	STATE_STOP_WATCHDOG,
	STATE_STOP_SIGTERM,
	STATE_STOP_SIGKILL,
	STATE_STOP_POST,
	STATE_FINAL_WATCHDOG,
	STATE_FINAL_SIGTERM,
	STATE_FINAL_SIGKILL,
	STATE_FAILED,
	STATE_AUTO_RESTART,
	STATE_MAX
};
enum service_result { /* numbers stand in the state files: new ones come last */
	RESULT_SUCCESS,
	RESULT_RESOURCES,
	RESULT_TIMEOUT,
	RESULT_EXIT_CODE,
	RESULT_SIGNAL,
	RESULT_CORE_DUMP,
	RESULT_START_LIMIT,
	RESULT_SKIP_CONDITION,
	RESULT_PROTOCOL,
	RESULT_WATCHDOG,
	RESULT_OOM_KILL,
	RESULT_TRIGGER_LIMIT,
	RESULT_SERVICE_START_LIMIT, /* of a socket: its service's start limit is reached */
	RESULT_UNIT_START_LIMIT,    /* of a path: its unit's start limit is reached */
	RESULT_MAX
};
/* What a service said of itself on the notification socket. */
enum notify_state { NOTIFY_STATE_UNKNOWN, NOTIFY_STATE_READY, NOTIFY_STATE_RELOADING, NOTIFY_STATE_STOPPING };
enum job_kind { JOB_NONE, JOB_START, JOB_STOP, JOB_RESTART };

/* The last run of one command, for the status text. */
struct exec_record {
	pid_t pid;		   /* 0: never ran */
	int64_t start_us, exit_us; /* wall clock; exit 0: still running */
	bool exited;
	bool by_signal, dumped;
	int status;    /* exit status or signal */
	char *command; /* as the status shows it */
};

struct stream;	  /* the output of one process */
struct unit_kind; /* activation.h: what a unit of a type does */
struct timer_run;
struct path_run;
struct socket_run;
struct notify; /* the notification socket of one unit */

/* A unit of any type; most are services. */
struct service {
	struct keeper *keeper;
	struct list entry; /* in keeper->services */
	const struct unit_kind *kind;
	char *name;
	char *text; /* the unit file as it was given */
	size_t text_len;
	char hash[48];
	bool text_is_new; /* config is not of this text yet: it runs */
	struct unit_specifiers specifiers;
	struct service_config config;

	enum service_state state;
	enum service_result result;
	int64_t state_changed_us, active_enter_us, active_exit_us, inactive_enter_us,
		inactive_exit_us;		     /* wall clock; 0: never */
	int64_t inactive_enter_ns, inactive_exit_ns; /* monotonic; 0: never */
	pid_t main_pid, control_pid;		     /* 0: none */
	bool main_executed;			     /* execve() of the main process worked */
	enum exec_kind control_kind;
	size_t main_index, control_index; /* the command that runs, of its kind */
	struct exec_record main_exec, control_exec[EXEC_KIND_MAX];
	char invocation[KEEPER_ID_SIZE];
	bool uses_cgroup;
	uint64_t lines_lost; /* that the journal did not take, and nobody was told of yet */
	struct list streams;
	pid_t *sessions; /* of the processes this run started, for the search without cgroups */
	size_t session_count;
	uv_timer_t timer;	/* of the state */
	int64_t deadline_ns;	/* when it fires (monotonic); INT64_MAX: never */
	int64_t runtime_end_ns; /* until when it may run (monotonic); 0: not known yet, INT64_MAX: for ever */
	uv_timer_t watchdog;	/* fires when the service was silent for too long */
	uv_timer_t poll;	/* looks for what the kernel does not tell of (service_main.c) */
	unsigned handles_open;
	struct notify *notify; /* NULL: none */
	enum notify_state notify_state;
	char *notify_text;	     /* STATUS=; NULL: none */
	int notify_errno;	     /* ERRNO= */
	int64_t watchdog_ns;	     /* this run's, which the service may change; 0: none */
	bool main_known;	     /* this run has had a main process that is known */
	bool main_adopted;	     /* the main process is not the one that ExecStart= began */
	bool main_alien;	     /* the main process is no child of the keeper */
	uint64_t main_started;	     /* of an alien: its start time, so that no other takes its place */
	bool pid_file_awaited;	     /* it was to be there, and will perhaps come */
	bool killed_for_restart;     /* RestartKillSignal= applies */
	struct limits_unit limits;   /* in force for this run */
	uint64_t oom_kills;	     /* counted so far in this run */
	struct strings run_warnings; /* of the last start: what could not be had */
	struct timer_run *timer_run; /* of a timer, path or socket while it is up; else NULL */
	struct path_run *path_run;
	struct socket_run *socket_run;
	bool trigger_due;      /* who starts this unit is to be told of a change */
	bool trigger_missed;   /* it was to start its unit while a stop waited: look again if it stays */
	int64_t trigger_us;    /* a timer: when it last fired (wall clock); 0: it has not */
	bool trigger_restored; /* and that was before the keeper was started */
	bool forbid_restart, will_restart, restart_pending;
	uint64_t restarts;
	int64_t start_window_ns; /* when the interval of the start limit began (monotonic); 0: never */
	uint64_t start_count;	 /* starts in it */

	enum job_kind job;
	bool job_running, job_manual;
	bool job_announced; /* "Starting …" was said */
	bool job_visited;   /* in the search for what a stop takes along */
	enum pull_mark { PULL_NONE, PULL_MEMBER, PULL_LEFT_OUT } job_pull; /* of what a start takes along */
	bool wanted;
	bool missing_dependency; /* start was refused because a unit was not there; tried again when it is */
	char *start_error;	 /* why the last start that was asked for did not begin; NULL: it did */
	bool dirty, store_dirty; /* to be told to clients; to be written */
	struct list unloads;	 /* requests that wait for its end */
	bool unloading;
	struct pending_load { /* a load that came while it was unloading; text NULL: none */
		char *text;
		size_t text_len;
		char hash[48];
		bool start;
	} replacement;
};

struct keeper {
	uv_loop_t loop;
	char *dir, *socket;
	char id[KEEPER_ID_SIZE]; /* of the state directory */
	char hostname[256];
	struct tracker tracker;
	struct limits limits;
	int idle_fds[2]; /* a pipe that ends when no job is left: units of Type=idle wait for it; -1: none */
	struct map units;
	struct map started; /* pid_t -> the service whose main or control process it is */
	struct list services, clients;
	size_t client_count;
	struct journal *journal;
	uint64_t journal_bytes_max;
	char *machine_id, *boot_id;
	bool keep_when_idle, stopping;
	uv_prepare_t turn;
	uv_signal_t on_child, on_term, on_int;
	uv_timer_t idle_timer, retry_timer;
	bool triggers_due;	     /* some unit's trigger_due is set */
	int64_t boot_ns, startup_ns; /* monotonic: when the machine and the keeper began */
	int64_t startup_us;	     /* wall clock */
	uv_poll_t clock; /* tells that the wall clock was set; clock_fd -1: nobody wants to know */
	int clock_fd;
	bool jobs_waiting; /* some job may be ready to run */
	bool jobs_left;	   /* this turn's share was used up, the next turn goes on */
	uv_idle_t go_on;   /* active while work is left: the loop does not sleep */
	uv_pipe_t server;
	int lock_fd;
};

/* service.c */
struct service *service_new(struct keeper *keeper, const char *name, struct slice text, const char *hash);
void service_free(struct service *service); /* dead, out of all lists */
void service_set_text(struct service *service, struct slice text, const char *hash);
void service_apply_text(struct service *service); /* before a start */
/* Begin to start or stop; the state tells how it goes on. 0, or -EBADMSG (bad unit), -ECANCELED (start
 * limit). */
int service_start(struct service *service, bool automatic);
void service_stop(struct service *service);
/* Begins a reload of a running service: 0, -ESRCH (it does not run), -EBUSY (it reloads or stops),
 * -EOPNOTSUPP (the unit says nothing of how). */
int service_reload(struct service *service);
void service_child_exited(struct service *service, pid_t pid, int wait_status);
/* Some process that is neither main nor control ended: perhaps it was the last one. */
void service_check_empty(struct service *service);
void service_exec_done(struct service *service, pid_t pid); /* execve() of that process worked */
/* The state that clients are told. A simple service runs from its fork on, for its dependents as for
 * systemd's; but others are told so only once execve() worked, so that nobody takes a program that is not
 * there for started. */
enum service_state service_told_state(const struct service *service);
const char *service_state_sub(enum service_state state);
const char *service_state_active(enum service_state state);
const char *service_result_name(enum service_result result);
const char *service_load_name(const struct service *service);
bool service_is_active(const struct service *service); /* running or exited */
bool service_is_dead(const struct service *service);   /* dead or failed, and no restart is due */
bool service_is_stopping(const struct service *service);
/* The processes of the unit; fresh: looked for now. Release with pids_done(). */
struct pids service_pids(const struct service *service, bool fresh);
/* A line of the supervisor itself in the unit's log. */
void service_say(struct service *service, const char *format, ...) _printf_(2, 3);
/* "NAME - DESCRIPTION", or the name alone. */
void service_title(const struct service *service, struct buf *out);

/* Remembered for the status and for clients until the next start. */
void service_warn(struct service *service, const char *format, ...) _printf_(2, 3);
/* True when the process is one of the unit's, also when it has just ended and nobody has looked. */
bool service_owns(const struct service *service, pid_t pid);

/* service_notify.c: the notification socket, sd_notify(3). */
/* Opens it, unless it is; its address as NOTIFY_SOCKET has it, until it is closed. NULL: it cannot be. */
const char *notify_open(struct service *service);
void notify_drain(struct service *service); /* reads what was sent so far */
void notify_close(struct service *service);

/* spawn.c: starts config.exec[kind].items[index]; *ret_pid is set on success. -errno when nothing was
 * started. */
int spawn_command(struct service *service, enum exec_kind kind, size_t index, pid_t *ret_pid);

/* Whether the command's process is the unit's main process. */
bool spawn_is_main(const struct service *service, enum exec_kind kind);

/* stream.c */
/* Opens the pair; the child's end is *ret_child_fd (the caller's). */
int stream_open(struct service *service, const char *identifier, int *ret_child_fd);
/* Opens the pipe on which a starting process tells warnings and what failed, and whose end says that execve()
 * worked. */
int stream_open_report(struct service *service, pid_t pid, int fd);
void streams_drain(struct service *service); /* reads what has been written so far */
void streams_close(struct service *service);

/* jobs.c */
/* -ENOENT with the reason in `reterr` when a unit that is required is not there, -EDEADLK when two that are
 * conflict: nothing starts then. */
int jobs_start(struct service *service, struct buf *reterr);
void jobs_stop(struct service *service);
int jobs_restart(struct service *service, struct buf *reterr);
void jobs_auto_restart(struct service *service);
void jobs_state_changed(struct service *service, enum service_state before);
void jobs_run(struct keeper *keeper); /* starts what may start now; at the end of each turn */
void jobs_unit_loaded(struct service *service);
void jobs_retry_missing(struct keeper *keeper); /* starts that waited for a unit that was not there */

/* keeper_journal.c */
struct log_source {
	const char *identifier, *invocation;
	pid_t pid;
	uid_t uid;
	gid_t gid;
	int priority; /* as syslog's */
	bool driver;  /* the keeper says it of the unit; else the unit printed it */
};
int keeper_journal_open(struct keeper *keeper);
void keeper_journal_close(struct keeper *keeper);
/* One entry. What cannot be written is lost: a full disk must not stop units. */
void keeper_log(struct service *service, const struct log_source *source, struct slice message);
void keeper_say(struct service *service, const char *text); /* a line of the keeper itself */

/* host.c */
bool host_specifier(void *userdata, char letter, struct buf *out); /* userdata: the keeper */
bool host_provides(struct keeper *keeper, const char *unit);
/* When the machine, or the container, was started (monotonic; what it slept counts, so perhaps below 0). */
int64_t host_boot_ns(void);
/* Identifies this life of the machine: boot id and the start of its PID 1. */
int host_life(char ret_life[static 96]);

/* store.c */
int store_open(struct keeper *keeper);	     /* makes the directories; forgets units of an earlier life */
int store_load_units(struct keeper *keeper); /* after a crash of the keeper */
int store_write_text(struct service *service);
void store_write_state(struct service *service);
void store_remove(struct keeper *keeper, const char *name);

/* status.c */
void status_text(struct service *service, struct buf *out);
void status_describe_exit(
	const struct exec_record *record, struct buf *out); /* "code=exited, status=1/FAILURE" */

/* keeper.c */
void keeper_retry_later(struct keeper *keeper);
/* The end of a pipe that comes to its end when no job is left; -1: there is none. The child that waits for it
 * closes the other end. */
int keeper_idle_fd(struct keeper *keeper);
/* Adds a unit or gives a known one another text. */
struct service *keeper_load(struct keeper *keeper, const char *name, struct slice text, const char *hash);
void keeper_shutdown(struct keeper *keeper); /* stops all units, then the program */
struct service *keeper_find(struct keeper *keeper, const char *name);
void keeper_unit_gone(struct service *service); /* an unload is complete: tells, forgets, frees */
int keeper_main(int argc, char **argv);
int keeper_call_main(const char *socket_path, const char *request);

/* server.c */
int server_open(struct keeper *keeper);
void server_close(struct keeper *keeper);
void server_send_states(struct keeper *keeper);	   /* tells clients of dirty units */
void server_unloads_done(struct service *service); /* answers those who wait for its end */
void server_unit_gone(struct keeper *keeper, const char *name);
bool server_has_clients(const struct keeper *keeper);

/* server_journal.c: answers those who read the journal, some milliseconds' worth. True: there is more to do
 * at once. live_only: but only what is new to those who follow and have had all there was. */
bool server_send_journals(struct keeper *keeper, bool live_only);
