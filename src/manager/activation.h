/* Units that start others, and targets: what they do where a service runs processes. A unit of each type has
 * the same states, jobs and texts as a service (struct service); its kind says how it starts and stops, and
 * hears what became of the unit it starts. Files: activation.c (kinds, targets, what they share),
 * timer_unit.c with timer_schedule.c, path_unit.c, socket_unit.c with listen.c. */
#pragma once
#include "manager/keeper.h"

struct unit_kind {
	const char *type;	       /* "timer" */
	const char *started, *stopped; /* "Listening on", "Closed": what the log says */
	/* From dead or failed; 0, or -errno after activation_refuse(). NULL: a service. */
	int (*start)(struct service *service);
	/* From a state that is up, to dead. NULL: of a service. */
	void (*stop)(struct service *service);
	/* The state or the job of the unit that this one starts has changed; this one is up. May be NULL. */
	void (*triggered_changed)(struct service *service, const struct service *triggered);
	void (*timer_fired)(struct service *service);	/* service_arm(); may be NULL */
	void (*clock_changed)(struct service *service); /* the wall clock was set; may be NULL */
	/* A stop that waited while trigger_missed was set does not come after all; it is up. */
	void (*look_again)(struct service *service);
	/* Gives back what it has while it is up. May be NULL. */
	void (*release)(struct service *service);
};
/* That of a service for a type that is not known. */
const struct unit_kind *unit_kind_find(struct slice type);
bool unit_kind_is_target(const struct unit_kind *kind);
extern const struct unit_kind unit_kind_timer, unit_kind_path, unit_kind_socket;

/* Notes that the unit's state or job changed, for those that start it: they are told by activation_run(). */
void activation_changed(struct service *service);
void activation_run(struct keeper *keeper); /* at the end of a turn */
/* Starts the unit that this one is for, unless it runs or starts. -errno after saying why not. */
int activation_trigger(struct service *service);
/* The unit that this one starts; NULL: it is not loaded. */
struct service *activation_target(const struct service *service);
/* True when it runs, starts, or has been told to. */
bool activation_pending(const struct service *triggered);
/* Why it does not start, in its log and for who asked. Answers `result`. */
int activation_refuse(struct service *service, int result, const char *format, ...) _printf_(3, 4);
/* From now on clock_changed() is called. */
void activation_watch_clock(struct keeper *keeper);

/* How often a path or socket has started its unit. */
struct trigger_count {
	int64_t window_ns; /* when the interval began (monotonic); 0: never */
	uint64_t count;
};
/* Counts; false when it is once too often. */
bool trigger_within(struct trigger_count *count, const struct trigger_limit *limit);

/* A descriptor in the loop. Owns it. */
struct watch;
/* `ready` is called in each turn in which the descriptor can be read. NULL: it cannot be watched (the
 * descriptor is closed). */
struct watch *watch_new(struct service *service, int fd, void (*ready)(struct service *service));
void watch_pause(struct watch *watch);
void watch_go_on(struct watch *watch);
int watch_fd(const struct watch *watch);
struct watch *watch_free(struct watch *watch); /* closes the descriptor; NULL is fine */

/* socket_unit.c */
struct listen_fds {
	int *fds; /* of the sockets; borrowed */
	size_t count;
	char *names; /* "web:web:admin" */
};
/* What is handed to a service: the descriptors of all sockets that start it, or that it names in Sockets=.
 * Release with listen_fds_done(). */
void listen_fds_collect(const struct service *service, struct listen_fds *ret);
void listen_fds_done(struct listen_fds *fds);

/* When a timer is next due, in microseconds since 1970; 0: not known. */
int64_t timer_unit_next_us(const struct service *service);
