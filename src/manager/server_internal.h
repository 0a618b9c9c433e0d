/* What the parts of the keeper's socket share. */
#pragma once
#include "manager/keeper.h"
#include <jansson.h>

struct client {
	struct list entry;
	struct keeper *keeper;
	uv_pipe_t pipe;
	struct buf in;
	struct list journals; /* of its requests for the journal */
	size_t journal_count;
	bool subscribed, closing;
};
struct request {
	struct client *client;
	struct keeper *keeper;
	const json_t *json;
	int64_t id;
	const char *name;
	struct service *service; /* of that name; NULL: none */
};

/* server.c. After any of these the client may be closing, and what belonged to it freed. */
void server_reply(struct client *client, int64_t id, int result, const char *message);
void server_reply_text(struct client *client, int64_t id, struct slice text);
const char *server_text_field(const json_t *json, const char *key); /* "" when it is not there */

/* server_journal.c */
void server_journal_begin(struct request *request);
void server_journal_cancel(struct client *client, int64_t id);
void server_journals_free(struct client *client);
