/* load: drives an etcd v2 server (or one that speaks Redis's protocol) over N keep-alive connections, one
 * request at a time on each, and prints one JSON line: requests per second and a latency histogram's
 * percentiles. One thread on epoll; the same program for every server, so that what it costs is the same for
 * all. Requests are made once and only their key and value are filled in, so that on a machine of two
 * processors it leaves the servers theirs. It shares no code with the project.
 *
 *   load --port P [--host A] [--connections N] [--seconds S] [--warm-up S] [--puts PERCENT] [--keys K]
 *        [--value-bytes B] [--seed X] [--requests R] [--fill] [--quorum] [--resp]
 *
 * --puts 100 writes only, 0 reads only. --fill writes each of the K keys once, before anything is measured.
 * --requests ends it after so many answers, at the latest after --seconds. --quorum asks for linearizable
 * reads. --resp speaks SET and GET of Redis.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	ANSWER_MAX = 256 << 10,
	REQUEST_MAX = 96 << 10,
	KEY_DIGITS = 6,
	VALUE_DIGITS = 16,
	VALUE_MAX = 64 << 10,
	EVENTS_MAX = 256,
	SUB_BUCKETS = 64, /* per power of two: at most 1.6 % off */
	BUCKETS = 40 * SUB_BUCKETS,
};

struct options {
	const char *host;
	int port, connections, puts_percent, keys, value_bytes;
	double seconds, warm_up_s;
	uint64_t seed, requests;
	bool fill, quorum, resp;
};

/* A request whose key and value are filled in. */
struct template
{
	char *text;
	size_t len, key_at, value_at; /* value_at 0: none */
};

struct connection {
	int fd;
	struct template put, get; /* its own */
	const struct template *request;
	size_t sent;
	char *answer; /* ANSWER_MAX bytes */
	size_t answer_len;
	uint64_t begun_ns;
};

struct load {
	struct options options;
	struct sockaddr_in address;
	int epoll;
	struct connection *connections;
	char *value;
	uint64_t random;
	int next_fill; /* keys already asked for while filling */
	int fills_under_way;
	bool filling, measuring;
	uint64_t requests, errors;
	uint64_t answers; /* also those of the warm-up */
	uint64_t histogram[BUCKETS];
	uint64_t max_ns;
};

static void die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* SplitMix64 (Steele, Lea and Flood 2014). */
static uint64_t next_random(struct load *load)
{
	uint64_t z = load->random += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

static size_t bucket_of(uint64_t ns)
{
	unsigned shift;
	size_t bucket;

	if (ns < SUB_BUCKETS)
		return ns;
	shift = 63 - (unsigned)__builtin_clzll(ns) - 6;
	bucket = (shift + 1) * SUB_BUCKETS + (ns >> shift) - SUB_BUCKETS;
	return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

/* The middle of a bucket. */
static double bucket_ns(size_t bucket)
{
	if (bucket < SUB_BUCKETS)
		return (double)bucket;
	uint64_t width = 1ull << (bucket / SUB_BUCKETS - 1);
	return (double)((bucket % SUB_BUCKETS + SUB_BUCKETS) * width) + (double)width / 2;
}

static double percentile_us(const struct load *load, double share)
{
	uint64_t rank = (uint64_t)((double)load->requests * share), seen = 0;

	for (size_t i = 0; i < BUCKETS; i++) {
		seen += load->histogram[i];
		if (seen > rank)
			return bucket_ns(i) / 1000;
	}
	return (double)load->max_ns / 1000;
}

static void watch(struct load *load, struct connection *connection, int operation, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = connection};

	if (epoll_ctl(load->epoll, operation, connection->fd, &event) < 0)
		die("epoll_ctl");
}

static void open_connection(struct load *load, struct connection *connection)
{
	int one = 1;

	connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connection->fd < 0)
		die("socket");
	if (connect(connection->fd, (struct sockaddr *)&load->address, sizeof(load->address)) < 0)
		die("connect");
	setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	watch(load, connection, EPOLL_CTL_ADD, EPOLLIN);
}

static void make_template(
	struct template *template, const struct options *options, bool put, const char *value)
{
	char *text = malloc(REQUEST_MAX), *mark;
	int len;

	if (!text)
		die("malloc");
	if (options->resp && put)
		len = snprintf(text, REQUEST_MAX, "*3\r\n$3\r\nSET\r\n$13\r\nbench/k######\r\n$%d\r\n%s\r\n",
			options->value_bytes, value);
	else if (options->resp)
		len = snprintf(text, REQUEST_MAX, "*2\r\n$3\r\nGET\r\n$13\r\nbench/k######\r\n");
	else if (put)
		len = snprintf(text, REQUEST_MAX,
			"PUT /v2/keys/bench/k###### HTTP/1.1\r\nHost: %s:%d\r\nContent-Type: "
			"application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\nvalue=%s",
			options->host, options->port, 6 + options->value_bytes, value);
	else
		len = snprintf(text, REQUEST_MAX,
			"GET /v2/keys/bench/k######%s HTTP/1.1\r\nHost: %s:%d\r\n\r\n",
			options->quorum ? "?quorum=true" : "", options->host, options->port);
	template->text = text;
	template->len = (size_t)len;
	mark = strstr(text, "######");
	template->key_at = (size_t)(mark - text);
	template->value_at = put ? (size_t)(strstr(mark, value) - text) : 0;
}

static void make_request(struct load *load, struct connection *connection)
{
	static const char hex[] = "0123456789abcdef";
	const struct options *options = &load->options;
	bool put = load->filling || next_random(load) % 100 < (uint64_t)options->puts_percent;
	int key = load->filling ? load->next_fill++ : (int)(next_random(load) % (uint64_t)options->keys);
	struct template *template = put ? &connection->put : &connection->get;
	uint64_t start = next_random(load);

	for (int i = KEY_DIGITS; i-- > 0; key /= 10)
		template->text[template->key_at + (size_t)i] = (char)('0' + key % 10);
	/* A different start of the value each time, so that no two neighbours are equal. */
	if (template->value_at)
		for (size_t i = 0; i < VALUE_DIGITS; i++, start >>= 4)
			template->text[template->value_at + i] = hex[start & 15];
	connection->request = template;
	connection->sent = 0;
	connection->answer_len = 0;
	connection->begun_ns = now_ns();
}

static void close_and_reopen(struct load *load, struct connection *connection)
{
	load->errors++;
	close(connection->fd);
	open_connection(load, connection);
}

/* Sends what is left; false when the connection had to be replaced. */
static bool send_request(struct load *load, struct connection *connection)
{
	while (connection->sent < connection->request->len) {
		ssize_t sent = send(connection->fd, connection->request->text + connection->sent,
			connection->request->len - connection->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0 && errno == EAGAIN) {
			watch(load, connection, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
			return true;
		}
		if (sent < 0) {
			close_and_reopen(load, connection);
			return false;
		}
		connection->sent += (size_t)sent;
	}
	return true;
}

/* Starts the next request of a connection, if there is one. */
static void go_on(struct load *load, struct connection *connection)
{
	if (load->filling && load->next_fill >= load->options.keys) {
		load->fills_under_way--;
		return;
	}
	do
		make_request(load, connection);
	while (!send_request(load, connection));
}

/* What a header line says of the body: its length, or SIZE_MAX for chunks; else `known`. */
static size_t body_length(const char *line, const char *end, size_t known)
{
	static const char length[] = "content-length:", coding[] = "transfer-encoding: chunked";

	if ((*line | 0x20) == 'c' && (size_t)(end - line) > sizeof(length) &&
		strncasecmp(line, length, sizeof(length) - 1) == 0)
		return strtoul(line + sizeof(length) - 1, NULL, 10);
	if ((*line | 0x20) == 't' && (size_t)(end - line) >= sizeof(coding) - 1 &&
		strncasecmp(line, coding, sizeof(coding) - 1) == 0)
		return SIZE_MAX;
	return known;
}

/* Length of the whole answer, 0 while it is not complete; its status in ret_status. */
static size_t http_answer_length(const struct connection *connection, int *ret_status)
{
	const char *answer = connection->answer, *line = answer, *end;
	size_t left = connection->answer_len, body = 0;

	for (;; line = end + 1) {
		end = memchr(line, '\n', left);
		if (!end)
			return 0;
		left -= (size_t)(end + 1 - line);
		if (end - line <= 1)
			break;
		body = line == answer ? 0 : body_length(line, end, body);
	}
	*ret_status = connection->answer_len > 12 ? atoi(answer + 9) : 0;
	if (body == SIZE_MAX) {
		end = memmem(end - 1, left + 2, "\r\n0\r\n\r\n", 7);
		return end ? (size_t)(end + 7 - answer) : 0;
	}
	return left >= body ? (size_t)(end + 1 - answer) + body : 0;
}

static size_t resp_answer_length(const struct connection *connection, int *ret_status)
{
	const char *answer = connection->answer, *end = memchr(answer, '\n', connection->answer_len);
	size_t len;

	if (!end)
		return 0;
	len = (size_t)(end + 1 - answer);
	*ret_status = *answer == '-' ? 500 : 200;
	if (*answer == '$' && answer[1] != '-')
		len += strtoul(answer + 1, NULL, 10) + 2;
	return connection->answer_len >= len ? len : 0;
}

static void count(struct load *load, const struct connection *connection, int status)
{
	uint64_t ns = now_ns() - connection->begun_ns;

	if (status != 200 && status != 201)
		load->errors++;
	load->answers += !load->filling;
	if (!load->measuring)
		return;
	load->requests++;
	load->histogram[bucket_of(ns)]++;
	if (ns > load->max_ns)
		load->max_ns = ns;
}

static void receive(struct load *load, struct connection *connection)
{
	ssize_t got = recv(connection->fd, connection->answer + connection->answer_len,
		ANSWER_MAX - 1 - connection->answer_len, MSG_DONTWAIT);
	int status = 0;

	if (got < 0 && errno == EAGAIN)
		return;
	if (got <= 0) {
		close_and_reopen(load, connection);
		go_on(load, connection);
		return;
	}
	connection->answer_len += (size_t)got;
	connection->answer[connection->answer_len] = 0;
	if (!(load->options.resp ? resp_answer_length(connection, &status)
				 : http_answer_length(connection, &status))) {
		if (connection->answer_len == ANSWER_MAX - 1) {
			errno = EMSGSIZE;
			die("answer");
		}
		return;
	}
	count(load, connection, status);
	go_on(load, connection);
}

static bool goes_on(const struct load *load, uint64_t end_ns)
{
	if (load->filling)
		return load->fills_under_way > 0;
	if (load->options.requests && load->answers >= load->options.requests)
		return false;
	return now_ns() < end_ns;
}

static void run_until(struct load *load, uint64_t end_ns)
{
	struct epoll_event events[EVENTS_MAX];

	while (goes_on(load, end_ns)) {
		int ready = epoll_wait(load->epoll, events, EVENTS_MAX, 10);
		if (ready < 0 && errno != EINTR)
			die("epoll_wait");
		for (int i = 0; i < ready; i++) {
			struct connection *connection = events[i].data.ptr;
			if (events[i].events & EPOLLOUT) {
				watch(load, connection, EPOLL_CTL_MOD, EPOLLIN);
				if (!send_request(load, connection))
					go_on(load, connection);
			}
			if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
				receive(load, connection);
		}
	}
}

static void open_all(struct load *load)
{
	load->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (load->epoll < 0)
		die("epoll_create1");
	load->connections = calloc((size_t)load->options.connections, sizeof(*load->connections));
	for (int i = 0; i < load->options.connections; i++) {
		struct connection *connection = &load->connections[i];
		make_template(&connection->put, &load->options, true, load->value);
		make_template(&connection->get, &load->options, false, load->value);
		connection->answer = malloc(ANSWER_MAX);
		open_connection(load, connection);
	}
}

static void start_all(struct load *load)
{
	load->fills_under_way = load->options.connections;
	for (int i = 0; i < load->options.connections; i++)
		go_on(load, &load->connections[i]);
}

static void print_result(const struct load *load, double seconds)
{
	printf("{\"requests\":%llu,\"answers\":%llu,\"errors\":%llu,\"seconds\":%.3f,\"per_second\":%.1f,"
	       "\"p50_us\":%.1f,"
	       "\"p90_us\":%.1f,"
	       "\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f}\n",
		(unsigned long long)load->requests, (unsigned long long)load->answers,
		(unsigned long long)load->errors, seconds, (double)load->requests / seconds,
		percentile_us(load, 0.5), percentile_us(load, 0.9), percentile_us(load, 0.99),
		percentile_us(load, 0.999), (double)load->max_ns / 1000);
}

static int number(const char *text, int least, int most, const char *name)
{
	char *end;
	long value = strtol(text, &end, 10);

	if (*end || end == text || value < least || value > most) {
		fprintf(stderr, "load: --%s must be a number from %d to %d\n", name, least, most);
		exit(2);
	}
	return (int)value;
}

static const struct option option_rows[] = {
	{"host", required_argument, NULL, 'h'},
	{"port", required_argument, NULL, 'p'},
	{"connections", required_argument, NULL, 'c'},
	{"seconds", required_argument, NULL, 's'},
	{"warm-up", required_argument, NULL, 'w'},
	{"puts", required_argument, NULL, 'u'},
	{"keys", required_argument, NULL, 'k'},
	{"value-bytes", required_argument, NULL, 'b'},
	{"seed", required_argument, NULL, 'x'},
	{"requests", required_argument, NULL, 'n'},
	{"fill", no_argument, NULL, 'f'},
	{"quorum", no_argument, NULL, 'q'},
	{"resp", no_argument, NULL, 'r'},
	{0},
};

static void take(struct options *options, int option)
{
	switch (option) {
	case 'h':
		options->host = optarg;
		break;
	case 'p':
		options->port = number(optarg, 1, 65535, "port");
		break;
	case 'c':
		options->connections = number(optarg, 1, 10000, "connections");
		break;
	case 's':
		options->seconds = atof(optarg);
		break;
	case 'w':
		options->warm_up_s = atof(optarg);
		break;
	case 'u':
		options->puts_percent = number(optarg, 0, 100, "puts");
		break;
	case 'k':
		options->keys = number(optarg, 1, 1000000, "keys");
		break;
	case 'b':
		options->value_bytes = number(optarg, 16, VALUE_MAX, "value-bytes");
		break;
	case 'x':
		options->seed = strtoull(optarg, NULL, 10);
		break;
	case 'n':
		options->requests = strtoull(optarg, NULL, 10);
		break;
	case 'f':
		options->fill = true;
		break;
	case 'q':
		options->quorum = true;
		break;
	case 'r':
		options->resp = true;
		break;
	default:
		exit(2);
	}
}

static struct options parse(int argc, char **argv)
{
	struct options options = {.host = "127.0.0.1",
		.connections = 1,
		.puts_percent = 100,
		.keys = 1000,
		.value_bytes = 256,
		.seconds = 3,
		.warm_up_s = 0.5,
		.seed = 1};
	int option;

	while ((option = getopt_long(argc, argv, "", option_rows, NULL)) != -1)
		take(&options, option);
	if (!options.port || optind != argc) {
		fprintf(stderr, "load: --port is needed, and nothing but options\n");
		exit(2);
	}
	return options;
}

int main(int argc, char **argv)
{
	static struct load load;
	uint64_t begun_ns;

	load.options = parse(argc, argv);
	load.random = load.options.seed;
	load.address =
		(struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)load.options.port)};
	if (inet_pton(AF_INET, load.options.host, &load.address.sin_addr) != 1) {
		fprintf(stderr, "load: --host must be an IPv4 address\n");
		return 2;
	}
	load.value = malloc((size_t)load.options.value_bytes + 1);
	for (int i = 0; i < load.options.value_bytes; i++)
		load.value[i] = (char)('a' + i % 26);
	load.value[load.options.value_bytes] = 0;
	open_all(&load);
	if (load.options.fill) {
		load.filling = true;
		start_all(&load);
		run_until(&load, 0);
		load.filling = false;
	}
	if (load.options.seconds > 0) {
		start_all(&load);
		run_until(&load, now_ns() + (uint64_t)(load.options.warm_up_s * 1e9));
		load.measuring = true;
		begun_ns = now_ns();
		run_until(&load, begun_ns + (uint64_t)(load.options.seconds * 1e9));
		print_result(&load, (double)(now_ns() - begun_ns) / 1e9);
	} else {
		printf("{\"errors\":%llu}\n", (unsigned long long)load.errors);
	}
	return 0;
}
