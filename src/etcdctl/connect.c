/* Making the client from the global flags, and the original's messages about what goes wrong with the
 * cluster. */
#include "etcdctl/ctl.h"
#include "base/memory.h"
#include "base/time.h"
#include "base/text.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

int ctl_fail(int status, const char *text)
{
	fflush(stdout);
	fprintf(stderr, "Error:  %s\n", text);
	return status;
}

int ctl_complain(const char *text)
{
	fflush(stdout);
	fprintf(stderr, "%s\n", text);
	return CTL_BAD_ARGS;
}

int ctl_print_bare_failure(const struct etcd_response *response)
{
	if (response->outcome == ETCD_REFUSED)
		return ctl_complain(response->error_text);
	fflush(stdout);
	fputs("client: etcd cluster is unavailable or misconfigured\n", stderr);
	for (size_t i = 0; i < response->attempt_count; i++)
		fprintf(stderr, "error #%zu: %s\n", i, response->attempts[i].error);
	return CTL_BAD_ARGS;
}

int ctl_print_failure(struct ctl *ctl _unused_, const struct etcd_response *response, int status)
{
	fflush(stdout);
	if (response->outcome != ETCD_UNREACHABLE && response->outcome != ETCD_UNKNOWN)
		return ctl_fail(status, response->error_text);
	fputs("Error:  client: etcd cluster is unavailable or misconfigured\n", stderr);
	for (size_t i = 0; i < response->attempt_count; i++)
		fprintf(stderr, "error #%zu: %s\n", i, response->attempts[i].error);
	if (!response->attempt_count)
		fprintf(stderr, "%s\n", response->error_text);
	fputc('\n', stderr);
	return status;
}

struct etcd_response *ctl_wait(struct ctl *ctl, struct etcd_request *request)
{
	(void)ctl;
	return etcd_request_wait(request);
}

static void trace(const char *method, const char *url, const char *body, void *userdata)
{
	_cleanup_buf_ struct buf line = BUF_INIT(0);

	(void)userdata;
	buf_printf(&line, "cURL Command: curl -X %s %s", method, url);
	if (body)
		buf_printf(&line, " -d \"%s\"", body);
	fprintf(stderr, "%s\n", buf_text(&line));
}

static void print_endpoints(
	const struct ctl *ctl, const char *before, const char *separator, const char *after)
{
	fputs(before, stderr);
	for (size_t i = 0; i < etcd_client_endpoint_count(ctl->client); i++)
		fprintf(stderr, "%s%s", i ? separator : "", etcd_client_endpoint(ctl->client, i));
	fputs(after, stderr);
}

static int refuse_unpublished(struct ctl *ctl)
{
	fputs("etcd cluster has no published client endpoints.\n", stderr);
	print_endpoints(
		ctl, "Try '--no-sync' if you want to access non-published client endpoints(", ",", ").\n");
	return ctl_fail(CTL_SERVER_ERROR, "client: no endpoints available");
}

static int sync_endpoints(struct ctl *ctl)
{
	struct etcd_response *response;
	size_t published = 0;
	int status = CTL_OK;

	if (ctl->debug)
		print_endpoints(ctl, "start to sync cluster using endpoints(", ",", ")\n");
	response = ctl_wait(ctl, etcd_sync(ctl->client, NULL, NULL));
	for (size_t i = 0; i < response->member_count; i++)
		published += response->members[i].client_url_count;
	if (response->outcome != ETCD_OK)
		status = ctl_print_failure(ctl, response, CTL_BAD_CONNECTION);
	else if (!published)
		status = refuse_unpublished(ctl);
	else if (ctl->debug)
		print_endpoints(ctl, "got endpoints(", ",", ") after sync\n");
	etcd_response_unref(response);
	return status;
}

static int64_t to_ms(int64_t ns)
{
	return ns <= 0 ? 1 : (ns + NS_PER_MS - 1) / NS_PER_MS;
}

static const char *first_of(const char *const *texts, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (texts[i] && texts[i][0])
			return texts[i];
	return NULL;
}

const char *ctl_endpoints(const struct ctl_globals *globals)
{
	const char *const candidates[] = {
		globals->endpoints,
		getenv("ETCDCTL_ENDPOINTS"),
		globals->endpoint,
		getenv("ETCDCTL_ENDPOINT"),
		globals->peers,
		getenv("ETCDCTL_PEERS"),
		"http://127.0.0.1:2379,http://127.0.0.1:4001",
	};

	return first_of(candidates, ARRAY_LEN(candidates));
}

static int check_file(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	int error = errno;

	if (fd < 0) {
		_cleanup_free_ char *reason = mem_strdup(strerror(error));
		reason[0] = (char)(reason[0] | 0x20);
		fprintf(stderr, "open %s: %s\n", path, reason);
		return CTL_BAD_ARGS;
	}
	return CTL_OK;
}

static int check_options(const struct ctl_globals *globals)
{
	const char *cert = globals->cert_file ? globals->cert_file : "";
	const char *key = globals->key_file ? globals->key_file : "";
	const char *const files[] = {cert, key, globals->ca_file};

	if (globals->discovery_srv && globals->discovery_srv[0]) {
		fputs("etcdctl: --discovery-srv is not supported by this version; use --endpoints\n", stderr);
		return CTL_BAD_ARGS;
	}
	if (!cert[0] != !key[0]) {
		fprintf(stderr, "KeyFile and CertFile must both be present[key: %s, cert: %s]\n", key, cert);
		return CTL_BAD_ARGS;
	}
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		if (files[i] && files[i][0] && check_file(files[i]))
			return CTL_BAD_ARGS;
	}
	return CTL_OK;
}

char *ctl_read_password(const char *prompt)
{
	_cleanup_buf_ struct buf line = BUF_INIT(4096);
	struct termios saved, silent;
	bool terminal = tcgetattr(STDIN_FILENO, &saved) == 0;
	char c;

	fputs(prompt, stdout);
	fflush(stdout);
	if (terminal) {
		silent = saved;
		silent.c_lflag &= ~(tcflag_t)ECHO;
		(void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
	}
	while (read(STDIN_FILENO, &c, 1) == 1 && c != '\n')
		buf_add_char(&line, c);
	if (terminal)
		(void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &saved);
	putchar('\n');
	return buf_take(&line, NULL);
}

static void take_credentials(struct ctl *ctl)
{
	struct slice user, password;

	if (!ctl->username || !ctl->username[0])
		return;
	if (text_cut(slice_str(ctl->username), ':', &user, &password))
		ctl->password = mem_strndup(password.data, password.len);
	else
		ctl->password = ctl_read_password("Password: ");
	ctl->user = mem_strndup(user.data, user.len);
}

int ctl_connect(struct ctl *ctl, bool sync)
{
	_cleanup_free_ char *error = NULL;
	int r = check_options(ctl->globals);

	if (r)
		return r;
	take_credentials(ctl);
	struct etcd_client_options options = {
		.endpoints = ctl_endpoints(ctl->globals),
		.shuffle = true,
		.timeout_ms = to_ms(ctl->timeout_ns),
		.total_timeout_ms = to_ms(ctl->total_timeout_ns),
		.connect_timeout_ms = to_ms(ctl->timeout_ns),
		.username = ctl->user,
		.password = ctl->password,
		.ca_file = ctl->globals->ca_file,
		.cert_file = ctl->globals->cert_file,
		.key_file = ctl->globals->key_file,
		.trace = ctl->debug ? trace : NULL,
	};

	if ((options.ca_file || options.cert_file) && !strstr(options.endpoints, "https://"))
		fputs("warning: certificates are given, and no endpoint is https: the connection is in the "
		      "clear\n",
			stderr);
	r = etcd_client_new(&ctl->loop, &options, &ctl->client, &error);

	if (r < 0) {
		fprintf(stderr, "%s\n", error);
		return CTL_BAD_ARGS;
	}
	/* Less than a millisecond cannot be waited for: the time is over before the first connection. */
	if (ctl->total_timeout_ns < NS_PER_MS) {
		const char *endpoint = strstr(etcd_client_endpoint(ctl->client, 0), "://");
		_cleanup_free_ char *text = mem_printf("dial tcp %s: i/o timeout", endpoint + strlen("://"));
		return ctl_fail(ctl->no_sync || !sync ? CTL_SERVER_ERROR : CTL_BAD_CONNECTION, text);
	}
	r = sync && !ctl->no_sync ? sync_endpoints(ctl) : CTL_OK;
	if (!r && ctl->debug)
		print_endpoints(ctl, "Cluster-Endpoints: ", ", ", "\n");
	return r;
}
