/* A connection to systemd over D-Bus, by libsystemd's sd-bus on a uv loop. The library is opened when the
 * first connection is made, so that who never uses it does not carry it.
 *
 * Loop's thread; callbacks come from the loop, never from inside a call. Calls are sd-bus's own, through the
 * table: bus->lib->sd_bus_call_async(bus->bus, …). A connection that ends answers every call under way with
 * an error first (sdbus_is_lost() tells it from others), then calls lost() once. */
#pragma once
#include "base/buf.h"
#include "base/list.h"
#include "io/library.h"
#include <systemd/sd-bus.h>
#include <uv.h>

/* All there since version 237. */
#define SDBUS_FUNCTIONS(X)                \
	X(sd_bus_new)                     \
	X(sd_bus_set_address)             \
	X(sd_bus_set_bus_client)          \
	X(sd_bus_start)                   \
	X(sd_bus_open_system)             \
	X(sd_bus_open_user)               \
	X(sd_bus_close)                   \
	X(sd_bus_unref)                   \
	X(sd_bus_get_fd)                  \
	X(sd_bus_get_events)              \
	X(sd_bus_is_open)                 \
	X(sd_bus_message_get_sender)      \
	X(sd_bus_get_timeout)             \
	X(sd_bus_process)                 \
	X(sd_bus_call_async)              \
	X(sd_bus_add_match_async)         \
	X(sd_bus_message_new_method_call) \
	X(sd_bus_message_append)          \
	X(sd_bus_message_append_basic)    \
	X(sd_bus_message_open_container)  \
	X(sd_bus_message_close_container) \
	X(sd_bus_message_enter_container) \
	X(sd_bus_message_exit_container)  \
	X(sd_bus_message_read)            \
	X(sd_bus_message_read_basic)      \
	X(sd_bus_message_skip)            \
	X(sd_bus_message_peek_type)       \
	X(sd_bus_message_get_error)       \
	X(sd_bus_message_get_errno)       \
	X(sd_bus_message_get_path)        \
	X(sd_bus_message_is_signal)       \
	X(sd_bus_message_unref)

struct sdbus_library {
	SDBUS_FUNCTIONS(LIBRARY_POINTER)
};

struct sdbus_config {
	uv_loop_t *loop;
	bool user; /* this user's systemd, not the system's */
	void (*lost)(void *userdata, const char *why);
	/* Called once a turn, before the loop sleeps: what it sends goes out in this turn. True: again at
	 * once. */
	bool (*turn)(void *userdata);
	void *userdata;
};
struct sdbus {
	const struct sdbus_library *lib;
	sd_bus *bus;
	bool direct; /* to systemd itself: nobody else can be at the other end */
	struct sdbus_config config;
	uv_poll_t poll;
	uv_timer_t timer;
	uv_prepare_t prepare;
	int events;		    /* that the poll waits for */
	struct list calls, waiting; /* under way; not sent yet */
	size_t call_count;
	unsigned open_handles;
	bool closed;
};

/* Opens a connection: as root to systemd's own socket, which needs no bus daemon; else over the bus. That it
 * fails later is told by lost(). -errno with a message. */
int sdbus_open(const struct sdbus_config *config, struct sdbus **ret, struct buf *reterr) _must_check_;
/* Ends it; no callback follows but `closed` (may be NULL), once the loop has let go of it. */
void sdbus_close(struct sdbus *bus, void (*closed)(void *userdata), void *userdata);
/* A new call of a method of systemd's; an interface NULL is its Manager. NULL when memory or the connection
 * is gone. */
sd_bus_message *sdbus_call_new(
	struct sdbus *bus, const char *path, const char *interface, const char *method);
/* Sends and releases the message, now or when fewer are under way: a bus bounds how many may be. `done` gets
 * the answer; a timeout of 0 stands for sd-bus's own. -errno. */
int sdbus_send(struct sdbus *bus, sd_bus_message *message, uint64_t timeout_ms, sd_bus_message_handler_t done,
	void *userdata) _must_check_;
/* An answer to a call: 0, or -errno with the text for the user in `reterr`. */
int sdbus_result(struct sdbus *bus, sd_bus_message *answer, struct buf *reterr) _must_check_;
/* Whether the answer says that the connection ended, so that nobody knows what became of the call. */
bool sdbus_is_lost(struct sdbus *bus, sd_bus_message *answer);
/* Whether the answer is an error that the same call would meet again, as long as nobody changes something: of
 * systemd itself, or of the arguments. */
bool sdbus_is_final(struct sdbus *bus, sd_bus_message *answer);
/* Whether the answer is this D-Bus error ("org.freedesktop.systemd1.NoSuchUnit"). */
bool sdbus_is_error(struct sdbus *bus, sd_bus_message *answer, const char *name);
