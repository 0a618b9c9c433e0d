/* SIGUSR1: what this fleetd knows and runs, into the log as JSON, one object a line: first the daemon, then
 * each of its units. All of it is in memory, and can be had when the API cannot be asked any more. What
 * others may not see (the peers' token, passwords) is not among it. */
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "fleet/fleetd_internal.h"

#define DUMP_LINE_MAX (60 * 1024) /* of the log's 64 KiB */

static void add_text(struct buf *out, const char *key, const char *value)
{
	buf_printf(out, "\"%s\":", key);
	json_add_string(out, slice_str(value ? value : ""));
	buf_add_str(out, ",");
}

static void add_number(struct buf *out, const char *key, uint64_t number)
{
	buf_printf(out, "\"%s\":%llu,", key, (unsigned long long)number);
}

static void add_bool(struct buf *out, const char *key, bool yes)
{
	buf_printf(out, "\"%s\":%s,", key, yes ? "true" : "false");
}

static void object_begin(struct buf *out, const char *key)
{
	buf_printf(out, "\"%s\":{", key);
}

static void object_end(struct buf *out)
{
	if (out->len && out->data[out->len - 1] == ',')
		buf_truncate(out, out->len - 1);
	buf_add_str(out, "},");
}

static void log_object(struct buf *out)
{
	object_end(out);
	if (buf_error(out) < 0) {
		log_notice("state: more than a line of the log can take");
		return;
	}
	buf_truncate(out, out->len - 1); /* the comma behind it */
	log_notice("state: %s", buf_text(out));
}

static void add_machine(struct buf *out, const struct registry_machine *machine)
{
	object_begin(out, "machine");
	add_text(out, "id", machine->id);
	add_text(out, "publicIP", machine->public_ip);
	add_text(out, "version", machine->version);
	add_text(out, "peerAPI", machine->peer_api);
	object_begin(out, "metadata");
	for (size_t i = 0; i < machine->metadata_count; i++) {
		json_add_string(out, slice_str(machine->metadata[i].key));
		buf_add_str(out, ":");
		json_add_string(out, slice_str(machine->metadata[i].value));
		buf_add_str(out, ",");
	}
	object_end(out);
	object_end(out);
}

static void add_engine(struct buf *out, const struct engine *engine, bool disabled)
{
	struct engine_stats stats;

	engine_get_stats(engine, &stats);
	object_begin(out, "engine");
	add_bool(out, "disabled", disabled);
	add_bool(out, "leads", engine_leads(engine));
	add_text(out, "leader", engine_leader(engine));
	add_number(out, "ledSince", (uint64_t)(stats.led_since_us / 1000000));
	add_number(out, "rounds", stats.rounds);
	add_number(out, "placed", stats.placed);
	add_number(out, "takenOff", stats.taken_off);
	add_number(out, "notPlaced", stats.not_placed);
	add_number(out, "notTakenOff", stats.not_taken_off);
	add_number(out, "unplaced", stats.unplaced);
	object_end(out);
}

static void add_cluster(struct buf *out, const struct fleetd *f)
{
	bool known = member_knows_cluster(f->member);
	size_t machines;

	object_begin(out, "cluster");
	add_bool(out, "known", known);
	add_bool(out, "storeAnswers", member_reaches_store(f->member));
	add_number(out, "index", member_cluster_index(f->member));
	if (known) {
		free(cluster_machines(f->cluster, &machines));
		add_number(out, "machines", machines);
		add_number(out, "units", cluster_unit_count(f->cluster));
	}
	object_end(out);
}

static void log_unit(void *userdata, const struct manager_unit_state *state)
{
	_cleanup_buf_ struct buf out = BUF_INIT(DUMP_LINE_MAX);

	(void)userdata;
	buf_add_str(&out, "{");
	object_begin(&out, "unit");
	add_text(&out, "name", state->name);
	add_text(&out, "hash", state->hash);
	add_text(&out, "load", state->load);
	add_text(&out, "active", state->active);
	add_text(&out, "sub", state->sub);
	add_text(&out, "result", state->result);
	add_text(&out, "job", state->job);
	add_bool(&out, "wanted", state->wanted);
	add_number(&out, "mainPID", (uint64_t)state->main_pid);
	add_number(&out, "restarts", state->restarts);
	object_end(&out);
	log_object(&out);
}

void fleetd_on_dump(uv_signal_t *signal, int number)
{
	const struct fleetd *f = signal->data;
	_cleanup_buf_ struct buf out = BUF_INIT(DUMP_LINE_MAX);

	(void)number;
	buf_add_str(&out, "{");
	add_machine(&out, &f->machine);
	add_engine(&out, member_engine(f->member), f->config.disable_engine);
	add_cluster(&out, f);
	object_begin(&out, "agent");
	add_bool(&out, "managerReady", manager_is_ready(f->manager));
	add_number(&out, "units", manager_count(f->manager));
	object_end(&out);
	add_bool(&out, "stopping", f->stopping);
	log_object(&out);
	manager_list(f->manager, log_unit, NULL);
}
