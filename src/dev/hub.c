/* The hub holds the bridge, the machines and the control socket. One poll over a signalfd, the control socket
 * and its connections; a request is one line, the answer one line or more, then the connection closes:
 *
 *   pid N    the PID of machine N's first process (0: the hub's own)    kill N    pull the plug
 *   start N  start a machine that is down             status    a line per machine
 *   stop     end the cluster
 */
#include "dev/dev.h"
#include "base/buf.h"
#include "base/memory.h"
#include "base/text.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	REQUEST_BYTES_MAX = 256,
	REQUEST_TIMEOUT_S = 2,
	STOP_GRACE_MS = 12000,
	FURNISH_TIMEOUT_MS = 60000,
};

struct hub {
	const struct dev_config *config;
	pid_t pids[DEV_MACHINES_MAX + 1]; /* of each machine's PID 1; 0: down. Index 0 is unused */
	int signal_fd, control_fd;
	bool stopping;
};

static int mkdir_one(const char *path)
{
	return mkdir(path, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

static int machine_directories(const struct hub *hub, unsigned int number)
{
	static const char *const parts[] = {"", "/disk", "/log"};

	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		_cleanup_free_ char *path = mem_printf("%s/%u%s", hub->config->dir, number, parts[i]);
		int r = mkdir_one(path);

		if (r < 0) {
			fprintf(stderr, "flotilla dev: cannot make %s: %s\n", path, strerror(-r));
			return r;
		}
	}
	return 0;
}

static pid_t clone_world(const struct hub *hub, unsigned int number, int hub_fd)
{
	unsigned long flags =
		CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWIPC | SIGCHLD;
	pid_t pid = (pid_t)syscall(SYS_clone, flags, 0UL, 0UL, 0UL, 0UL);

	if (pid == 0) {
		sigset_t none;

		sigemptyset(&none);
		(void)sigprocmask(SIG_SETMASK, &none, NULL);
		/* The machine lives on without exec: nothing of the hub's may stay open in it, or a client
		 * that waits for its connection to close would wait for the machine's death. */
		if (dup2(hub_fd, 3) < 0 || close_range(4, ~0U, 0) < 0)
			_exit(1);
		world_run(hub->config, number, 3);
	}
	return pid < 0 ? -errno : pid;
}

static int connect_machine(unsigned int number, pid_t pid)
{
	char veth[32], netns[32], mac[32];

	machine_mac(number, mac);
	(void)snprintf(veth, sizeof(veth), "machine%u", number);
	(void)snprintf(netns, sizeof(netns), "%d", (int)pid);
	/* The old pair of a machine that just died may still be on its way out. */
	(void)run_command(true, (const char *[]){"ip", "link", "del", veth, NULL});
	if (run_command(false, (const char *[]){"ip", "link", "add", veth, "type", "veth", "peer", "name",
				       "eth0", "address", mac, "netns", netns, NULL}) < 0 ||
		run_command(false,
			(const char *[]){"ip", "link", "set", veth, "master", "flotilla0", "up", NULL}) < 0)
		return -EIO;
	return 0;
}

/* Starts the machine; *ret_fd tells when its world is furnished: wait_furnished(). */
static int machine_start(struct hub *hub, unsigned int number, int *ret_fd)
{
	_cleanup_close_ int own_fd = -1, machine_fd = -1;
	int fds[2], r;
	pid_t pid;

	if (hub->pids[number])
		return -EALREADY;
	r = machine_directories(hub, number);
	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	own_fd = fds[0];
	machine_fd = fds[1];
	pid = clone_world(hub, number, machine_fd);
	if (pid < 0) {
		fprintf(stderr, "flotilla dev: cannot make the namespaces of machine %u: %s\n", number,
			strerror(-pid));
		return pid;
	}
	hub->pids[number] = pid;
	r = connect_machine(number, pid);
	if (r == 0 && send(own_fd, "g", 1, MSG_NOSIGNAL) != 1)
		r = -EIO;
	if (r < 0) {
		(void)kill(pid, SIGKILL);
		return r;
	}
	*ret_fd = take_fd(own_fd);
	return 0;
}

/* Waits until the world behind `fd` is furnished, and closes it. -EIO: the machine died on the way (it said
 * why). */
static int wait_furnished(int fd)
{
	_cleanup_close_ int owned = fd;
	struct pollfd ready = {.fd = fd, .events = POLLIN};
	char byte;

	if (poll(&ready, 1, FURNISH_TIMEOUT_MS) <= 0)
		return -ETIMEDOUT;
	return read(owned, &byte, 1) == 1 ? 0 : -EIO;
}

static int start_all(struct hub *hub)
{
	int fds[DEV_MACHINES_MAX + 1], r = 0;
	unsigned int started = 0;

	while (r == 0 && started < hub->config->machines) {
		r = machine_start(hub, started + 1, &fds[started + 1]);
		started += r == 0;
	}
	for (unsigned int i = 1; i <= started; i++) {
		int furnished = wait_furnished(fds[i]);

		if (furnished < 0 && r == 0) {
			fprintf(stderr, "flotilla dev: machine %u could not start\n", i);
			r = furnished;
		}
	}
	return r;
}

static void reap(struct hub *hub)
{
	for (;;) {
		pid_t pid = waitpid(-1, NULL, WNOHANG);

		if (pid <= 0)
			return;
		for (unsigned int i = 1; i <= hub->config->machines; i++) {
			if (hub->pids[i] != pid)
				continue;
			hub->pids[i] = 0;
		}
	}
}

/* Pulls the plug and waits until nothing of the machine is left. */
static void machine_kill(struct hub *hub, unsigned int number)
{
	pid_t pid = hub->pids[number];

	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
	hub->pids[number] = 0;
}

static void answer_status(const struct hub *hub, struct buf *out)
{
	for (unsigned int i = 1; i <= hub->config->machines; i++) {
		char name[32], address[32];

		machine_name(i, name);
		machine_address(i, address);
		buf_printf(out, "%u\t%s\t%s\t%s\n", i, name, address, hub->pids[i] ? "up" : "down");
	}
}

static void answer_request(struct hub *hub, struct slice line, struct buf *out)
{
	struct slice verb, argument;
	uint64_t number = 0;
	int r;

	(void)text_cut(line, ' ', &verb, &argument);
	if (slice_is(verb, "stop")) {
		hub->stopping = true;
		buf_add_str(out, "ok\n");
		return;
	}
	if (slice_is(verb, "status")) {
		answer_status(hub, out);
		return;
	}
	if (slice_is(verb, "pid") && slice_is(argument, "0")) {
		buf_printf(out, "ok %d\n", (int)getpid());
		return;
	}
	if (text_to_u64(argument, &number) < 0 || number < 1 || number > hub->config->machines) {
		buf_printf(out, "error there is no such machine (1 to %u)\n", hub->config->machines);
		return;
	}
	if (slice_is(verb, "start")) {
		int fd;

		r = machine_start(hub, (unsigned int)number, &fd);
		if (r == 0)
			r = wait_furnished(fd);
		if (r == -EALREADY)
			buf_add_str(out, "error the machine is up already\n");
		else if (r < 0)
			buf_printf(out, "error the machine does not start: %s\n", strerror(-r));
		else
			buf_add_str(out, "ok\n");
		return;
	}
	if (!hub->pids[number]) {
		buf_printf(out, "error the machine is down; start it with 'flotilla dev start %u'\n",
			(unsigned int)number);
	} else if (slice_is(verb, "kill")) {
		machine_kill(hub, (unsigned int)number);
		buf_add_str(out, "ok\n");
	} else if (slice_is(verb, "pid")) {
		buf_printf(out, "ok %d\n", (int)hub->pids[number]);
	} else {
		buf_add_str(out, "error unknown request\n");
	}
}

/* Requests come from this host's own user and are one short line, so each is read and answered in one go. */
static void serve(struct hub *hub)
{
	_cleanup_close_ int fd = accept4(hub->control_fd, NULL, NULL, SOCK_CLOEXEC);
	_cleanup_buf_ struct buf out = BUF_INIT(64 * 1024);
	struct timeval timeout = {.tv_sec = REQUEST_TIMEOUT_S};
	char line[REQUEST_BYTES_MAX];
	size_t len = 0;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0)
		return;
	while (len < sizeof(line) && !(len && line[len - 1] == '\n')) {
		ssize_t got = read(fd, line + len, sizeof(line) - len);

		if (got <= 0)
			return;
		len += (size_t)got;
	}
	answer_request(hub, text_trim(slice_make(line, len)), &out);
	(void)send(fd, buf_text(&out), out.len, MSG_NOSIGNAL);
}

static int control_open(struct hub *hub)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	_cleanup_free_ char *path = mem_printf("%s/control", hub->config->dir);

	if (strlen(path) >= sizeof(address.sun_path)) {
		fprintf(stderr,
			"flotilla dev: the path %s is too long for a socket; choose a shorter --dir\n", path);
		return -ENAMETOOLONG;
	}
	(void)strcpy(address.sun_path, path);
	(void)unlink(path);
	hub->control_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (hub->control_fd < 0)
		return -errno;
	/* The directory is 0700; the socket too, since whoever may write to it commands the machines. */
	if (bind(hub->control_fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
		chmod(path, 0600) < 0 || listen(hub->control_fd, 16) < 0) {
		int r = -errno;

		fprintf(stderr, "flotilla dev: cannot listen on %s: %s\n", path, strerror(-r));
		return r;
	}
	return 0;
}

static int write_file(const char *path, const char *text)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -errno;
}

static int enter_user_namespace(void)
{
	_cleanup_free_ char *uid_map = mem_printf("0 %u 1\n", (unsigned int)geteuid());
	_cleanup_free_ char *gid_map = mem_printf("0 %u 1\n", (unsigned int)getegid());

	if (unshare(CLONE_NEWUSER) < 0) {
		fprintf(stderr,
			"flotilla dev: cannot make a user namespace: %s\nRun it as root, or allow user "
			"namespaces "
			"(sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces)\n",
			strerror(errno));
		return -errno;
	}
	if (write_file("/proc/self/setgroups", "deny") < 0 || write_file("/proc/self/uid_map", uid_map) < 0 ||
		write_file("/proc/self/gid_map", gid_map) < 0) {
		fprintf(stderr, "flotilla dev: cannot map the user into its namespace: %s\n",
			strerror(errno));
		return -EPERM;
	}
	return 0;
}

static int network_open(const struct dev_config *config)
{
	int r = config->rootless ? enter_user_namespace() : 0;
	char mac[32];

	if (r < 0)
		return r;
	machine_mac(0, mac);
	if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 ||
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		r = -errno;
		fprintf(stderr, "flotilla dev: cannot make the hub's namespaces: %s\n", strerror(-r));
		return r;
	}
	if (run_command(false, (const char *[]){"ip", "link", "set", "lo", "up", NULL}) < 0 ||
		run_command(false, (const char *[]){"ip", "link", "add", "flotilla0", "address", mac, "type",
					   "bridge", NULL}) < 0 ||
		run_command(false, (const char *[]){"ip", "addr", "add", DEV_HUB_ADDRESS "/24", "dev",
					   "flotilla0", NULL}) < 0 ||
		run_command(false, (const char *[]){"ip", "link", "set", "flotilla0", "up", NULL}) < 0) {
		fprintf(stderr, "flotilla dev: cannot make the private bridge (is iproute2 installed?)\n");
		return -EIO;
	}
	return 0;
}

static void stop_machines(struct hub *hub)
{
	unsigned int left = 0;

	for (unsigned int i = 1; i <= hub->config->machines; i++)
		if (hub->pids[i])
			(void)kill(hub->pids[i], SIGTERM);
	for (int waited_ms = 0; waited_ms < STOP_GRACE_MS; waited_ms += 50) {
		reap(hub);
		left = 0;
		for (unsigned int i = 1; i <= hub->config->machines; i++)
			left += hub->pids[i] ? 1 : 0;
		if (!left)
			return;
		(void)poll(NULL, 0, 50);
	}
	for (unsigned int i = 1; i <= hub->config->machines; i++)
		if (hub->pids[i])
			machine_kill(hub, i);
}

static void signal_arrived(struct hub *hub)
{
	struct signalfd_siginfo info;

	if (read(hub->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return;
	if (info.ssi_signo == SIGCHLD)
		reap(hub);
	else
		hub->stopping = true;
}

static int signals_open(struct hub *hub)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	(void)sigprocmask(SIG_BLOCK, &signals, NULL);
	hub->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
	return hub->signal_fd < 0 ? -errno : 0;
}

static void announce(const struct hub *hub)
{
	const struct dev_config *config = hub->config;
	_cleanup_free_ char *dir = config->dir_given ? mem_printf(" --dir %s", config->dir) : mem_strdup("");
	unsigned int other = MIN(config->machines, 2u);
	char name[32], address[32];

	printf("%u machine%s on a private network:\n", config->machines, config->machines == 1 ? "" : "s");
	for (unsigned int i = 1; i <= config->machines; i++) {
		machine_name(i, name);
		machine_address(i, address);
		printf("  %u  %s  %s\n", i, name, address);
	}
	printf("\nThe store is on ports 2379 and 4001 of each, fleetd on its /var/run/fleet.sock. Talk to "
	       "the cluster:\n"
	       "  flotilla dev%s exec 1 etcdctl ls --recursive\n"
	       "  flotilla dev%s exec 1 fleetctl list-machines\n"
	       "  flotilla dev%s exec %u bash\n"
	       "  flotilla dev%s kill %u      the power of machine %u goes\n"
	       "  flotilla dev%s start %u     and comes back\n"
	       "Logs of the programs are in %s/N/log. ^C ends everything.\n",
		dir, dir, dir, other, dir, other, other, dir, other, config->dir);
	(void)fflush(stdout);
}

int hub_run(const struct dev_config *config)
{
	struct hub hub = {.config = config, .signal_fd = -1, .control_fd = -1};
	int status = 1;

	if (signals_open(&hub) < 0 || network_open(config) < 0 || control_open(&hub) < 0)
		goto out;
	if (start_all(&hub) < 0)
		goto out;
	announce(&hub);
	while (!hub.stopping) {
		struct pollfd fds[] = {
			{.fd = hub.signal_fd, .events = POLLIN}, {.fd = hub.control_fd, .events = POLLIN}};

		if (poll(fds, ARRAY_LEN(fds), -1) < 0 && errno != EINTR)
			goto out;
		if (fds[0].revents)
			signal_arrived(&hub);
		if (fds[1].revents)
			serve(&hub);
	}
	status = 0;
out:
	hub.stopping = true;
	stop_machines(&hub);
	closep(&hub.signal_fd);
	closep(&hub.control_fd);
	return status;
}
