/* Sockets: listening until something comes, running while the service they started does. The keeper never
 * takes a connection: it holds the descriptors, waits for the first one, and hands them over. */
#include "base/memory.h"
#include "manager/activation.h"
#include "manager/listen.h"
#include "manager/service_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <unistd.h>

#define FLUSH_MAX 4096 /* connections or pieces; who sends on meets the service */

struct socket_run {
	struct watch **watches; /* one for each address */
	size_t count;
	struct trigger_count triggers;
};

static void socket_ready(struct service *service);

static const char *unlink_path(const struct listen_spec *spec)
{
	return spec->address[0] == '/' ? spec->address : NULL;
}

static void remove_paths(const struct service *service)
{
	const struct socket_config *config = &service->config.socket;

	for (size_t i = 0; i < config->count; i++)
		if (unlink_path(&config->specs[i]))
			(void)unlink(config->specs[i].address);
	for (size_t i = 0; i < config->symlinks.count; i++)
		(void)unlink(config->symlinks.items[i]);
}

static void socket_release(struct service *service)
{
	struct socket_run *run = take_ptr(service->socket_run);

	if (!run)
		return;
	for (size_t i = 0; i < run->count; i++)
		(void)watch_free(run->watches[i]);
	free(run->watches);
	free(run);
}

static void enter_dead(struct service *service, enum service_result result)
{
	if (service->config.socket.remove_on_stop)
		remove_paths(service);
	service_enter_dead(service, result, false);
}

static int open_one(struct service *service, size_t index)
{
	const struct socket_config *config = &service->config.socket;
	struct socket_run *run = service->socket_run;
	_cleanup_buf_ struct buf error = BUF_INIT(4096);
	struct strings warnings = {0};
	struct watch *watch;
	int fd = listen_open(config, &config->specs[index], &warnings, &error);

	for (size_t i = 0; i < warnings.count; i++)
		service_warn(service, "%s: %s.", service->name, warnings.items[i]);
	strings_done(&warnings);
	if (fd < 0)
		return activation_refuse(
			service, fd, "Failed to create listening socket: %s", buf_text(&error));
	watch = watch_new(service, fd, socket_ready);
	if (!watch)
		return activation_refuse(
			service, -ENOMEM, "Failed to wait for %s", config->specs[index].address);
	watch_pause(watch);
	run->watches[run->count++] = watch;
	return 0;
}

static bool leads_to(const char *name, const char *path)
{
	char target[PATH_MAX];
	ssize_t len = readlink(name, target, sizeof(target) - 1);

	return len > 0 && (size_t)len == strlen(path) && memcmp(target, path, (size_t)len) == 0;
}

/* Names that lead to the only address with a path. What stands there already is left alone. */
static void make_symlinks(struct service *service)
{
	const struct socket_config *config = &service->config.socket;
	const char *path = NULL;
	size_t paths = 0;

	for (size_t i = 0; i < config->count; i++) {
		if (unlink_path(&config->specs[i])) {
			path = config->specs[i].address;
			paths++;
		}
	}
	for (size_t i = 0; i < config->symlinks.count; i++) {
		const char *name = config->symlinks.items[i];

		if (paths != 1)
			service_warn(service, "%s: Symlinks= needs exactly one socket or FIFO with a path.",
				service->name);
		else if ((listen_make_parents(name, config->directory_mode) < 0 || symlink(path, name) < 0) &&
			 !leads_to(name, path))
			service_warn(service, "%s: Failed to make the symlink %s: %s.", service->name, name,
				strerror(errno));
	}
}

static void enter_listening(struct service *service)
{
	struct socket_run *run = service->socket_run;

	for (size_t i = 0; i < run->count; i++)
		watch_go_on(run->watches[i]);
	service_set_state(service, STATE_LISTENING);
}

static int socket_start(struct service *service)
{
	const struct socket_config *config = &service->config.socket;
	const struct service *triggered = activation_target(service);
	int r = 0;

	if (triggered && !service_is_dead(triggered) && triggered->state != STATE_AUTO_RESTART)
		return activation_refuse(
			service, -EBUSY, "Socket service %s already active, refusing.", triggered->name);
	service->socket_run = mem_new(struct socket_run);
	service->socket_run->watches = mem_reallocarray(NULL, config->count, sizeof(struct watch *));
	for (size_t i = 0; i < config->count && r == 0; i++)
		r = open_one(service, i);
	if (r < 0) {
		service_enter_dead(service, RESULT_RESOURCES, false);
		return r;
	}
	make_symlinks(service);
	enter_listening(service);
	return 0;
}

static void socket_stop(struct service *service)
{
	enter_dead(service, RESULT_SUCCESS);
}

static void pause_all(struct service *service)
{
	struct socket_run *run = service->socket_run;

	for (size_t i = 0; i < run->count; i++)
		watch_pause(run->watches[i]);
}

static void enter_running(struct service *service)
{
	pause_all(service);
	service_set_state(service, STATE_TRIGGERED);
}

/* A hang-up or an error comes again and again: a socket that was shut down (by its service) hears nothing. */
static bool is_broken(const struct service *service)
{
	const struct socket_run *run = service->socket_run;

	for (size_t i = 0; i < run->count; i++) {
		struct pollfd look = {.fd = watch_fd(run->watches[i]), .events = POLLIN};

		if (poll(&look, 1, 0) > 0 && (look.revents & (POLLHUP | POLLERR | POLLNVAL)))
			return true;
	}
	return false;
}

static void socket_ready(struct service *service)
{
	if (service->state != STATE_LISTENING)
		return;
	if (service->job == JOB_STOP) { /* it waits for others that stop before */
		pause_all(service);
		service->trigger_missed = true;
		return;
	}
	if (is_broken(service)) {
		service_say(service, "%s: A socket was shut down, or has failed.", service->name);
		enter_dead(service, RESULT_RESOURCES);
		return;
	}
	if (!trigger_within(&service->socket_run->triggers, &service->config.trigger_limit)) {
		service_say(service, "%s: Trigger limit hit, refusing further activation.", service->name);
		enter_dead(service, RESULT_TRIGGER_LIMIT);
	} else if (activation_trigger(service) < 0) {
		enter_dead(service, RESULT_RESOURCES);
	} else {
		enter_running(service);
	}
}

/* FlushPending=: what came while the service ended is for nobody. */
static void flush(struct service *service)
{
	struct socket_run *run = service->socket_run;
	char bytes[4096];

	for (size_t i = 0; i < run->count; i++) {
		enum listen_type type = service->config.socket.specs[i].type;
		int fd = watch_fd(run->watches[i]), flags = fcntl(fd, F_GETFL), connection;

		(void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
		for (int pieces = 0; pieces < FLUSH_MAX; pieces++) {
			if (type == LISTEN_STREAM || type == LISTEN_SEQPACKET) {
				connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
				if (connection < 0)
					break;
				close(connection);
			} else if (read(fd, bytes, sizeof(bytes)) <= 0) {
				break;
			}
		}
	}
}

static void socket_triggered_changed(struct service *service, const struct service *triggered)
{
	if (triggered->job != JOB_NONE)
		return;
	if (triggered->state == STATE_FAILED && triggered->result == RESULT_START_LIMIT) {
		service_say(service, "%s: %s may not be started again so soon, refusing further activation.",
			service->name, triggered->name);
		enter_dead(service, RESULT_SERVICE_START_LIMIT);
	} else if (triggered->state == STATE_RUNNING) {
		enter_running(service);
	} else if (service->state == STATE_TRIGGERED &&
		   (service_is_dead(triggered) || triggered->state == STATE_AUTO_RESTART)) {
		if (service->config.socket.flush_pending)
			flush(service);
		enter_listening(service);
	}
}

static void socket_look_again(struct service *service)
{
	if (service->state == STATE_LISTENING)
		enter_listening(service);
}

static bool hands_over(const struct service *socket, const struct service *service)
{
	return socket->socket_run &&
	       ((socket->config.trigger && strcmp(socket->config.trigger, service->name) == 0) ||
		       strings_have(&service->config.dependencies[DEP_SOCKETS], socket->name));
}

static int compare_names(const void *a, const void *b)
{
	const struct service *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

void listen_fds_collect(const struct service *service, struct listen_fds *ret)
{
	_cleanup_buf_ struct buf names = BUF_INIT(UNIT_TEXT_MAX);
	const struct service **sockets = NULL;
	size_t count = 0;

	*ret = (struct listen_fds){0};
	list_for_each (it, &service->keeper->services) {
		const struct service *socket = list_item(it, struct service, entry);

		if (!hands_over(socket, service))
			continue;
		sockets = mem_reallocarray(sockets, count + 1, sizeof(*sockets));
		sockets[count++] = socket;
	}
	if (count)
		qsort(sockets, count, sizeof(*sockets), compare_names);
	for (size_t i = 0; i < count; i++) {
		const struct socket_run *run = sockets[i]->socket_run;
		const char *name = sockets[i]->config.socket.name;

		ret->fds = mem_reallocarray(ret->fds, ret->count + run->count, sizeof(int));
		for (size_t j = 0; j < run->count; j++) {
			buf_printf(&names, "%s%s", ret->count ? ":" : "", name ? name : sockets[i]->name);
			ret->fds[ret->count++] = watch_fd(run->watches[j]);
		}
	}
	free(sockets);
	ret->names = buf_take(&names, NULL);
}

void listen_fds_done(struct listen_fds *fds)
{
	free(fds->fds);
	free(fds->names);
	*fds = (struct listen_fds){0};
}

const struct unit_kind unit_kind_socket = {.type = "socket",
	.started = "Listening on",
	.stopped = "Closed",
	.start = socket_start,
	.stop = socket_stop,
	.triggered_changed = socket_triggered_changed,
	.look_again = socket_look_again,
	.release = socket_release};
