/* Making services from unit texts, and freeing them. A text that comes while the unit runs waits until the
 * next start: what runs is stopped by the commands it was started with. */
#include "base/memory.h"
#include "base/time.h"
#include "manager/activation.h"
#include <stdio.h>

static void read_config(struct service *service)
{
	_cleanup_(unit_file_freep) struct unit_file *file = NULL;
	struct unit_error error = {0};

	service_config_done(&service->config);
	if (unit_file_parse(slice_make(service->text, service->text_len), &file, &error) < 0) {
		_cleanup_(unit_file_freep) struct unit_file *empty = unit_file_new();
		_cleanup_buf_ struct buf text = BUF_INIT(0);

		service_config_read(empty, &service->specifiers, &service->config);
		strings_done(&service->config.warnings);
		unit_error_format(&error, service->name, &text);
		strings_add(&service->config.warnings, buf_text(&text));
		free(service->config.error);
		service->config.error = buf_take(&text, NULL);
		return;
	}
	service_config_read(file, &service->specifiers, &service->config);
}

void service_set_text(struct service *service, struct slice text, const char *hash)
{
	free(service->text);
	service->text = mem_strndup(text.data, text.len);
	service->text_len = text.len;
	(void)snprintf(service->hash, sizeof(service->hash), "%s", hash);
	service->dirty = service->store_dirty = true;
	service->text_is_new = true;
	if (service->state == STATE_DEAD || service->state == STATE_FAILED)
		service_apply_text(service);
}

void service_apply_text(struct service *service)
{
	if (!service->text_is_new)
		return;
	service->text_is_new = false;
	service->dirty = true;
	read_config(service);
}

struct service *service_new(struct keeper *keeper, const char *name, struct slice text, const char *hash)
{
	struct service *service = mem_new(struct service);

	service->keeper = keeper;
	service->name = mem_strdup(name);
	service->state_changed_us = time_wall_ns() / 1000;
	service->specifiers = (struct unit_specifiers){.host = host_specifier, .userdata = keeper};
	if (unit_name_parse(slice_str(service->name), &service->specifiers.name) < 0)
		abort(); /* names are validated where they come in */
	service->kind = unit_kind_find(service->specifiers.name.type);
	list_init(&service->entry);
	list_init(&service->streams);
	list_init(&service->unloads);
	(void)uv_timer_init(&keeper->loop, &service->timer);
	(void)uv_timer_init(&keeper->loop, &service->watchdog);
	(void)uv_timer_init(&keeper->loop, &service->poll);
	service->timer.data = service->watchdog.data = service->poll.data = service;
	service->deadline_ns = INT64_MAX;
	service_set_text(service, text, hash);
	return service;
}

static void timer_closed(uv_handle_t *handle)
{
	struct service *service = handle->data;

	if (--service->handles_open)
		return;
	free(service->name);
	free(service->text);
	free(service->sessions);
	free(service->start_error);
	free(service->main_exec.command);
	for (size_t i = 0; i < EXEC_KIND_MAX; i++)
		free(service->control_exec[i].command);
	free(service->notify_text);
	strings_done(&service->run_warnings);
	service_config_done(&service->config);
	free(service);
}

void service_free(struct service *service)
{
	struct map *started = &service->keeper->started;
	size_t position = 0;
	struct slice key;
	void *value;

	/* Processes that KillMode= let live are nobody's from here on. */
	while (map_next(started, &position, &key, &value))
		if (value == service)
			(void)map_remove(started, key);
	assert(list_empty(&service->entry) && list_empty(&service->unloads));
	streams_close(service);
	notify_close(service);
	if (service->kind->release)
		service->kind->release(service);
	service->handles_open = 3;
	uv_close((uv_handle_t *)&service->timer, timer_closed);
	uv_close((uv_handle_t *)&service->watchdog, timer_closed);
	uv_close((uv_handle_t *)&service->poll, timer_closed);
}
