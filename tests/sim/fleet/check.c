/* What must hold: while things change (nothing is stopped or moved without a reason, no second copy where the
 * first can be seen), and at rest (all is as the registry says, the registry is as the rules say, and nothing
 * is left over). */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "world.h"

/* A machine, or the store, is trusted to be well when nothing was wrong with it for so long: contact is taken
 * up again, what was missed is read, orders that failed are given again. */
#define WELL_NS (20 * NS_PER_S)
/* Who leads, and is well for so long, knows what was so long ago. */
#define LATE_NS (5 * NS_PER_S)
#define SUSPICION_NS (2 * NS_PER_S) /* shorter */

static bool is_well_for(const struct host *host, int64_t ns)
{
	const struct world *w = host->world;

	if (!host->on || host->hung || !host->life || host->life->stopping || host->life->gate.shut ||
		host->manager_lost || host->manager_slow_until_ns > w->now_ns)
		return false;
	for (unsigned i = 0; i < w->profile.endpoints; i++)
		if (host->cut[i] || !server_answers(w, i))
			return false;
	return w->now_ns - MAX(host->trouble_ns, w->store_trouble_ns) > ns &&
	       w->now_ns - w->net_slow_until_ns > ns;
}

bool check_is_well(const struct host *host)
{
	return is_well_for(host, WELL_NS);
}

/* Who leads sees what happens. */
static bool leader_is_well(struct world *w, int64_t ns)
{
	for (unsigned i = 0; i < w->profile.hosts; i++) {
		const struct host *host = &w->hosts[i];

		if (is_well_for(host, ns) && engine_leads(member_engine(host->life->member)))
			return true;
	}
	return false;
}

/* ---- moves ---- */

static bool all_are_well(struct world *w)
{
	for (unsigned i = 0; i < w->profile.hosts; i++)
		if (!check_is_well(&w->hosts[i]))
			return false;
	return true;
}

/* Whether nothing that happened since `begun` was a reason to end what began then. Whoever decides may know
 * only what was so a while ago, but not from before the present wish. */
static bool is_without_reason(
	struct world *w, const struct model_unit *unit, int64_t wrong_ns, int64_t begun_ns, bool well)
{
	int64_t known_ns = begun_ns - (well ? 3 * NS_PER_S : 150 * NS_PER_S);

	return wrong_ns < MAX(known_ns, unit->born_ns) && w->now_ns - unit->born_ns > LATE_NS &&
	       leader_is_well(w, LATE_NS);
}

/* It goes where it may, by what was so a moment ago. */
static void check_placed(struct world *w, const struct model_unit *unit)
{
	const struct host *host = unit->target[0] ? model_host(w, unit->target) : NULL;
	/* What is decided of units together is written in any order: who conflicts may be about to leave. */
	const char *why = host && model_present(w, host) ? model_machine_forbids(w, unit, host) : NULL;

	if (why && !unit->allowed[host->number] && w->now_ns - unit->allowed_ns[host->number] > LATE_NS &&
		w->now_ns - unit->born_ns > LATE_NS && leader_is_well(w, LATE_NS))
		world_finding(w, "%s is placed on h%u against the rule %s", unit->name, host->number, why);
}

static void note_allowed(struct world *w, struct model_unit *unit, const struct host *host)
{
	unsigned h = host->number;

	if (unit->allowed[h])
		unit->allowed_ns[h] = w->now_ns;
	unit->allowed[h] = !model_machine_forbids(w, unit, host);
}

static void check_target(struct world *w, struct model_unit *unit)
{
	const char *before = unit->checked_target;
	const struct host *host = before[0] ? model_host(w, before) : NULL;

	if (strcmp(unit->target, before) == 0)
		return;
	check_placed(w, unit);
	if (!before[0]) {
		w->summary->placed++;
	} else {
		w->summary->moved += unit->target[0] != 0;
		if (host && w->stage == STAGE_AT_REST)
			world_finding(
				w, "%s was moved at rest (%.8s to %.8s)", unit->name, before, unit->target);
		else if (host && is_without_reason(w, unit, unit->wrong_ns[host->number], unit->target_ns,
					 unit->target_well))
			world_finding(w, "%s was taken off a machine that may run it (%.8s to %.8s)",
				unit->name, before, unit->target);
	}
	memcpy(unit->checked_target, unit->target, sizeof(unit->target));
	unit->target_ns = w->now_ns;
	unit->target_well = all_are_well(w);
}

static bool entry_is_right(const struct model_unit *unit, const char *value)
{
	struct registry_assignment said;

	return registry_decode_assignment(slice_str(value), &said) == 0 && said.state == unit->desired &&
	       strcmp(said.hash, unit->hash) == 0;
}

/* The host has the unit by its entry, by wish, target and rules, and nothing since was a reason to end that.
 */
static bool is_kept(struct world *w, const struct model_unit *unit, const struct host *host)
{
	unsigned h = host->number;

	return model_is_here(w, unit, host) && !model_may_leave(w, unit, host) &&
	       unit->not_here_ns[h] < MAX(unit->entry_ns[h], unit->target_ns) &&
	       is_without_reason(w, unit, unit->wrong_ns[h], unit->entry_ns[h], unit->entry_well[h]);
}

/* What is decided together is written in any order: what made a unit leave may be seen after its entry went.
 */
struct suspicion {
	struct world *w;
	const struct model_unit *unit;
	unsigned host;
	int64_t wrong_ns, born_ns;
};

static void suspicion_due(void *data)
{
	struct suspicion *s = data;

	if (s->unit->wrong_ns[s->host] == s->wrong_ns && s->unit->born_ns == s->born_ns &&
		leader_is_well(s->w, LATE_NS))
		world_finding(s->w, "the entry of %s for h%u was changed %d s ago without a reason",
			s->unit->name, s->host, (int)(SUSPICION_NS / NS_PER_S));
	free(s);
}

static void suspect(struct world *w, const struct model_unit *unit, unsigned host)
{
	struct suspicion *s = mem_new(struct suspicion);

	*s = (struct suspicion){w, unit, host, unit->wrong_ns[host], unit->born_ns};
	world_at(w, w->now_ns + SUSPICION_NS, NULL, suspicion_due, s, NULL)->drop = free;
}

void check_entry(
	struct world *w, struct model_unit *unit, struct host *host, const char *before, const char *after)
{
	unsigned h = host->number;

	if (before && after && strcmp(before, after) == 0)
		return;
	if (before && !w->stranger && entry_is_right(unit, before) &&
		!(after && entry_is_right(unit, after))) {
		if (w->stage == STAGE_AT_REST)
			world_finding(w, "the entry of %s for h%u was changed at rest", unit->name, h);
		else if (is_kept(w, unit, host))
			suspect(w, unit, h);
	}
	unit->entry_ns[h] = w->now_ns;
	unit->entry_well[h] = all_are_well(w);
}

void check_changed(struct world *w)
{
	if (!w->plans_changed)
		return;
	w->plans_changed = false;
	for (unsigned i = 0; i < w->profile.units; i++) {
		struct model_unit *unit = &w->units[i];

		for (unsigned h = 0; h < w->profile.hosts; h++) {
			const struct host *host = &w->hosts[h];

			note_allowed(w, unit, host);
			if (model_may_leave(w, unit, host))
				unit->wrong_ns[h] = w->now_ns;
			if (!model_is_here(w, unit, host) || unit->desired != REGISTRY_LAUNCHED)
				unit->not_here_ns[h] = w->now_ns;
		}
		check_target(w, unit);
	}
}

/* ---- copies ---- */

static bool is_global(const struct process *process)
{
	return process->text && process->text->global;
}

/* The other copy of it that runs at a machine that is well, or NULL. */
static struct process *copy_of(const struct process *process)
{
	struct world *w = process->host->world;

	for (unsigned i = 0; i < w->profile.hosts; i++) {
		struct process *other = process_find(&w->hosts[i], process->name);

		if (other && other != process && process_runs(other) && !is_global(other) &&
			check_is_well(&w->hosts[i]))
			return other;
	}
	return NULL;
}

void check_started(struct process *process)
{
	struct world *w = process->host->world;
	const struct process *other;

	if (w->stage == STAGE_AT_REST && process->text->behaviour != UNIT_CRASHES)
		world_finding(w, "h%u: %s was started at rest", process->host->number, process->name);
	list_for_each (it, &process->host->processes) {
		other = list_item(it, struct process, link);
		if (process_runs(other) && process_conflicts(process, other))
			world_finding(w, "h%u: %s starts beside %s, which is %s", process->host->number,
				process->name, other->name, phase_name(other->phase));
	}
	if (is_global(process) || !check_is_well(process->host) || !leader_is_well(w, WELL_NS))
		return;
	other = copy_of(process);
	if (other)
		world_finding(w, "%s starts on h%u while it is %s on h%u, and both reach the store",
			process->name, process->host->number, phase_name(other->phase), other->host->number);
}

/* The daemon gives the order: its entry in the index says that the unit is to run, and did so when it was
 * asked to load it. */
void check_told_to_stop(struct process *process, bool handing_over)
{
	struct world *w = process->host->world;
	const struct model_unit *unit = model_unit(w, process->name);
	const struct host *host = process->host;
	const char *entry = unit ? model_get(w, "assigned/%s/%s", host->id, unit->name) : NULL;
	const char *lease = model_get(w, "lease/engine-leader");
	struct registry_assignment said;

	/* Under an engine of fleet 1.0, as a lease that a stranger has spoilt looks, the registry counts. */
	if (handing_over || !unit || (lease && !strstr(lease, "\"Term\"")))
		return;
	if (w->stage == STAGE_AT_REST) {
		world_finding(w, "h%u: %s is stopped at rest", host->number, process->name);
		return;
	}
	/* What comes late tells it of what was before: of an entry, too, that went and came again at once. */
	if (!process_runs(process) || w->now_ns - unit->entry_ns[host->number] < NS_PER_S || !entry ||
		!is_well_for(host, LATE_NS) || registry_decode_assignment(slice_str(entry), &said) < 0)
		return;
	/* Who has not heard yet that a fleet 1.0 leads no more goes by the wish itself. */
	if (unit->desired != REGISTRY_LAUNCHED)
		return;
	if (said.state == REGISTRY_LAUNCHED && strcmp(said.hash, process->text->hash) == 0 &&
		unit->entry_ns[host->number] < process->asked_ns)
		world_finding(w, "h%u: %s is stopped, and never was to be", host->number, process->name);
}

/* What the checks would find if they had to. */
static void look_at(struct world *w, const struct process *process, bool well)
{
	const struct model_unit *unit = model_unit(w, process->name);
	unsigned h = process->host->number;

	if (!unit || !process_runs(process) || is_global(process) ||
		strcmp(unit->target, process->host->id) != 0)
		return;
	w->summary->looked_at++;
	w->summary->stop_found +=
		unit->entry_ns[h] < process->asked_ns && is_kept(w, unit, process->host) &&
		is_without_reason(w, unit, unit->wrong_ns[h], unit->target_ns, unit->target_well);
	w->summary->copy_found += well && check_is_well(process->host);
}

void check_now(struct world *w)
{
	bool well = leader_is_well(w, WELL_NS);

	if (w->version_raised_ns && well)
		world_finding(w, "a machine leads though engine/version is newer than it is");
	for (unsigned h = 0; h < w->profile.hosts && w->stage == STAGE_BUSY; h++)
		list_for_each (it, &w->hosts[h].processes)
			look_at(w, list_item(it, struct process, link), well);
	if (!well)
		return;
	for (unsigned h = 0; h < w->profile.hosts && !w->stopped; h++) {
		if (!check_is_well(&w->hosts[h]))
			continue;
		list_for_each (it, &w->hosts[h].processes) {
			const struct process *process = list_item(it, struct process, link);

			/* One that ends was another's before its machine came back. */
			if (is_global(process) || process->phase == PHASE_DEACTIVATING ||
				!process_runs(process) || !copy_of(process) ||
				copy_of(process)->phase == PHASE_DEACTIVATING)
				continue;
			world_finding(w, "%s runs twice, on h%u and h%u, and both reach the store",
				process->name, h, copy_of(process)->host->number);
		}
	}
}

/* ---- at rest ---- */

static char *_printf_(1, 2) wrong(const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return mem_strdup(text);
}

static char *check_machines(struct world *w)
{
	const char *leader = model_get(w, "lease/engine-leader");
	unsigned leaders = 0;

	for (unsigned i = 0; i < w->profile.hosts; i++) {
		struct host *host = &w->hosts[i];

		if (!host->life || host->life->stopping || !model_present(w, host))
			return wrong("h%u is not registered, or not for long", i);
		if (!model_describes(w, host))
			return wrong("h%u is described by other metadata than it has", i);
		/* Who has just come up found its presence as it was left, to end at any time. */
		if (w->now_ns - host->trouble_ns < w->profile.ttl_s * NS_PER_S / 2)
			return wrong("h%u is not up for long enough", i);
		leaders += engine_leads(member_engine(host->life->member));
	}
	if (!leader || leaders != 1)
		return wrong("%u machines lead", leaders);
	if (!model_get(w, "lease/states"))
		return wrong("states do not last");
	return NULL;
}

static char *check_place(struct world *w, const struct model_unit *unit)
{
	const struct text *text = unit->hash[0] ? text_find(w, unit->hash) : NULL;
	const struct host *host = unit->target[0] ? model_host(w, unit->target) : NULL;
	const char *why;

	if (unit->target[0] && (!model_wants(unit) || !text || text->global))
		return wrong("%s has a target and shall have none", unit->name);
	if (!model_wants(unit) || !text || text->global)
		return NULL;
	if (host) {
		why = model_forbids(w, unit, host);
		return why ? wrong("%s is on h%u against the rule %s", unit->name, host->number, why) : NULL;
	}
	if (unit->target[0])
		return wrong("%s has a target that is nowhere: %s", unit->name, unit->target);
	for (unsigned i = 0; i < w->profile.hosts; i++)
		if (!model_forbids(w, unit, &w->hosts[i]))
			return wrong("%s is placed nowhere, and h%u may run it", unit->name, i);
	return NULL;
}

static char *check_process(struct world *w, const struct model_unit *unit, const struct host *host)
{
	const struct process *process = process_find(host, unit->name);
	bool runs = unit->desired == REGISTRY_LAUNCHED;

	if (!model_is_here(w, unit, host))
		return process ? wrong("%s is on h%u, and shall not be", unit->name, host->number) : NULL;
	if (!process)
		return wrong("%s is not on h%u", unit->name, host->number);
	if (strcmp(process->text->hash, unit->hash) != 0)
		return wrong("%s on h%u has another text", unit->name, host->number);
	if (process->unloading || process->wanted != runs)
		return wrong("%s on h%u is %swanted to run", unit->name, host->number,
			process->wanted ? "" : "not ");
	if (runs ? process->phase == PHASE_ACTIVATING || process->phase == PHASE_DEACTIVATING ||
				(process->phase != PHASE_ACTIVE &&
					(process->text->behaviour == UNIT_LASTS ||
						process->text->behaviour == UNIT_STOPS_SLOWLY))
		 : process_runs(process))
		return wrong("%s on h%u is %s", unit->name, host->number, phase_name(process->phase));
	return NULL;
}

static char *check_published(struct world *w, const struct model_unit *unit, const struct host *host)
{
	const struct process *process = process_find(host, unit->name);
	const char *state = model_get(w, "states/%s/%s", unit->name, host->id);
	const char *assigned = model_get(w, "assigned/%s/%s", host->id, unit->name);
	struct registry_assignment assignment;
	struct registry_unit_state said;
	bool same, here = model_is_here(w, unit, host);

	if (!!assigned != here)
		return wrong("%s is %sin the index of h%u", unit->name, assigned ? "" : "not ", host->number);
	if (assigned &&
		(registry_decode_assignment(slice_str(assigned), &assignment) < 0 ||
			assignment.state != unit->desired || strcmp(assignment.hash, unit->hash) != 0))
		return wrong(
			"the index of h%u says other things of %s: %s", host->number, unit->name, assigned);
	if (!process)
		return state ? wrong("h%u says of %s: %s", host->number, unit->name, state) : NULL;
	if (!state || registry_decode_unit_state(slice_str(state), &said) < 0)
		return wrong("h%u says nothing of %s", host->number, unit->name);
	same = strcmp(said.active, phase_name(process->phase)) == 0 &&
	       strcmp(said.sub, phase_sub(process->phase)) == 0 &&
	       strcmp(said.hash, process->text->hash) == 0;
	registry_unit_state_done(&said);
	return same ? NULL
		    : wrong("%s on h%u is %s, and said to be: %s", unit->name, host->number,
			      phase_name(process->phase), state);
}

static char *check_heartbeat(struct world *w, const struct model_unit *unit)
{
	const char *heartbeat = model_get(w, "job/%s/job-state", unit->name);
	bool wanted = unit->target[0] && unit->desired == REGISTRY_LAUNCHED;

	if (!wanted)
		return heartbeat ? wrong("%s has a heartbeat: %s", unit->name, heartbeat) : NULL;
	return heartbeat && strcmp(heartbeat, unit->target) == 0
		       ? NULL
		       : wrong("%s has the heartbeat %s", unit->name, heartbeat ? heartbeat : "none");
}

/* job/NAME or states/NAME of a unit that is not there. */
static bool is_of_no_unit(struct world *w, const char *path)
{
	const char *name = strncmp(path, "states/", 7) == 0 ? path + 7
			   : strncmp(path, "job/", 4) == 0  ? path + 4
							    : "";

	/* A wish without a unit, from who wished while another destroyed, goes after an hour. */
	return name[0] && !model_get(w, "job/%s/object", name) && !model_get(w, "job/%s/target-state", name);
}

/* A directory without a key. */
static char *check_left_over(struct world *w)
{
	struct store_snapshot *snapshot = store_snapshot_take(w->store);
	struct store_cursor *cursor = store_cursor_open(snapshot);
	struct store_node_info node;
	char dir[256] = "", *found = NULL;

	while (!found && store_cursor_next(cursor, &node)) {
		char path[256];

		if (dir[0] && !slice_starts_with(node.path, slice_str(dir)))
			found = wrong("an empty directory is left: %s", dir);
		dir[0] = '\0';
		if (!slice_starts_with(node.path, SLICE_LITERAL(STORE_PREFIX)))
			continue;
		(void)snprintf(path, sizeof(path), "%.*s", (int)(node.path.len - strlen(STORE_PREFIX)),
			node.path.data + strlen(STORE_PREFIX));
		if (strstr(path, "garbage"))
			continue;
		if (node.is_dir && is_of_no_unit(w, path))
			(void)snprintf(dir, sizeof(dir), "%.*s", (int)node.path.len, node.path.data);
		if (!node.is_dir && strncmp(path, "state/", 6) == 0)
			found = wrong("a legacy state is left: %s", path);
	}
	if (dir[0] && !found)
		found = wrong("an empty directory is left: %s", dir);
	store_cursor_free(cursor);
	store_snapshot_free(snapshot);
	return found;
}

char *check_rest(struct world *w)
{
	char *found = check_machines(w);

	for (unsigned i = 0; i < w->profile.units && !found; i++) {
		const struct model_unit *unit = &w->units[i];

		found = check_place(w, unit);
		if (!found)
			found = check_heartbeat(w, unit);
		for (unsigned h = 0; h < w->profile.hosts && !found; h++) {
			found = check_process(w, unit, &w->hosts[h]);
			if (!found)
				found = check_published(w, unit, &w->hosts[h]);
		}
	}
	return found ? found : check_left_over(w);
}
