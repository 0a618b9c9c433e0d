/* The engine's writes: a queue in order, with a window of requests under way. An operation marked as a
 * barrier waits until all before it have ended, and holds back all after it. */
#pragma once
#include "flotilla/etcd.h"

struct engine_writer;
enum engine_write {
	ENGINE_WRITE_SET,
	ENGINE_WRITE_CREATE,
	ENGINE_WRITE_SWAP,
	ENGINE_WRITE_DELETE,
	ENGINE_WRITE_DELETE_DIR,
	ENGINE_WRITE_DELETE_EMPTY /* a directory, if nothing is in it */
};
struct engine_op {
	enum engine_write write;
	const char *key, *value; /* copied */
	const char *prev_value;	 /* SWAP, DELETE: compared; NULL: not */
	uint64_t prev_index;	 /* DELETE: compared; 0: not */
	bool barrier;
	const char *name, *machine; /* for `done`; copied, may be NULL */
	/* May be NULL. Never called from inside engine_writer_add(). */
	void (*done)(void *userdata, const struct engine_op *op, const struct etcd_response *response);
	void *userdata;
};
struct engine_writer *engine_writer_new(struct etcd_client *client);
/* Cancels all; no callbacks. */
struct engine_writer *engine_writer_free(struct engine_writer *writer);
void engine_writer_add(struct engine_writer *writer, const struct engine_op *op);
/* Drops what is queued and cancels what is under way. */
void engine_writer_clear(struct engine_writer *writer);
