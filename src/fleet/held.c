/* Each key is a small state machine driven by three facts: what it shall be, what the store was last known to
 * hold, and when that is due for a refresh. One request per key is under way at most, and a bounded number in
 * all; one timer wakes for whatever is due next. */
#include "fleet/held.h"

#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/memory.h"

#define HELD_RETRY_MS 250
#define HELD_REQUESTS_MAX 64
#define HELD_BUSY_MS 10
#define HELD_UNSURE_MS 5000 /* a write of unknown outcome may still come for so long */

struct held_key {
	struct held *held;
	char *key;
	char *wanted; /* NULL: gone */
	char *stored; /* last value written; NULL: unknown */
	char *sent;   /* value of the request under way */
	struct etcd_request *request;
	uint64_t due_ms; /* UINT64_MAX: never by itself */
	bool dropping;
	bool sent_lasting, stored_lasting;
	bool renew;  /* it may have got lost since the request under way was sent */
	bool unsure; /* a write may still be on its way to the store */
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

static void key_free(struct held_key *key)
{
	etcd_request_cancel(key->request);
	key->held->dropping -= key->dropping;
	free(key->key);
	free(key->wanted);
	free(key->stored);
	free(key->sent);
	free(key);
}

static void key_again(struct held_key *key, uint64_t after_ms)
{
	key->due_ms = now_ms(key->held) + after_ms;
	held_wake(key->held);
}

/* It is in the store as it shall be. */
static void key_rest(struct held_key *key)
{
	if (key->renew)
		key_again(key, 0);
	else if (key->held->lasting)
		key->due_ms = UINT64_MAX;
	else
		key_again(key, (uint64_t)key->held->ttl_s * 500);
}

static bool is_stored(const struct held_key *key)
{
	return key->stored && key->wanted && strcmp(key->wanted, key->stored) == 0 &&
	       key->stored_lasting == key->held->lasting;
}

static void key_forget(struct held_key *key)
{
	struct held *held = key->held;

	map_remove(&held->keys, slice_str(key->key));
	key_free(key);
}

static void delete_done(const struct etcd_response *response, void *userdata)
{
	struct held_key *key = userdata;

	key->request = NULL;
	key->held->requests--;
	/* Gone, or someone else's by now; anything else is tried again. */
	if (response->outcome != ETCD_OK && !etcd_response_is(response, ETCD_KEY_NOT_FOUND) &&
		!etcd_response_is(response, ETCD_COMPARE_FAILED)) {
		key_again(key, HELD_RETRY_MS);
		return;
	}
	if (key->wanted) {
		key->stored = mem_free(key->stored);
		key_again(key, 0);
	} else if (key->unsure) {
		key->unsure = false;
		key_again(key, HELD_UNSURE_MS);
	} else {
		key_forget(key);
	}
}

static void put_done(const struct etcd_response *response, void *userdata)
{
	struct held_key *key = userdata;

	key->request = NULL;
	key->held->requests--;
	if (response->outcome == ETCD_OK) {
		free(key->stored);
		key->stored = take_ptr(key->sent);
		key->stored_lasting = key->sent_lasting;
		if (is_stored(key))
			key_rest(key);
		else
			key_again(key, 0);
		return;
	}
	if (response->outcome == ETCD_UNKNOWN) {
		key->unsure = true;
		free(key->stored);
		key->stored = key->wanted ? NULL : take_ptr(key->sent);
	}
	key_again(key, HELD_RETRY_MS);
}

static void refresh_done(const struct etcd_response *response, void *userdata)
{
	struct held_key *key = userdata;

	key->request = NULL;
	key->held->requests--;
	if (response->outcome == ETCD_OK) {
		if (is_stored(key))
			key_rest(key);
		else
			key_again(key, 0);
		return;
	}
	if (etcd_response_is(response, ETCD_KEY_NOT_FOUND))
		key->stored = mem_free(key->stored);
	key_again(key, etcd_response_is(response, ETCD_KEY_NOT_FOUND) ? 0 : HELD_RETRY_MS);
}

/* Sends what the key needs now. */
static void key_step(struct held_key *key)
{
	struct held *held = key->held;
	struct etcd_client *client = held->client;

	if (held->requests >= HELD_REQUESTS_MAX) {
		key->due_ms = now_ms(held) + HELD_BUSY_MS;
		return;
	}
	held->requests++;
	key->renew = false;
	free(key->sent);
	key->sent = NULL;
	if (!key->wanted) {
		struct etcd_delete_options options = {.prev_value = held->own ? NULL : key->stored};

		key->request = etcd_delete(client, key->key, &options, delete_done, key);
	} else if (held->lasting || !is_stored(key)) {
		key->sent = mem_strdup(key->wanted);
		key->sent_lasting = held->lasting;
		key->request =
			etcd_set(client, key->key, key->sent, held->lasting ? 0 : held->ttl_s, put_done, key);
	} else {
		key->request = etcd_refresh(client, key->key, held->ttl_s, refresh_done, key);
	}
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

void held_set(struct held *held, const char *name, const char *value)
{
	struct held_key *key = map_get(&held->keys, slice_str(name));

	if (!key) {
		key = mem_new(struct held_key);
		key->held = held;
		key->key = mem_strdup(name);
		map_put(&held->keys, slice_str(name), key);
	} else if (key->wanted && strcmp(key->wanted, value) == 0) {
		return;
	}
	held->dropping -= key->dropping;
	key->dropping = false;
	free(key->wanted);
	key->wanted = mem_strdup(value);
	key->due_ms = 0;
	held_wake(held);
}

void held_drop(struct held *held, const char *name)
{
	struct held_key *key = map_get(&held->keys, slice_str(name));

	if (!key || !key->wanted)
		return;
	/* A write whose fate is unknown may have put the value there: compare with it. */
	if (!key->stored)
		key->stored = mem_strdup(key->sent ? key->sent : key->wanted);
	key->wanted = mem_free(key->wanted);
	key->dropping = true;
	held->dropping++;
	key->due_ms = 0;
	held_wake(held);
}

void held_set_lasting(struct held *held, bool lasting)
{
	if (held->lasting == lasting)
		return;
	held->lasting = lasting;
	held_renew_all(held);
}

void held_remove(struct held *held, const char *name, const char *value)
{
	struct held_key *key = map_get(&held->keys, slice_str(name));

	if (key)
		return;
	held_set(held, name, value);
	held_drop(held, name);
}

void held_renew(struct held *held, const char *name)
{
	struct held_key *key = map_get(&held->keys, slice_str(name));

	if (!key)
		return;
	key->due_ms = 0;
	key->renew = key->request != NULL;
	held_wake(held);
}

void held_renew_all(struct held *held)
{
	size_t position = 0;
	void *value;

	while (map_next(&held->keys, &position, NULL, &value)) {
		struct held_key *key = value;

		key->due_ms = 0;
		key->renew = key->request != NULL;
	}
	held_wake(held);
}

size_t held_dropping(const struct held *held)
{
	return held->dropping;
}
