/* This machine's presence in the store, and by it the knowledge whether the store can be reached at all.
 *
 * machines/ID/object is created when absent, and refreshed every ttl/3. A key that an earlier life of this
 * daemon left (same boot and same nonce, or the nonce of this installation after a reboot) is adopted at
 * once. A key of anybody else is a duplicate machine ID: it is refused as long as that key lives. Loop's
 * thread. */
#pragma once
#include "fleet/registry.h"
#include "flotilla/etcd.h"

struct presence;
struct presence_events {
	void (*registered)(void *userdata); /* at first, and again after every loss of the key */
	void (*contact)(
		void *userdata, bool ok, const char *why); /* the store answers (again), or does not */
	void (*refused)(void *userdata, const char *why);  /* duplicate machine ID; told once per time */
};

/* How long the client of a presence shall wait for an answer: so that within the TTL it can try again after
 * one that was lost, `most_ms` at most. */
int64_t presence_timeout_ms(int64_t ttl_s, int64_t most_ms);
/* key: full path of the object. The machine is copied. */
struct presence *presence_new(struct etcd_client *client, const char *key,
	const struct registry_machine *machine, int64_t ttl_s, const struct presence_events *events,
	void *userdata);
/* Leaves the key to its TTL. */
struct presence *presence_free(struct presence *presence);
/* Publishes other contents (metadata, address). */
void presence_update(struct presence *presence, const struct registry_machine *machine);
/* Deletes the key (if it is ours) and calls back, whatever came of it; no refreshes follow. */
void presence_withdraw(struct presence *presence, void (*done)(void *userdata), void *userdata);
bool presence_is_registered(const struct presence *presence);
/* Whether the last registration took over the key of an earlier life. */
bool presence_was_adopted(const struct presence *presence);
/* Loop time in ms since when the store has answered, and had this key, without a break; 0: it does not now.
 * Contact counts as broken as soon as a refresh is overdue: also when this process was stopped for a while.
 */
uint64_t presence_contact_since_ms(const struct presence *presence);
