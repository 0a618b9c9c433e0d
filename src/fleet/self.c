/* The nonce lives in the data directory: it tells an earlier life of this daemon from another machine with
 * the same ID. */
#include "fleet/self.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/rng.h"
#include "base/text.h"
#include "io/file.h"

static int read_line(const char *path, char **ret)
{
	_cleanup_buf_ struct buf text = BUF_INIT(4096);
	int r = file_read(path, 4096, &text);
	struct slice line;

	if (r < 0)
		return r;
	line = text_trim(buf_slice(&text));
	if (!line.len)
		return -ENODATA;
	*ret = mem_strndup(line.data, line.len);
	return 0;
}

static int find_machine_id(const struct fleetd_config *config, char **ret)
{
	int r;

	if (config->machine_id[0]) {
		*ret = mem_strdup(config->machine_id);
	} else {
		r = read_line("/etc/machine-id", ret);
		if (r < 0)
			return log_errno(r, "cannot read /etc/machine-id (make one with "
					    "systemd-machine-id-setup, or set machine_id)");
	}
	if (strchr(*ret, '/') || strlen(*ret) > REGISTRY_MACHINE_ID_MAX)
		return log_errno(-EINVAL, "the machine ID \"%s\" cannot be used", *ret);
	return 0;
}

/* The number that tells this installation from another with the same machine ID; kept in the data directory.
 */
static int find_nonce(const char *dir, char **ret)
{
	_cleanup_free_ char *path = mem_printf("%s/nonce", dir);
	_cleanup_buf_ struct buf text = BUF_INIT(64);
	uint8_t random[16];
	int r;

	if (read_line(path, ret) >= 0)
		return 0;
	r = file_mkdir_all(dir, 0755);
	if (r < 0)
		return log_errno(r, "cannot make the data directory %s (agent_data_dir)", dir);
	rng_system(random, sizeof(random));
	text_add_hex(&text, random, sizeof(random));
	r = file_write_atomic(path, buf_slice(&text), NULL);
	if (r < 0)
		return log_errno(r, "cannot write %s", path);
	*ret = mem_strdup(buf_text(&text));
	return 0;
}

/* The address that the default route leaves from (no packet is sent), else the first of any interface. */
char *fleet_self_address(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(53)}, own;
	socklen_t len = sizeof(own);
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char text[INET_ADDRSTRLEN] = "";
	struct ifaddrs *list = NULL;

	inet_pton(AF_INET, "192.0.2.1", &to.sin_addr);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0 &&
		getsockname(fd, (struct sockaddr *)&own, &len) == 0)
		inet_ntop(AF_INET, &own.sin_addr, text, sizeof(text));
	if (!text[0] && getifaddrs(&list) == 0)
		for (const struct ifaddrs *it = list; it && !text[0]; it = it->ifa_next)
			if (it->ifa_addr && it->ifa_addr->sa_family == AF_INET &&
				!(it->ifa_flags & IFF_LOOPBACK))
				inet_ntop(AF_INET, &((struct sockaddr_in *)(void *)it->ifa_addr)->sin_addr,
					text, sizeof(text));
	if (list)
		freeifaddrs(list);
	return mem_strdup(text);
}

/* Two on one directory would pass for one machine that was restarted, and take each other's units down. */
int fleet_self_lock(const struct fleetd_config *config, int *ret_fd)
{
	int r = file_mkdir_all(config->data_dir, 0755);

	if (r < 0)
		return log_errno(r, "cannot make the data directory %s (agent_data_dir)", config->data_dir);
	r = file_lock_dir(config->data_dir, "lock", ret_fd);
	if (r == -EWOULDBLOCK) {
		log_error("another fleetd runs on the data directory %s (agent_data_dir): stop it first",
			config->data_dir);
		return r;
	}
	return r < 0 ? log_errno(r, "cannot lock the data directory %s (agent_data_dir)", config->data_dir)
		     : 0;
}

/* Whoever can read the registry may ask this machine for status and logs of its units, and nobody else. */
static char *make_peer_token(void)
{
	struct buf text = BUF_INIT(64);
	uint8_t random[16];

	rng_system(random, sizeof(random));
	text_add_hex(&text, random, sizeof(random));
	return buf_take(&text, NULL);
}

int fleet_self_find(const struct fleetd_config *config, struct registry_machine *ret)
{
	int r = find_machine_id(config, &ret->id);

	if (r >= 0)
		r = find_nonce(config->data_dir, &ret->nonce);
	if (r < 0)
		return r;
	if (read_line("/proc/sys/kernel/random/boot_id", &ret->boot) < 0)
		ret->boot = mem_strdup("unknown");
	ret->version = mem_strdup(FLEET_VERSION);
	ret->peer_token = make_peer_token();
	return 0;
}
