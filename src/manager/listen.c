/* Opening what a socket unit listens on, as systemd.socket(5) says. */
#include "manager/listen.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/users.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static int parse_port(struct slice text, in_port_t *ret)
{
	uint64_t port;

	if (text_to_u64(text, &port) < 0 || !port || port > UINT16_MAX)
		return -EINVAL;
	*ret = htons((uint16_t)port);
	return 0;
}

static int parse_unix(const char *text, struct listen_address *ret, struct buf *reterr)
{
	size_t len = strlen(text);

	if (len >= sizeof(ret->address.un.sun_path)) {
		buf_add_str(reterr, "a socket's path or name of at most 107 bytes");
		return -EINVAL;
	}
	ret->address.un.sun_family = AF_UNIX;
	memcpy(ret->address.un.sun_path, text, len);
	if (text[0] == '@') {
		ret->address.un.sun_path[0] = 0;
		ret->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
	} else {
		ret->path = text;
		ret->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
	}
	return 0;
}

/* "[ADDRESS]:PORT", with %INTERFACE behind it for an address that is only good on one link. */
static int parse_ipv6(struct slice text, struct listen_address *ret)
{
	struct slice address, rest, port, zone;
	char host[INET6_ADDRSTRLEN], interface[IF_NAMESIZE];
	uint64_t scope;

	if (!text_cut(slice_make(text.data + 1, text.len - 1), ']', &address, &rest) ||
		address.len >= sizeof(host) || !slice_starts_with(rest, SLICE_LITERAL(":")))
		return -EINVAL;
	memcpy(host, address.data, address.len);
	host[address.len] = 0;
	ret->address.in6.sin6_family = AF_INET6;
	ret->len = sizeof(ret->address.in6);
	if (inet_pton(AF_INET6, host, &ret->address.in6.sin6_addr) != 1)
		return -EINVAL;
	if (text_cut(slice_make(rest.data + 1, rest.len - 1), '%', &port, &zone)) {
		if (!zone.len || zone.len >= sizeof(interface))
			return -EINVAL;
		memcpy(interface, zone.data, zone.len);
		interface[zone.len] = 0;
		/* An interface that is not there yet is found, or missed, when the socket is opened. */
		if (text_to_u64(zone, &scope) < 0 || scope > UINT32_MAX)
			scope = if_nametoindex(interface);
		ret->address.in6.sin6_scope_id = (uint32_t)scope;
	}
	return parse_port(port, &ret->address.in6.sin6_port);
}

static int parse_ipv4(struct slice text, struct listen_address *ret)
{
	struct slice address, port;
	char host[INET_ADDRSTRLEN];

	if (!text_cut(text, ':', &address, &port) || address.len >= sizeof(host))
		return -EINVAL;
	memcpy(host, address.data, address.len);
	host[address.len] = 0;
	ret->address.in.sin_family = AF_INET;
	ret->len = sizeof(ret->address.in);
	if (inet_pton(AF_INET, host, &ret->address.in.sin_addr) != 1)
		return -EINVAL;
	return parse_port(port, &ret->address.in.sin_port);
}

int listen_address_parse(const struct listen_spec *spec, struct listen_address *ret, struct buf *reterr)
{
	static const int types[] = {[LISTEN_STREAM] = SOCK_STREAM,
		[LISTEN_DATAGRAM] = SOCK_DGRAM,
		[LISTEN_SEQPACKET] = SOCK_SEQPACKET,
		[LISTEN_FIFO] = 0};
	struct slice text = slice_str(spec->address);
	int r;

	*ret = (struct listen_address){.type = types[spec->type]};
	if (spec->type == LISTEN_FIFO) {
		if (spec->address[0] != '/' || text.len >= 4096) {
			buf_add_str(reterr, "an absolute path");
			return -EINVAL;
		}
		ret->path = spec->address;
		return 0;
	}
	if (spec->address[0] == '/' || (spec->address[0] == '@' && text.len > 1))
		return parse_unix(spec->address, ret, reterr);
	if (spec->type == LISTEN_SEQPACKET) {
		buf_add_str(reterr, "a path or an @abstract name");
		return -EINVAL;
	}
	if (spec->address[0] == '[') {
		r = parse_ipv6(text, ret);
	} else if (parse_port(text, &ret->address.in6.sin6_port) == 0) {
		ret->address.in6.sin6_family = AF_INET6;
		ret->len = sizeof(ret->address.in6);
		ret->any_family = true;
		r = 0;
	} else {
		r = parse_ipv4(text, ret);
	}
	if (r < 0)
		buf_add_str(reterr,
			"a port, ADDRESS:PORT, [ADDRESS]:PORT[%INTERFACE], a path or an @abstract name");
	return r;
}

int listen_make_parents(const char *path, unsigned mode)
{
	_cleanup_free_ char *copy = mem_strdup(path);

	for (char *at = copy + 1; *at; at++) {
		if (*at != '/')
			continue;
		*at = 0;
		if (mkdir(copy, mode) < 0 && errno != EEXIST)
			return -errno;
		*at = '/';
	}
	return 0;
}

/* Who owns the path: SocketUser= (and its group), SocketGroup=. */
static int give_path(const struct socket_config *config, const char *path, struct buf *reterr)
{
	uid_t uid = (uid_t)-1;
	gid_t gid = (gid_t)-1;

	if (config->user && users_find(config->user, &uid, &gid) < 0) {
		buf_printf(reterr, "there is no user %s in /etc/passwd", config->user);
		return -ESRCH;
	}
	if (config->group && users_find_group(config->group, &gid) < 0) {
		buf_printf(reterr, "there is no group %s in /etc/group", config->group);
		return -ESRCH;
	}
	if ((config->user || config->group) && lchown(path, uid, gid) < 0) {
		int error = errno;

		buf_printf(reterr, "cannot give %s to its owner: %s", path, strerror(error));
		return -error;
	}
	return 0;
}

static int open_fifo(const struct socket_config *config, const char *path, struct buf *reterr)
{
	_cleanup_close_ int fd = -1;
	struct stat st;
	int r, made;

	made = mkfifo(path, config->socket_mode);
	if (made < 0 && errno != EEXIST)
		return -errno;
	fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || !S_ISFIFO(st.st_mode)) {
		buf_printf(reterr, "%s is there and is no FIFO", path);
		return -EEXIST;
	}
	/* One that was there may have been opened to others. */
	if (fchmod(fd, config->socket_mode) < 0)
		return -errno;
	r = give_path(config, path, reterr);
	if (r < 0)
		return r;
	if (config->pipe_size)
		(void)fcntl(fd, F_SETPIPE_SZ, (int)config->pipe_size);
	(void)fcntl(fd, F_SETFL, 0);
	return take_fd(fd);
}

static void set_option(int fd, int level, int option, int value, const char *what, struct strings *warnings)
{
	if (setsockopt(fd, level, option, &value, sizeof(value)) == 0)
		return;
	_cleanup_free_ char *text = mem_printf("%s= is not in force: %s", what, strerror(errno));
	if (!strings_have(warnings, text))
		strings_add(warnings, text);
}

static void set_buffer(int fd, bool receive, uint64_t size, struct strings *warnings)
{
	int value = (int)size;

	/* Beyond the system's bound only with privileges. */
	if (!size || setsockopt(fd, SOL_SOCKET, receive ? SO_RCVBUFFORCE : SO_SNDBUFFORCE, &value,
			     sizeof(value)) == 0)
		return;
	set_option(fd, SOL_SOCKET, receive ? SO_RCVBUF : SO_SNDBUF, value,
		receive ? "ReceiveBuffer" : "SendBuffer", warnings);
}

static void set_tcp(int fd, const struct socket_config *config, struct strings *warnings)
{
	const int64_t second = 1000000000;

	if (config->no_delay)
		set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1, "NoDelay", warnings);
	if (config->keep_alive_time_ns)
		set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, (int)(config->keep_alive_time_ns / second),
			"KeepAliveTimeSec", warnings);
	if (config->keep_alive_interval_ns)
		set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, (int)(config->keep_alive_interval_ns / second),
			"KeepAliveIntervalSec", warnings);
	if (config->keep_alive_probes)
		set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, (int)config->keep_alive_probes, "KeepAliveProbes",
			warnings);
	if (config->defer_accept_ns)
		set_option(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, (int)(config->defer_accept_ns / second),
			"DeferAcceptSec", warnings);
	if (config->congestion && setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, config->congestion,
					  (socklen_t)strlen(config->congestion)) < 0) {
		_cleanup_free_ char *text = mem_printf(
			"TCPCongestion=%s is not in force: %s", config->congestion, strerror(errno));
		strings_add(warnings, text);
	}
}

static void set_internet(
	int fd, bool ipv6, int type, const struct socket_config *config, struct strings *warnings)
{
	if (config->pass_packet_info && ipv6)
		set_option(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1, "PassPacketInfo", warnings);
	else if (config->pass_packet_info)
		set_option(fd, IPPROTO_IP, IP_PKTINFO, 1, "PassPacketInfo", warnings);
	if (config->ip_tos >= 0)
		set_option(fd, IPPROTO_IP, IP_TOS, (int)config->ip_tos, "IPTOS", warnings);
	if (config->ip_ttl >= 0) {
		set_option(fd, IPPROTO_IP, IP_TTL, (int)config->ip_ttl, "IPTTL", warnings);
		if (ipv6)
			set_option(
				fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, (int)config->ip_ttl, "IPTTL", warnings);
	}
	if (type == SOCK_STREAM)
		set_tcp(fd, config, warnings);
}

static void set_options(int fd, const struct listen_address *address, const struct socket_config *config,
	struct strings *warnings)
{
	int family = address->address.any.sa_family;

	if (config->keep_alive)
		set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1, "KeepAlive", warnings);
	if (config->broadcast)
		set_option(fd, SOL_SOCKET, SO_BROADCAST, 1, "Broadcast", warnings);
	if (config->pass_credentials)
		set_option(fd, SOL_SOCKET, SO_PASSCRED, 1, "PassCredentials", warnings);
	if (config->priority >= 0)
		set_option(fd, SOL_SOCKET, SO_PRIORITY, (int)config->priority, "Priority", warnings);
	if (config->mark >= 0)
		set_option(fd, SOL_SOCKET, SO_MARK, (int)config->mark, "Mark", warnings);
	set_buffer(fd, true, config->receive_buffer, warnings);
	set_buffer(fd, false, config->send_buffer, warnings);
	if (family != AF_UNIX)
		set_internet(fd, family == AF_INET6, address->type, config, warnings);
}

/* Options that decide who can connect, and so must hold. */
static int set_binding(int fd, const struct listen_address *address, const struct socket_config *config)
{
	const int yes = 1, only = config->bind_ipv6_only == BIND_IPV6_ONLY;
	const char *device = config->bind_to_device;
	int family = address->address.any.sa_family;

	if (family == AF_UNIX)
		return 0;
	if (address->type == SOCK_STREAM && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) < 0)
		return -errno;
	if (family == AF_INET6 && config->bind_ipv6_only != BIND_IPV6_DEFAULT &&
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only)) < 0)
		return -errno;
	if (device && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)strlen(device) + 1) < 0)
		return -errno;
	if (config->reuse_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof(yes)) < 0)
		return -errno;
	if (config->free_bind && setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &yes, sizeof(yes)) < 0)
		return -errno;
	if (config->transparent && setsockopt(fd, IPPROTO_IP, IP_TRANSPARENT, &yes, sizeof(yes)) < 0)
		return -errno;
	return 0;
}

/* True when nobody is behind the socket at that path: what a server that died has left. */
static bool is_stale(const struct listen_address *address)
{
	_cleanup_close_ int fd = socket(AF_UNIX, address->type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	if (fd < 0 || lstat(address->path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return false;
	return connect(fd, &address->address.any, address->len) < 0 && errno == ECONNREFUSED;
}

static int bind_socket(int fd, const struct listen_address *address, const struct socket_config *config)
{
	mode_t before;
	int r;

	if (!address->path)
		return bind(fd, &address->address.any, address->len) < 0 ? -errno : 0;
	before = umask(~config->socket_mode & 0777);
	r = bind(fd, &address->address.any, address->len) < 0 ? -errno : 0;
	if (r == -EADDRINUSE && is_stale(address)) {
		(void)unlink(address->path);
		r = bind(fd, &address->address.any, address->len) < 0 ? -errno : 0;
	}
	(void)umask(before);
	return r;
}

static int open_socket(const struct socket_config *config, struct listen_address *address,
	struct strings *warnings, struct buf *reterr)
{
	_cleanup_close_ int fd = socket(address->address.any.sa_family, address->type | SOCK_CLOEXEC, 0);
	int r;

	if (fd < 0 && errno == EAFNOSUPPORT && address->any_family) {
		in_port_t port = address->address.in6.sin6_port;

		address->address.in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = port};
		address->len = sizeof(address->address.in);
		fd = socket(AF_INET, address->type | SOCK_CLOEXEC, 0);
	}
	if (fd < 0)
		return -errno;
	r = set_binding(fd, address, config);
	if (r == 0)
		r = bind_socket(fd, address, config);
	if (r == 0 && address->path)
		r = give_path(config, address->path, reterr);
	if (r < 0)
		return r;
	set_options(fd, address, config, warnings);
	if (address->type != SOCK_DGRAM && listen(fd, (int)MIN(config->backlog, (uint64_t)INT32_MAX)) < 0)
		return -errno;
	return take_fd(fd);
}

int listen_open(const struct socket_config *config, const struct listen_spec *spec, struct strings *warnings,
	struct buf *reterr)
{
	struct listen_address address;
	mode_t before;
	int r;

	r = listen_address_parse(spec, &address, reterr);
	if (r == 0 && address.path) {
		before = umask(0);
		r = listen_make_parents(address.path, config->directory_mode);
		(void)umask(before);
	}
	if (r == 0 && spec->type == LISTEN_FIFO) {
		before = umask(0);
		r = open_fifo(config, address.path, reterr);
		(void)umask(before);
	} else if (r == 0) {
		r = open_socket(config, &address, warnings, reterr);
	}
	if (r < 0 && !reterr->len)
		buf_printf(reterr, "%s: %s", spec->address, strerror(-r));
	return r;
}
