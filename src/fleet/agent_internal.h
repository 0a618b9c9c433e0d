/* Shared by the agent's files only: what runs here (agent.c), and what is said of it (agent_publish.c). */
#pragma once
#include "fleet/agent.h"
#include "fleet/held.h"

#define AGENT_TEXT_RETRY_MS 200

struct agent_unit {
	struct agent *agent;
	char *name;
	bool in_index, wanted; /* wanted: `assignment` is in force */
	bool seen;	       /* by the walk that is going on */
	struct registry_assignment index, assignment;
	bool busy;	 /* an operation of the manager is under way */
	bool complained; /* of what it needs next, since that last worked */
	bool yielded;	 /* it has been said whom it waits for */
	struct etcd_request *fetch;
	char fetch_hash[UNIT_HASH_HEX_SIZE];
	struct unit_requirements rules; /* if it has Conflicts */
	bool rules_read;
	struct etcd_request *rules_fetch;
	char rules_hash[UNIT_HASH_HEX_SIZE]; /* of the text that is fetched */
	uint64_t not_before_ms;		     /* after a failure */
	char *published;		     /* last value of its state, "" when none */
};
struct agent {
	struct agent_config config;
	char *prefix, *machine_id;
	struct held *states;	 /* states/NAME/ID: nobody else's */
	struct held *heartbeats; /* job/NAME/job-state: of the machine that runs it */
	struct held *legacy;	 /* state/NAME: whoever wrote last; never lasting */
	struct map units, texts; /* texts: hash -> char *, of units that are wanted here */
	char *epoch, *term;
	bool index_loaded, index_reading, trusted, handing_over;
	bool foreign, foreign_known; /* known: the cluster has been looked at since */
	bool lasting, lasting_known; /* what is published may last, unless a foreign engine leads */
	bool registered;	     /* this machine is who it says it is: before, nothing is done */
	bool yielding;		     /* a unit waits for the end of another */
	size_t rules_fetches;	     /* under way */
	uv_timer_t *retry_timer, *hand_over_timer;
	uint64_t hand_over_until_ms;
	void (*handed_over)(void *userdata);
	void *handed_over_userdata;
};

/* agent.c */
struct agent_unit *agent_unit_get(struct agent *agent, const char *name);
void agent_say(const struct agent *agent, char *text); /* takes the text */
/* Once per trouble: it is tried again and again. Takes the text. */
void agent_complain(struct agent_unit *unit, char *text);
/* Every unit is looked at again, then at the latest. */
void agent_retry_in(struct agent *agent, uint64_t ms);

/* agent_texts.c */
/* The text of that hash (borrowed until the loop's next turn); NULL: it has to be asked for. */
const char *agent_text_known(const struct agent *agent, const char *hash);
struct etcd_request *agent_text_ask(
	struct agent *agent, const char *hash, etcd_response_fn *done, void *userdata);
/* The text in the answer, if it is the one of that hash; else NULL and why not. Both owned. */
char *agent_text_in(const struct etcd_response *response, const char *hash, char **ret_why);
void agent_text_keep(struct agent *agent, const char *hash, char *text); /* takes the text */
void agent_texts_drop(struct agent *agent);
/* Which others the unit rules out, by the text that it is loaded with. */
void agent_rules_read(struct agent_unit *unit, const char *text);
/* The engine gives a place away as soon as nobody is meant to be there; who was there may still be stopping,
 * with another text than it shall have now, or may not have been told yet: what the engine writes of two
 * units comes in any order. Units that conflict are not to run beside each other even then. True: the unit is
 * not to be started now; it is looked at again when that may have changed. */
bool agent_must_yield(struct agent_unit *unit);

/* agent_publish.c */
bool agent_lasts(const struct agent *agent);
/* What shall run here is known: by the index, or under a foreign engine by the registry. */
bool agent_is_informed(const struct agent *agent);
/* state NULL: it is not here any more. */
void agent_publish(struct agent_unit *unit, const struct manager_unit_state *state);
/* What was published of the unit is being taken back. */
bool agent_is_withdrawing(const struct agent_unit *unit);
/* The leader misses what this machine has to say of the unit. */
void agent_publish_again(struct agent_unit *unit);
/* All that is published, in the other manner. */
void agent_publish_anew(struct agent *agent);
/* For manager_list(). */
void agent_note_unit(void *agent, const struct manager_unit_state *state);
/* It is known again what shall run here: heartbeats that were left alone meanwhile are those of what does. */
void agent_heartbeats_known(struct agent *agent);
