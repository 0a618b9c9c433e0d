/* What a machine sees of the file system. The host's tree stays visible except where a machine must have its
 * own:
 *
 *   /proc, /run        fresh
 *   /etc               a copy, then the machine's own files on top
 *   /usr/bin, /var/lib a "farm": an empty directory filled with links to the host's entries (kept reachable
 * below /run/flotilla/host), then our programs and the machine's disk on top /var/log           fresh, with
 * the host's directories
 *
 * Copies and farms instead of overlayfs, because an overlay cannot change files of users that a user
 * namespace does not map, and the same way should work with and without root. /home, /root, /tmp and the rest
 * are the host's. */
#include "dev/dev.h"
#include "base/buf.h"
#include "base/memory.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define HOST_DIR "/run/flotilla/host"

static const char *const programs[] = {"etcd", "etcdctl", "fleetd", "fleetctl", "confd"};

_noreturn_ _printf_(1, 2) static void give_up(const char *format, ...)
{
	int error = errno;
	va_list args;

	va_start(args, format);
	(void)fputs("flotilla dev: ", stderr);
	(void)vfprintf(stderr, format, args);
	(void)fprintf(stderr, ": %s\n", strerror(error));
	va_end(args);
	_exit(1);
}

static void must_mkdir(const char *path, mode_t mode)
{
	if (mkdir(path, mode) < 0 && errno != EEXIST)
		give_up("cannot make %s", path);
}

static void must_mount(
	const char *source, const char *target, const char *type, unsigned long flags, const char *data)
{
	if (mount(source, target, type, flags, data) < 0)
		give_up("cannot mount %s on %s", type ? type : source, target);
}

static void must_write(const char *path, mode_t mode, const char *text)
{
	_cleanup_close_ int fd = -1;
	size_t len = strlen(text);

	(void)unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (fd < 0 || write(fd, text, len) != (ssize_t)len || fchmod(fd, mode) < 0)
		give_up("cannot write %s", path);
}

static void fd_path(int fd, char ret_path[64])
{
	(void)snprintf(ret_path, 64, "/proc/self/fd/%d", fd);
}

/* Keeps what is at `dir` reachable at HOST_DIR/NAME, covers `dir` with an empty tmpfs of the same mode, and
 * answers the new path (owned). */
static char *cover(const char *dir, const char *name)
{
	char *host = mem_printf("%s/%s", HOST_DIR, name);
	char options[64];
	struct stat st;

	if (stat(dir, &st) < 0)
		give_up("cannot look at %s", dir);
	(void)snprintf(options, sizeof(options), "mode=%o,size=256m", st.st_mode & 07777);
	must_mkdir(host, 0755);
	must_mount(dir, host, NULL, MS_BIND | MS_REC, NULL);
	must_mount("tmpfs", dir, "tmpfs", MS_NOSUID | MS_NODEV, options);
	return host;
}

/* Replaces `dir` by links to its own entries. */
static void farm(const char *dir, const char *name)
{
	_cleanup_free_ char *host = cover(dir, name);
	DIR *entries = opendir(host);

	if (!entries)
		give_up("cannot read %s", host);
	for (struct dirent *entry; (entry = readdir(entries));) {
		_cleanup_free_ char *from = mem_printf("%s/%s", host, entry->d_name);
		_cleanup_free_ char *to = mem_printf("%s/%s", dir, entry->d_name);

		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
			symlink(from, to) < 0)
			give_up("cannot link %s", to);
	}
	closedir(entries);
}

static void own_proc_and_run(void)
{
	if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		give_up("cannot mount /proc (inside a container? it must allow new namespaces)");
	must_mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=256m");
	must_mkdir("/run/flotilla", 0755);
	must_mkdir(HOST_DIR, 0755);
	must_mkdir("/run/lock", 01777);
	must_mkdir("/run/sshd", 0755);
	must_mkdir("/run/home", 0700);
}

static void own_programs(int exe_fd)
{
	static const char target[] = "/usr/bin/flotilla";
	_cleanup_close_ int fd = -1;
	char source[64];

	farm("/usr/bin", "usr-bin");
	(void)unlink(target);
	fd = open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	if (fd < 0)
		give_up("cannot make %s", target);
	fd_path(exe_fd, source);
	must_mount(source, target, NULL, MS_BIND, NULL);
	for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
		_cleanup_free_ char *path = mem_printf("/usr/bin/%s", programs[i]);

		(void)unlink(path);
		if (symlink("flotilla", path) < 0)
			give_up("cannot link %s", path);
	}
}

static void own_var(int disk_fd)
{
	_cleanup_free_ char *logs = NULL;
	char source[64];
	DIR *entries;

	farm("/var/lib", "var-lib");
	(void)unlink(DEV_DISK);
	must_mkdir(DEV_DISK, 0755);
	fd_path(disk_fd, source);
	must_mount(source, DEV_DISK, NULL, MS_BIND, NULL);
	/* nginx keeps its temporary files here: two machines must not share them. */
	(void)unlink("/var/lib/nginx");
	must_mkdir("/var/lib/nginx", 0755);

	logs = cover("/var/log", "var-log");
	entries = opendir(logs);
	if (!entries)
		give_up("cannot read %s", logs);
	for (struct dirent *entry; (entry = readdir(entries));) {
		_cleanup_free_ char *path = mem_printf("/var/log/%s", entry->d_name);
		struct stat st;

		if (entry->d_name[0] == '.' ||
			fstatat(dirfd(entries), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
			!S_ISDIR(st.st_mode))
			continue;
		must_mkdir(path, st.st_mode & 07777);
		(void)!chown(path, st.st_uid, st.st_gid);
	}
	closedir(entries);
}

static void own_etc(const struct dev_config *config, unsigned int number)
{
	_cleanup_free_ char *host = cover("/etc", "etc"), *source = mem_printf("%s/.", host);
	_cleanup_buf_ struct buf text = BUF_INIT(64 * 1024);
	char name[32], address[32], id[33];

	machine_name(number, name);
	machine_address(number, address);
	machine_id(number, id);
	/* What an ordinary user may not read is left out, as the machine could not read it either. */
	(void)run_command(true, (const char *[]){"cp", "-a", source, "/etc", NULL});
	buf_printf(&text, "%s\n", id);
	must_write("/etc/machine-id", 0444, buf_text(&text));
	buf_clear(&text);
	buf_printf(&text, "%s\n", name);
	must_write("/etc/hostname", 0644, buf_text(&text));
	buf_clear(&text);
	buf_add_str(&text, "127.0.0.1 localhost\n::1 localhost ip6-localhost\n");
	for (unsigned int i = 1; i <= config->machines; i++) {
		char other[32], other_address[32];

		machine_name(i, other);
		machine_address(i, other_address);
		buf_printf(&text, "%s %s\n", other_address, other);
	}
	must_write("/etc/hosts", 0644, buf_text(&text));
	buf_clear(&text);
	buf_printf(&text, "COREOS_PUBLIC_IPV4=%s\nCOREOS_PRIVATE_IPV4=%s\n", address, address);
	must_write("/etc/environment", 0644, buf_text(&text));
	/* The private network has no way out: a name server that cannot be reached would cost every look-up
	 * its time-out. */
	must_write("/etc/resolv.conf", 0644, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
	must_mkdir("/etc/fleet", 0755);
	buf_clear(&text);
	buf_printf(&text,
		"# written by flotilla "
		"dev\netcd_servers=\"http://127.0.0.1:2379\"\npublic_ip=%s\nagent_ttl=%s\n"
		"unit_manager=supervisor\nagent_data_dir=" DEV_DISK "/fleet\n",
		address, config->agent_ttl);
	must_write("/etc/fleet/fleet.conf", 0644, buf_text(&text));
}

/* Every machine accepts the cluster's one key for the users root and core, and knows every machine's host
 * key. */
static void own_ssh(int keys_fd)
{
	static const char keys[] = HOST_DIR "/ssh";
	char source[64];

	fd_path(keys_fd, source);
	must_mkdir(keys, 0755);
	must_mount(source, keys, NULL, MS_BIND, NULL);
	must_mkdir("/etc/ssh", 0755);
	if (run_command(false, (const char *[]){"cp", "-r", keys, "/etc/ssh/flotilla", NULL}) < 0 ||
		chmod("/etc/ssh/flotilla", 0755) < 0 || chmod("/etc/ssh/flotilla/id", 0600) < 0 ||
		chmod("/etc/ssh/flotilla/host", 0600) < 0)
		give_up("cannot install the ssh keys");
	must_write("/etc/ssh/flotilla/sshd_config", 0644,
		"HostKey /etc/ssh/flotilla/host\nAuthorizedKeysFile /etc/ssh/flotilla/id.pub\nStrictModes "
		"no\n"
		"PermitRootLogin prohibit-password\nPasswordAuthentication no\nUsePAM no\nPidFile "
		"/run/sshd.pid\n"
		"AcceptEnv LANG LC_*\n");
	must_write("/etc/ssh/ssh_config", 0644,
		"Host 172.17.8.* core-*\n  IdentityFile /etc/ssh/flotilla/id\n"
		"  GlobalKnownHostsFile /etc/ssh/flotilla/known_hosts\n  LogLevel ERROR\n");
	if (run_command(true, (const char *[]){"grep", "-q", "^core:", "/etc/passwd", NULL}) < 0)
		(void)run_command(
			false, (const char *[]){"sh", "-c",
				       "echo 'core:x:0:0:CoreOS:/run/home:/bin/bash' >>/etc/passwd", NULL});
}

static void own_network(unsigned int number)
{
	char address[32];
	_cleanup_free_ char *with_prefix = NULL;

	machine_address(number, address);
	with_prefix = mem_printf("%s/%d", address, DEV_NETWORK_PREFIX);
	if (run_command(false, (const char *[]){"ip", "link", "set", "lo", "up", NULL}) < 0 ||
		run_command(false, (const char *[]){"ip", "addr", "add", with_prefix, "dev", "eth0", NULL}) <
			0 ||
		run_command(false, (const char *[]){"ip", "link", "set", "eth0", "up", NULL}) < 0 ||
		run_command(false,
			(const char *[]){"ip", "route", "add", "default", "via", DEV_HUB_ADDRESS, NULL}) < 0)
		_exit(1);
}

struct argv_builder {
	char *words[32];
	size_t count;
};

_printf_(2, 3) static void argv_add(struct argv_builder *builder, const char *format, ...)
{
	va_list args;

	assert(builder->count < ARRAY_LEN(builder->words) - 1);
	va_start(args, format);
	if (vasprintf(&builder->words[builder->count], format, args) < 0)
		give_up("cannot build a command line");
	va_end(args);
	builder->count++;
}

static void etcd_argv(const struct dev_config *config, unsigned int number, struct argv_builder *argv)
{
	_cleanup_buf_ struct buf cluster = BUF_INIT(64 * 1024);
	char name[32], address[32];

	for (unsigned int i = 1; i <= config->machines; i++) {
		machine_name(i, name);
		machine_address(i, address);
		buf_printf(&cluster, "%s%s=http://%s:2380", i > 1 ? "," : "", name, address);
	}
	machine_name(number, name);
	machine_address(number, address);
	argv_add(argv, "/usr/bin/etcd");
	argv_add(argv, "--name=%s", name);
	argv_add(argv, "--data-dir=%s/etcd", DEV_DISK);
	argv_add(argv, "--listen-client-urls=http://0.0.0.0:2379,http://0.0.0.0:4001");
	argv_add(argv, "--advertise-client-urls=http://%s:2379", address);
	argv_add(argv, "--listen-peer-urls=http://%s:2380", address);
	argv_add(argv, "--initial-advertise-peer-urls=http://%s:2380", address);
	argv_add(argv, "--initial-cluster=%s", buf_text(&cluster));
	argv_add(argv, "--initial-cluster-token=flotilla-dev");
}

static void services_run(const struct dev_config *config, unsigned int number, int log_fd)
{
	static char *const sshd_argv[] = {
		"/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/flotilla/sshd_config", NULL};
	static char *const fleetd_argv[] = {"/usr/bin/fleetd", "--config", "/etc/fleet/fleet.conf", NULL};
	struct argv_builder etcd = {0}, dockerd = {0};
	struct service services[4];
	size_t count = 0;

	etcd_argv(config, number, &etcd);
	services[count++] = (struct service){"etcd", etcd.words};
	if (config->docker) {
		argv_add(&dockerd, "/usr/sbin/dockerd");
		argv_add(&dockerd, "--data-root=%s/docker", DEV_DISK);
		argv_add(&dockerd, "--exec-root=/run/docker");
		argv_add(&dockerd, "--pidfile=/run/docker.pid");
		/* A registry of the cluster itself needs no certificate: the network is private. */
		argv_add(&dockerd, "--insecure-registry=172.17.8.0/24");
		if (config->docker_mirror)
			argv_add(&dockerd, "--registry-mirror=%s", config->docker_mirror);
		services[count++] = (struct service){"dockerd", dockerd.words};
	}
	if (config->ssh)
		services[count++] = (struct service){"sshd", sshd_argv};
	services[count++] = (struct service){"fleetd", fleetd_argv};
	init_run(services, count, log_fd);
}

static int open_below(int dir_fd, unsigned int number, const char *what)
{
	char path[64];
	int fd;

	(void)snprintf(path, sizeof(path), "%u/%s", number, what);
	fd = openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		give_up("cannot open %s in the cluster's directory", path);
	return fd;
}

void world_run(const struct dev_config *config, unsigned int number, int hub_fd)
{
	int dir_fd, disk_fd, log_fd, exe_fd, keys_fd = -1;
	_cleanup_free_ char *exe = mem_printf("%s/flotilla", config->bin_dir);
	char name[32], go;

	/* Without its hub a machine has no network and nobody to end it. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		give_up("cannot tie the machine to its hub");
	dir_fd = open(config->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	exe_fd = open(exe, O_PATH | O_CLOEXEC);
	if (dir_fd < 0 || exe_fd < 0)
		give_up("cannot open %s or %s", config->dir, exe);
	disk_fd = open_below(dir_fd, number, "disk");
	log_fd = open_below(dir_fd, number, "log");
	if (config->ssh) {
		keys_fd = openat(dir_fd, "ssh", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (keys_fd < 0)
			give_up("cannot open the ssh keys in %s", config->dir);
	}
	if (read(hub_fd, &go, 1) != 1)
		_exit(1);
	must_mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
	machine_name(number, name);
	if (sethostname(name, strlen(name)) < 0)
		give_up("cannot set the host name");
	own_network(number);
	own_proc_and_run();
	own_programs(exe_fd);
	own_var(disk_fd);
	own_etc(config, number);
	if (config->ssh)
		own_ssh(keys_fd);
	(void)setenv("HOME", "/run/home", 1);
	(void)setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
	if (chdir("/") < 0)
		give_up("cannot change to /");
	if (send(hub_fd, "r", 1, MSG_NOSIGNAL) != 1)
		_exit(1);
	(void)close(hub_fd);
	services_run(config, number, log_fd);
	_exit(0);
}
