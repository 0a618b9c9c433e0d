/* The systemd backend's parts, for each other.
 *
 * A unit is fleet's when its file lies in the units' directory. systemd sees it through a link that it made
 * for us (LinkUnitFiles); what it says of the unit is believed only while its FragmentPath is that file.
 * Requests of a unit run one after the other, each in steps; steps that systemd takes for many units at once
 * (link, enable, disable, reload) are done once per turn for all units that wait for them. When such a call
 * fails it is done again for each unit alone, so that a bad one harms itself only. */
#pragma once
#include "base/list.h"
#include "base/map.h"
#include "manager/implementation.h"
#include "manager/sdbus.h"
#include "unit/unit.h"

enum systemd_step {
	/* load */
	STEP_CHECK,	  /* is the name free? In a batch: the usual answer is that there is no such unit */
	STEP_CHECK_ALL,	  /* there is one: whose? */
	STEP_ALIASES,	  /* are the names that [Install] adds free? */
	STEP_LINK,	  /* in a batch */
	STEP_ENABLE,	  /* in a batch: units with [Install] */
	STEP_RELOAD,	  /* in a batch: when systemd has not seen the change by itself */
	STEP_INSPECT,	  /* what does systemd make of it? In a batch */
	STEP_INSPECT_ALL, /* it did not make what we expected: what, and why? */
	/* all others */
	STEP_GUARD, /* does what runs under the name still come from our file? */
	STEP_ACT,   /* start, stop, restart */
	/* unload */
	STEP_STOP,    /* until its processes are gone */
	STEP_DISABLE, /* in a batch */
	STEP_FORGET,
	STEP_MAX
};
enum systemd_batch { BATCH_LIST, BATCH_LINK, BATCH_ENABLE, BATCH_RELOAD, BATCH_DISABLE, BATCH_MAX };
enum systemd_verb { VERB_LOAD, VERB_UNLOAD, VERB_START, VERB_STOP, VERB_RESTART, VERB_MAX };

struct systemd_request {
	struct list entry; /* in the unit's requests */
	enum systemd_verb verb;
	char *text; /* load */
	size_t text_len;
	char hash[UNIT_HASH_HEX_SIZE];
	manager_done_fn done;
	void *userdata;
	bool checked; /* a refused name was found free, and is loaded before it */
};

struct systemd_unit {
	struct systemd *systemd;
	char *name, *path; /* path: systemd's object */
	struct list requests;
	struct list entry;   /* in the systemd's `steps`, or one of its batches; in none while a call is under
				way */
	struct list changed; /* in the systemd's list of states to be told */
	enum systemd_step step;	 /* of the first request */
	bool alone;		 /* its batch failed: by itself now */
	uint64_t fresh_until_ms; /* of the loop: systemd has just said that it is ours */
	bool listed;		 /* in the answer to its batch: */
	char listed_load[32], listed_active[32], listed_sub[32];
	bool stale;	    /* load: systemd has an older text of it in memory */
	bool reloaded;	    /* in this request */
	bool waits_for_job; /* unload: until its processes are gone */
	int load_error; /* a load failed by this, and what was made of it is being undone; 0: it did not */
	char *load_error_text;
	bool known;   /* shown to the outside */
	bool refused; /* nothing was written: the name is not ours to use, or systemd will not have it */
	char *taken;  /* refused: because of the host's unit of this name; NULL: for another reason */
	bool ours;    /* systemd's FragmentPath is our file, or was when that was removed */
	unsigned stops_tried;
	char hash[UNIT_HASH_HEX_SIZE];
	char *text; /* as loaded or refused, to be written again when that helps; NULL: unknown */
	size_t text_len;
	/* Texts for manager_unit_state. */
	char load[32], active[32], sub[32], result[32];
	int main_pid, exec_main_status;
	uint64_t restarts;
	bool wanted, marked; /* marked: .wanted says so */
	uint32_t job_id;     /* of the job we asked for; 0: none */
	const char *job;
	char *start_error;
	bool lacks_something; /* the start met no such unit: tried again when something is loaded */
	char *waits_for;      /* the start was refused until this unit is loaded, or has ended; NULL: no */
	bool again_now;	      /* that is so */
	bool tried_again;     /* since this has happened */
	struct systemd_install *install; /* its [Install], while it is being loaded */
	size_t aliases_left;
};

struct systemd {
	struct manager manager;
	struct manager_config config;
	char *units_dir;
	char sender[64];   /* systemd's name on the bus; who else sends signals is not believed */
	char life[24];	   /* when systemd was started: with another one all units are down; "": unknown */
	struct sdbus *bus; /* NULL without a connection */
	uv_timer_t retry;
	uint64_t retry_ms;
	bool ready, closing, told_lost;
	size_t answers_due; /* before it is ready */
	struct map units;   /* name -> struct systemd_unit */
	struct map paths;   /* object path -> the same */
	struct list steps;  /* units whose step can be done now */
	struct list batches[BATCH_MAX];
	struct systemd_batch_call *batches_out[BATCH_MAX]; /* under way */
	bool reload_wanted;				   /* nobody waits for it */
	bool again_due;					   /* some units are to be started again */
	struct list changed;				   /* units whose state is to be told */
	struct list looks; /* questions about units under way that no request waits for */
	struct list streams;
	void (*closed)(void *userdata);
	void *closed_userdata;
};

struct systemd_properties {
	char load[32], active[32], sub[32];
	char fragment[4096]; /* "": none */
	char load_error[512];
	bool need_reload;
};

/* systemd.c */
struct systemd_unit *systemd_unit_get(struct systemd *systemd, const char *name); /* made when missing */
void systemd_unit_gone(struct systemd_unit *unit);				  /* out of the maps, freed */
void systemd_unit_changed(struct systemd_unit *unit);
void systemd_unit_keep_text(struct systemd_unit *unit, char *text, size_t len); /* takes it */
/* The connection is no use any more: it is closed, and made again later. */
void systemd_lost(struct systemd *systemd, const char *why);
/* All states are known. */
void systemd_ready(struct systemd *systemd);

/* systemd_work.c */
void systemd_request_add(struct systemd_unit *unit, enum systemd_verb verb, struct slice text,
	const char *hash, manager_done_fn done, void *userdata);
/* Loads a refused unit anew, before its other requests. */
void systemd_load_refused(struct systemd_unit *unit);
/* Does what can be done now: steps, then batches. Once a turn. */
void systemd_work(struct systemd *systemd);
/* A new connection: every request begins anew. */
void systemd_work_again(struct systemd *systemd);
void systemd_requests_cancel(struct systemd_unit *unit);
struct systemd_request *systemd_request_of(const struct systemd_unit *unit); /* the one under way */
void systemd_next(struct systemd_unit *unit, enum systemd_step step);
/* The request under way has ended. The unit, and the manager, may be gone afterwards. */
void systemd_finish(struct systemd_unit *unit, int result, const char *message);
void systemd_set_start_error(struct systemd_unit *unit, const char *text); /* NULL: none */
/* That unit of fleet's was loaded or has ended, or (NULL) systemd has read its files: starts that lacked it
 * are tried again. */
void systemd_loaded_now(struct systemd *systemd, const char *name);
void systemd_ended_now(struct systemd *systemd, const char *name);
bool systemd_is_down(const char *active); /* inactive, failed, or not known yet */

/* systemd_load.c: steps of a load; -errno when the connection is no use. */
bool systemd_check_name(struct systemd_unit *unit) _must_check_; /* false: the request has ended */
int systemd_check_all(struct systemd_unit *unit) _must_check_;
int systemd_check_aliases(struct systemd_unit *unit) _must_check_;
int systemd_inspect_all(struct systemd_unit *unit) _must_check_;
/* The answer to STEP_CHECK or STEP_INSPECT is there: in the unit, when it is `listed`. -errno as above. */
int systemd_listed(struct systemd_unit *unit) _must_check_;
/* The properties that a step has asked for. False: there are none, and nothing is left to do: the connection
 * is lost, or the request has ended by the error. */
bool systemd_step_properties(
	struct systemd_unit *unit, sd_bus_message *answer, struct systemd_properties *ret) _must_check_;
/* Ends a request by an error. A load that will not be had differently (final) is shown as a failed unit. */
void systemd_give_up(struct systemd_unit *unit, int error, const char *text, bool final);
/* Whether nothing stands in the way of a refused unit any more, by what systemd says of `taken`. */
bool systemd_is_free_now(const struct systemd_unit *unit, const struct systemd_properties *properties);
/* "NAME is a unit of this host (PATH)". */
void systemd_add_taken(struct buf *out, const char *name, const struct systemd_properties *properties);

/* systemd_act.c: steps of the other requests; -errno when the connection is no use. */
int systemd_guard(struct systemd_unit *unit) _must_check_;
int systemd_act_now(struct systemd_unit *unit) _must_check_;
int systemd_stop_unit(struct systemd_unit *unit) _must_check_;
int systemd_forget(struct systemd_unit *unit) _must_check_;

/* systemd_jobs.c */
/* Whether the unit is there to start another one: systemd refuses its start while that cannot be. */
bool systemd_is_trigger(const char *name);
/* The job that was asked for has ended. */
void systemd_job_ended(struct systemd_unit *unit, const char *result);

/* systemd_batch.c */
void systemd_batch_join(struct systemd_unit *unit, enum systemd_batch kind);
int systemd_batches_send(struct systemd *systemd) _must_check_; /* those that are due; -errno */
void systemd_batches_forget(struct systemd *systemd);		/* without the connection: those under way */

/* systemd_watch.c: signals, and what systemd says of a unit. */
/* Subscribes, and asks for every unit's state; ready() follows. -errno. */
int systemd_watch_begin(struct systemd *systemd) _must_check_;
/* systemd's object of a unit, owned. */
char *systemd_object_path(const char *name);
/* Asks for the Unit properties of a name (which makes systemd look for its file). -errno when it cannot be
 * sent. */
int systemd_ask(struct systemd *systemd, const char *name, sd_bus_message_handler_t done,
	void *userdata) _must_check_;
/* Asks for the path of the unit's file alone. */
int systemd_ask_fragment(struct systemd_unit *unit, sd_bus_message_handler_t done) _must_check_;
int systemd_read_properties(struct sdbus *bus, sd_bus_message *answer, struct systemd_properties *ret,
	struct buf *reterr) _must_check_;
void systemd_watch_end(struct systemd *systemd); /* without the connection: forgets what is under way */
/* Takes them as the unit's state. */
void systemd_take_properties(struct systemd_unit *unit, const struct systemd_properties *properties);

/* systemd_files.c: the units' directory. */
int systemd_files_open(struct systemd *systemd, struct buf *reterr) _must_check_; /* makes the directory */
/* Makes a unit, of which nothing else is known yet, for each file. */
int systemd_files_scan(struct systemd *systemd) _must_check_;
int systemd_files_write(struct systemd_unit *unit, struct slice text, struct buf *reterr) _must_check_;
/* Writes the file of a unit that was loaded before, when it is not there any more. */
int systemd_files_restore(struct systemd_unit *unit, struct buf *reterr) _must_check_;
void systemd_files_remove(struct systemd_unit *unit);
char *systemd_files_path(const struct systemd *systemd, const char *name);
/* Remembers for this life of systemd whether the unit was last asked to start. */
void systemd_files_read_wanted(struct systemd_unit *unit);
void systemd_files_want(struct systemd_unit *unit, bool wanted);
/* Whether systemd's path of a unit's file is ours of that name. */
bool systemd_files_is_ours(const struct systemd *systemd, const char *name, const char *fragment);
bool systemd_files_has(const struct systemd *systemd, const char *name);
/* Removes links to the unit's file that systemd was not asked to remove, where this process may. */
void systemd_files_remove_links(struct systemd_unit *unit);

/* systemd_install.c: the other units that a text reaches for, and what it may not say. */
enum systemd_reach { REACH_ALIAS, REACH_ALSO, REACH_REQUIRED_BY, REACH_UPHELD_BY, REACH_MAX };
const char *systemd_reach_key(enum systemd_reach reach); /* "Alias", … */
struct systemd_install_name {
	char *name;
	enum systemd_reach reach;
};
struct systemd_install {
	bool any;			    /* there is an [Install] section with something in it */
	struct systemd_install_name *names; /* other names that enabling touches */
	size_t count;
	char *bad; /* an error to show, or NULL */
};
struct systemd_install *systemd_install_read(const char *name, struct slice text);
/* Of a unit that was loaded before. */
struct systemd_install *systemd_install_of_unit(const struct systemd_unit *unit);
struct systemd_install *systemd_install_free(struct systemd_install *install);

/* systemd_text.c */
void systemd_status(struct manager *manager, const char *name, manager_text_fn text, void *userdata);
struct manager_stream *systemd_journal(struct manager *manager, const char *name,
	const struct manager_journal_options *options, manager_text_fn text, void *userdata);
void systemd_stream_cancel(struct manager_stream *stream);
void systemd_streams_close(struct systemd *systemd);
