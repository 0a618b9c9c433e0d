/* `flotilla dev`: a whole cluster on one machine. Each of its machines is a world of its own: PID, mount,
 * UTS, IPC and network namespaces, a host name, an address on a private bridge, its own /etc, /run, /var/log
 * and /usr/bin (with our programs), and a PID 1 that starts the store, fleetd, and where asked for sshd and a
 * Docker engine. Killing that PID 1 is pulling the plug. As root the namespaces are made directly, otherwise
 * inside a user namespace.
 *
 * The hub is the process that the user started: it holds the bridge (in a network namespace of its own, so
 * that nothing collides with the host), starts and watches the machines, and listens on a control socket in
 * the cluster's directory. Everything here is single-threaded. */
#pragma once
#include "base/macros.h"

enum {
	DEV_MACHINES_MAX = 99, /* addresses 172.17.8.101 … 199 */
	DEV_NETWORK_PREFIX = 24,
};
#define DEV_HUB_ADDRESS "172.17.8.100"
#define DEV_DISK "/var/lib/flotilla" /* what outlives a machine's death, seen from inside */

struct dev_config {
	const char *dir;	   /* absolute; the cluster's directory on the host */
	bool dir_given;		   /* so that commands to the cluster have to say it, too */
	const char *bin_dir;	   /* absolute; holds the `flotilla` executable that runs */
	unsigned int machines;	   /* 1 … DEV_MACHINES_MAX */
	const char *agent_ttl;	   /* for fleetd, Go duration */
	bool docker;		   /* a Docker engine per machine */
	const char *docker_mirror; /* the URL of a registry that the engines ask first, or NULL */
	bool ssh;		   /* an sshd per machine */
	bool rootless;
};

/* The hub: runs until SIGINT, SIGTERM or a `stop` request. Answers the exit status. */
int hub_run(const struct dev_config *config);

/* The child side of a new machine: called in fresh namespaces, becomes its PID 1, never returns. `go_fd`
 * answers one byte when the machine's network interface eth0 is there. */
_noreturn_ void world_run(const struct dev_config *config, unsigned int number, int hub_fd);

/* The service loop of PID 1: starts the services in order, restarts those that end, reaps orphans; SIGTERM
 * stops them in reverse order and returns. */
struct service {
	const char *name;  /* its log is LOG_DIR/NAME.log */
	char *const *argv; /* argv[0] is a path */
};
void init_run(const struct service *services, size_t count, int log_dir_fd);

/* Runs a command and waits: 0, or a negative errno when it cannot be run or -EIO when it exits with another
 * status than 0 (its messages go to stderr, or nowhere when quiet). */
int run_command(bool quiet, const char *const *argv);

void machine_name(unsigned int number, char ret_name[32]);
void machine_address(unsigned int number, char ret_address[32]);
/* Of its eth0, or for 0 of the bridge: made of the IP address and so the same at every start. (A bridge
 * without one of its own takes the lowest of its ports', and changes it when that machine dies; a machine
 * that comes back with another is not found either, both until the neighbours' ARP caches give up the old
 * one.) */
void machine_mac(unsigned int number, char ret_mac[32]);
void machine_id(unsigned int number, char ret_id[33]); /* 32 hex digits, the same at every start */
