/* What became of a job that was asked for, and why systemd may have refused to begin it. */
#include "base/memory.h"
#include "manager/systemd_internal.h"
#include <errno.h>
#include <string.h>

#define STOPS_MAX 5

/* ---- a start that systemd refused ---- */

/* The last value of the option in a text, owned; NULL: none. */
static char *last_value(const struct systemd_unit *unit, const char *section, const char *option,
	const struct unit_name *name)
{
	_cleanup_buf_ struct buf value = BUF_INIT(UNIT_TEXT_MAX);
	const struct unit_option *one;
	struct unit_file *file;
	size_t position = 0;

	if (!unit->text || unit_file_parse(slice_make(unit->text, unit->text_len), &file, NULL) < 0)
		return NULL;
	while ((one = unit_file_next(file, section, option, &position))) {
		buf_clear(&value);
		unit_name_expand(name, one->value, &value);
	}
	unit_file_free(file);
	return value.len ? mem_strdup(buf_text(&value)) : NULL;
}

static const struct trigger {
	const char *type, *section, *option, *default_type;
} triggers[] = {{"socket", "Socket", "Service", "service"}, {"timer", "Timer", "Unit", "service"},
	{"path", "Path", "Unit", "service"}, {"automount", "Automount", "", "mount"}};

static const struct trigger *trigger_of(const struct unit_name *name)
{
	for (size_t i = 0; i < ARRAY_LEN(triggers); i++)
		if (slice_is(name->type, triggers[i].type))
			return &triggers[i];
	return NULL;
}

bool systemd_is_trigger(const char *name)
{
	struct unit_name parts;

	return unit_name_parse(slice_str(name), &parts) == 0 && trigger_of(&parts);
}

/* The unit that this one is there to start: its text names it, or it is called the same. Owned; NULL: it
 * starts none. */
static char *triggered_by(const struct systemd_unit *unit)
{
	const struct trigger *trigger;
	struct unit_name name;
	char *named;

	if (unit_name_parse(slice_str(unit->name), &name) < 0)
		return NULL;
	trigger = trigger_of(&name);
	if (!trigger)
		return NULL;
	named = last_value(unit, trigger->section, trigger->option, &name);
	return named ? named
		     : mem_printf("%.*s.%s", (int)name.stem.len, name.stem.data, trigger->default_type);
}

/* It refuses before anything is done, and why stands in the unit's journal alone. */
static char *why_refused(const struct systemd_unit *unit, const char *other, const struct systemd_unit *ours)
{
	bool is_socket = slice_ends_with(slice_str(unit->name), SLICE_LITERAL(".socket"));
	const char *why = "is not loaded";

	if (is_socket && ours && !systemd_is_down(ours->active))
		why = "runs already";
	else if (is_socket)
		why = "is not loaded, or runs already";
	else if (slice_ends_with(slice_str(unit->name), SLICE_LITERAL(".automount")))
		why = "is not loaded, or is mounted already";
	return mem_printf("systemd refused to start %s: %s, which it starts, %s (see its journal)",
		unit->name, other, why);
}

static void start_refused(struct systemd_unit *unit)
{
	struct systemd *systemd = unit->systemd;
	char *other = triggered_by(unit);
	const struct systemd_unit *ours = other ? map_get(&systemd->units, slice_str(other)) : NULL;
	_cleanup_free_ char *why = NULL;

	ours = ours && ours->ours ? ours : NULL;
	why = other ? why_refused(unit, other, ours)
		    : mem_printf("systemd refused to start %s: see its journal", unit->name);
	systemd_set_start_error(unit, why);
	unit->waits_for = other;
	/* What it lacked may have come while the job was under way. */
	if (ours && systemd_is_down(ours->active) && !unit->tried_again)
		unit->tried_again = unit->again_now = systemd->again_due = true;
}

/* ---- the end of a job ---- */

/* In systemctl's words. */
static char *job_failure(const struct systemd_unit *unit, const char *result)
{
	if (strcmp(result, "dependency") == 0)
		return mem_printf("A dependency job for %s failed.", unit->name);
	if (strcmp(result, "timeout") == 0)
		return mem_printf("Job for %s timed out.", unit->name);
	if (strcmp(result, "assert") == 0)
		return mem_printf("Assertion failed on job for %s.", unit->name);
	if (strcmp(result, "unsupported") == 0)
		return mem_printf(
			"Operation on or unit type of %s not supported on this system.", unit->name);
	if (strcmp(result, "invalid") == 0)
		return mem_printf("Job for %s is invalid.", unit->name);
	if (strcmp(result, "once") == 0)
		return mem_printf("Unit %s was started already once and can't be started again.", unit->name);
	return NULL;
}

static void start_ended(struct systemd_unit *unit, const char *result)
{
	_cleanup_free_ char *failure = job_failure(unit, result);

	if (failure)
		systemd_set_start_error(unit, failure);
	else if (strcmp(result, "failed") == 0 && strcmp(unit->active, "inactive") == 0)
		start_refused(unit);
}

void systemd_job_ended(struct systemd_unit *unit, const char *result)
{
	bool starts = strcmp(unit->job, "stop") != 0;

	unit->job_id = 0;
	unit->job = "";
	systemd_unit_changed(unit);
	if (starts)
		start_ended(unit, result);
	if (!unit->waits_for_job)
		return;
	if (strcmp(result, "done") == 0)
		systemd_next(unit, STEP_DISABLE);
	else if (strcmp(result, "canceled") != 0)
		systemd_finish(unit, -EBUSY, "systemd could not stop it: see its journal");
	else if (++unit->stops_tried < STOPS_MAX)
		systemd_next(unit, STEP_STOP); /* something wanted it to start meanwhile */
	else
		systemd_finish(unit, -EBUSY, "it is started by something else again and again");
}
