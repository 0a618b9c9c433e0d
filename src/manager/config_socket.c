/* What systemd.socket(5) says of addresses and socket options. Addresses are checked here and taken apart
 * again where they are used (listen.c). */
#include "base/memory.h"
#include "base/text.h"
#include "manager/config_internal.h"
#include "manager/listen.h"
#include <errno.h>

#define LISTEN_MAX 256
#define NAME_MAX_BYTES 255

const char *listen_type_name(enum listen_type type)
{
	static const char *const names[] = {[LISTEN_STREAM] = "Stream",
		[LISTEN_DATAGRAM] = "Datagram",
		[LISTEN_SEQPACKET] = "SequentialPacket",
		[LISTEN_FIFO] = "FIFO"};

	return names[type];
}

void parse_listen(struct reader *reader, struct slice value, size_t type)
{
	struct socket_config *config = &reader->config->socket;
	struct listen_spec add = {.type = (enum listen_type)type};
	_cleanup_buf_ struct buf error = BUF_INIT(1024);
	struct listen_address address;

	if (!value.len) {
		for (size_t i = 0; i < config->count; i++)
			free(config->specs[i].address);
		config->specs = mem_free(config->specs);
		config->count = 0;
		return;
	}
	if (config->count >= LISTEN_MAX) {
		config_warn(reader, "More than %d sockets in one unit, ignoring.", LISTEN_MAX);
		return;
	}
	add.address = config_expand(reader, value);
	if (!add.address)
		return;
	if (listen_address_parse(&add, &address, &error) < 0) {
		config_warn_value(reader, value, buf_text(&error));
		free(add.address);
		return;
	}
	config->specs = mem_reallocarray(config->specs, config->count + 1, sizeof(*config->specs));
	config->specs[config->count++] = add;
}

/* One process per connection needs a template of the service, which no cluster brings to a machine. */
void parse_accept(struct reader *reader, struct slice value, size_t unused)
{
	bool accept;

	(void)unused;
	if (unit_parse_bool(value, &accept) < 0)
		config_warn_value(reader, value, "yes or no");
	else if (accept)
		config_fail(reader,
			"Accept=yes is not supported by the supervisor: it starts one service for all "
			"connections");
}

void parse_bind_ipv6_only(struct reader *reader, struct slice value, size_t unused)
{
	static const char *const words[] = {"default", "both", "ipv6-only"};

	(void)unused;
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (slice_is(value, words[i])) {
			reader->config->socket.bind_ipv6_only = (enum bind_ipv6_only)i;
			return;
		}
	}
	config_warn_value(reader, value, "default, both or ipv6-only");
}

/* As sd_listen_fds_with_names(3) takes it apart: printable, without colons. */
void parse_descriptor_name(struct reader *reader, struct slice value, size_t unused)
{
	char **field = &reader->config->socket.name;
	char *text = config_expand(reader, value);
	size_t len = text ? strlen(text) : 0;
	bool good = text && len <= NAME_MAX_BYTES;

	(void)unused;
	for (size_t i = 0; good && i < len; i++)
		good = text[i] >= ' ' && text[i] < 127 && text[i] != ':';
	if (!good) {
		config_warn_value(reader, value, "a name of printable characters without ':'");
		free(text);
		return;
	}
	free(*field);
	*field = len ? text : mem_free(text);
}

void parse_bytes(struct reader *reader, struct slice value, size_t offset)
{
	uint64_t size;

	if (config_parse_size(value, &size) < 0 || size > INT32_MAX)
		config_warn_value(reader, value, "a size such as 64K, below 2G");
	else
		*CONFIG_FIELD(reader, uint64_t, offset) = size;
}

void parse_socket_number(struct reader *reader, struct slice value, size_t offset)
{
	int64_t number, low = offset == CONFIG_OFFSET(socket.ip_ttl) ? 1 : 0,
			high = offset == CONFIG_OFFSET(socket.ip_ttl) ? 255 : INT32_MAX;

	if (config_parse_number(reader, value, low, high, &number))
		*CONFIG_FIELD(reader, int64_t, offset) = number;
}

void parse_ip_tos(struct reader *reader, struct slice value, size_t unused)
{
	static const struct {
		const char *name;
		int64_t tos;
	} names[] = {{"low-delay", 0x10}, {"throughput", 0x08}, {"reliability", 0x04}, {"low-cost", 0x02}};
	int64_t number;

	(void)unused;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (slice_is(value, names[i].name)) {
			reader->config->socket.ip_tos = names[i].tos;
			return;
		}
	}
	if (config_parse_number(reader, value, 0, 255, &number))
		reader->config->socket.ip_tos = number;
}
