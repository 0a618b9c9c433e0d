/* A request to a member of the store and what comes back, for http.c (its way) and server.c (what is done).
 * It outlives the call that made it: what was sent may arrive when nobody waits any more. */
#pragma once
#include "world.h"

struct piece {
	struct list link;
	size_t len;
	char text[];
};
struct exchange {
	struct list link;	/* in endpoint->queue or world->stuck */
	struct list in_streams; /* in world->streams */
	struct world *world;
	struct host *host;
	unsigned endpoint;
	struct http_call *call; /* NULL: nobody waits */
	char *method, *target, *type, *body;
	size_t body_len;
	struct event *event; /* what happens to it next */
	bool answered, busy; /* busy: inside a callback of the call */
	int status;
	uint64_t index;
	struct buf answer;
	size_t told; /* of the answer, when it is wanted piece by piece */
	bool head_told;
	/* A stream. */
	struct store_watch watch;
	bool watching, mute;
	struct list pieces;
};

/* http.c */
void exchange_answer(struct exchange *exchange, int status, uint64_t index);
void exchange_reset(struct exchange *exchange); /* the connection breaks at the server's end */
void exchange_free(struct exchange *exchange);
void stream_begin(struct exchange *exchange, uint64_t index);
void stream_event(struct exchange *exchange, struct slice json);
void stream_kick(struct exchange *exchange);
/* server.c */
void server_forget(struct exchange *exchange); /* stops its watch */
