/* What units say that start others: systemd.timer(5), systemd.path(5) and systemd.socket(5). Part of struct
 * service_config, read by config_triggers.c and config_socket.c. Pure. */
#pragma once
#include "base/macros.h"
#include "manager/strings.h"

struct calendar;

enum timer_base {
	TIMER_ACTIVE,	     /* OnActiveSec=: since the timer was started */
	TIMER_BOOT,	     /* OnBootSec= */
	TIMER_STARTUP,	     /* OnStartupSec=: since the keeper was started */
	TIMER_UNIT_ACTIVE,   /* OnUnitActiveSec=: since the unit was last started */
	TIMER_UNIT_INACTIVE, /* OnUnitInactiveSec=: since it last ended */
	TIMER_CALENDAR,
	TIMER_BASE_MAX
};
struct timer_value {
	enum timer_base base;
	int64_t span_ns;	   /* not of TIMER_CALENDAR */
	struct calendar *calendar; /* owned; of TIMER_CALENDAR */
};
struct timer_config {
	struct timer_value *values; /* owned */
	size_t count;
	int64_t random_delay_ns;
	bool fixed_random_delay, on_clock_change, persistent, remain_after_elapse;
};

enum path_type {
	PATH_EXISTS,
	PATH_EXISTS_GLOB,
	PATH_CHANGED,
	PATH_MODIFIED,
	PATH_DIRECTORY_NOT_EMPTY,
	PATH_TYPE_MAX
};
struct path_spec {
	enum path_type type;
	char *path; /* owned, absolute, in its simplest form */
};
struct path_config {
	struct path_spec *specs; /* owned */
	size_t count;
	bool make_directory;
	unsigned directory_mode;
};

enum listen_type { LISTEN_STREAM, LISTEN_DATAGRAM, LISTEN_SEQPACKET, LISTEN_FIFO, LISTEN_TYPE_MAX };
/* "stream" as the status shows it: "Stream". */
const char *listen_type_name(enum listen_type type);
struct listen_spec {
	enum listen_type type;
	char *address; /* owned: "/run/x", "@abstract", "8080", "127.0.0.1:80", "[::1]:80"; checked */
};
enum bind_ipv6_only { BIND_IPV6_DEFAULT, BIND_IPV6_BOTH, BIND_IPV6_ONLY };

struct socket_config {
	struct listen_spec *specs; /* owned */
	size_t count;
	char *user, *group, *name, *bind_to_device,
		*congestion; /* NULL: not set; name: FileDescriptorName= */
	unsigned socket_mode, directory_mode;
	enum bind_ipv6_only bind_ipv6_only;
	uint64_t backlog;
	bool no_delay, free_bind, transparent, broadcast, reuse_port, pass_credentials, pass_packet_info,
		flush_pending, remove_on_stop, keep_alive;
	int64_t keep_alive_time_ns, keep_alive_interval_ns, defer_accept_ns; /* 0: the kernel's */
	uint64_t keep_alive_probes;					     /* 0: the kernel's */
	uint64_t receive_buffer, send_buffer, pipe_size;		     /* bytes; 0: the kernel's */
	int64_t priority, mark, ip_tos, ip_ttl;				     /* -1: the kernel's */
	struct strings symlinks;					     /* absolute paths */
};

/* TriggerLimitIntervalSec= and TriggerLimitBurst=, of paths and sockets. */
struct trigger_limit {
	int64_t interval_ns;
	uint64_t burst; /* 0: no limit */
	bool burst_set;
};
