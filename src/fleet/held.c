/* Each key is a small state machine driven by three facts: what it shall be, what the store is known to hold,
 * and when that is due for a refresh. One request per key is under way at most, and a bounded number in all;
 * one timer wakes for whatever is due next. */
#include "fleet/held.h"

#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/memory.h"

#define HELD_RETRY_MS 250
#define HELD_REQUESTS_MAX 64
#define HELD_BUSY_MS 10
/* A write of unknown outcome may still come for so long (a member of the store that stood still); what is to
 * be gone is looked at again after pauses that double. */
#define HELD_UNSURE_MS (3 * 60 * 1000)
#define HELD_UNSURE_PAUSE_MS 5000

enum known { KNOWN_NOTHING, KNOWN_ABSENT, KNOWN_PRESENT };
enum step { STEP_READ, STEP_CREATE, STEP_CHANGE, STEP_REFRESH, STEP_DELETE };
struct held_key {
	struct held *held;
	char *key;
	char *wanted; /* NULL: gone */
	char *mine;   /* the last value that was wanted */
	enum known known;
	/* PRESENT: */
	char *stored;
	uint64_t index;
	bool stored_lasting;
	/* The request under way. */
	struct etcd_request *request;
	enum step step;
	char *sent;
	bool sent_lasting;
	uint64_t due_ms; /* UINT64_MAX: never by itself */
	bool dropping;
	bool renew;	    /* it may have got lost since the request under way was sent */
	uint64_t unsure_ms; /* when the last write of unknown outcome ended; 0: there was none */
};
struct held {
	struct etcd_client *client;
	struct map keys;
	uv_timer_t *timer;
	int64_t ttl_s;
	bool own, lasting;
	size_t requests, dropping;
};

static void held_wake(struct held *held);

static uint64_t now_ms(const struct held *held)
{
	return uv_now(etcd_client_loop(held->client));
}

static void set_dropping(struct held_key *key, bool dropping)
{
	key->held->dropping += (size_t)dropping - (size_t)key->dropping;
	key->dropping = dropping;
}

static void key_free(struct held_key *key)
{
	etcd_request_cancel(key->request);
	set_dropping(key, false);
	free(key->key);
	free(key->wanted);
	free(key->mine);
	free(key->stored);
	free(key->sent);
	free(key);
}

static void key_forget(struct held_key *key)
{
	map_remove(&key->held->keys, slice_str(key->key));
	key_free(key);
}

static void key_again(struct held_key *key, uint64_t after_ms)
{
	key->due_ms = now_ms(key->held) + after_ms;
	held_wake(key->held);
}

static bool is_stored(const struct held_key *key)
{
	return key->known == KNOWN_PRESENT && key->wanted && strcmp(key->wanted, key->stored) == 0 &&
	       key->stored_lasting == key->held->lasting;
}

/* It shall be gone, and is: forgotten, unless a write may still be on its way. */
static void key_gone(struct held_key *key)
{
	uint64_t age_ms = now_ms(key->held) - key->unsure_ms;

	set_dropping(key, false);
	if (!key->unsure_ms || age_ms > HELD_UNSURE_MS) {
		key_forget(key);
		return;
	}
	key->known = KNOWN_NOTHING;
	key_again(key, MAX(age_ms, (uint64_t)HELD_UNSURE_PAUSE_MS));
}

/* After an answer: what comes next, and when. */
static void key_judge(struct held_key *key)
{
	if (key->renew) {
		key->renew = false;
		key->known = KNOWN_NOTHING;
	}
	if (!key->wanted && key->known == KNOWN_PRESENT && !key->held->own &&
		strcmp(key->stored, key->mine) != 0)
		key->known = KNOWN_ABSENT; /* another's by now */
	if (!key->wanted && key->known == KNOWN_ABSENT)
		key_gone(key);
	else if (!is_stored(key) || (!key->held->lasting && key->step == STEP_READ))
		key_again(key, 0); /* what was only read may be about to expire */
	else if (key->held->lasting)
		key->due_ms = UINT64_MAX;
	else
		key_again(key, (uint64_t)key->held->ttl_s * 500);
}

static void take_node(struct held_key *key, const struct etcd_node *node, const char *value, bool lasting)
{
	char *copy = mem_strdup(value);

	free(key->stored);
	key->stored = copy;
	key->stored_lasting = lasting;
	key->index = node->modified_index;
	key->known = KNOWN_PRESENT;
}

static void answered(const struct etcd_response *response, void *userdata)
{
	struct held_key *key = userdata;
	const struct etcd_node *node = response->node;
	bool ok = response->outcome == ETCD_OK && node;

	key->request = NULL;
	key->held->requests--;
	if (ok && key->step == STEP_READ)
		take_node(key, node, node->value ? node->value : "", !node->expiration);
	else if (ok && (key->step == STEP_CREATE || key->step == STEP_CHANGE))
		take_node(key, node, key->sent, key->sent_lasting);
	else if (ok && key->step == STEP_REFRESH)
		key->index = node->modified_index;
	else if (ok || etcd_response_is(response, ETCD_KEY_NOT_FOUND))
		key->known = KNOWN_ABSENT;
	else if (etcd_response_is(response, ETCD_KEY_EXISTS) ||
		 etcd_response_is(response, ETCD_COMPARE_FAILED))
		key->known = KNOWN_NOTHING;
	else {
		if (response->outcome == ETCD_UNKNOWN) {
			key->known = KNOWN_NOTHING;
			key->unsure_ms = MAX(now_ms(key->held), (uint64_t)1);
		}
		key_again(key, HELD_RETRY_MS);
		return;
	}
	key_judge(key);
}

static enum step next_step(const struct held_key *key)
{
	if (key->known == KNOWN_NOTHING)
		return STEP_READ;
	if (!key->wanted)
		return STEP_DELETE;
	if (key->known == KNOWN_ABSENT)
		return STEP_CREATE;
	return is_stored(key) ? STEP_REFRESH : STEP_CHANGE;
}

/* Sends what the key needs now. */
static void key_step(struct held_key *key)
{
	struct held *held = key->held;
	struct etcd_client *client = held->client;
	struct etcd_put_options put = {.ttl_s = held->lasting ? 0 : held->ttl_s};
	struct etcd_get_options get = {.quorum = true};
	struct etcd_delete_options del = {.prev_index = key->index};

	if (held->lasting && is_stored(key)) {
		key->due_ms = UINT64_MAX;
		return;
	}
	if (held->requests >= HELD_REQUESTS_MAX) {
		key->due_ms = now_ms(held) + HELD_BUSY_MS;
		return;
	}
	held->requests++;
	key->step = next_step(key);
	switch (key->step) {
	case STEP_READ:
		key->renew = false;
		key->request = etcd_get(client, key->key, &get, answered, key);
		return;
	case STEP_DELETE:
		key->request = etcd_delete(client, key->key, &del, answered, key);
		return;
	case STEP_CREATE:
		put.prev_exist = ETCD_PREV_NO_EXIST;
		break;
	case STEP_REFRESH:
		put.refresh = true;
		put.prev_exist = ETCD_PREV_EXIST;
		/* fall through */
	case STEP_CHANGE:
		put.prev_index = key->index;
		break;
	}
	if (!put.refresh) {
		free(key->sent);
		put.value = key->sent = mem_strdup(key->wanted);
		key->sent_lasting = held->lasting;
	}
	key->request = etcd_put(client, key->key, &put, answered, key);
}

static void timer_fired(uv_timer_t *timer)
{
	struct held *held = timer->data;
	uint64_t now = now_ms(held), next = UINT64_MAX;
	size_t position = 0;
	void *value;

	while (map_next(&held->keys, &position, NULL, &value)) {
		struct held_key *key = value;

		if (!key->request && key->due_ms <= now)
			key_step(key);
		if (!key->request && key->due_ms < next)
			next = key->due_ms;
	}
	if (next != UINT64_MAX)
		uv_timer_start(held->timer, timer_fired, next > now ? next - now : 0, 0);
}

static void held_wake(struct held *held)
{
	/* In this turn's end: what one callback changes leaves together. The callback works out the next
	 * time. */
	uint64_t due =
		uv_is_active((uv_handle_t *)held->timer) ? uv_timer_get_due_in(held->timer) : UINT64_MAX;

	if (due > 0)
		uv_timer_start(held->timer, timer_fired, 0, 0);
}

struct held *held_new(struct etcd_client *client, int64_t ttl_s, bool own)
{
	struct held *held = mem_new(struct held);

	held->client = client;
	held->ttl_s = ttl_s;
	held->own = own;
	map_init(&held->keys, 0);
	held->timer = mem_new(uv_timer_t);
	held->timer->data = held;
	uv_timer_init(etcd_client_loop(client), held->timer);
	return held;
}

static void timer_closed(uv_handle_t *handle)
{
	free(handle);
}

struct held *held_free(struct held *held)
{
	size_t position = 0;
	void *value;

	if (!held)
		return NULL;
	while (map_next(&held->keys, &position, NULL, &value))
		key_free(value);
	map_done(&held->keys);
	uv_close((uv_handle_t *)held->timer, timer_closed);
	free(held);
	return NULL;
}

static struct held_key *key_new(struct held *held, const char *name)
{
	struct held_key *key = mem_new(struct held_key);

	key->held = held;
	key->key = mem_strdup(name);
	map_put(&held->keys, slice_str(name), key);
	return key;
}

static void key_want(struct held_key *key, const char *value)
{
	free(key->wanted);
	free(key->mine);
	key->wanted = mem_strdup(value);
	key->mine = mem_strdup(value);
	set_dropping(key, false);
	key_again(key, 0);
}

void held_set(struct held *held, const char *name, const char *value)
{
	struct held_key *key = map_get(&held->keys, slice_str(name));

	if (key && key->wanted && strcmp(key->wanted, value) == 0)
		return;
	if (!key) {
		key = key_new(held, name);
		key->known = KNOWN_ABSENT; /* most likely; the store says so if not */
	}
	key_want(key, value);
}

static void key_drop(struct held_key *key)
{
	key->wanted = mem_free(key->wanted);
	set_dropping(key, true);
	/* As little as it is, the store has to say that it is gone. */
	if (key->known == KNOWN_ABSENT)
		key->known = KNOWN_NOTHING;
	key_again(key, 0);
}

void held_drop(struct held *held, const char *name)
{
	struct held_key *key = map_get(&held->keys, slice_str(name));

	if (key && key->wanted)
		key_drop(key);
}

void held_set_lasting(struct held *held, bool lasting)
{
	size_t position = 0;
	void *value;

	if (held->lasting == lasting)
		return;
	held->lasting = lasting;
	while (map_next(&held->keys, &position, NULL, &value))
		((struct held_key *)value)->due_ms = 0;
	held_wake(held);
}

void held_remove(struct held *held, const char *name, const char *value)
{
	struct held_key *key = map_get(&held->keys, slice_str(name));

	if (key)
		return;
	key = key_new(held, name);
	key_want(key, value);
	key_drop(key);
}

static void key_renew(struct held_key *key)
{
	key->due_ms = 0;
	if (key->request)
		key->renew = true;
	else
		key->known = KNOWN_NOTHING;
}

void held_renew(struct held *held, const char *name)
{
	struct held_key *key = map_get(&held->keys, slice_str(name));

	if (!key)
		return;
	key_renew(key);
	held_wake(held);
}

void held_renew_all(struct held *held)
{
	size_t position = 0;
	void *value;

	while (map_next(&held->keys, &position, NULL, &value))
		key_renew(value);
	held_wake(held);
}

void held_seen(struct held *held, const char *name, uint64_t index)
{
	struct held_key *key = map_get(&held->keys, slice_str(name));

	if (key && !key->request && key->known == KNOWN_PRESENT && index > key->index)
		held_renew(held, name);
}

void held_missed(struct held *held, const char *name, uint64_t index)
{
	struct held_key *key = map_get(&held->keys, slice_str(name));

	if (key && !key->request && key->known == KNOWN_PRESENT && index >= key->index)
		held_renew(held, name);
}

size_t held_dropping(const struct held *held)
{
	return held->dropping;
}

bool held_is_dropping(const struct held *held, const char *name)
{
	const struct held_key *key = map_get(&held->keys, slice_str(name));

	return key && key->dropping;
}
