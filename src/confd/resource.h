/* Template resources: the TOML files below conf.d. */
#pragma once
#include "base/memory.h"
#include "base/slice.h"
#include "confd/config.h"

struct resource {
	struct arena arena; /* owns all texts */
	const char *path;   /* of its TOML file */
	const char *source; /* path of the template */
	const char *name;   /* base name of the template: shown in its errors */
	const char *dest;
	struct slice prefix;   /* what is taken off the keys: begins with '/', or "" */
	struct slice *queries; /* prefix and key joined and cleaned */
	size_t query_count;
	bool has_mode;
	mode_t mode;
	uid_t uid; /* (uid_t)-1: that of this process */
	gid_t gid;
	const char *check_cmd, *reload_cmd; /* "": none */
	bool reload_due; /* the last reload failed: run it again although the file is in sync */
};

/* Reads one. -EINVAL or another -errno with a message that names file and line. Unknown keys are reported as
 * warnings. */
int resource_load(const char *path, const struct confd_config *config, struct resource **ret_resource,
	struct buf *reterr) _must_check_;
struct resource *resource_free(struct resource *resource);
DEFINE_CLEANUP(struct resource *, resource_free)

/* The files below conf.d whose names end in "toml", recursively, each directory in the order of names. -errno
 * with a message. */
struct resource_paths {
	char **items;
	size_t count, cap;
};
int resource_list(const char *confdir, struct resource_paths *paths, struct buf *reterr) _must_check_;
void resource_paths_done(struct resource_paths *paths);
