/* One request at a time, one timer. Refreshes compare with the index of the last write, so that a key that
 * somebody else has taken is noticed at the next refresh. */
#include "fleet/presence.h"

#include <stdlib.h>
#include <string.h>

#define PRESENCE_RETRY_MS 200
#define PRESENCE_REFUSED_MS 1000
#define PRESENCE_WITHDRAW_MS 2000 /* then it ends by its TTL */
#define PRESENCE_LATE_MS 700	  /* a refresh that takes longer means: no contact */

enum presence_step {
	PRESENCE_CREATE,
	PRESENCE_READ,
	PRESENCE_ADOPT,
	PRESENCE_REFRESH,
	PRESENCE_REWRITE,
	PRESENCE_WITHDRAW
};
struct presence {
	struct etcd_client *client;
	char *key, *value, *boot, *nonce;
	int64_t ttl_s;
	struct presence_events events;
	void *userdata;
	uv_timer_t *timer;
	struct etcd_request *request;
	enum presence_step step;
	uint64_t index;			/* of our last write; 0: unknown */
	uint64_t sent_ms;		/* start of the request under way */
	uint64_t since_ms;		/* contact since; 0: none */
	uint64_t ok_ms, before_ms;	/* last answer; since_ms before the contact was lost */
	uint64_t version, sent_version; /* of the value; of the one that was sent last */
	bool registered, rewrite, lost_to_other, told_refused, adopted;
	void (*withdrawn)(void *userdata);
	void *withdrawn_userdata;
	uint64_t withdraw_ms; /* since when */
};

static void next_step(struct presence *p, enum presence_step step, uint64_t after_ms);
static void timer_fired(uv_timer_t *timer);

static uint64_t now_ms(const struct presence *p)
{
	return uv_now(etcd_client_loop(p->client));
}

/* What lasts no longer than this costs nobody's presence: the others refresh as often as we do, and try
 * again within presence_timeout_ms(). */
static uint64_t harmless_ms(const struct presence *p)
{
	return (uint64_t)p->ttl_s * 1000 / 2;
}

/* By now the store should have answered, and has not; or this machine was stopped for a while. */
static bool is_overdue(const struct presence *p)
{
	uint64_t late_ms = (uint64_t)p->ttl_s * 1000 / 3 + PRESENCE_LATE_MS;

	return p->ok_ms && now_ms(p) - p->ok_ms > MIN(late_ms, harmless_ms(p));
}

int64_t presence_timeout_ms(int64_t ttl_s, int64_t most_ms)
{
	return MIN(most_ms, ttl_s * 1000 / 6);
}

/* After a short outage the contact counts as unbroken. */
static void set_contact(struct presence *p, bool ok, const char *why)
{
	uint64_t now = MAX(now_ms(p), (uint64_t)1), last_ok = p->ok_ms;

	if (ok && p->since_ms && is_overdue(p))
		set_contact(p, false, "nothing was heard of it for too long");
	if (ok)
		p->ok_ms = now;
	if (ok == (p->since_ms != 0))
		return;
	if (ok) {
		p->since_ms = p->before_ms && now - last_ok < harmless_ms(p) ? p->before_ms : now;
	} else {
		p->before_ms = p->since_ms;
		p->since_ms = 0;
	}
	if (p->events.contact)
		p->events.contact(p->userdata, ok, why);
}

static void set_registered(struct presence *p, const struct etcd_response *response)
{
	bool before = p->registered;

	p->index = response->node ? response->node->modified_index : 0;
	p->registered = true;
	p->told_refused = false;
	next_step(p, p->rewrite ? PRESENCE_REWRITE : PRESENCE_REFRESH,
		p->rewrite ? 0 : (uint64_t)p->ttl_s * 1000 / 3);
	if (before)
		return;
	/* What ended this key may have ended those of others, who are as good as this one. */
	p->since_ms = MAX(now_ms(p), (uint64_t)1);
	p->before_ms = 0;
	if (p->events.registered)
		p->events.registered(p->userdata);
}

static void refuse(struct presence *p, const char *other)
{
	_cleanup_free_ char *why =
		mem_printf("another machine is registered as %s (%s); give this one an ID of its own "
			   "(/etc/machine-id), or wait until the other's presence has expired",
			strrchr(p->key, '/') ? p->key : "", other);

	p->registered = false;
	if (!p->told_refused && p->events.refused)
		p->events.refused(p->userdata, why);
	p->told_refused = true;
	next_step(p, PRESENCE_CREATE, PRESENCE_REFUSED_MS);
}

/* The key as it stands in the store: an earlier life's, or another machine's? */
static void judge(struct presence *p, const struct etcd_response *response)
{
	struct registry_machine other;
	const struct etcd_node *node = response->node;

	if (!node || !node->value) {
		refuse(p, "its presence is a directory");
		return;
	}
	/* No machine has written that. */
	if (registry_decode_machine(slice_make(node->value, node->value_len), &other) < 0) {
		p->index = node->modified_index;
		next_step(p, PRESENCE_ADOPT, 0);
		return;
	}
	if (other.nonce && strcmp(other.nonce, p->nonce) == 0 &&
		(!p->lost_to_other || strcmp(other.boot, p->boot) == 0)) {
		p->index = node->modified_index;
		next_step(p, PRESENCE_ADOPT, 0);
	} else {
		refuse(p, other.public_ip[0] ? other.public_ip : "address unknown");
	}
	registry_machine_done(&other);
}

static void withdraw_ended(struct presence *p)
{
	void (*done)(void *) = p->withdrawn;

	uv_timer_stop(p->timer);
	p->withdrawn = NULL;
	p->registered = false;
	if (done)
		done(p->withdrawn_userdata);
}

static bool is_ours(const struct presence *p, const struct etcd_node *node)
{
	struct registry_machine other;
	bool ours;

	if (!node || !node->value ||
		registry_decode_machine(slice_make(node->value, node->value_len), &other) < 0)
		return false;
	ours = other.nonce && strcmp(other.nonce, p->nonce) == 0 && strcmp(other.boot, p->boot) == 0;
	registry_machine_done(&other);
	return ours;
}

static void withdraw_after(struct presence *p, enum presence_step step, uint64_t ms)
{
	p->step = step;
	uv_timer_start(p->timer, timer_fired, ms, 0);
}

/* A write that was given up may have been carried out: what does not stand as it was known is read, and
 * deleted if it is ours. */
static void withdraw_answered(struct presence *p, const struct etcd_response *response)
{
	bool read = p->step == PRESENCE_READ && response->outcome == ETCD_OK;

	if ((p->step == PRESENCE_WITHDRAW && response->outcome == ETCD_OK) ||
		etcd_response_is(response, ETCD_KEY_NOT_FOUND) || (read && !is_ours(p, response->node)) ||
		now_ms(p) - p->withdraw_ms > PRESENCE_WITHDRAW_MS) {
		withdraw_ended(p);
	} else if (read) {
		p->index = response->node->modified_index;
		withdraw_after(p, PRESENCE_WITHDRAW, 0);
	} else {
		withdraw_after(p, PRESENCE_READ,
			etcd_response_is(response, ETCD_COMPARE_FAILED) ? 0 : PRESENCE_RETRY_MS);
	}
}

static void answered(const struct etcd_response *response, void *userdata)
{
	struct presence *p = userdata;
	bool contact = response->outcome == ETCD_OK ||
		       (response->outcome == ETCD_REFUSED && !etcd_response_is(response, ETCD_RAFT_ERROR));

	p->request = NULL;
	if (p->withdrawn) {
		withdraw_answered(p, response);
		return;
	}
	if (!contact) {
		/* Whatever was under way: when contact is back the key's state is found out by a refresh. */
		set_contact(p, false, response->error_text);
		if (response->outcome == ETCD_UNKNOWN)
			p->index = 0;
		next_step(
			p, p->registered && p->index ? PRESENCE_REFRESH : PRESENCE_CREATE, PRESENCE_RETRY_MS);
		return;
	}
	set_contact(p, true, "");
	if (response->outcome == ETCD_OK) {
		if (p->step == PRESENCE_READ) {
			judge(p, response);
		} else {
			if (p->step != PRESENCE_REFRESH)
				p->rewrite = p->sent_version != p->version;
			if (p->step == PRESENCE_CREATE)
				p->registered = false; /* it was lost in an outage */
			if (p->step == PRESENCE_CREATE || p->step == PRESENCE_ADOPT)
				p->adopted = p->step == PRESENCE_ADOPT;
			set_registered(p, response);
		}
	} else if (etcd_response_is(response, ETCD_KEY_NOT_FOUND)) {
		p->registered = false;
		p->lost_to_other = false;
		next_step(p, PRESENCE_CREATE, 0);
	} else if (etcd_response_is(response, ETCD_KEY_EXISTS) ||
		   etcd_response_is(response, ETCD_COMPARE_FAILED)) {
		if (etcd_response_is(response, ETCD_COMPARE_FAILED) && p->registered)
			p->lost_to_other = true;
		next_step(p, PRESENCE_READ, 0);
	} else {
		set_contact(p, false, response->error_text);
		next_step(p, p->step, PRESENCE_RETRY_MS);
	}
}

static void send_step(struct presence *p)
{
	struct etcd_put_options put = {.value = p->value, .ttl_s = p->ttl_s};
	struct etcd_delete_options del = {.prev_index = p->index};
	struct etcd_get_options get = {.quorum = true};

	p->sent_ms = now_ms(p);
	p->sent_version = p->version;
	switch (p->step) {
	case PRESENCE_CREATE:
		put.prev_exist = ETCD_PREV_NO_EXIST;
		break;
	case PRESENCE_READ:
		p->request = etcd_get(p->client, p->key, &get, answered, p);
		return;
	case PRESENCE_ADOPT:
	case PRESENCE_REWRITE:
		put.prev_index = p->index;
		break;
	case PRESENCE_REFRESH:
		put.value = NULL;
		put.refresh = true;
		put.prev_exist = ETCD_PREV_EXIST;
		put.prev_index = p->index;
		break;
	case PRESENCE_WITHDRAW:
		p->request = etcd_delete(p->client, p->key, &del, answered, p);
		return;
	}
	p->request = etcd_put(p->client, p->key, &put, answered, p);
}

static void timer_fired(uv_timer_t *timer)
{
	struct presence *p = timer->data;

	if (!p->request)
		send_step(p);
}

static void next_step(struct presence *p, enum presence_step step, uint64_t after_ms)
{
	p->step = step;
	uv_timer_start(p->timer, timer_fired, after_ms, 0);
}

static void take_value(struct presence *p, const struct registry_machine *machine)
{
	struct buf value = BUF_INIT(1024 * 1024);

	registry_encode_machine(&value, machine);
	free(p->value);
	p->value = buf_take(&value, NULL);
}

struct presence *presence_new(struct etcd_client *client, const char *key,
	const struct registry_machine *machine, int64_t ttl_s, const struct presence_events *events,
	void *userdata)
{
	struct presence *p = mem_new(struct presence);

	p->client = client;
	p->key = mem_strdup(key);
	p->boot = mem_strdup(machine->boot);
	p->nonce = mem_strdup(machine->nonce);
	p->ttl_s = ttl_s;
	p->events = *events;
	p->userdata = userdata;
	take_value(p, machine);
	p->timer = mem_new(uv_timer_t);
	p->timer->data = p;
	uv_timer_init(etcd_client_loop(client), p->timer);
	next_step(p, PRESENCE_CREATE, 0);
	return p;
}

static void timer_closed(uv_handle_t *handle)
{
	free(handle);
}

struct presence *presence_free(struct presence *p)
{
	if (!p)
		return NULL;
	etcd_request_cancel(p->request);
	uv_close((uv_handle_t *)p->timer, timer_closed);
	free(p->key);
	free(p->value);
	free(p->boot);
	free(p->nonce);
	free(p);
	return NULL;
}

void presence_update(struct presence *p, const struct registry_machine *machine)
{
	_cleanup_free_ char *before = mem_strdup(p->value);

	take_value(p, machine);
	if (strcmp(before, p->value) == 0 || p->withdrawn)
		return;
	p->version++;
	p->rewrite = true;
	if (p->registered && !p->request)
		next_step(p, PRESENCE_REWRITE, 0);
}

void presence_withdraw(struct presence *p, void (*done)(void *userdata), void *userdata)
{
	p->request = etcd_request_cancel(p->request);
	p->withdrawn = done;
	p->withdrawn_userdata = userdata;
	p->withdraw_ms = now_ms(p);
	if (p->told_refused)
		withdraw_ended(p);
	else
		withdraw_after(p, p->registered && p->index ? PRESENCE_WITHDRAW : PRESENCE_READ, 0);
}

bool presence_is_registered(const struct presence *p)
{
	return p->registered;
}

bool presence_was_adopted(const struct presence *p)
{
	return p->adopted;
}

uint64_t presence_contact_since_ms(const struct presence *p)
{
	if (is_overdue(p) || (p->request && now_ms(p) - p->sent_ms > PRESENCE_LATE_MS))
		return 0;
	return p->since_ms;
}
