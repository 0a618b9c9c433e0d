/* Opens what the configuration names, or what systemd handed over. */
#include "fleet/api_listen.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "io/file.h"
#include "io/notify.h"
#include "io/url.h"

int api_tls_read(const struct fleetd_config *config, struct api_tls *ret)
{
	const struct tls_files files = {config->api_certfile, config->api_keyfile, config->api_cafile};
	_cleanup_buf_ struct buf error = BUF_INIT(4096);
	int r;

	*ret = (struct api_tls){0};
	if (!tls_files_given(&files))
		return 0;
	r = tls_server_new(&files, &ret->server, &error);
	if (r == 0)
		r = tls_client_new(&files, false, &ret->client, &error);
	if (r < 0) {
		api_tls_done(ret);
		return log_errno(r, "api_certfile, api_keyfile, api_cafile: %s", buf_text(&error));
	}
	return 0;
}

void api_tls_done(struct api_tls *tls)
{
	tls->server = tls_context_unref(tls->server);
	tls->client = tls_context_unref(tls->client);
}

static int listen_unix(struct http_server *server, const char *path, struct buf *reterr)
{
	_cleanup_free_ char *dir = mem_strdup(path);
	char *slash = strrchr(dir, '/');

	if (slash && slash != dir) {
		*slash = '\0';
		(void)!file_mkdir_all(dir, 0755);
	}
	return http_server_listen_unix(server, path, 0660, reterr);
}

static int listen_at(
	struct http_server *server, const struct api_tls *tls, const char *address, struct buf *reterr)
{
	_cleanup_url_ struct url url = {0};
	int r = url_parse(address, &url, reterr);

	if (r < 0)
		return r;
	if (url.scheme == URL_UNIX)
		return listen_unix(server, url.path, reterr);
	if (url.scheme == URL_HTTP)
		return http_server_listen_tcp(server, url.host, url.port, NULL, reterr);
	if (tls->server)
		return http_server_listen_tls(server, url.host, url.port, NULL, reterr);
	buf_add_str(reterr, "https needs a certificate and a key (api_certfile, api_keyfile)");
	return -EINVAL;
}

/* What nobody asked for may be another's: of systemd's fleet.socket, say, where fleetd is started by hand.
 * 1.0, too, runs without an API where it was handed no socket. */
static int listen_one(struct http_server *server, const struct fleetd_config *config,
	const struct api_tls *tls, const char *address)
{
	_cleanup_buf_ struct buf error = BUF_INIT(4096);
	int r = listen_at(server, tls, address, &error);

	if (r >= 0)
		return 0;
	if (fleetd_config_names(config, "listen")) {
		log_error("cannot listen on %s (listen): %s", address, buf_text(&error));
		return r;
	}
	log_warning(
		"this fleetd answers no fleetctl: %s (name another address with listen=)", buf_text(&error));
	return 0;
}

int api_listen(struct http_server *server, const struct fleetd_config *config, const struct api_tls *tls)
{
	int fds = notify_listen_fds(), r = 0;
	_cleanup_buf_ struct buf error = BUF_INIT(4096);
	_cleanup_free_ char *list = mem_strdup(config->listen);
	char *save = NULL;

	if (tls->server)
		http_server_set_tls(server, tls->server);
	for (int i = 0; i < fds && r == 0; i++) {
		r = http_server_listen_fd(server, NOTIFY_LISTEN_FDS_START + i, tls->server != NULL, &error);
		if (r < 0)
			return log_errno(r, "cannot use the inherited socket %d: %s", i, buf_text(&error));
	}
	for (char *item = strtok_r(list, ",", &save); fds <= 0 && item && r == 0;
		item = strtok_r(NULL, ",", &save))
		r = listen_one(server, config, tls, item);
	if (r == 0 && !config->api_writers[0] &&
		(strstr(config->listen, "http://") || (tls->server && !config->api_cafile[0])))
		log_warning("whoever reaches the API's TCP port may run anything as root here: name who may "
			    "(api_writers), or whose certificates are good (api_cafile)");
	return r;
}

static int listen_tcp(struct http_server *server, const struct api_tls *tls, const char *host, uint16_t port,
	uint16_t *ret_port, struct buf *reterr)
{
	return tls->server ? http_server_listen_tls(server, host, port, ret_port, reterr)
			   : http_server_listen_tcp(server, host, port, ret_port, reterr);
}

int api_listen_peers(struct http_server *server, const struct fleetd_config *config,
	const struct api_tls *tls, uint16_t *ret_port)
{
	_cleanup_buf_ struct buf error = BUF_INIT(4096);
	_cleanup_free_ char *host = NULL;
	uint16_t port;
	int r;

	r = url_split_host_port(config->peer_listen, &host, &port, &error);
	if (r < 0)
		return log_errno(r, "peer_listen: %s", buf_text(&error));
	if (tls->server)
		http_server_set_tls(server, tls->server);
	r = listen_tcp(server, tls, host, port, ret_port, &error);
	if (r == -EADDRINUSE && !fleetd_config_names(config, "peer_listen")) {
		/* It was 1.0's port, where a fleet.socket may still listen: nobody asked for it, and others
		 * read in the registry which one it is. */
		r = listen_tcp(server, tls, host, 0, ret_port, &error);
		if (r >= 0)
			log_warning("the TCP port %u is taken: other fleetds are served at %u, until the "
				    "next start (peer_listen names one for good)",
				port, *ret_port);
	}
	if (r < 0)
		log_error("cannot listen for other fleetds on %s (peer_listen): %s", config->peer_listen,
			buf_text(&error));
	return r;
}

void api_peer_addresses(const struct fleetd_config *config, uint16_t port, const char *public_ip,
	const char *own_ip, struct buf *out)
{
	const char *addresses[2] = {public_ip, strcmp(public_ip, own_ip) != 0 ? own_ip : ""};
	_cleanup_free_ char *host = NULL;
	uint16_t unused;

	if (url_split_host_port(config->peer_listen, &host, &unused, NULL) < 0)
		return;
	if (host[0] && strcmp(host, "0.0.0.0") != 0 && strcmp(host, "::") != 0) {
		addresses[0] = host;
		addresses[1] = "";
	}
	for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
		if (!addresses[i][0])
			continue;
		if (out->len)
			buf_add_char(out, ',');
		if (config->api_certfile[0])
			buf_add_str(out, "https://");
		url_add_host_port(out, addresses[i], port);
	}
}
