/* What the supervisor knows of the host: the values of specifiers, and which services of the host run that a
 * unit may require. Those are probed where they answer (a socket), never guessed. */
#include "base/memory.h"
#include "base/time.h"
#include "manager/keeper.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#define PROBE_TIMEOUT_MS 50

static bool add_file(const char *path, struct buf *out, bool strip_dashes)
{
	char text[512];
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof(text));

	if (len <= 0)
		return false;
	while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == ' '))
		len--;
	for (ssize_t i = 0; i < len; i++)
		if (!strip_dashes || text[i] != '-')
			buf_add_char(out, text[i]);
	return true;
}

static bool add_os_release(const char *key, struct buf *out)
{
	_cleanup_close_ int fd = open("/etc/os-release", O_RDONLY | O_CLOEXEC);
	char text[4096], *at = text;
	ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	size_t key_len = strlen(key);

	if (len <= 0)
		return false;
	text[len] = 0;
	while (at) {
		char *end = strchr(at, '\n');

		if (strncmp(at, key, key_len) == 0 && at[key_len] == '=') {
			at += key_len + 1;
			at += strspn(at, "\"'");
			buf_add(out, at, strcspn(at, "\"'\n"));
			return true;
		}
		at = end ? end + 1 : NULL;
	}
	return true; /* systemd leaves it empty */
}

static bool add_passwd(char letter, struct buf *out)
{
	const struct passwd *user = getpwuid(geteuid());

	switch (letter) {
	case 'u':
		buf_add_str(out, user ? user->pw_name : "root");
		return true;
	case 'h':
		buf_add_str(out, user ? user->pw_dir : "/root");
		return true;
	default:
		buf_add_str(out, user ? user->pw_shell : "/bin/sh");
		return true;
	}
}

bool host_specifier(void *userdata, char letter, struct buf *out)
{
	static const struct {
		char letter;
		const char *text;
	} fixed[] = {{'t', "/run"}, {'S', "/var/lib"}, {'C', "/var/cache"}, {'L', "/var/log"}, {'E', "/etc"},
		{'T', "/tmp"}, {'V', "/var/tmp"}, {'g', "root"}, {'G', "0"}};
	const struct keeper *keeper = userdata;
	struct utsname name;

	for (size_t i = 0; i < ARRAY_LEN(fixed); i++) {
		if (fixed[i].letter == letter) {
			buf_add_str(out, fixed[i].text);
			return true;
		}
	}
	switch (letter) {
	case 'H':
		buf_add_str(out, keeper->hostname);
		return true;
	case 'l':
		buf_add(out, keeper->hostname, strcspn(keeper->hostname, "."));
		return true;
	case 'm':
		return add_file("/etc/machine-id", out, false);
	case 'b':
		return add_file("/proc/sys/kernel/random/boot_id", out, true);
	case 'v':
	case 'a':
		if (uname(&name) < 0)
			return false;
		buf_add_str(out, letter == 'v'				? name.release
				 : strcmp(name.machine, "x86_64") == 0	? "x86-64"
				 : strcmp(name.machine, "aarch64") == 0 ? "arm64"
									: name.machine);
		return true;
	case 'U':
		buf_printf(out, "%u", (unsigned)geteuid());
		return true;
	case 'u':
	case 'h':
	case 's':
		return add_passwd(letter, out);
	case 'o':
		return add_os_release("ID", out);
	case 'w':
		return add_os_release("VERSION_ID", out);
	case 'B':
		return add_os_release("BUILD_ID", out);
	case 'W':
		return add_os_release("VARIANT_ID", out);
	default:
		return false;
	}
}

static bool answers(const struct sockaddr *address, socklen_t len)
{
	_cleanup_close_ int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct pollfd wait = {.fd = fd, .events = POLLOUT};
	int error = 0;
	socklen_t error_len = sizeof(error);

	if (fd < 0)
		return false;
	if (connect(fd, address, len) == 0)
		return true;
	if (errno != EINPROGRESS || poll(&wait, 1, PROBE_TIMEOUT_MS) != 1)
		return false;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_len) == 0 && error == 0;
}

static bool unix_answers(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	return answers((struct sockaddr *)&address, sizeof(address));
}

static bool port_answers(uint16_t port)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};

	return answers((struct sockaddr *)&address, sizeof(address));
}

bool host_provides(struct keeper *keeper, const char *unit)
{
	static const struct {
		const char *unit, *socket;
		uint16_t ports[2];
	} probes[] = {
		{"docker.service", "/var/run/docker.sock"},
		{"docker.socket", "/var/run/docker.sock"},
		{"early-docker.service", "/var/run/early-docker.sock"},
		{"containerd.service", "/run/containerd/containerd.sock"},
		{"dbus.service", "/run/dbus/system_bus_socket"},
		{"dbus.socket", "/run/dbus/system_bus_socket"},
		{"etcd.service", NULL, {2379, 4001}},
		{"etcd2.service", NULL, {2379, 4001}},
		{"ssh.service", NULL, {22}},
		{"sshd.service", NULL, {22}},
		{"sshd.socket", NULL, {22}},
		{"fleet.socket", "/var/run/fleet.sock"},
		{"fleetd.service", "/var/run/fleet.sock"},
	};
	size_t len = strlen(unit);

	/* A machine on which this runs has reached its targets. */
	if (len > 7 && strcmp(unit + len - 7, ".target") == 0)
		return true;
	if (strcmp(unit, "fleet.service") == 0 || strcmp(unit, "fleetd.service") == 0)
		if (server_has_clients(keeper))
			return true;
	for (size_t i = 0; i < ARRAY_LEN(probes); i++) {
		if (strcmp(unit, probes[i].unit) != 0)
			continue;
		if (probes[i].socket && unix_answers(probes[i].socket))
			return true;
		for (size_t j = 0; j < 2; j++)
			if (probes[i].ports[j] && port_answers(probes[i].ports[j]))
				return true;
	}
	return false;
}

int64_t host_boot_ns(void)
{
	long ticks = sysconf(_SC_CLK_TCK);
	struct timespec awake, all;
	uint64_t started;
	pid_t parent;

	if (!process_read(1, &parent, &started) || ticks <= 0 || clock_gettime(CLOCK_MONOTONIC, &awake) < 0 ||
		clock_gettime(CLOCK_BOOTTIME, &all) < 0)
		return 0;
	return (int64_t)(started / (uint64_t)ticks) * NS_PER_S - (all.tv_sec - awake.tv_sec) * NS_PER_S;
}

int host_life(char ret_life[static 96])
{
	_cleanup_buf_ struct buf boot = BUF_INIT(64), init = BUF_INIT(1024);
	const char *after, *at;

	if (!add_file("/proc/sys/kernel/random/boot_id", &boot, true) ||
		!add_file("/proc/1/stat", &init, false))
		return -EIO;
	/* Field 22 is when it started; the fields are counted from behind the name. */
	after = strrchr(buf_text(&init), ')');
	at = after ? after + 1 : "";
	for (int field = 3; field <= 22 && *at; field++) {
		at += strspn(at, " ");
		if (field < 22)
			at += strcspn(at, " ");
	}
	(void)snprintf(ret_life, 96, "%s:%.*s", buf_text(&boot), (int)MIN(strcspn(at, " "), (size_t)24), at);
	return 0;
}
