/* Writes through the API: the store's operations one after the other, then the answer as soon as the mirror
 * shows the last one (or has failed to for a while). */
#include "fleet/api_internal.h"

#include <stdlib.h>

#define API_MIRROR_WAIT_MS 1000
#define API_STEPS_MAX 1024

struct api_write {
	struct list link;
	struct api *api;
	struct http_request *req;
	struct etcd_request *request;
	struct api_step *steps;
	size_t step_count, next;
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
	etcd_request_cancel(write->request);
	for (size_t i = 0; i < write->step_count; i++) {
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
	write->steps[write->step_count].kind = kind;
	write->steps[write->step_count].key = key;
	write->steps[write->step_count++].value = value;
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
	struct api_write *write = userdata;
	const struct api_step *step = &write->steps[write->next];
	bool fine = response->outcome == ETCD_OK ||
		    (step->kind == API_STEP_CREATE && etcd_response_is(response, ETCD_KEY_EXISTS));

	write->request = NULL;
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
		write->index = response->node->modified_index;
	write->next++;
	api_write_start(write);
}

void api_write_start(struct api_write *write)
{
	struct etcd_client *client = write->api->config.client;
	const struct api_step *step = &write->steps[write->next];
	struct etcd_delete_options del = {.recursive = true, .dir = true};

	if (write->next == write->step_count) {
		if (write->index <= write->api->config.mirror_index(write->api->config.userdata))
			answer(write);
		else
			uv_timer_start(write->timer, waited_enough, API_MIRROR_WAIT_MS, 0);
		return;
	}
	switch (step->kind) {
	case API_STEP_SET:
		write->request = etcd_set(client, step->key, step->value, 0, step_done, write);
		break;
	case API_STEP_CREATE:
		write->request = etcd_create(client, step->key, step->value, 0, step_done, write);
		break;
	case API_STEP_DELETE_DIR:
		write->request = etcd_delete(client, step->key, &del, step_done, write);
		break;
	}
}

void api_writes_turn(struct api *api)
{
	uint64_t index = api->config.mirror_index(api->config.userdata);

	list_for_each_safe (it, &api->writes) {
		struct api_write *write = list_item(it, struct api_write, link);

		if (write->next == write->step_count && write->index <= index)
			answer(write);
	}
}

void api_writes_free(struct api *api)
{
	list_for_each_safe (it, &api->writes)
		write_free(list_item(it, struct api_write, link));
}
