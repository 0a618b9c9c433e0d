/* Shared by the cluster's files only: machines (cluster_machines.c), what is left without a meaning
 * (cluster_leftovers.c), texts (cluster_texts.c), what this process wrote (cluster_written.c), and everything
 * else (cluster.c). */
#pragma once
#include "fleet/cluster.h"

struct cluster {
	struct map machines, texts, units;
	struct map bare;    /* paths of directories with nothing in them */
	struct map garbage; /* paths of states that are none -> index in the store */
	struct map indexed; /* IDs of machines that have a directory in the index */
	struct map epochs;  /* of them -> epoch (char *) */
	struct scheduler *scheduler;
	struct cluster_observer observer;
	uint64_t generation;
	bool reading;
	struct map written;    /* paths that this process wrote -> index (uintptr_t) */
	uint64_t written_last; /* the highest of those */
	uint64_t applied;      /* index up to which the mirror has told everything */
	uint64_t index;	       /* of what is being told: the event's, or the read's */
};

/* cluster.c */
void cluster_tell(const struct cluster *c, void (*fn)(void *, const char *), const char *name);
/* Frees the old one; answers a copy, or NULL without data. */
char *cluster_replace_text(char *old, struct slice value);
bool cluster_text_is(const char *text, struct slice value);
/* Its text, object or wish has. */
void cluster_unit_changed(struct cluster *c, struct cluster_unit *unit);
void cluster_apply_set(struct cluster *c, const char *path, struct slice value, uint64_t index);
void cluster_apply_removal(struct cluster *c, const char *path);

/* cluster_leftovers.c */
/* Cuts "a/b/c" into at most `max` parts; the last one keeps the rest. */
size_t cluster_cut_path(const char *path, struct slice *parts, size_t max);
/* A key that is set or removed, its path cut; after the rest of the cluster knows. */
void cluster_note_set(struct cluster *c, const char *path, const struct slice *parts, size_t count);
void cluster_note_removed(struct cluster *c, const char *path, const struct slice *parts, size_t count);
void cluster_note_epoch(struct cluster *c, struct slice machine, struct slice epoch);
void cluster_note_garbage(struct cluster *c, const char *path, uint64_t index);
void cluster_note_sound(struct cluster *c, const char *path);
void cluster_leftovers_clear(struct cluster *c);

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

/* cluster_texts.c */
/* The unit has another hash, or none any more. */
void cluster_text_refer(struct cluster *c, struct cluster_unit *unit);
void cluster_text_set(struct cluster *c, struct slice hash, struct slice value, uint64_t index);
/* hash empty: all of them. */
void cluster_text_remove(struct cluster *c, struct slice hash);
void cluster_texts_end(struct cluster *c); /* of a read */
void cluster_texts_clear(struct cluster *c);

/* cluster_written.c */
void cluster_written_begin(struct cluster *c, uint64_t index); /* of a read */
void cluster_written_event(struct cluster *c, uint64_t index); /* a key is told; 0: not known */
void cluster_written_clear(struct cluster *c);
/* Whether this process wrote the path, or removed a directory of it, after what is being told. */
bool cluster_is_outdated(const struct cluster *c, const char *path);
/* The same for "top/directory/name". */
bool cluster_part_is_outdated(
	const struct cluster *c, const char *top, struct slice directory, const char *name);
