/* The programs of the one executable. Each takes main()'s arguments (argv[0] is the program's name) and
 * answers the exit status. */
#pragma once
#include <stdint.h>

int etcd_main(int argc, char **argv);
int etcdctl_main(int argc, char **argv);
/* `etcdctl snapshot ...` (argv[0] is "snapshot"), for which etcdctl would have to know the store's files: the
 * one executable hands it over. NULL: not in this program. */
struct snapshot_source {
	const char *endpoints;		      /* URLs, separated by commas */
	int64_t timeout_ns, total_timeout_ns; /* of etcdctl's flags; 0: none, below 0: not given */
};
extern int (*etcdctl_snapshot)(const struct snapshot_source *from, int argc, char **argv);
int snapshot_main(const struct snapshot_source *from, int argc, char **argv);
int fleetd_main(int argc, char **argv);
int fleetctl_main(int argc, char **argv);
int confd_main(int argc, char **argv);
int keeper_main(int argc, char **argv);
int dev_main(int argc, char **argv);
