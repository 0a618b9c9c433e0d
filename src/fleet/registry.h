/* clang-format off */
/* What is written where: fleet 1.0's layout below the key prefix, and the texts of its values. Pure, any thread.
 *
 *   unit/SHA1                  {"Raw":"text of the unit"}, created once, shared by all of equal text
 *   job/NAME/object            {"Name":…,"UnitHash":[20 numbers]}
 *   job/NAME/target-state      inactive | loaded | launched
 *   job/NAME/target            machine ID; engine only: created, swapped, deleted by comparison
 *   job/NAME/job-state         machine ID: the agent's heartbeat for launched units
 *   machines/ID/object         presence, TTL
 *   machines/ID/metadata/KEY   dynamic metadata; an empty value hides the key
 *   states/NAME/ID             what that machine says of the unit
 *   state/NAME                 the same, for readers before fleet 0.8; only while machines of fleet 1.0 are there
 *   lease/engine-leader        {"MachineID":…,"Version":1,"Term":…}, TTL
 *   engine/version             1
 *
 * and, beside 1.0's layout, the assignment index: what an agent must know and no more, so that it is woken only
 * by what concerns its own machine. The leading engine writes it (decision 005).
 *
 *   assigned/ID/NAME           {"Hash":…,"State":"loaded|launched","Global":bool}
 *   assigned/ID/epoch          Term of the leader by which the index of that machine is complete
 *   lease/states               is there: job-state and states/ have no TTL, and go with the machine's presence
 *                              (decision 011); else they have the machine's agent_ttl, as in fleet 1.0
 *   lease/large                is there: only who needs the whole cluster in memory follows it */
/* clang-format on */
#pragma once
#include "base/buf.h"
#include "base/memory.h"
#include "unit/unit.h"

#define REGISTRY_PREFIX_DEFAULT "/_coreos.com/fleet/"
#define REGISTRY_VERSION 1
#define FLEET_VERSION "1.0.0+flotilla-" FLOTILLA_VERSION /* what fleetd and fleetctl call themselves */
#define REGISTRY_MACHINE_ID_MAX 128
#define REGISTRY_METADATA_MAX 1024 /* pairs per machine */

enum registry_state {
	REGISTRY_INACTIVE,
	REGISTRY_LOADED,
	REGISTRY_LAUNCHED,
	REGISTRY_STATE_MAX,
	REGISTRY_STATE_INVALID = -22
};
const char *registry_state_name(enum registry_state state);
enum registry_state registry_state_from_name(
	struct slice name); /* REGISTRY_STATE_INVALID for anything else */

struct registry_pair {
	char *key, *value;
};
/* A machine's presence. Owned; release with registry_machine_done(). */
struct registry_machine {
	char *id, *public_ip, *version;
	struct registry_pair *metadata; /* sorted by key */
	size_t metadata_count;
	bool engine_disabled;
	/* Flotilla's own part; peer_api NULL: the machine runs fleet 1.0. */
	char *peer_api;	  /* "host:port" for other fleetds, several by commas, best first; "": none */
	char *peer_token; /* what they have to show there; new with each start of that fleetd */
	char *boot, *nonce;
};
void registry_machine_done(struct registry_machine *machine);
void registry_encode_machine(struct buf *out, const struct registry_machine *machine);
/* -EINVAL unless a JSON object with a non-empty ID. */
int registry_decode_machine(struct slice text, struct registry_machine *ret) _must_check_;
/* Sorts by key; of equal keys the last one stays. Frees what is dropped; answers the new count. */
size_t registry_pairs_sort(struct registry_pair *pairs, size_t count);

void registry_encode_job(struct buf *out, const char *name, const uint8_t hash[static UNIT_HASH_SIZE]);
int registry_decode_job(struct slice text, char ret_hash[static UNIT_HASH_HEX_SIZE]) _must_check_;
void registry_encode_unit(struct buf *out, struct slice raw);
int registry_decode_unit(struct slice text, char **ret_raw, size_t *ret_len) _must_check_;

struct registry_unit_state {
	char *load, *active, *sub, *machine, *hash;
};
void registry_unit_state_done(struct registry_unit_state *state);
void registry_encode_unit_state(struct buf *out, const struct registry_unit_state *state);
int registry_decode_unit_state(struct slice text, struct registry_unit_state *ret) _must_check_;

struct registry_lease {
	char *machine;
	int version;
	char *term; /* NULL: held by a fleet 1.0 engine */
};
void registry_lease_done(struct registry_lease *lease);
void registry_encode_lease(struct buf *out, const struct registry_lease *lease);
/* A text that is no JSON counts as the machine's ID, version 0 (as in 1.0). */
void registry_decode_lease(struct slice text, struct registry_lease *ret);

struct registry_assignment {
	char hash[UNIT_HASH_HEX_SIZE];
	enum registry_state state;
	bool global;
};
void registry_encode_assignment(struct buf *out, const struct registry_assignment *assignment);
int registry_decode_assignment(struct slice text, struct registry_assignment *ret) _must_check_;
