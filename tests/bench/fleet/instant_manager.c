/* Each call changes the unit at once and queues what is to be told of it: a timer of no time tells. */
#include "instant_manager.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/map.h"
#include "base/memory.h"

struct instant_unit {
	char *name, hash[41];
	bool wanted;
};
struct news {
	struct list link;
	char *name; /* of a unit whose state is to be told, or that is gone */
	bool gone;
	int result;
	manager_done_fn done;
	void *userdata;
};
struct instant_manager {
	struct manager base;
	struct manager_events events;
	void *userdata;
	void (*running)(void *userdata, const char *name, int change);
	void *running_userdata;
	struct map units;
	struct list news;
	uv_timer_t *timer;
	bool ready;
};

static struct instant_manager *of(const struct manager *manager)
{
	return (struct instant_manager *)manager;
}

static void fill_state(const struct instant_unit *unit, struct manager_unit_state *ret)
{
	*ret = (struct manager_unit_state){.name = unit->name,
		.hash = unit->hash,
		.load = "loaded",
		.active = unit->wanted ? "active" : "inactive",
		.sub = unit->wanted ? "running" : "dead",
		.result = "success",
		.wanted = unit->wanted,
		.job = "",
		.start_error = ""};
}

static void news_free(struct news *news)
{
	list_remove(&news->link);
	free(news->name);
	free(news);
}

static void tell(struct instant_manager *m, const struct news *news)
{
	const struct instant_unit *unit;
	struct manager_unit_state state;

	if (news->done)
		news->done(news->userdata, news->result, news->result ? "no such unit" : "");
	unit = map_get(&m->units, slice_str(news->name)); /* as it is by now */
	if (news->gone) {
		m->events.unloaded(m->userdata, news->name);
	} else if (unit) {
		fill_state(unit, &state);
		m->events.state_changed(m->userdata, &state);
	}
}

static void timer_fired(uv_timer_t *timer)
{
	struct instant_manager *m = timer->data;
	struct list now;

	if (!m->ready) {
		m->ready = true;
		m->events.ready(m->userdata);
	}
	list_init(&now);
	list_splice_back(&now, &m->news);
	while (!list_empty(&now)) {
		struct news *news = list_first(&now, struct news, link);

		tell(m, news);
		news_free(news);
	}
}

static void add_news(struct instant_manager *m, const char *name, bool gone, int result, manager_done_fn done,
	void *userdata)
{
	struct news *news = mem_new(struct news);

	*news = (struct news){
		.name = mem_strdup(name), .gone = gone, .result = result, .done = done, .userdata = userdata};
	list_push_back(&m->news, &news->link);
	uv_timer_start(m->timer, timer_fired, 0, 0);
}

static void set_wanted(struct instant_manager *m, struct instant_unit *unit, bool wanted)
{
	if (unit->wanted != wanted)
		m->running(m->running_userdata, unit->name, wanted ? 1 : -1);
	unit->wanted = wanted;
}

static void unit_free(struct instant_manager *m, struct instant_unit *unit)
{
	set_wanted(m, unit, false);
	free(unit->name);
	free(unit);
}

static void timer_closed(uv_handle_t *handle)
{
	free(handle);
}

/* As the death of the machine: the units end with it. */
static void instant_close(struct manager *manager, void (*closed)(void *userdata), void *userdata)
{
	struct instant_manager *m = of(manager);
	size_t position = 0;
	void *unit;

	(void)closed;
	(void)userdata;
	while (map_next(&m->units, &position, NULL, &unit))
		unit_free(m, unit);
	map_done(&m->units);
	while (!list_empty(&m->news))
		news_free(list_first(&m->news, struct news, link));
	uv_close((uv_handle_t *)m->timer, timer_closed);
	free(m);
}

static bool instant_is_ready(const struct manager *manager)
{
	return of(manager)->ready;
}

static void instant_load(struct manager *manager, const char *name, struct slice text, const char *hash,
	manager_done_fn done, void *userdata)
{
	struct instant_manager *m = of(manager);
	struct instant_unit *unit = map_get(&m->units, slice_str(name));

	(void)text;
	if (!unit) {
		unit = mem_new(struct instant_unit);
		unit->name = mem_strdup(name);
		map_put(&m->units, slice_str(name), unit);
	}
	(void)snprintf(unit->hash, sizeof(unit->hash), "%s", hash);
	add_news(m, name, false, 0, done, userdata);
}

static void instant_act(
	struct manager *manager, const char *verb, const char *name, manager_done_fn done, void *userdata)
{
	struct instant_manager *m = of(manager);
	struct instant_unit *unit = map_get(&m->units, slice_str(name));

	if (strcmp(verb, "unload") == 0) {
		if (unit) {
			map_remove(&m->units, slice_str(name));
			unit_free(m, unit);
		}
		add_news(m, name, true, 0, done, userdata);
		return;
	}
	if (unit)
		set_wanted(m, unit, strcmp(verb, "stop") != 0);
	add_news(m, name, false, unit ? 0 : -ENOENT, done, userdata);
}

static bool instant_state(const struct manager *manager, const char *name, struct manager_unit_state *ret)
{
	const struct instant_unit *unit = map_get(&of(manager)->units, slice_str(name));

	if (unit)
		fill_state(unit, ret);
	return unit != NULL;
}

static size_t instant_count(const struct manager *manager)
{
	return of(manager)->units.count;
}

static void instant_list(const struct manager *manager,
	void (*each)(void *userdata, const struct manager_unit_state *state), void *userdata)
{
	size_t position = 0;
	void *unit;

	while (map_next(&of(manager)->units, &position, NULL, &unit)) {
		struct manager_unit_state state;

		fill_state(unit, &state);
		each(userdata, &state);
	}
}

/* Nobody asks these machines for status or journal: their API is not served. */
static void instant_status(struct manager *manager, const char *name, manager_text_fn text, void *userdata)
{
	(void)manager;
	(void)name;
	text(userdata, -ENOTSUP, "", slice_make("", 0), true);
}

static struct manager_stream *instant_journal(struct manager *manager, const char *name,
	const struct manager_journal_options *options, manager_text_fn text, void *userdata)
{
	(void)options;
	instant_status(manager, name, text, userdata);
	return NULL;
}

static void instant_cancel(struct manager_stream *stream)
{
	(void)stream;
}

struct manager *instant_manager_new(uv_loop_t *loop, const struct manager_events *events, void *userdata,
	void (*running)(void *userdata, const char *name, int change), void *running_userdata)
{
	static const struct manager_operations operations = {instant_close, instant_is_ready, instant_load,
		instant_act, instant_state, instant_count, instant_list, instant_status, instant_journal,
		instant_cancel};
	struct instant_manager *m = mem_new(struct instant_manager);

	m->base.operations = &operations;
	m->events = *events;
	m->userdata = userdata;
	m->running = running;
	m->running_userdata = running_userdata;
	map_init(&m->units, 0);
	list_init(&m->news);
	m->timer = mem_new(uv_timer_t);
	m->timer->data = m;
	uv_timer_init(loop, m->timer);
	uv_timer_start(m->timer, timer_fired, 0, 0);
	return &m->base;
}
