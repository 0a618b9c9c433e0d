/* Shared by the cluster's files only: machines (cluster_machines.c) and everything else (cluster.c). */
#pragma once
#include "fleet/cluster.h"

/* Of a machine's part of the assignment index. */
struct cluster_epoch {
	char *term;
	uint64_t seen;
};

struct cluster {
	struct map machines, texts, units;
	struct map bare;   /* paths of directories with nothing in them */
	struct map epochs; /* machine ID -> struct cluster_epoch * */
	struct scheduler *scheduler;
	struct cluster_observer observer;
	uint64_t generation;
	bool reading;
	size_t textless; /* units that wait for their text */
};

/* cluster.c */
void cluster_tell(const struct cluster *c, void (*fn)(void *, const char *), const char *name);
/* Frees the old one; answers a copy, or NULL without data. */
char *cluster_replace_text(char *old, struct slice value);
bool cluster_text_is(const char *text, struct slice value);

/* cluster_machines.c */
/* Around a read: what it changes is told at its end. */
void cluster_machines_begin(struct cluster *c);
void cluster_machines_end(struct cluster *c);
void cluster_machine_free(struct cluster_machine *machine);
void cluster_machine_set_object(struct cluster *c, struct slice id, struct slice value);
void cluster_machine_remove_object(struct cluster *c, struct slice id);
void cluster_machine_set_dynamic(struct cluster *c, struct slice id, struct slice key, struct slice value);
/* key empty: all of them. */
void cluster_machine_remove_dynamic(struct cluster *c, struct slice id, struct slice key);
