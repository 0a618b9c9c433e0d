/* Who reads the journal through the socket. A query goes on in slices at the ends of the loop's turns, so
 * that no length of it holds up the keeper, and only as far as its client has taken what it was sent. One
 * that follows is then asked at each turn's end for what is new. */
#include "base/memory.h"
#include "base/time.h"
#include "manager/server_internal.h"
#include <errno.h>

#define JOURNALS_MAX 64 /* of a client */
#define SLICE_BYTES (64u * 1024)
#define SLICE_NS (NS_PER_MS)
#define TURN_NS (4 * NS_PER_MS)
#define UNREAD_MAX (256u * 1024) /* what a client may leave unread before its queries wait */
#define LINES_DEFAULT 10

struct journal_request {
	struct list entry; /* in client->journals */
	int64_t id;
	struct journal_reader *reader;
	enum journal_output output;
	bool follow;
	bool live;     /* it has had all there was */
	bool say_none; /* nothing was found yet, and that would be told */
};

static void request_free(struct client *client, struct journal_request *request)
{
	list_remove(&request->entry);
	client->journal_count--;
	journal_reader_free(request->reader);
	free(request);
}

void server_journals_free(struct client *client)
{
	list_for_each_safe (it, &client->journals)
		request_free(client, list_item(it, struct journal_request, entry));
}

void server_journal_cancel(struct client *client, int64_t id)
{
	list_for_each_safe (it, &client->journals) {
		struct journal_request *request = list_item(it, struct journal_request, entry);

		if (request->id == id)
			request_free(client, request);
	}
}

/* One slice; true when there is more. */
static bool pump(struct client *client, struct journal_request *request)
{
	int64_t until_ns = time_mono_ns() + SLICE_NS, id = request->id;
	_cleanup_buf_ struct buf text = BUF_INIT(0); /* a slice and one entry */
	enum journal_step step = JOURNAL_WORK;
	struct journal_entry entry;
	uint64_t damaged;
	bool done;

	while (step != JOURNAL_END && text.len < SLICE_BYTES && time_mono_ns() < until_ns) {
		step = journal_reader_next(request->reader, &entry, &damaged);
		if (step == JOURNAL_ENTRY)
			journal_print(&entry, request->output, &text);
		else if (step == JOURNAL_DAMAGE)
			journal_print_damage(damaged, request->output, &text);
	}
	request->say_none = request->say_none && !text.len;
	if (step == JOURNAL_END && request->say_none) {
		buf_add_str(&text, "-- No entries --\n");
		request->say_none = false;
	}
	request->live = request->live || step == JOURNAL_END;
	done = step == JOURNAL_END && !request->follow;
	if (done)
		request_free(client, request);
	server_reply_text(client, id, buf_slice(&text));
	if (done && !client->closing)
		server_reply(client, id, 0, "");
	return step != JOURNAL_END && !client->closing;
}

/* All of a client's, the first one first and then last. True when there is more. */
static bool pump_client(struct client *client, bool live_only, int64_t until_ns)
{
	bool more = false;

	for (size_t left = client->journal_count; left && !client->closing; left--) {
		struct journal_request *request =
			list_first(&client->journals, struct journal_request, entry);

		if (uv_stream_get_write_queue_size((uv_stream_t *)&client->pipe) > UNREAD_MAX)
			return more; /* the end of the write begins another turn */
		if (time_mono_ns() >= until_ns)
			return true;
		list_remove(&request->entry);
		list_push_back(&client->journals, &request->entry);
		if (!live_only || request->live)
			more = pump(client, request) || more;
	}
	return more;
}

bool server_send_journals(struct keeper *keeper, bool live_only)
{
	int64_t until_ns = 0;
	bool more = false;

	for (size_t left = keeper->client_count; left && !list_empty(&keeper->clients); left--) {
		struct client *client = list_first(&keeper->clients, struct client, entry);

		list_remove(&client->entry);
		list_push_back(&keeper->clients, &client->entry);
		if (!client->journal_count)
			continue;
		until_ns = until_ns ? until_ns : time_mono_ns() + TURN_NS;
		more = pump_client(client, live_only, until_ns) || more;
	}
	return more;
}

/* The matches of {"match":["NAME=VALUE", …]}; borrowed from the request. */
static int read_matches(
	const json_t *json, struct slice matches[static JOURNAL_MATCHES_MAX], size_t *ret_count)
{
	size_t count = json_array_size(json);

	if ((json && !json_is_array(json)) || count > JOURNAL_MATCHES_MAX)
		return -EINVAL;
	for (size_t i = 0; i < count; i++) {
		const json_t *match = json_array_get(json, i);

		if (!json_is_string(match))
			return -EINVAL;
		matches[i] = slice_make(json_string_value(match), json_string_length(match));
	}
	*ret_count = count;
	return 0;
}

void server_journal_begin(struct request *request)
{
	const json_t *lines = json_object_get(request->json, "lines");
	struct slice matches[JOURNAL_MATCHES_MAX];
	struct journal_query query = {.unit = request->name[0] ? request->name : NULL,
		.matches = matches,
		.since_us = json_integer_value(json_object_get(request->json, "since")),
		.until_us = json_integer_value(json_object_get(request->json, "until")),
		.lines = json_is_integer(lines) ? (long)json_integer_value(lines) : LINES_DEFAULT,
		.follow = json_is_true(json_object_get(request->json, "follow"))};
	enum journal_output output =
		journal_output_from_name(slice_str(server_text_field(request->json, "output")));
	struct client *client = request->client;
	struct journal_request *journal;
	struct journal_reader *reader = NULL;
	int r = read_matches(json_object_get(request->json, "match"), matches, &query.match_count);

	if (output == JOURNAL_OUTPUT_INVALID) {
		server_reply(client, request->id, -ENOTSUP,
			"the supervisor's journal comes in the outputs short, cat and json only");
		return;
	}
	if (r == 0)
		r = client->journal_count < JOURNALS_MAX
			    ? journal_reader_new(request->keeper->journal, &query, &reader)
			    : -EMFILE;
	if (r < 0) {
		server_reply(client, request->id, r,
			r == -EMFILE ? "too many journals are read at once"
				     : "match takes a list of at most 16 NAME=VALUE");
		return;
	}
	journal = mem_new(struct journal_request);
	journal->id = request->id;
	journal->reader = reader;
	journal->output = output;
	journal->follow = query.follow;
	journal->say_none = query.lines != 0 && output != JOURNAL_JSON;
	list_push_back(&client->journals, &journal->entry);
	client->journal_count++;
}
