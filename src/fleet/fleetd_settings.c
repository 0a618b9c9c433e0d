/* What the configuration says of the machine, its listeners and who may write; and SIGHUP, which reads it
 * again. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "fleet/api_listen.h"
#include "fleet/fleetd_internal.h"
#include "fleet/self.h"

/* ---- who this machine is ---- */

/* Fills in what may change while running: address, metadata, peer address. */
void fleetd_describe_machine(struct fleetd *f)
{
	struct registry_machine *machine = &f->machine;
	_cleanup_free_ char *own_ip = fleet_self_address();
	_cleanup_buf_ struct buf peer = BUF_INIT(4096);

	free(machine->public_ip);
	machine->public_ip = mem_strdup(f->config.public_ip[0] ? f->config.public_ip : own_ip);
	for (size_t i = 0; i < machine->metadata_count; i++) {
		free(machine->metadata[i].key);
		free(machine->metadata[i].value);
	}
	free(machine->metadata);
	machine->metadata = mem_new_array(struct registry_pair, f->config.metadata_count + 1);
	machine->metadata_count = f->config.metadata_count;
	for (size_t i = 0; i < machine->metadata_count; i++)
		machine->metadata[i] = (struct registry_pair){
			mem_strdup(f->config.metadata[i].key), mem_strdup(f->config.metadata[i].value)};
	machine->engine_disabled = f->config.disable_engine;
	if (f->peer_port)
		api_peer_addresses(&f->config, f->peer_port, machine->public_ip, own_ip, &peer);
	free(machine->peer_api);
	machine->peer_api = mem_strdup(buf_text(&peer));
}

/* ---- listeners ---- */

int fleetd_open_listeners(struct fleetd *f)
{
	struct api_tls tls;
	int r = api_tls_read(&f->config, &tls);

	if (r < 0)
		return r;
	f->server = api_server(f->api, false);
	r = api_listen(f->server, &f->config, &tls);
	if (r == 0 && f->config.peer_listen[0]) {
		f->peer_server = api_server(f->api, true);
		r = api_listen_peers(f->peer_server, &f->config, &tls, &f->peer_port);
	}
	if (tls.client)
		api_set_peer_tls(f->api, tls.client);
	api_tls_done(&tls);
	return r;
}

/* Who may write, as the configuration says. */
int fleetd_read_access(struct fleetd *f, const struct fleetd_config *config)
{
	_cleanup_buf_ struct buf error = BUF_INIT(4096);
	struct api_access *access;
	int r = api_access_read(config->api_writers, &access, &error);

	if (r < 0)
		return log_errno(r, "api_writers: %s", buf_text(&error));
	(void)api_access_free(f->access);
	f->access = access;
	return 0;
}

void fleetd_set_verbosity(const struct fleetd *f)
{
	log_set_level(f->config.verbosity > 0 ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
}

void fleetd_log_warnings(const struct fleetd_config *config)
{
	struct slice text = buf_slice(&config->warnings), line;

	while (text.len) {
		(void)text_cut(text, '\n', &line, &text);
		log_warning("%.*s", (int)line.len, line.data);
	}
}

/* ---- read again ---- */

/* New files of the same certificates: all of them, or none. */
static bool renew_tls(struct fleetd *f, const struct fleetd_config *config)
{
	struct api_tls tls;
	bool renewed = true;

	if (api_tls_read(config, &tls) < 0)
		return false;
	if (!tls.server != !f->config.api_certfile[0]) {
		log_warning("api_certfile came or went: that takes a restart");
		renewed = false;
	} else if (tls.server) {
		http_server_set_tls(f->server, tls.server);
		if (f->peer_server)
			http_server_set_tls(f->peer_server, tls.server);
		api_set_peer_tls(f->api, tls.client);
	}
	api_tls_done(&tls);
	return renewed;
}

/* Those that are shown to the store. */
static bool renew_store_tls(struct fleetd *f, const struct fleetd_config *config)
{
	struct etcd_client *const clients[] = {f->quick, f->client};
	bool good = true;

	for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
		char *error = NULL;

		if (etcd_client_read_files(clients[i], config->etcd_cafile, config->etcd_certfile,
			    config->etcd_keyfile, &error) < 0) {
			log_error("etcd_cafile, etcd_certfile, etcd_keyfile: %s", error);
			good = false;
		}
		free(error);
	}
	return good;
}

static void take_text(char **field, char **from)
{
	free(*field);
	*field = take_ptr(*from);
}

/* Metadata, address, verbosity, certificates and who may write follow the file at once; the rest needs a
 * restart. */
void fleetd_on_reload(uv_signal_t *signal, int number)
{
	struct fleetd *f = signal->data;
	struct fleetd_config config;
	_cleanup_buf_ struct buf error = BUF_INIT(4096), fixed = BUF_INIT(4096);
	bool writers, certificates;

	(void)number;
	if (fleetd_config_load(f->config_path, &config, &error) < 0) {
		log_error("the configuration stays as it was: %s", buf_text(&error));
		return;
	}
	fleetd_log_warnings(&config);
	if (f->unit_manager_given)
		config.unit_manager = f->config.unit_manager;
	fleetd_config_add_fixed(&fixed, &f->config, &config);
	f->config.verbosity = config.verbosity;
	f->config.keep_units_on_stop = config.keep_units_on_stop;
	for (size_t i = 0; i < f->config.metadata_count; i++) {
		free(f->config.metadata[i].key);
		free(f->config.metadata[i].value);
	}
	free(f->config.metadata);
	f->config.metadata = take_ptr(config.metadata);
	f->config.metadata_count = config.metadata_count;
	config.metadata_count = 0;
	take_text(&f->config.public_ip, &config.public_ip);
	/* Each where it can be used; what cannot stays as it was, and the log says why. */
	writers = fleetd_read_access(f, &config) == 0;
	if (writers)
		take_text(&f->config.api_writers, &config.api_writers);
	certificates = renew_tls(f, &config);
	certificates = renew_store_tls(f, &config) && certificates;
	fleetd_config_done(&config);
	fleetd_set_verbosity(f);
	fleetd_describe_machine(f);
	member_describe(f->member, &f->machine);
	log_info("configuration read again: metadata, public_ip, verbosity, keep_units_on_stop%s%s are in "
		 "force",
		writers ? ", api_writers" : "", certificates ? ", certificates" : "");
	if (fixed.len)
		log_warning("changed too, but in force only after a restart: %s", buf_text(&fixed));
}
