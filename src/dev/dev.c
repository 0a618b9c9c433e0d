/* The command line of `flotilla dev`: starts the hub, or talks to a running one over its control socket.
 * `exec` asks for the machine's first process and enters its namespaces itself, so that the command has the
 * caller's terminal. */
#include "dev/dev.h"
#include "base/buf.h"
#include "base/flags.h"
#include "base/memory.h"
#include "base/programs.h"
#include "base/text.h"
#include "io/file.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define STOP_WAIT_MS 30000

extern char **environ;

void machine_name(unsigned int number, char ret_name[32])
{
	(void)snprintf(ret_name, 32, "core-%02u", number);
}

void machine_address(unsigned int number, char ret_address[32])
{
	(void)snprintf(ret_address, 32, "172.17.8.%u", 100 + number);
}

void machine_mac(unsigned int number, char ret_mac[32])
{
	(void)snprintf(ret_mac, 32, "02:00:ac:11:08:%02x", 100 + number);
}

void machine_id(unsigned int number, char ret_id[33])
{
	/* Spread by a multiplicative hash, so that the short forms (the first eight digits) differ at a
	 * glance. */
	uint64_t high = (number * UINT64_C(0x9e3779b97f4a7c15)) ^ UINT64_C(0x52bd1b3d84c58228);

	(void)snprintf(ret_id, 33, "%016llx%016llx", (unsigned long long)high,
		(unsigned long long)(high * UINT64_C(0xbf58476d1ce4e5b9)));
}

int run_command(bool quiet, const char *const *argv)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none;
	int r, status;
	pid_t pid;

	sigemptyset(&none);
	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawnattr_init(&attributes);
	(void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
	(void)posix_spawnattr_setsigmask(&attributes, &none);
	if (quiet)
		(void)posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
	r = posix_spawnp(&pid, argv[0], &actions, &attributes, (char *const *)(uintptr_t)argv, environ);
	(void)posix_spawn_file_actions_destroy(&actions);
	(void)posix_spawnattr_destroy(&attributes);
	if (r) {
		if (!quiet)
			fprintf(stderr, "flotilla dev: cannot run %s: %s\n", argv[0], strerror(r));
		return -r;
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

static char *default_dir(void)
{
	const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");

	if (geteuid() == 0)
		return mem_strdup("/var/lib/flotilla-dev");
	if (state && state[0] == '/')
		return mem_printf("%s/flotilla-dev", state);
	return mem_printf("%s/.local/state/flotilla-dev", home ? home : "/tmp");
}

static int make_dir(const char *path)
{
	_cleanup_free_ char *copy = mem_strdup(path);

	for (char *slash = copy + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		if (mkdir(copy, 0755) < 0 && errno != EEXIST)
			return -errno;
		*slash = '/';
	}
	return mkdir(copy, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static int control_connect(const char *dir)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (snprintf(address.sun_path, sizeof(address.sun_path), "%s/control", dir) >=
		(int)sizeof(address.sun_path))
		return -ENAMETOOLONG;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	return take_fd(fd);
}

/* Sends one request; the answer without its "ok" goes to `ret`. Prints what went wrong. */
static int control_request(const char *dir, const char *request, struct buf *ret)
{
	_cleanup_close_ int fd = control_connect(dir);
	struct slice answer;

	if (fd < 0) {
		fprintf(stderr,
			"flotilla dev: no cluster runs in %s (%s); start one with 'flotilla dev', or say "
			"--dir\n",
			dir, strerror(-fd));
		return fd;
	}
	if (send(fd, request, strlen(request), MSG_NOSIGNAL) < 0 || send(fd, "\n", 1, MSG_NOSIGNAL) < 0)
		return -errno;
	for (;;) {
		char *at = buf_reserve(ret, 4096);
		ssize_t got = at ? read(fd, at, 4096) : -1;

		if (got < 0 || (got == 0 && !ret->len)) {
			fprintf(stderr, "flotilla dev: the cluster in %s does not answer\n", dir);
			return -EIO;
		}
		if (got == 0)
			break;
		buf_commit(ret, (size_t)got);
	}
	answer = buf_slice(ret);
	if (slice_starts_with(answer, SLICE_LITERAL("error "))) {
		fprintf(stderr, "flotilla dev: %s", buf_text(ret) + strlen("error "));
		return -EINVAL;
	}
	if (slice_starts_with(answer, SLICE_LITERAL("ok")))
		buf_consume(ret, 2);
	return 0;
}

/* The namespaces of that process that are not ours: to enter the others again is not needed, and without root
 * not allowed (the hub, "machine 0", shares the host's processes). */
static int other_namespaces(pid_t pid)
{
	static const struct {
		const char *name;
		int flag;
	} kinds[] = {{"user", CLONE_NEWUSER}, {"mnt", CLONE_NEWNS}, {"pid", CLONE_NEWPID},
		{"net", CLONE_NEWNET}, {"uts", CLONE_NEWUTS}, {"ipc", CLONE_NEWIPC}};
	int flags = 0;

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		_cleanup_free_ char *own_path = mem_printf("/proc/self/ns/%s", kinds[i].name),
				    *path = mem_printf("/proc/%d/ns/%s", (int)pid, kinds[i].name);
		struct stat own, theirs;

		if (stat(own_path, &own) < 0 || stat(path, &theirs) < 0 || own.st_ino != theirs.st_ino)
			flags |= kinds[i].flag;
	}
	return flags;
}

static int exec_in(pid_t pid, char **argv)
{
	_cleanup_free_ char *root = mem_printf("/proc/%d/root", (int)pid);
	_cleanup_close_ int pid_fd = (int)syscall(SYS_pidfd_open, pid, 0);
	_cleanup_close_ int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int flags = other_namespaces(pid), status;
	char cwd[PATH_MAX];
	pid_t child;

	if (!getcwd(cwd, sizeof(cwd)))
		(void)strcpy(cwd, "/");
	if (pid_fd < 0 || (flags && setns(pid_fd, flags) < 0)) {
		fprintf(stderr,
			"flotilla dev: cannot enter the machine: %s (it must be run by the user who started "
			"the cluster)\n",
			strerror(errno));
		return 1;
	}
	/* Entering a mount namespace goes to its root, which is not the machine's when the cluster runs in a
	 * chroot. */
	if ((flags & CLONE_NEWNS) && root_fd >= 0 && (fchdir(root_fd) < 0 || chroot(".") < 0)) {
		fprintf(stderr, "flotilla dev: cannot enter the machine's root: %s\n", strerror(errno));
		return 1;
	}
	if (chdir(cwd) < 0)
		(void)!chdir("/");
	(void)setenv("HOME", "/run/home", 1);
	(void)setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
	/* setns() puts children, not the caller, into the PID namespace. */
	child = fork();
	if (child < 0)
		return 1;
	if (child == 0) {
		(void)execvp(argv[0], argv);
		fprintf(stderr, "flotilla dev: cannot run %s: %s\n", argv[0], strerror(errno));
		_exit(errno == ENOENT ? 127 : 126);
	}
	/* The terminal sends ^C to the command as well: it decides. */
	(void)signal(SIGINT, SIG_IGN);
	(void)signal(SIGQUIT, SIG_IGN);
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return 1;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int ssh_keys(const char *dir, unsigned int machines)
{
	_cleanup_free_ char *ssh = mem_printf("%s/ssh", dir), *id = mem_printf("%s/id", ssh),
			    *host = mem_printf("%s/host", ssh), *known = mem_printf("%s/known_hosts", ssh),
			    *host_pub = mem_printf("%s.pub", host);
	char key[1024];
	FILE *file;

	if (mkdir(ssh, 0700) < 0 && errno != EEXIST)
		return -errno;
	for (int i = 0; i < 2; i++) {
		const char *path = i ? host : id;

		if (access(path, F_OK) == 0)
			continue;
		if (run_command(false, (const char *[]){"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C",
					       "flotilla-dev", "-f", path, NULL}) < 0)
			return -EIO;
	}
	file = fopen(host_pub, "re");
	if (!file || !fgets(key, sizeof(key), file)) {
		if (file)
			(void)fclose(file);
		return -EIO;
	}
	(void)fclose(file);
	file = fopen(known, "we");
	if (!file)
		return -errno;
	for (unsigned int i = 1; i <= machines; i++) {
		char name[32], address[32];

		machine_name(i, name);
		machine_address(i, address);
		fprintf(file, "%s,%s %s", name, address, key);
	}
	return fclose(file) == 0 ? 0 : -EIO;
}

/* The store's members are fixed when it is made, so the directory keeps how many there are. Says what is
 * wrong. */
static int keep_machine_count(const char *dir, unsigned int machines)
{
	_cleanup_free_ char *path = mem_printf("%s/machines", dir), *text = mem_printf("%u\n", machines);
	_cleanup_buf_ struct buf before = BUF_INIT(64);
	uint64_t count;
	int r = file_read(path, 64, &before);

	if (r == -ENOENT)
		r = file_write_atomic(path, slice_str(text), NULL);
	if (r < 0) {
		fprintf(stderr, "flotilla dev: cannot use %s: %s; say another --dir\n", path, strerror(-r));
		return r;
	}
	if (!before.len)
		return 0;
	if (text_to_u64(text_trim(buf_slice(&before)), &count) < 0) {
		fprintf(stderr, "flotilla dev: %s holds no number of machines; say another --dir\n", path);
		return -EBADMSG;
	}
	if (count != machines) {
		fprintf(stderr,
			"flotilla dev: %s holds a cluster of %llu machines: say --machines %llu, or another "
			"--dir\n",
			dir, (unsigned long long)count, (unsigned long long)count);
		return -EEXIST;
	}
	return 0;
}

static int run_cluster(
	const char *dir, uint64_t machines, bool docker, const char *docker_mirror, const char *agent_ttl)
{
	_cleanup_free_ char *usual = default_dir();
	struct dev_config config = {.dir = dir,
		.dir_given = strcmp(dir, usual) != 0,
		.machines = (unsigned int)machines,
		.agent_ttl = agent_ttl,
		.docker = docker,
		.docker_mirror = docker_mirror,
		.rootless = geteuid() != 0};
	_cleanup_close_ int lock_fd = -1;
	_cleanup_free_ char *lock = mem_printf("%s/lock", dir);
	char exe[PATH_MAX];
	int64_t ttl_ns;
	ssize_t len;
	int r;

	if (text_to_duration(slice_str(agent_ttl), &ttl_ns) < 0 || ttl_ns <= 0) {
		fprintf(stderr, "flotilla dev: --agent-ttl must be a time such as 5s, not \"%s\"\n",
			agent_ttl);
		return 2;
	}
	if (machines < 1 || machines > DEV_MACHINES_MAX) {
		fprintf(stderr, "flotilla dev: --machines must be 1 to %d\n", DEV_MACHINES_MAX);
		return 2;
	}
	r = make_dir(dir);
	lock_fd = r < 0 ? r : open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (lock_fd < 0) {
		fprintf(stderr, "flotilla dev: cannot use %s: %s; say --dir\n", dir,
			strerror(r < 0 ? -r : errno));
		return 1;
	}
	if (flock(lock_fd, LOCK_EX | LOCK_NB) < 0) {
		fprintf(stderr,
			"flotilla dev: a cluster runs in %s already; stop it with 'flotilla dev stop'\n",
			dir);
		return 1;
	}
	if (keep_machine_count(dir, config.machines) < 0)
		return 1;
	len = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	if (len <= 0)
		return 1;
	exe[len] = '\0';
	*strrchr(exe, '/') = '\0';
	config.bin_dir = exe;
	if (docker && access("/usr/sbin/dockerd", X_OK) < 0) {
		fprintf(stderr, "flotilla dev: --docker needs /usr/sbin/dockerd (package docker.io)\n");
		return 1;
	}
	if (docker && config.rootless) {
		fprintf(stderr, "flotilla dev: --docker needs root\n");
		return 1;
	}
	/* sshd changes its user, which a namespace that maps one user only does not allow. */
	config.ssh = !config.rootless && access("/usr/sbin/sshd", X_OK) == 0;
	if (config.ssh && ssh_keys(dir, config.machines) < 0) {
		fprintf(stderr, "flotilla dev: cannot make the ssh keys in %s/ssh\n", dir);
		return 1;
	}
	return hub_run(&config);
}

static void usage(FILE *out, const struct flag *flags)
{
	_cleanup_buf_ struct buf text = BUF_INIT(64 * 1024);

	flags_add_help(&text, flags);
	fprintf(out,
		"A whole cluster on this machine: each member a world of its own.\n\nUsage:\n"
		"  flotilla dev [--machines 3] [--dir D]   start a cluster and stay until ^C\n"
		"  flotilla dev status                     which machines are up\n"
		"  flotilla dev exec N CMD [ARG...]        run a command on machine N\n"
		"  flotilla dev exec 0 CMD [ARG...]        run a command in the network that the machines "
		"share\n"
		"  flotilla dev kill N                     the power of machine N goes\n"
		"  flotilla dev start N                    machine N boots again, with its disk\n"
		"  flotilla dev stop                       end the cluster\n\nFlags:\n%s",
		buf_text(&text));
}

static int command_exec(const char *dir, const char *number, char **argv)
{
	_cleanup_free_ char *request = mem_printf("pid %s", number);
	_cleanup_buf_ struct buf answer = BUF_INIT(64 * 1024);
	uint64_t pid;

	if (control_request(dir, request, &answer) < 0)
		return 1;
	if (text_to_u64(text_trim(buf_slice(&answer)), &pid) < 0 || pid > INT_MAX)
		return 1;
	return exec_in((pid_t)pid, argv);
}

/* The hub holds the lock until the last machine is gone: then the directory is free for a new cluster. */
static int wait_ended(const char *dir)
{
	_cleanup_free_ char *path = mem_printf("%s/lock", dir);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	for (int waited_ms = 0; flock(fd, LOCK_SH | LOCK_NB) < 0; waited_ms += 20) {
		if (waited_ms >= STOP_WAIT_MS) {
			fprintf(stderr, "flotilla dev: the cluster in %s has not ended yet\n", dir);
			return -ETIME;
		}
		(void)poll(NULL, 0, 20);
	}
	return 0;
}

static int command_simple(const char *dir, int argc, char **argv)
{
	_cleanup_buf_ struct buf request = BUF_INIT(256), answer = BUF_INIT(64 * 1024);

	buf_add_str(&request, argv[1]);
	if (argc > 2)
		buf_printf(&request, " %s", argv[2]);
	if (buf_error(&request) < 0 || control_request(dir, buf_text(&request), &answer) < 0)
		return 1;
	if (strcmp(argv[1], "status") == 0)
		(void)fputs(buf_text(&answer), stdout);
	return strcmp(argv[1], "stop") == 0 && wait_ended(dir) < 0 ? 1 : 0;
}

int dev_main(int argc, char **argv)
{
	_cleanup_free_ char *fallback = default_dir();
	_cleanup_buf_ struct buf error = BUF_INIT(4096);
	const char *dir = fallback, *agent_ttl = "30s", *docker_mirror = NULL;
	uint64_t machines = 3;
	bool docker = false, help = false;
	struct flag flags[] = {
		{"machines", FLAG_UINT, &machines, "how many machines, 1 to 99 (default 3)", "N"},
		{"dir", FLAG_STRING, &dir, "where the machines' disks, logs and the control socket are",
			"DIR", "FLOTILLA_DEV_DIR"},
		{"agent-ttl", FLAG_STRING, &agent_ttl,
			"how long fleet waits for a silent machine (default 30s)", "TIME"},
		{"docker", FLAG_BOOL, &docker, "give each machine a Docker engine of its own (as root)"},
		{"docker-mirror", FLAG_STRING, &docker_mirror,
			"a registry that the engines ask before Docker Hub", "URL"},
		{"help,h", FLAG_BOOL, &help, "print this text"},
		{0},
	};
	_cleanup_free_ char *absolute = NULL;
	int count;

	/* Flags end at the first word: what follows `exec N` belongs to the command. */
	if (flags_parse(flags, FLAGS_GO, argc, argv, &count, &error) < 0) {
		fprintf(stderr, "flotilla dev: %s\n", buf_text(&error));
		usage(stderr, flags);
		return 2;
	}
	argc = count + 1;
	if (help) {
		usage(stdout, flags);
		return 0;
	}
	if (dir[0] != '/') {
		char cwd[PATH_MAX];

		if (!getcwd(cwd, sizeof(cwd)))
			return 1;
		absolute = mem_printf("%s/%s", cwd, dir);
		dir = absolute;
	}
	if (argc == 1)
		return run_cluster(dir, machines, docker, docker_mirror, agent_ttl);
	if (strcmp(argv[1], "exec") == 0 && argc >= 4)
		return command_exec(dir, argv[2], argv + 3);
	if (((strcmp(argv[1], "kill") == 0 || strcmp(argv[1], "start") == 0) && argc == 3) ||
		((strcmp(argv[1], "stop") == 0 || strcmp(argv[1], "status") == 0) && argc == 2))
		return command_simple(dir, argc, argv);
	usage(stderr, flags);
	return 2;
}
