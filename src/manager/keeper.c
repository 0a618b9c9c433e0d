/* The keeper program. One loop: the socket, signals, output of processes, timers. At the end of each turn
 * jobs are run, what changed is written and told. It ends when nobody is connected and no unit is loaded for
 * a while, or on request. */
#include "manager/activation.h"
#include "base/flags.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/programs.h"
#include "base/time.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define IDLE_MS 10000
#define RETRY_MS 1000
#define ROUNDS_PER_TURN 16
#define JOURNAL_BYTES_DEFAULT (64u * 1024 * 1024)

struct service *keeper_find(struct keeper *keeper, const char *name)
{
	return map_get(&keeper->units, slice_str(name));
}

struct service *keeper_load(struct keeper *keeper, const char *name, struct slice text, const char *hash)
{
	struct service *service = keeper_find(keeper, name);

	if (service) {
		service_set_text(service, text, hash);
		return service;
	}
	service = service_new(keeper, name, text, hash);
	list_push_back(&keeper->services, &service->entry);
	(void)map_put(&keeper->units, slice_str(service->name), service);
	return service;
}

static void retry_fired(uv_timer_t *timer)
{
	jobs_retry_missing(timer->data);
}

void keeper_retry_later(struct keeper *keeper)
{
	if (!uv_is_active((uv_handle_t *)&keeper->retry_timer))
		(void)uv_timer_start(&keeper->retry_timer, retry_fired, RETRY_MS, 0);
}

void keeper_unit_gone(struct service *service)
{
	struct keeper *keeper = service->keeper;
	struct pending_load next = service->replacement;
	_cleanup_free_ char *name = mem_strdup(service->name);
	_cleanup_buf_ struct buf error = BUF_INIT(4096);

	list_remove(&service->entry);
	(void)map_remove(&keeper->units, slice_str(name));
	store_remove(keeper, name);
	server_unit_gone(keeper, name);
	server_unloads_done(service);
	service_free(service);
	if (!next.text)
		return;
	service = keeper_load(keeper, name, slice_make(next.text, next.text_len), next.hash);
	free(next.text);
	service->wanted = next.start;
	(void)store_write_text(service);
	store_write_state(service);
	if (next.start)
		(void)jobs_start(service, &error);
}

void keeper_shutdown(struct keeper *keeper)
{
	keeper->stopping = true;
	list_for_each (it, &keeper->services)
		jobs_stop(list_item(it, struct service, entry));
}

static bool all_dead(const struct keeper *keeper)
{
	list_for_each (it, &keeper->services) {
		const struct service *service = list_item(it, struct service, entry);

		if (!service_is_dead(service) || service->job != JOB_NONE)
			return false;
	}
	return true;
}

static void idle_fired(uv_timer_t *timer)
{
	struct keeper *keeper = timer->data;

	if (!keeper->client_count && !keeper->units.count)
		uv_stop(&keeper->loop);
}

static void watch_idleness(struct keeper *keeper)
{
	bool idle = !keeper->client_count && !keeper->units.count && !keeper->keep_when_idle;

	if (!idle)
		(void)uv_timer_stop(&keeper->idle_timer);
	else if (!uv_is_active((uv_handle_t *)&keeper->idle_timer))
		(void)uv_timer_start(&keeper->idle_timer, idle_fired, IDLE_MS, 0);
}

static void go_on(uv_idle_t *idle)
{
	(void)idle; /* its being active is all */
}

int keeper_idle_fd(struct keeper *keeper)
{
	if (keeper->idle_fds[0] < 0 && pipe2(keeper->idle_fds, O_CLOEXEC) < 0)
		keeper->idle_fds[0] = keeper->idle_fds[1] = -1;
	return keeper->idle_fds[0];
}

/* Units of Type=idle go on once nothing is being started or stopped any more. */
static void release_idle(struct keeper *keeper)
{
	if (keeper->idle_fds[0] < 0)
		return;
	list_for_each (it, &keeper->services)
		if (list_item(it, struct service, entry)->job != JOB_NONE)
			return;
	close(keeper->idle_fds[0]);
	close(keeper->idle_fds[1]);
	keeper->idle_fds[0] = keeper->idle_fds[1] = -1;
}

static void turn_end(uv_prepare_t *prepare)
{
	struct keeper *keeper = prepare->data;
	bool gone, more;
	int rounds = 0;

	tracker_turn(&keeper->tracker);
	do {
		gone = false;
		jobs_run(keeper);
		activation_run(keeper);
		list_for_each_safe (it, &keeper->services) {
			struct service *service = list_item(it, struct service, entry);

			if (service->unloading && service_is_dead(service) && service->job == JOB_NONE) {
				keeper_unit_gone(service);
				gone = true;
			}
		}
		/* Units that start each other may go on for ever: others have their turn in between. */
		if (keeper->jobs_waiting && ++rounds == ROUNDS_PER_TURN)
			keeper->jobs_left = true;
	} while (!keeper->jobs_left && (gone || keeper->jobs_waiting));
	list_for_each (it, &keeper->services) {
		struct service *service = list_item(it, struct service, entry);

		if (service->store_dirty)
			store_write_state(service);
	}
	more = server_send_journals(keeper, false); /* what a unit said comes before what became of it */
	server_send_states(keeper);
	if (keeper->jobs_left || more)
		(void)uv_idle_start(&keeper->go_on, go_on);
	else
		(void)uv_idle_stop(&keeper->go_on);
	release_idle(keeper);
	watch_idleness(keeper);
	if (keeper->stopping && all_dead(keeper))
		uv_stop(&keeper->loop);
}

static void child_signal(uv_signal_t *handle, int number)
{
	struct keeper *keeper = handle->data;
	int status;
	pid_t pid;

	(void)number;
	tracker_turn(&keeper->tracker);
	list_for_each (it, &keeper->services)
		notify_drain(list_item(it, struct service, entry)); /* what it said last comes first */
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct service *service = map_remove(&keeper->started, slice_make(&pid, sizeof(pid)));

		if (service)
			service_child_exited(service, pid, status);
	}
	list_for_each (it, &keeper->services)
		service_check_empty(list_item(it, struct service, entry));
}

static void end_signal(uv_signal_t *handle, int number)
{
	(void)number;
	keeper_shutdown(handle->data);
}

static int keeper_lock(struct keeper *keeper)
{
	_cleanup_free_ char *path = mem_printf("%s/lock", keeper->dir);

	keeper->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (keeper->lock_fd < 0)
		return -errno;
	return flock(keeper->lock_fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
}

static void keeper_prepare_process(void)
{
	struct rlimit files;

	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	(void)prctl(PR_SET_NAME, "keeper");
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN);
	(void)umask(0077);
	if (chdir("/") < 0)
		log_warning("cannot change to /: %s", strerror(errno));
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
}

static int keeper_open(struct keeper *keeper, bool cgroups)
{
	int r;

	list_init(&keeper->services);
	list_init(&keeper->clients);
	map_init(&keeper->units, 0);
	map_init(&keeper->started, 0);
	if (gethostname(keeper->hostname, sizeof(keeper->hostname) - 1) < 0 || !keeper->hostname[0])
		(void)snprintf(keeper->hostname, sizeof(keeper->hostname), "localhost");
	(void)uv_loop_init(&keeper->loop);
	(void)uv_prepare_init(&keeper->loop, &keeper->turn);
	(void)uv_idle_init(&keeper->loop, &keeper->go_on);
	(void)uv_timer_init(&keeper->loop, &keeper->idle_timer);
	(void)uv_timer_init(&keeper->loop, &keeper->retry_timer);
	(void)uv_signal_init(&keeper->loop, &keeper->on_child);
	(void)uv_signal_init(&keeper->loop, &keeper->on_term);
	(void)uv_signal_init(&keeper->loop, &keeper->on_int);
	keeper->turn.data = keeper->idle_timer.data = keeper->retry_timer.data = keeper;
	keeper->on_child.data = keeper->on_term.data = keeper->on_int.data = keeper;
	(void)uv_prepare_start(&keeper->turn, turn_end);
	(void)uv_signal_start(&keeper->on_child, child_signal, SIGCHLD);
	(void)uv_signal_start(&keeper->on_term, end_signal, SIGTERM);
	(void)uv_signal_start(&keeper->on_int, end_signal, SIGINT);
	keeper->idle_fds[0] = keeper->idle_fds[1] = keeper->clock_fd = -1;
	keeper->boot_ns = host_boot_ns();
	keeper->startup_ns = time_mono_ns();
	keeper->startup_us = time_wall_ns() / 1000;
	r = store_open(keeper);
	if (r < 0)
		return log_errno(r, "cannot use the directory %s", keeper->dir);
	r = keeper_journal_open(keeper);
	if (r < 0)
		return log_errno(r, "cannot open the journal in %s/journal", keeper->dir);
	tracker_open(&keeper->tracker, keeper->id, cgroups);
	r = server_open(keeper);
	if (r < 0)
		return log_errno(r, "cannot listen on %s", keeper->socket);
	r = store_load_units(keeper);
	/* Only now nothing is left in the cgroups of an earlier keeper. */
	limits_open(&keeper->limits, &keeper->tracker, keeper->id);
	return r < 0 ? log_errno(r, "cannot read the units in %s", keeper->dir) : 0;
}

static void close_handle(uv_handle_t *handle, void *unused)
{
	(void)unused;
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

static void keeper_done(struct keeper *keeper)
{
	server_close(keeper);
	list_for_each_safe (it, &keeper->services) {
		struct service *service = list_item(it, struct service, entry);

		list_remove(&service->entry);
		service_free(service);
	}
	uv_walk(&keeper->loop, close_handle, NULL);
	(void)uv_run(&keeper->loop, UV_RUN_DEFAULT);
	(void)uv_loop_close(&keeper->loop);
	if (keeper->clock_fd >= 0)
		close(keeper->clock_fd);
	(void)unlink(keeper->socket);
	keeper_journal_close(keeper);
	limits_done(&keeper->limits);
	tracker_done(&keeper->tracker);
	map_done(&keeper->units);
	map_done(&keeper->started);
}

/* Goes on in a child without terminal or session; the parent waits for "it listens" and ends. Answers in the
 * child the descriptor to tell it on. */
static int into_background(const struct keeper *keeper)
{
	_cleanup_free_ char *log_path = mem_printf("%s/keeper.log", keeper->dir);
	int fds[2], null, log_fd;
	char answer = 1;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid > 0) {
		close(fds[1]);
		_exit(read(fds[0], &answer, 1) == 1 ? answer : 1);
	}
	close(fds[0]);
	(void)setsid();
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (null >= 0) {
		(void)dup2(null, STDIN_FILENO);
		(void)dup2(null, STDOUT_FILENO);
		(void)dup2(log_fd >= 0 ? log_fd : null, STDERR_FILENO);
	}
	return fds[1];
}

/* Nothing of the starter's is kept but the three standard descriptors: the keeper lives for long. */
static void close_inherited(void)
{
	long max = sysconf(_SC_OPEN_MAX);

	if (close_range(3, ~0u, 0) == 0)
		return;
	for (int fd = 3; fd < (int)MIN(max, 65536L); fd++)
		(void)close(fd);
}

static char *absolute(const char *path)
{
	char here[4096];

	if (path[0] == '/' || !getcwd(here, sizeof(here)))
		return mem_strdup(path);
	return mem_printf("%s/%s", here, path);
}

static int keeper_run(struct keeper *keeper, bool background, bool cgroups)
{
	int tell_fd = -1, r;
	char answer = 0;

	close_inherited();
	if (mkdir(keeper->dir, 0700) < 0 && errno != EEXIST) {
		(void)log_errno(-errno, "cannot make the directory %s", keeper->dir);
		return 1;
	}
	r = keeper_lock(keeper);
	if (r == -EWOULDBLOCK && background)
		return 0; /* one runs: that is what was asked for */
	if (r < 0) {
		(void)log_errno(r, "cannot lock %s (does another keeper run?)", keeper->dir);
		return 1;
	}
	if (background) {
		tell_fd = into_background(keeper);
		if (tell_fd < 0) {
			(void)log_errno(tell_fd, "cannot go into the background");
			return 1;
		}
	}
	keeper_prepare_process();
	r = keeper_open(keeper, cgroups);
	if (tell_fd >= 0) {
		answer = r < 0;
		if (write(tell_fd, &answer, 1) != 1)
			log_warning("whoever started the keeper does not wait for it");
		close(tell_fd);
	}
	if (r == 0)
		(void)uv_run(&keeper->loop, UV_RUN_DEFAULT);
	keeper_done(keeper);
	return r < 0;
}

int keeper_call_main(const char *socket_path, const char *request)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	_cleanup_free_ char *line = mem_printf("%s\n", request);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	FILE *in;
	char *answer = NULL;
	size_t cap = 0;
	int status = 1;

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		fprintf(stderr, "keeper: cannot connect to %s: %s\n", socket_path, strerror(errno));
		return 1;
	}
	for (size_t done = 0, len = strlen(line); done < len;) {
		ssize_t wrote = write(fd, line + done, len - done);

		if (wrote < 0)
			return 1;
		done += (size_t)wrote;
	}
	in = fdopen(dup(fd), "r");
	while (in && getline(&answer, &cap, in) > 0) {
		fputs(answer, stdout);
		(void)fflush(stdout);
		if (strstr(answer, "\"result\":") && strncmp(answer, "{\"id\":", 6) == 0) {
			status = strstr(answer, "\"result\":0") == NULL;
			break;
		}
	}
	free(answer);
	if (in)
		fclose(in);
	return status;
}

static const char usage[] =
	"Owns the processes of the embedded supervisor. fleetd starts it; by hand it is for debugging.\n\n"
	"Usage:\n  flotilla keeper --socket PATH --dir DIRECTORY\n  flotilla keeper --socket PATH call "
	"REQUEST\n\n"
	"REQUEST is a line of JSON, for example '{\"op\":\"status\",\"name\":\"web.service\"}'.\n\nFlags:\n";

int keeper_main(int argc, char **argv)
{
	const char *socket_path = NULL, *dir = NULL;
	bool background = false, no_cgroups = false, stay = false, help = false;
	uint64_t journal_bytes = JOURNAL_BYTES_DEFAULT;
	struct flag flags[] = {
		{"socket", FLAG_STRING, &socket_path, "the socket to serve or to call", "PATH"},
		{"dir", FLAG_STRING, &dir, "where units, their states and logs are kept", "DIRECTORY"},
		{"background", FLAG_BOOL, &background, "go into the background once the socket is there"},
		{"stay", FLAG_BOOL, &stay, "go on without units and clients"},
		{"no-cgroups", FLAG_BOOL, &no_cgroups,
			"find processes by their descent even where cgroups work"},
		{"journal-bytes", FLAG_UINT, &journal_bytes, "bound of the journal, of all units together",
			"N"},
		{"help,h", FLAG_BOOL, &help, "print this"},
		{0},
	};
	_cleanup_buf_ struct buf text = BUF_INIT(65536);
	struct keeper *keeper;
	int count = 0, status;

	log_init("keeper", LOG_LEVEL_INFO);
	if (flags_parse(flags, FLAGS_GO, argc, argv, &count, &text) < 0) {
		fprintf(stderr, "keeper: %s\n", buf_text(&text));
		return 2;
	}
	if (help) {
		flags_add_help(&text, flags);
		printf("%s%s", usage, buf_text(&text));
		flags_done(flags);
		return 0;
	}
	if (count == 2 && socket_path && strcmp(argv[1], "call") == 0)
		return keeper_call_main(socket_path, argv[2]);
	if (count || !socket_path || !dir) {
		fprintf(stderr, "keeper: needs --socket and --dir, or --socket and: call REQUEST\n");
		return 2;
	}
	if (strlen(socket_path) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
		fprintf(stderr, "keeper: the socket's path is longer than 107 bytes: %s\n", socket_path);
		return 2;
	}
	keeper = mem_new(struct keeper);
	keeper->dir = absolute(dir);
	keeper->socket = absolute(socket_path);
	keeper->journal_bytes_max = journal_bytes;
	keeper->keep_when_idle = stay;
	status = keeper_run(keeper, background, !no_cgroups);
	flags_done(flags);
	free(keeper->dir);
	free(keeper->socket);
	free(keeper);
	return status;
}
