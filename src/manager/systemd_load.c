/* Loading a unit: may its name be used, and what has systemd made of it? */
#include "base/memory.h"
#include "manager/systemd_internal.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#define FRESH_MS 500 /* what was looked at is not looked at again for a start that comes with the load */

static void set_state(struct systemd_unit *unit, const char *load, const char *active, const char *sub)
{
	(void)snprintf(unit->load, sizeof(unit->load), "%s", load);
	(void)snprintf(unit->active, sizeof(unit->active), "%s", active);
	(void)snprintf(unit->sub, sizeof(unit->sub), "%s", sub);
	systemd_unit_changed(unit);
}

/* The load has ended in something that will not change, or not before the host's unit `taken` (if not NULL)
 * goes: the unit is shown as failed, and says why. One that was ours before stays what it is: it may run. */
static void refuse(struct systemd_unit *unit, const char *text, const char *taken)
{
	struct systemd_request *request = systemd_request_of(unit);
	bool was_ours = unit->known && !unit->refused;

	systemd_set_start_error(unit, text);
	if (was_ours) {
		systemd_finish(unit, 0, "");
		return;
	}
	unit->refused = unit->known = true;
	unit->ours = false;
	free(unit->taken);
	unit->taken = taken ? mem_strdup(taken) : NULL;
	(void)memcpy(unit->hash, request->hash, sizeof(unit->hash));
	systemd_unit_keep_text(unit, take_ptr(request->text), request->text_len);
	(void)snprintf(unit->result, sizeof(unit->result), "resources");
	set_state(unit, "error", "failed", "failed");
	if (systemd_files_has(unit->systemd, unit->name))
		systemd_next(unit, STEP_DISABLE); /* what was made of it so far */
	else
		systemd_finish(unit, 0, "");
}

void systemd_give_up(struct systemd_unit *unit, int error, const char *text, bool final)
{
	bool load = systemd_request_of(unit)->verb == VERB_LOAD;

	if (load && final) {
		refuse(unit, text, NULL);
	} else if (load && (!unit->known || unit->refused) && !unit->load_error &&
		   systemd_files_has(unit->systemd, unit->name)) {
		/* Nobody might come back for the file and its link. */
		unit->load_error = error;
		unit->load_error_text = mem_strdup(text);
		systemd_next(unit, STEP_DISABLE);
	} else {
		systemd_finish(unit, error, text);
	}
}

bool systemd_step_properties(
	struct systemd_unit *unit, sd_bus_message *answer, struct systemd_properties *ret)
{
	struct sdbus *bus = unit->systemd->bus;
	_cleanup_buf_ struct buf error = BUF_INIT(8192);
	int r;

	if (sdbus_is_lost(bus, answer))
		return false;
	r = systemd_read_properties(bus, answer, ret, &error);
	if (r < 0)
		systemd_give_up(unit, r, buf_text(&error), sdbus_is_final(bus, answer));
	return r >= 0;
}

/* ---- load: is the name ours to use? ---- */

/* Whether nothing of this host stands behind the name. (A slice needs no file to be known.) */
static bool is_free(const struct systemd_properties *properties)
{
	if (!properties->active[0] || !systemd_is_down(properties->active))
		return false;
	if (properties->fragment[0])
		return access(properties->fragment, F_OK) < 0 && errno == ENOENT &&
		       strcmp(properties->load, "masked") != 0;
	return strcmp(properties->load, "not-found") == 0 || strcmp(properties->load, "loaded") == 0;
}

bool systemd_is_free_now(const struct systemd_unit *unit, const struct systemd_properties *properties)
{
	bool other = strcmp(unit->taken, unit->name) != 0;

	/* Behind Alias= may be one of fleet's, too. */
	return other ? is_free(properties) && !systemd_files_has(unit->systemd, unit->taken)
		     : is_free(properties) ||
			       systemd_files_is_ours(unit->systemd, unit->name, properties->fragment);
}

void systemd_add_taken(struct buf *out, const char *name, const struct systemd_properties *properties)
{
	buf_printf(out, "%s is a unit of this host", name);
	if (properties->fragment[0])
		buf_printf(out, " (%s)", properties->fragment);
}

static void write_file(struct systemd_unit *unit)
{
	const struct systemd_request *request = systemd_request_of(unit);
	_cleanup_buf_ struct buf error = BUF_INIT(4096);
	int r = request->text
			? systemd_files_write(unit, slice_make(request->text, request->text_len), &error)
			: 0;

	if (r < 0)
		systemd_finish(unit, r, buf_text(&error));
	else
		systemd_next(unit, STEP_LINK);
}

static void read_install(struct systemd_unit *unit)
{
	const struct systemd_request *request = systemd_request_of(unit);
	_cleanup_free_ char *bad = NULL;

	systemd_install_free(unit->install);
	unit->install =
		request->text ? systemd_install_read(unit->name, slice_make(request->text, request->text_len))
			      : systemd_install_of_unit(unit);
	unit->aliases_left = unit->install->count;
	bad = unit->install->bad ? mem_strdup(unit->install->bad) : NULL;
	if (bad)
		refuse(unit, bad, NULL);
	else
		systemd_next(unit, STEP_ALIASES);
}

/* It is ours, perhaps runs, and nothing else stands behind the name: somebody took the link away, or the
 * file. Of a file that went while no fleetd ran there is the marker still, which is of this life of systemd:
 * what runs was started as ours. */
static bool is_unlinked(struct systemd_unit *unit, const struct systemd_properties *properties)
{
	if (properties->fragment[0] || strcmp(properties->load, "not-found") != 0)
		return false;
	if (unit->known)
		return !unit->refused && (unit->ours || systemd_files_has(unit->systemd, unit->name));
	systemd_files_read_wanted(unit);
	return unit->wanted;
}

/* systemd knows no unit of some names that fleet takes, and a hidden file is not taken up again. */
bool systemd_check_name(struct systemd_unit *unit)
{
	_cleanup_free_ char *text = NULL;
	const char *bad = NULL;

	if (unit->name[0] == '.')
		bad = "a unit's name may not begin with a dot";
	else if (strlen(unit->name) > NAME_MAX)
		bad = text = mem_printf("a unit's name may have %d bytes in systemd, and this has %zu",
			NAME_MAX, strlen(unit->name));
	if (bad)
		refuse(unit, bad, NULL);
	return !bad;
}

static int on_checked(sd_bus_message *m, void *userdata, sd_bus_error *unused)
{
	struct systemd_unit *unit = userdata;
	_cleanup_buf_ struct buf error = BUF_INIT(8192);
	struct systemd_properties properties;

	(void)unused;
	if (!systemd_step_properties(unit, m, &properties))
		return 0;
	if (systemd_files_is_ours(unit->systemd, unit->name, properties.fragment) || is_free(&properties) ||
		is_unlinked(unit, &properties)) {
		unit->stale = true;
		read_install(unit);
		return 0;
	}
	systemd_add_taken(&error, unit->name, &properties);
	buf_add_str(&error, ", which fleet does not touch: give the unit another name");
	refuse(unit, buf_text(&error), unit->name);
	return 0;
}

int systemd_check_all(struct systemd_unit *unit)
{
	return systemd_ask(unit->systemd, unit->name, on_checked, unit);
}

static const char *why_out_of_reach(enum systemd_reach reach)
{
	if (reach == REACH_REQUIRED_BY)
		return "would be stopped with it: use WantedBy=";
	if (reach == REACH_UPHELD_BY)
		return "would start it again whenever fleet stops it: use WantedBy=";
	return "fleet does not touch";
}

/* Alias= puts a link of ours behind another name, Also= enables another unit, and what requires this one is
 * stopped with it: none of them may be one of the host's. A target neither: with sysinit.target, say, most of
 * what runs would be stopped. And what is upheld cannot be stopped. */
static int on_alias(sd_bus_message *m, void *userdata, sd_bus_error *unused)
{
	struct systemd_unit *unit = userdata;
	const struct systemd_install_name *other = &unit->install->names[unit->aliases_left];
	_cleanup_buf_ struct buf error = BUF_INIT(8192);
	struct systemd_properties properties;
	bool ours, alias;

	(void)unused;
	if (!systemd_step_properties(unit, m, &properties))
		return 0;
	alias = other->reach == REACH_ALIAS;
	ours = systemd_files_is_ours(unit->systemd, alias ? unit->name : other->name, properties.fragment);
	if (ours || (is_free(&properties) && !(alias && systemd_files_has(unit->systemd, other->name)))) {
		systemd_next(unit, STEP_ALIASES);
		return 0;
	}
	buf_printf(&error, "%s=%s in [Install] of %s: ", systemd_reach_key(other->reach), other->name,
		unit->name);
	systemd_add_taken(&error, other->name, &properties);
	buf_printf(&error, ", which %s", why_out_of_reach(other->reach));
	refuse(unit, buf_text(&error), other->name);
	return 0;
}

int systemd_check_aliases(struct systemd_unit *unit)
{
	if (!unit->aliases_left) {
		write_file(unit);
		return 0;
	}
	unit->aliases_left--;
	return systemd_ask(unit->systemd, unit->install->names[unit->aliases_left].name, on_alias, unit);
}

/* ---- load: what has systemd made of it? ---- */

/* What was asked to start while its name was refused starts now, unless something else is asked for next. */
static void start_late(struct systemd_unit *unit)
{
	if (unit->refused && unit->wanted && unit->requests.next == unit->requests.prev)
		systemd_request_add(unit, VERB_START, (struct slice){0}, "", NULL, NULL);
}

static void loaded(struct systemd_unit *unit, const struct systemd_properties *properties)
{
	struct systemd_request *request = systemd_request_of(unit);

	(void)memcpy(unit->hash, request->hash, sizeof(unit->hash));
	if (request->text)
		systemd_unit_keep_text(unit, take_ptr(request->text), request->text_len);
	start_late(unit);
	unit->known = true;
	unit->refused = false;
	unit->taken = mem_free(unit->taken);
	unit->result[0] = '\0';
	systemd_set_start_error(unit, properties->load_error[0] ? properties->load_error : NULL);
	systemd_take_properties(unit, properties);
	systemd_loaded_now(unit->systemd, unit->name);
	unit->fresh_until_ms = uv_now(unit->systemd->config.loop) + FRESH_MS;
	systemd_finish(unit, 0, "");
}

static void inspected(struct systemd_unit *unit, const struct systemd_properties *properties)
{
	if (systemd_request_of(unit)->verb == VERB_LOAD) {
		loaded(unit, properties);
	} else {
		systemd_take_properties(unit, properties);
		systemd_next(unit, STEP_ACT);
	}
}

static int on_inspected(sd_bus_message *m, void *userdata, sd_bus_error *unused)
{
	struct systemd_unit *unit = userdata;
	_cleanup_buf_ struct buf error = BUF_INIT(8192);
	struct systemd_properties properties;
	bool ours;

	(void)unused;
	if (!systemd_step_properties(unit, m, &properties))
		return 0;
	ours = systemd_files_is_ours(unit->systemd, unit->name, properties.fragment);
	if ((!ours || properties.need_reload || unit->stale) && !unit->reloaded) {
		systemd_next(unit, STEP_RELOAD);
	} else if (!ours) {
		systemd_add_taken(&error, unit->name, &properties);
		buf_add_str(&error, ", which hides fleet's");
		if (systemd_request_of(unit)->verb == VERB_LOAD)
			refuse(unit, buf_text(&error), unit->name);
		else
			systemd_finish(unit, -EEXIST, buf_text(&error));
	} else {
		inspected(unit, &properties);
	}
	return 0;
}

int systemd_inspect_all(struct systemd_unit *unit)
{
	return systemd_ask(unit->systemd, unit->name, on_inspected, unit);
}

static int on_fragment(sd_bus_message *m, void *userdata, sd_bus_error *unused)
{
	struct systemd_unit *unit = userdata;
	struct sdbus *bus = unit->systemd->bus;
	struct systemd_properties properties = {0};
	const char *fragment;

	(void)unused;
	if (sdbus_is_lost(bus, m))
		return 0;
	if (bus->lib->sd_bus_message_get_error(m) ||
		bus->lib->sd_bus_message_read(m, "v", "s", &fragment) < 0 ||
		!systemd_files_is_ours(unit->systemd, unit->name, fragment)) {
		systemd_next(unit, STEP_INSPECT_ALL);
		return 0;
	}
	(void)snprintf(properties.fragment, sizeof(properties.fragment), "%s", fragment);
	memcpy(properties.load, unit->listed_load, sizeof(properties.load));
	memcpy(properties.active, unit->listed_active, sizeof(properties.active));
	memcpy(properties.sub, unit->listed_sub, sizeof(properties.sub));
	inspected(unit, &properties);
	return 0;
}

int systemd_listed(struct systemd_unit *unit)
{
	bool down = strcmp(unit->listed_active, "inactive") == 0;

	if (unit->step == STEP_CHECK && unit->listed && down && strcmp(unit->listed_load, "not-found") == 0)
		read_install(unit);
	else if (unit->step == STEP_CHECK)
		systemd_next(unit, STEP_CHECK_ALL);
	else if (unit->listed && strcmp(unit->listed_load, "loaded") == 0 && (!unit->stale || unit->reloaded))
		return systemd_ask_fragment(unit, on_fragment);
	else
		systemd_next(unit, STEP_INSPECT_ALL);
	return 0;
}
