/* confd's settings: defaults, then the configuration file, then the command line, which wins. */
#pragma once
#include "base/flags.h"
#include "base/memory.h"

struct confd_config {
	struct arena arena; /* owns the texts from the file */
	const char *backend, *confdir, *config_file, *prefix, *scheme, *log_level;
	const char *srv_domain, *srv_record, *username, *password;
	const char *client_cakeys, *client_cert, *client_key;
	const char **nodes; /* in the arena */
	size_t node_count;
	int64_t interval_s;
	bool onetime, watch, noop, sync_only, keep_stage_file, basic_auth;
};

/* Reads the command line and the file. Answers 0, or 1 when the program is done (*ret_status is its exit
 * status: -version, -help, a bad flag or file, which has been reported). */
int confd_config_load(int argc, char **argv, struct confd_config *ret_config, int *ret_status) _must_check_;
void confd_config_done(struct confd_config *config);
