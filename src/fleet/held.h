/* Keys that this daemon keeps in the store while they are true: written with a TTL and refreshed without
 * waking any watcher, or lasting, without one; written again when they got lost; deleted when they are no
 * longer true. Every write says what it follows (the index of the write before, or that there is no key), so
 * that one which arrives late, after others of unknown outcome were given up, changes nothing; what is not
 * known of a key is read first. Every request is retried until the store answers. Loop's thread. */
#pragma once
#include "flotilla/etcd.h"

struct held;
/* Refreshes come every ttl/2; nothing lasts at first. own: nobody else writes these keys, and they are
 * deleted whatever is in them; else only while they hold what was written. The client is borrowed. */
struct held *held_new(struct etcd_client *client, int64_t ttl_s, bool own);
/* Forgets all; the keys in the store end by their TTL. */
struct held *held_free(struct held *held);
/* The key shall have that value. Setting the same again costs nothing. */
void held_set(struct held *held, const char *key, const char *value);
/* The key shall be gone; harmless when it is not held. */
void held_drop(struct held *held, const char *key);
/* From now on keys have a TTL, or last: then they cost nothing until they change, and somebody else has to
 * remove them when this daemon is gone. Every key is written anew when that changes. */
void held_set_lasting(struct held *held, bool lasting);
/* A key that an earlier life of this daemon left with that value shall be gone, unless it is held now. */
void held_remove(struct held *held, const char *key, const char *value);
/* The key may have got lost: it is read, and written again if so. */
void held_renew(struct held *held, const char *key);
/* The same for every key, at once: after an outage, in which TTLs may have run out. */
void held_renew_all(struct held *held);
/* The key's last write in the store has that index: if it is none of ours, the key is looked at. */
void held_seen(struct held *held, const char *key, uint64_t index);
/* The store does not have the key, as far as it is known up to that index: one that was written before that
 * is looked at. */
void held_missed(struct held *held, const char *key, uint64_t index);
/* The key shall be gone, and the store has not confirmed yet that it is. */
bool held_is_dropping(const struct held *held, const char *key);
/* Keys whose deletion the store has not confirmed yet. */
size_t held_dropping(const struct held *held);
