/* What the checkpoint target's parts share. */
#pragma once
#include "base/slice.h"
#include "store/store.h"
#include <stdlib.h>

#define CLUSTER 7u

static inline void require(bool holds)
{
	if (!holds)
		abort();
}

/* A run of steps, a byte of kind and what belongs to it: a state that changes while checkpoints of it are
 * written, sent in pieces of any size and order and kept as files; the process ends between any two steps of
 * a plan; files are damaged, cut, lost or mixed up in several places, and what checksums cover, and the
 * state's hash, can be mended afterwards. */
void fuzz_story(struct slice input);

struct store *sound_store(void);	   /* a few nodes and events; the caller's */
void use(struct store *store);		   /* reads, watches from every index, changes, expires */
void comes_out_again(struct store *store); /* its records make a store of the same records */
