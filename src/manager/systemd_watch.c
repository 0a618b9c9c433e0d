/* What systemd says of units: by signals as it happens, and asked for when a connection is new or systemd has
 * read its files again. Nothing is asked periodically. */
#include "base/memory.h"
#include "manager/systemd_internal.h"
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define UNIT_INTERFACE "org.freedesktop.systemd1.Unit"
#define SERVICE_INTERFACE "org.freedesktop.systemd1.Service"
#define PROPERTIES "org.freedesktop.DBus.Properties"
#define MANAGER_INTERFACE "org.freedesktop.systemd1.Manager"
#define UNITS_PATH "/org/freedesktop/systemd1/unit"

/* A question that no request waits for; its unit may be gone when the answer comes. */
struct look {
	struct list entry;
	struct systemd *systemd;
	char *name;
	bool first; /* ready() waits for it */
};

static struct look *look_new(struct systemd *systemd, const char *name, bool first)
{
	struct look *look = mem_new(struct look);

	look->systemd = systemd;
	look->name = name ? mem_strdup(name) : NULL;
	look->first = first;
	systemd->answers_due += first;
	list_push_back(&systemd->looks, &look->entry);
	return look;
}

static void look_free(struct look *look)
{
	list_remove(&look->entry);
	free(look->name);
	free(look);
}

/* ---- reading ---- */

static void copy_text(char *room, size_t size, const char *text)
{
	(void)snprintf(room, size, "%s", text);
}

/* A text of a unit's state. */
static void set_text(struct systemd_unit *unit, char *room, size_t size, const char *text)
{
	if (strncmp(room, text, size - 1) == 0)
		return;
	copy_text(room, size, text);
	systemd_unit_changed(unit);
}

static int read_text(struct sdbus *bus, sd_bus_message *m, char *room, size_t size)
{
	const char *text;
	int r = bus->lib->sd_bus_message_read(m, "v", "s", &text);

	if (r >= 0)
		copy_text(room, size, text);
	return r;
}

static int read_error(struct sdbus *bus, sd_bus_message *m, char *room, size_t size)
{
	const char *name, *text;
	int r = bus->lib->sd_bus_message_read(m, "v", "(ss)", &name, &text);

	if (r >= 0)
		copy_text(room, size, text);
	return r;
}

static int read_unit_property(
	struct sdbus *bus, sd_bus_message *m, const char *name, struct systemd_properties *properties)
{
	int yes = 0, r;

	if (strcmp(name, "LoadState") == 0)
		return read_text(bus, m, properties->load, sizeof(properties->load));
	if (strcmp(name, "ActiveState") == 0)
		return read_text(bus, m, properties->active, sizeof(properties->active));
	if (strcmp(name, "SubState") == 0)
		return read_text(bus, m, properties->sub, sizeof(properties->sub));
	if (strcmp(name, "FragmentPath") == 0)
		return read_text(bus, m, properties->fragment, sizeof(properties->fragment));
	if (strcmp(name, "LoadError") == 0)
		return read_error(bus, m, properties->load_error, sizeof(properties->load_error));
	if (strcmp(name, "NeedDaemonReload") == 0) {
		r = bus->lib->sd_bus_message_read(m, "v", "b", &yes);
		properties->need_reload = yes;
		return r;
	}
	return bus->lib->sd_bus_message_skip(m, "v");
}

static int read_number(struct systemd_unit *unit, sd_bus_message *m, const char *type, int *number)
{
	int before = *number, r = unit->systemd->bus->lib->sd_bus_message_read(m, "v", type, number);

	if (r >= 0 && *number != before)
		systemd_unit_changed(unit);
	return r;
}

static int read_service_property(
	struct sdbus *bus, sd_bus_message *m, const char *name, struct systemd_unit *unit)
{
	char result[sizeof(unit->result)];
	int restarts = (int)unit->restarts, r;

	if (strcmp(name, "MainPID") == 0)
		return read_number(unit, m, "u", &unit->main_pid);
	if (strcmp(name, "ExecMainStatus") == 0)
		return read_number(unit, m, "i", &unit->exec_main_status);
	if (strcmp(name, "NRestarts") == 0) {
		r = read_number(unit, m, "u", &restarts);
		unit->restarts = (uint64_t)(unsigned)restarts;
		return r;
	}
	if (strcmp(name, "Result") == 0) {
		r = read_text(bus, m, result, sizeof(result));
		if (r >= 0)
			set_text(unit, unit->result, sizeof(unit->result), result);
		return r;
	}
	return bus->lib->sd_bus_message_skip(m, "v");
}

/* Walks an a{sv}; what it finds goes into `properties` or, when that is NULL, into the unit. */
static int read_dictionary(struct sdbus *bus, sd_bus_message *m, struct systemd_properties *properties,
	struct systemd_unit *unit)
{
	const struct sdbus_library *lib = bus->lib;
	const char *name;
	int r = lib->sd_bus_message_enter_container(m, SD_BUS_TYPE_ARRAY, "{sv}");

	while (r >= 0 && (r = lib->sd_bus_message_enter_container(m, SD_BUS_TYPE_DICT_ENTRY, "sv")) > 0) {
		r = lib->sd_bus_message_read_basic(m, SD_BUS_TYPE_STRING, &name);
		if (r >= 0)
			r = properties ? read_unit_property(bus, m, name, properties)
				       : read_service_property(bus, m, name, unit);
		if (r >= 0)
			r = lib->sd_bus_message_exit_container(m);
	}
	if (r >= 0)
		r = lib->sd_bus_message_exit_container(m);
	return r;
}

int systemd_read_properties(
	struct sdbus *bus, sd_bus_message *answer, struct systemd_properties *ret, struct buf *reterr)
{
	int r = sdbus_result(bus, answer, reterr);

	if (r < 0)
		return r;
	*ret = (struct systemd_properties){0};
	r = read_dictionary(bus, answer, ret, NULL);
	if (r < 0)
		buf_printf(reterr, "systemd's answer cannot be read: %s", strerror(-r));
	return r < 0 ? r : 0;
}

static void set_active(struct systemd_unit *unit, const char *active)
{
	bool was_down = systemd_is_down(unit->active);

	set_text(unit, unit->active, sizeof(unit->active), active);
	if (!was_down && systemd_is_down(active))
		systemd_ended_now(unit->systemd, unit->name);
	/* Why an earlier start failed says nothing of what runs, whoever started it. */
	if (was_down && !systemd_is_down(active) && strcmp(unit->load, "loaded") == 0 && unit->start_error)
		systemd_set_start_error(unit, NULL);
}

void systemd_take_properties(struct systemd_unit *unit, const struct systemd_properties *properties)
{
	bool missing = strcmp(properties->load, "not-found") == 0 && !properties->fragment[0];

	/* Nothing else stands behind the name: somebody removed the link, or our file. What runs is what it
	 * was. */
	unit->ours = missing ? unit->ours || systemd_files_has(unit->systemd, unit->name)
			     : systemd_files_is_ours(unit->systemd, unit->name, properties->fragment);
	if (!unit->ours)
		unit->main_pid = unit->exec_main_status = 0;
	set_text(unit, unit->load, sizeof(unit->load), unit->ours ? properties->load : "error");
	set_active(unit, unit->ours ? properties->active : "inactive");
	set_text(unit, unit->sub, sizeof(unit->sub), unit->ours ? properties->sub : "dead");
}

/* ---- asking ---- */

/* As sd_bus_path_encode(3): every byte but letters and digits, and a digit in front, as _xx. */
char *systemd_object_path(const char *name)
{
	_cleanup_buf_ struct buf path = BUF_INIT(0);

	buf_add_str(&path, UNITS_PATH "/");
	for (const char *at = name; *at; at++) {
		bool letter = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z');
		bool digit = *at >= '0' && *at <= '9';

		if (letter || (digit && at != name))
			buf_add_char(&path, *at);
		else
			buf_printf(&path, "_%02x", (unsigned char)*at);
	}
	return buf_take(&path, NULL);
}

static int ask(struct systemd *systemd, const char *name, const char *interface,
	sd_bus_message_handler_t done, void *userdata)
{
	_cleanup_free_ char *path = systemd_object_path(name);
	sd_bus_message *call = sdbus_call_new(systemd->bus, path, PROPERTIES, "GetAll");

	if (call)
		(void)systemd->bus->lib->sd_bus_message_append(call, "s", interface);
	return sdbus_send(systemd->bus, call, 0, done, userdata);
}

int systemd_ask(struct systemd *systemd, const char *name, sd_bus_message_handler_t done, void *userdata)
{
	return ask(systemd, name, UNIT_INTERFACE, done, userdata);
}

int systemd_ask_fragment(struct systemd_unit *unit, sd_bus_message_handler_t done)
{
	struct sdbus *bus = unit->systemd->bus;
	sd_bus_message *call = sdbus_call_new(bus, unit->path, PROPERTIES, "Get");

	if (call)
		(void)bus->lib->sd_bus_message_append(call, "ss", UNIT_INTERFACE, "FragmentPath");
	return sdbus_send(bus, call, 0, done, unit);
}

static void answered(struct look *look)
{
	struct systemd *systemd = look->systemd;
	bool first = look->first;

	look_free(look);
	if (!first)
		return;
	assert(systemd->answers_due > 0);
	if (--systemd->answers_due == 0)
		systemd_ready(systemd);
}

/* There is no link to our file, or no file: a boot, or somebody, took it away. */
static void repair(struct systemd_unit *unit)
{
	bool has_link = strcmp(unit->load, "not-found") != 0, has_file;

	if (!unit->ours || !list_empty(&unit->requests))
		return;
	has_file = systemd_files_has(unit->systemd, unit->name);
	if (has_file && !has_link)
		systemd_request_add(unit, VERB_LOAD, (struct slice){0}, unit->hash, NULL, NULL);
	else if (!has_file && unit->text)
		systemd_request_add(
			unit, VERB_LOAD, slice_make(unit->text, unit->text_len), unit->hash, NULL, NULL);
}

static int on_unit_look(sd_bus_message *m, void *userdata, sd_bus_error *unused)
{
	struct look *look = userdata;
	struct systemd *systemd = look->systemd;
	struct systemd_unit *unit = map_get(&systemd->units, slice_str(look->name));
	_cleanup_buf_ struct buf error = BUF_INIT(4096);
	struct systemd_properties properties;

	(void)unused;
	if (sdbus_is_lost(systemd->bus, m)) {
		look_free(look);
		return 0;
	}
	/* A request that is under way has its own look. */
	if (unit && unit->known && !unit->refused && (look->first || list_empty(&unit->requests))) {
		if (systemd_read_properties(systemd->bus, m, &properties, &error) >= 0) {
			systemd_take_properties(unit, &properties);
		} else if (!sdbus_is_final(systemd->bus, m)) {
			systemd_lost(systemd, buf_text(&error)); /* that would not be its state */
			return 0;
		}
		repair(unit);
	}
	answered(look);
	return 0;
}

static int on_service_look(sd_bus_message *m, void *userdata, sd_bus_error *unused)
{
	struct look *look = userdata;
	struct systemd *systemd = look->systemd;
	struct systemd_unit *unit = map_get(&systemd->units, slice_str(look->name));

	(void)unused;
	if (sdbus_is_lost(systemd->bus, m)) {
		look_free(look);
		return 0;
	}
	if (unit && unit->ours && !systemd->bus->lib->sd_bus_message_get_error(m)) {
		(void)read_dictionary(systemd->bus, m, NULL, unit);
	}
	answered(look);
	return 0;
}

/* What stood in the way of a refused unit may be gone. */
static int on_refused_look(sd_bus_message *m, void *userdata, sd_bus_error *unused)
{
	struct look *look = userdata;
	struct systemd *systemd = look->systemd;
	struct systemd_unit *unit = map_get(&systemd->units, slice_str(look->name));
	_cleanup_buf_ struct buf ignored = BUF_INIT(4096);
	struct systemd_properties properties;

	(void)unused;
	if (sdbus_is_lost(systemd->bus, m)) {
		look_free(look);
		return 0;
	}
	if (unit && unit->refused && unit->taken && unit->text && list_empty(&unit->requests) &&
		systemd_read_properties(systemd->bus, m, &properties, &ignored) >= 0 &&
		systemd_is_free_now(unit, &properties))
		systemd_load_refused(unit);
	answered(look);
	return 0;
}

static int look_at_units(struct systemd *systemd, bool first)
{
	size_t position = 0;
	void *value;
	int r = 0;

	while (r >= 0 && map_next(&systemd->units, &position, NULL, &value)) {
		struct systemd_unit *unit = value;

		unit->fresh_until_ms = 0;
		if (unit->refused && unit->taken)
			r = ask(systemd, unit->taken, UNIT_INTERFACE, on_refused_look,
				look_new(systemd, unit->name, first));
		if (unit->refused || !unit->known)
			continue;
		r = ask(systemd, unit->name, UNIT_INTERFACE, on_unit_look,
			look_new(systemd, unit->name, first));
		if (r >= 0 && first && slice_ends_with(slice_str(unit->name), SLICE_LITERAL(".service")))
			r = ask(systemd, unit->name, SERVICE_INTERFACE, on_service_look,
				look_new(systemd, unit->name, first));
	}
	return r;
}

/* ---- signals ---- */

/* On the bus anybody may send signals that look like systemd's, also to this connection alone. */
static bool is_from(struct systemd *systemd, sd_bus_message *m, const char *name)
{
	const char *sender = systemd->bus->lib->sd_bus_message_get_sender(m);

	return systemd->bus->direct || (sender && name[0] && strcmp(sender, name) == 0);
}

static void take_listed(struct systemd_unit *unit, const struct systemd_properties *properties)
{
	if (properties->load[0])
		copy_text(unit->listed_load, sizeof(unit->listed_load), properties->load);
	if (properties->active[0])
		copy_text(unit->listed_active, sizeof(unit->listed_active), properties->active);
	if (properties->sub[0])
		copy_text(unit->listed_sub, sizeof(unit->listed_sub), properties->sub);
}

static int on_properties_changed(sd_bus_message *m, void *userdata, sd_bus_error *unused)
{
	struct systemd *systemd = userdata;
	struct sdbus *bus = systemd->bus;
	const char *path = bus->lib->sd_bus_message_get_path(m), *interface;
	struct systemd_unit *unit = path ? map_get(&systemd->paths, slice_str(path)) : NULL;
	struct systemd_properties properties = {0};

	(void)unused;
	if (!unit || !is_from(systemd, m, systemd->sender) ||
		bus->lib->sd_bus_message_read(m, "s", &interface) < 0)
		return 0;
	if (strcmp(interface, UNIT_INTERFACE) != 0) {
		if (unit->ours)
			(void)read_dictionary(bus, m, NULL, unit);
		return 0;
	}
	if (read_dictionary(bus, m, &properties, NULL) < 0)
		return 0;
	if (unit->step == STEP_INSPECT)
		take_listed(unit, &properties); /* newer than the answer that is waited for */
	if (!unit->ours)
		return 0;
	/* Only what changed is told. */
	if (properties.load[0])
		set_text(unit, unit->load, sizeof(unit->load), properties.load);
	if (properties.active[0])
		set_active(unit, properties.active);
	if (properties.sub[0])
		set_text(unit, unit->sub, sizeof(unit->sub), properties.sub);
	return 0;
}

static int on_job_removed(sd_bus_message *m, void *userdata, sd_bus_error *unused)
{
	struct systemd *systemd = userdata;
	const char *job, *name, *result;
	struct systemd_unit *unit;
	uint32_t id;

	(void)unused;
	if (!is_from(systemd, m, systemd->sender) ||
		systemd->bus->lib->sd_bus_message_read(m, "uoss", &id, &job, &name, &result) < 0)
		return 0;
	unit = map_get(&systemd->units, slice_str(name));
	if (unit && unit->job_id == id)
		systemd_job_ended(unit, result);
	return 0;
}

static int on_reloading(sd_bus_message *m, void *userdata, sd_bus_error *unused)
{
	struct systemd *systemd = userdata;
	int active;

	(void)unused;
	/* Another file may stand behind a name now. */
	if (!is_from(systemd, m, systemd->sender) ||
		systemd->bus->lib->sd_bus_message_read(m, "b", &active) < 0 || active || !systemd->ready)
		return 0;
	systemd_loaded_now(systemd, NULL);
	if (look_at_units(systemd, false) < 0)
		systemd_lost(systemd, "systemd cannot be asked");
	return 0;
}

static int on_owner_changed(sd_bus_message *m, void *userdata, sd_bus_error *unused)
{
	struct systemd *systemd = userdata;
	const char *name, *before, *after;

	(void)unused;
	/* systemd has executed itself anew, and subscriptions are gone; or it has gone. */
	if (is_from(systemd, m, "org.freedesktop.DBus") &&
		systemd->bus->lib->sd_bus_message_read(m, "sss", &name, &before, &after) >= 0)
		systemd_lost(systemd, "systemd was started anew");
	return 0;
}

static int on_subscribed(sd_bus_message *m, void *userdata, sd_bus_error *unused)
{
	struct look *look = userdata;
	struct systemd *systemd = look->systemd;
	_cleanup_buf_ struct buf error = BUF_INIT(4096);

	(void)unused;
	if (sdbus_is_lost(systemd->bus, m)) {
		look_free(look);
	} else if (sdbus_result(systemd->bus, m, &error) < 0 &&
		   !sdbus_is_error(systemd->bus, m, "org.freedesktop.systemd1.AlreadySubscribed")) {
		systemd_lost(systemd, buf_text(&error));
	} else {
		const char *sender = systemd->bus->lib->sd_bus_message_get_sender(m);

		copy_text(systemd->sender, sizeof(systemd->sender), sender ? sender : "");
		answered(look);
	}
	return 0;
}

/* When systemd was started: it keeps that when it executes itself anew. */
static int on_life(sd_bus_message *m, void *userdata, sd_bus_error *unused)
{
	struct look *look = userdata;
	struct systemd *systemd = look->systemd;
	struct sdbus *bus = systemd->bus;
	char life[sizeof(systemd->life)] = "";
	uint64_t usec;
	size_t position = 0;
	void *value;

	(void)unused;
	if (sdbus_is_lost(bus, m)) {
		look_free(look);
		return 0;
	}
	if (!bus->lib->sd_bus_message_get_error(m) && bus->lib->sd_bus_message_read(m, "v", "t", &usec) >= 0)
		(void)snprintf(life, sizeof(life), "%llu", (unsigned long long)usec);
	if (strcmp(life, systemd->life) != 0 || !life[0]) {
		copy_text(systemd->life, sizeof(systemd->life), life);
		while (map_next(&systemd->units, &position, NULL, &value))
			systemd_files_read_wanted(value);
	}
	answered(look);
	return 0;
}

static int ask_life(struct systemd *systemd)
{
	sd_bus_message *call = sdbus_call_new(systemd->bus, NULL, PROPERTIES, "Get");

	if (call)
		(void)systemd->bus->lib->sd_bus_message_append(
			call, "ss", MANAGER_INTERFACE, "UserspaceTimestamp");
	return sdbus_send(systemd->bus, call, 0, on_life, look_new(systemd, NULL, true));
}

static int add_match(struct systemd *systemd, const char *match, sd_bus_message_handler_t handler)
{
	struct sdbus *bus = systemd->bus;
	_cleanup_free_ char *whole = mem_printf(
		"type='signal',%s%s", bus->direct ? "" : "sender='org.freedesktop.systemd1',", match);

	return bus->lib->sd_bus_add_match_async(bus->bus, NULL, whole, handler, NULL, systemd);
}

static int subscribe(struct systemd *systemd)
{
	return sdbus_send(systemd->bus, sdbus_call_new(systemd->bus, NULL, NULL, "Subscribe"), 0,
		on_subscribed, look_new(systemd, NULL, true));
}

int systemd_watch_begin(struct systemd *systemd)
{
	struct sdbus *bus = systemd->bus;
	int r = add_match(systemd,
		"interface='" PROPERTIES "',member='PropertiesChanged',path_namespace='" UNITS_PATH "'",
		on_properties_changed);

	if (r >= 0)
		r = add_match(
			systemd, "interface='" MANAGER_INTERFACE "',member='JobRemoved'", on_job_removed);
	if (r >= 0)
		r = add_match(systemd, "interface='" MANAGER_INTERFACE "',member='Reloading'", on_reloading);
	if (r >= 0 && !bus->direct)
		r = bus->lib->sd_bus_add_match_async(bus->bus, NULL,
			"type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',"
			"member='NameOwnerChanged',arg0='org.freedesktop.systemd1'",
			on_owner_changed, NULL, systemd);
	if (r >= 0)
		r = subscribe(systemd);
	if (r >= 0)
		r = ask_life(systemd);
	if (r >= 0)
		r = look_at_units(systemd, true);
	return r;
}

void systemd_watch_end(struct systemd *systemd)
{
	systemd->answers_due = 0;
	list_for_each_safe (it, &systemd->looks)
		look_free(list_item(it, struct look, entry));
}
