/* Writes through the API: the store's operations one after the other, then the answer as soon as the mirror
 * shows the last one (or has failed to for a while). */
#include "fleet/api_internal.h"

#include <stdlib.h>

#define API_MIRROR_WAIT_MS 1000

struct api_write {
	struct list link;
	struct api *api;
	struct http_request *req;
	struct api_step *steps;
	size_t step_count, next, in_flight; /* next: the first one not sent */
	int status;
	bool json_type;
	uint64_t index; /* of the last operation; 0: not done yet */
	uv_timer_t *timer;
};

static void timer_closed(uv_handle_t *handle)
{
	free(handle);
}

static void write_free(struct api_write *write)
{
	list_remove(&write->link);
	for (size_t i = 0; i < write->step_count; i++) {
		etcd_request_cancel(write->steps[i].request);
		free(write->steps[i].key);
		free(write->steps[i].value);
	}
	free(write->steps);
	uv_close((uv_handle_t *)write->timer, timer_closed);
	http_request_unref(write->req);
	free(write);
}

void api_write_drop(struct api_write *write)
{
	write_free(write);
}

struct api_write *api_write_new(struct api *api, struct http_request *req, int status, bool json_type)
{
	struct api_write *write = mem_new(struct api_write);

	write->api = api;
	write->req = http_request_ref(req);
	write->status = status;
	write->json_type = json_type;
	write->timer = mem_new(uv_timer_t);
	write->timer->data = write;
	uv_timer_init(api->config.loop, write->timer);
	list_push_back(&api->writes, &write->link);
	return write;
}

void api_write_add(struct api_write *write, int kind, char *key, char *value)
{
	write->steps = mem_reallocarray(write->steps, write->step_count + 1, sizeof(struct api_step));
	write->steps[write->step_count++] =
		(struct api_step){.kind = kind, .key = key, .value = value, .write = write};
}

void api_write_add_together(struct api_write *write, int kind, char *key, char *value)
{
	api_write_add(write, kind, key, value);
	write->steps[write->step_count - 1].together = true;
}

static void answer(struct api_write *write)
{
	api_reply_empty(write->req, write->status, write->json_type);
	write_free(write);
}

static void waited_enough(uv_timer_t *timer)
{
	answer(timer->data);
}

static void step_done(const struct etcd_response *response, void *userdata)
{
	struct api_step *step = userdata;
	struct api_write *write = step->write;
	bool fine = response->outcome == ETCD_OK ||
		    (step->kind == API_STEP_CREATE && etcd_response_is(response, ETCD_KEY_EXISTS));

	step->request = NULL;
	write->in_flight--;
	if (step->kind == API_STEP_DELETE_DIR && etcd_response_is(response, ETCD_KEY_NOT_FOUND)) {
		api_reply_error(write->req, 404, "unit does not exist");
		write_free(write);
		return;
	}
	if (!fine) {
		api_reply_store_error(write->req, response);
		write_free(write);
		return;
	}
	if (response->outcome == ETCD_OK && response->node)
		write->index = MAX(write->index, response->node->modified_index);
	if (!write->in_flight)
		api_write_start(write);
}

static void step_send(struct api_step *step)
{
	struct etcd_client *client = step->write->api->config.client;
	struct etcd_delete_options del = {.recursive = true, .dir = true};

	step->write->in_flight++;
	switch (step->kind) {
	case API_STEP_SET:
		step->request = etcd_set(client, step->key, step->value, 0, step_done, step);
		break;
	case API_STEP_CREATE:
		step->request = etcd_create(client, step->key, step->value, 0, step_done, step);
		break;
	case API_STEP_DELETE_DIR:
		step->request = etcd_delete(client, step->key, &del, step_done, step);
		break;
	}
}

void api_write_start(struct api_write *write)
{
	if (write->next == write->step_count) {
		if (write->index <= write->api->config.mirror_index(write->api->config.userdata))
			answer(write);
		else
			uv_timer_start(write->timer, waited_enough, API_MIRROR_WAIT_MS, 0);
		return;
	}
	do {
		step_send(&write->steps[write->next++]);
	} while (write->next < write->step_count && write->steps[write->next].together);
}

void api_writes_turn(struct api *api)
{
	uint64_t index = api->config.mirror_index(api->config.userdata);

	list_for_each_safe (it, &api->writes) {
		struct api_write *write = list_item(it, struct api_write, link);

		if (write->next == write->step_count && !write->in_flight && write->index <= index)
			answer(write);
	}
}

void api_writes_free(struct api *api)
{
	list_for_each_safe (it, &api->writes)
		write_free(list_item(it, struct api_write, link));
}
