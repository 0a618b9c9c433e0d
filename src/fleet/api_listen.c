#include "fleet/api_listen.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "io/file.h"
#include "io/notify.h"
#include "io/url.h"

static bool has_tls(const struct fleetd_config *config)
{
	return config->api_certfile[0] || config->api_keyfile[0] || config->api_cafile[0];
}

int api_listen_read_tls(struct http_server *server, const struct fleetd_config *config)
{
	const struct tls_files files = {config->api_certfile, config->api_keyfile, config->api_cafile};
	_cleanup_buf_ struct buf error = BUF_INIT(4096);
	struct tls_context *context;
	int r;

	if (!has_tls(config))
		return 0;
	r = tls_server_new(&files, &context, &error);
	if (r < 0)
		return log_errno(r, "api_certfile, api_keyfile, api_cafile: %s", buf_text(&error));
	http_server_set_tls(server, context);
	(void)tls_context_unref(context);
	return 0;
}

int api_listen_peer_tls(const struct fleetd_config *config, struct tls_context **ret)
{
	const struct tls_files files = {config->api_certfile, config->api_keyfile, config->api_cafile};
	_cleanup_buf_ struct buf error = BUF_INIT(4096);
	int r;

	*ret = NULL;
	if (!has_tls(config))
		return 0;
	r = tls_client_new(&files, false, ret, &error);
	return r < 0 ? log_errno(r, "api_certfile, api_keyfile, api_cafile: %s", buf_text(&error)) : 0;
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

static int listen_one(
	struct http_server *server, const struct fleetd_config *config, const char *address, bool encrypted)
{
	_cleanup_buf_ struct buf error = BUF_INIT(4096);
	_cleanup_url_ struct url url = {0};
	int r = url_parse(address, &url, &error);

	if (r < 0)
		return log_errno(r, "listen: %s", buf_text(&error));
	if ((url.scheme == URL_HTTPS) != encrypted)
		return 0; /* the other round's */
	if (url.scheme == URL_UNIX) {
		r = listen_unix(server, url.path, &error);
	} else if (encrypted && !config->api_certfile[0]) {
		r = -EINVAL;
		buf_add_str(&error, "https needs a certificate and a key (api_certfile, api_keyfile)");
	} else {
		r = http_server_listen_tcp(server, url.host, url.port, NULL, &error);
	}
	return r < 0 ? log_errno(r, "cannot listen on %s: %s", address, buf_text(&error)) : 0;
}

static int listen_all(struct http_server *server, const struct fleetd_config *config, bool encrypted)
{
	_cleanup_free_ char *list = mem_strdup(config->listen);
	char *save = NULL;
	int r = 0;

	for (char *item = strtok_r(list, ",", &save); item && r == 0; item = strtok_r(NULL, ",", &save))
		r = listen_one(server, config, item, encrypted);
	return r;
}

int api_listen(struct http_server *server, const struct fleetd_config *config)
{
	int fds = notify_listen_fds(), r = 0;
	_cleanup_buf_ struct buf error = BUF_INIT(4096);

	/* Those that are opened before the server has a certificate stay in the clear. */
	if (fds <= 0)
		r = listen_all(server, config, false);
	if (r == 0)
		r = api_listen_read_tls(server, config);
	if (r == 0 && fds <= 0)
		r = listen_all(server, config, true);
	for (int i = 0; i < fds && r == 0; i++) {
		r = http_server_listen_fd(server, NOTIFY_LISTEN_FDS_START + i, &error);
		if (r < 0)
			return log_errno(r, "cannot use the inherited socket %d: %s", i, buf_text(&error));
	}
	return r;
}

int api_listen_peers(struct http_server *server, const struct fleetd_config *config, uint16_t *ret_port)
{
	_cleanup_buf_ struct buf error = BUF_INIT(4096);
	_cleanup_free_ char *host = NULL;
	uint16_t port;
	int r;

	r = api_listen_read_tls(server, config);
	if (r < 0)
		return r;
	r = url_split_host_port(config->peer_listen, &host, &port, &error);
	if (r < 0)
		return log_errno(r, "peer_listen: %s", buf_text(&error));
	r = http_server_listen_tcp(server, host, port, ret_port, &error);
	if (r < 0)
		return log_errno(r, "cannot listen for other fleetds on %s (peer_listen): %s",
			config->peer_listen, buf_text(&error));
	return 0;
}
