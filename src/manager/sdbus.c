/* sd-bus says before each sleep what it waits for (sd_bus_get_events(3)): a prepare handle asks it, and sets
 * a poll and a timer accordingly. */
#include "manager/sdbus.h"
#include "base/memory.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SDBUS_LIBRARY "libsystemd.so.0"
#define SDBUS_PER_TURN 256 /* messages; timers and other connections have their turn between */
#define SDBUS_CALLS_MAX 64 /* dbus-daemon takes 128 of a connection */
#define SDBUS_DESTINATION "org.freedesktop.systemd1"
#define SDBUS_PATH "/org/freedesktop/systemd1"

static const struct sdbus_library *open_library(struct buf *reterr)
{
	static const char *const names[] = {SDBUS_FUNCTIONS(LIBRARY_NAME)};
	static struct sdbus_library library;
	_cleanup_buf_ struct buf why = BUF_INIT(4096);

	static_assert(sizeof(library) == ARRAY_LEN(names) * sizeof(void *), "a table of pointers");
	if (library_open(SDBUS_LIBRARY, names, ARRAY_LEN(names), &library, &why) < 0) {
		buf_printf(reterr, "cannot talk to systemd: %s (package libsystemd0)", buf_text(&why));
		return NULL;
	}
	return &library;
}

/* ---- the loop ---- */

static void process(struct sdbus *bus)
{
	for (int i = 0; i < SDBUS_PER_TURN && !bus->closed; i++) {
		int r = bus->lib->sd_bus_process(bus->bus, NULL);

		if (r == 0)
			return;
		if (r < 0 && !bus->closed) {
			bus->closed = true;
			bus->config.lost(bus->config.userdata, r == -ECONNRESET || r == -ENOTCONN
								       ? "systemd closed the connection"
								       : strerror(-r));
			return;
		}
	}
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct sdbus *bus = poll->data;

	(void)events;
	if (status < 0)
		bus->events = 0; /* libuv waits no longer */
	process(bus);
}

static void on_timer(uv_timer_t *timer)
{
	process(timer->data);
}

static uint64_t ms_until(uint64_t usec)
{
	struct timespec now;
	uint64_t now_usec;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	now_usec = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
	return usec <= now_usec ? 0 : (usec - now_usec + 999) / 1000;
}

static void on_prepare(uv_prepare_t *prepare)
{
	struct sdbus *bus = prepare->data;
	uint64_t until = UINT64_MAX;
	bool again = bus->config.turn(bus->config.userdata);
	int events;

	if (bus->closed)
		return;
	events = bus->lib->sd_bus_get_events(bus->bus);
	if (events < 0) {
		(void)uv_timer_start(&bus->timer, on_timer, 0, 0); /* processing tells of the loss */
		return;
	}
	events = ((events & POLLIN) ? UV_READABLE : 0) | ((events & POLLOUT) ? UV_WRITABLE : 0);
	if (events != bus->events) {
		bus->events = events;
		(void)uv_poll_start(&bus->poll, events, on_poll);
	}
	if (again)
		(void)uv_timer_start(&bus->timer, on_timer, 0, 0);
	else if (bus->lib->sd_bus_get_timeout(bus->bus, &until) >= 0 && until != UINT64_MAX)
		(void)uv_timer_start(&bus->timer, on_timer, ms_until(until), 0);
	else
		(void)uv_timer_stop(&bus->timer);
}

/* ---- opening ---- */

static int open_private(const struct sdbus_library *lib, const char *path, sd_bus **ret)
{
	_cleanup_free_ char *address = mem_printf("unix:path=%s", path);
	sd_bus *bus;
	int r = lib->sd_bus_new(&bus);

	if (r < 0)
		return r;
	r = lib->sd_bus_set_address(bus, address);
	if (r >= 0)
		r = lib->sd_bus_set_bus_client(bus, 0);
	if (r >= 0)
		r = lib->sd_bus_start(bus);
	if (r < 0)
		(void)lib->sd_bus_unref(bus);
	else
		*ret = bus;
	return r;
}

/* Paths with bytes that D-Bus addresses escape are left to the bus. */
static bool is_plain(const char *path)
{
	return strspn(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_/.") ==
	       strlen(path);
}

static int open_bus(const struct sdbus_library *lib, bool user, sd_bus **ret, bool *ret_direct)
{
	const char *runtime = user ? getenv("XDG_RUNTIME_DIR") : geteuid() == 0 ? "/run" : NULL;

	if (runtime && is_plain(runtime)) {
		_cleanup_free_ char *path = mem_printf("%s/systemd/private", runtime);

		*ret_direct = open_private(lib, path, ret) >= 0;
		if (*ret_direct)
			return 0;
	}
	return user ? lib->sd_bus_open_user(ret) : lib->sd_bus_open_system(ret);
}

int sdbus_open(const struct sdbus_config *config, struct sdbus **ret, struct buf *reterr)
{
	const struct sdbus_library *lib = open_library(reterr);
	struct sdbus *bus;
	sd_bus *opened;
	bool direct = false;
	int r;

	if (!lib)
		return -ELIBACC;
	r = open_bus(lib, config->user, &opened, &direct);
	if (r < 0) {
		buf_printf(reterr, "cannot reach %s: %s%s", config->user ? "this user's systemd" : "systemd",
			strerror(-r), config->user && r == -ENOMEDIUM ? " (XDG_RUNTIME_DIR is not set)" : "");
		return r;
	}
	bus = mem_new(struct sdbus);
	bus->lib = lib;
	bus->bus = opened;
	bus->direct = direct;
	bus->config = *config;
	bus->open_handles = 3;
	bus->poll.data = bus->timer.data = bus->prepare.data = bus;
	list_init(&bus->calls);
	list_init(&bus->waiting);
	r = uv_poll_init(config->loop, &bus->poll, lib->sd_bus_get_fd(opened));
	if (r < 0) {
		buf_printf(reterr, "cannot wait for systemd: %s", uv_strerror(r));
		(void)lib->sd_bus_unref(opened);
		free(bus);
		return r;
	}
	(void)uv_timer_init(config->loop, &bus->timer);
	(void)uv_prepare_init(config->loop, &bus->prepare);
	(void)uv_prepare_start(&bus->prepare, on_prepare);
	*ret = bus;
	return 0;
}

/* ---- calls ---- */

sd_bus_message *sdbus_call_new(struct sdbus *bus, const char *path, const char *interface, const char *method)
{
	sd_bus_message *message = NULL;

	(void)bus->lib->sd_bus_message_new_method_call(bus->bus, &message, SDBUS_DESTINATION,
		path ? path : SDBUS_PATH, interface ? interface : SDBUS_DESTINATION ".Manager", method);
	return message;
}

struct call {
	struct list entry;
	struct sdbus *bus;
	sd_bus_message *message; /* NULL: sent */
	uint64_t timeout_us;
	sd_bus_message_handler_t done;
	void *userdata;
};

static int send_waiting(struct sdbus *bus);

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct call *call = userdata;
	struct sdbus *bus = call->bus;
	sd_bus_message_handler_t done = call->done;
	void *done_userdata = call->userdata;
	int r;

	list_remove(&call->entry);
	bus->call_count--;
	free(call);
	r = done(m, done_userdata, error);
	if (!bus->closed && send_waiting(bus) < 0) {
		bus->closed = true;
		bus->config.lost(bus->config.userdata, "systemd takes no more calls");
	}
	return r;
}

static int send_now(struct sdbus *bus, struct call *call)
{
	sd_bus_message *message = take_ptr(call->message);
	int r = bus->lib->sd_bus_call_async(bus->bus, NULL, message, on_answer, call, call->timeout_us);

	(void)bus->lib->sd_bus_message_unref(message);
	list_remove(&call->entry);
	if (r < 0) {
		free(call);
		return r;
	}
	list_push_back(&bus->calls, &call->entry);
	bus->call_count++;
	return 0;
}

static int send_waiting(struct sdbus *bus)
{
	int r = 0;

	while (r >= 0 && bus->call_count < SDBUS_CALLS_MAX && !list_empty(&bus->waiting))
		r = send_now(bus, list_first(&bus->waiting, struct call, entry));
	return r;
}

int sdbus_send(struct sdbus *bus, sd_bus_message *message, uint64_t timeout_ms, sd_bus_message_handler_t done,
	void *userdata)
{
	struct call *call;

	if (!message)
		return -ENOTCONN;
	call = mem_new(struct call);
	call->bus = bus;
	call->message = message;
	call->timeout_us = timeout_ms * 1000;
	call->done = done;
	call->userdata = userdata;
	list_push_back(&bus->waiting, &call->entry);
	return send_waiting(bus);
}

static void forget_calls(struct sdbus *bus, struct list *calls)
{
	list_for_each_safe (it, calls) {
		struct call *call = list_item(it, struct call, entry);

		(void)bus->lib->sd_bus_message_unref(call->message);
		list_remove(&call->entry);
		free(call);
	}
}

bool sdbus_is_error(struct sdbus *bus, sd_bus_message *answer, const char *name)
{
	const sd_bus_error *error = bus->lib->sd_bus_message_get_error(answer);

	return error && error->name && strcmp(error->name, name) == 0;
}

bool sdbus_is_lost(struct sdbus *bus, sd_bus_message *answer)
{
	/* sd-bus ends the calls of a connection that is gone as if they had timed out. */
	return bus->lib->sd_bus_message_get_error(answer) && bus->lib->sd_bus_is_open(bus->bus) <= 0;
}

bool sdbus_is_final(struct sdbus *bus, sd_bus_message *answer)
{
	static const char *const names[] = {"org.freedesktop.DBus.Error.InvalidArgs",
		"org.freedesktop.DBus.Error.FileExists", "org.freedesktop.DBus.Error.FileNotFound",
		"org.freedesktop.DBus.Error.NotSupported", "System.Error.EINVAL", "System.Error.EEXIST",
		"System.Error.ENOENT", "System.Error.EBADMSG", "System.Error.ENAMETOOLONG",
		"System.Error.ELOOP", "System.Error.EXDEV", "System.Error.EADDRNOTAVAIL",
		"System.Error.EOPNOTSUPP"};
	const sd_bus_error *error = bus->lib->sd_bus_message_get_error(answer);

	if (!error)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (strcmp(error->name, names[i]) == 0)
			return true;
	return strncmp(error->name, SDBUS_DESTINATION ".", sizeof(SDBUS_DESTINATION)) == 0 &&
	       strcmp(error->name, SDBUS_DESTINATION ".ShuttingDown") != 0;
}

static void add_refused(struct buf *reterr, const struct sdbus *bus)
{
	if (bus->config.user || geteuid() == 0)
		return;
	buf_printf(reterr,
		" (fleetd runs as user %u: a polkit rule must let it do "
		"org.freedesktop.systemd1.manage-units, "
		"manage-unit-files and reload-daemon; see docs/fleetd.md)",
		(unsigned)geteuid());
}

int sdbus_result(struct sdbus *bus, sd_bus_message *answer, struct buf *reterr)
{
	const sd_bus_error *error = bus->lib->sd_bus_message_get_error(answer);
	int r;

	if (!error)
		return 0;
	r = bus->lib->sd_bus_message_get_errno(answer);
	buf_add_str(reterr, error->message ? error->message : error->name);
	if (r == EACCES || r == EPERM || strstr(error->name, "InteractiveAuthorizationRequired"))
		add_refused(reterr, bus);
	return r > 0 ? -r : -EIO;
}

/* ---- closing ---- */

struct closing {
	void (*closed)(void *userdata);
	void *userdata;
};

static void on_closed(uv_handle_t *handle)
{
	struct sdbus *bus = handle->data;
	struct closing *closing;

	if (--bus->open_handles)
		return;
	closing = bus->config.userdata;
	forget_calls(bus, &bus->calls);
	forget_calls(bus, &bus->waiting);
	(void)bus->lib->sd_bus_close(bus->bus);
	(void)bus->lib->sd_bus_unref(bus->bus);
	if (closing->closed)
		closing->closed(closing->userdata);
	free(closing);
	free(bus);
}

void sdbus_close(struct sdbus *bus, void (*closed)(void *userdata), void *userdata)
{
	struct closing *closing = mem_new(struct closing);

	closing->closed = closed;
	closing->userdata = userdata;
	bus->closed = true;
	bus->config.userdata = closing;
	uv_close((uv_handle_t *)&bus->poll, on_closed);
	uv_close((uv_handle_t *)&bus->timer, on_closed);
	uv_close((uv_handle_t *)&bus->prepare, on_closed);
}
