/* What anybody may write below fleet's prefix: lines of a path and a value, told to the cluster as the mirror
 * tells keys, and the decisions that follow from them. "-PATH" removes, "~" begins a new read, "!" runs the
 * scheduler. What decodes must encode to something that decodes to the same. */
#include "base/text.h"
#include "fleet/cluster.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LINES_MAX 300

static void decode_machine(struct slice value)
{
	_cleanup_(registry_machine_done) struct registry_machine machine = {0}, again = {0};
	_cleanup_buf_ struct buf text = BUF_INIT(0), twice = BUF_INIT(0);

	if (registry_decode_machine(value, &machine) < 0)
		return;
	assert(machine.id[0] && !strchr(machine.id, '/'));
	registry_encode_machine(&text, &machine);
	if (registry_decode_machine(buf_slice(&text), &again) < 0)
		abort();
	registry_encode_machine(&twice, &again);
	assert(slice_equal(buf_slice(&text), buf_slice(&twice)));
}

static void decode_state(struct slice value)
{
	_cleanup_(registry_unit_state_done) struct registry_unit_state state = {0}, again = {0};
	_cleanup_buf_ struct buf text = BUF_INIT(0), twice = BUF_INIT(0);

	if (registry_decode_unit_state(value, &state) < 0)
		return;
	registry_encode_unit_state(&text, &state);
	if (registry_decode_unit_state(buf_slice(&text), &again) < 0)
		abort();
	registry_encode_unit_state(&twice, &again);
	assert(slice_equal(buf_slice(&text), buf_slice(&twice)));
}

/* A text that is no JSON may hold what is no UTF-8, which is replaced when it is first encoded. */
static void decode_lease(struct slice value)
{
	_cleanup_(registry_lease_done) struct registry_lease lease = {0}, again = {0}, third = {0};
	_cleanup_buf_ struct buf text = BUF_INIT(0), twice = BUF_INIT(0);

	registry_decode_lease(value, &lease);
	registry_encode_lease(&text, &lease);
	registry_decode_lease(buf_slice(&text), &again);
	registry_encode_lease(&twice, &again);
	registry_decode_lease(buf_slice(&twice), &third);
	assert(strcmp(again.machine, third.machine) == 0 && again.version == third.version);
	assert(!again.term == !third.term && (!again.term || strcmp(again.term, third.term) == 0));
}

static void decode_assignment(struct slice value)
{
	struct registry_assignment assignment, again;
	_cleanup_buf_ struct buf text = BUF_INIT(0);

	if (registry_decode_assignment(value, &assignment) < 0)
		return;
	registry_encode_assignment(&text, &assignment);
	if (registry_decode_assignment(buf_slice(&text), &again) < 0)
		abort();
	assert(strcmp(assignment.hash, again.hash) == 0 && assignment.state == again.state &&
		assignment.global == again.global);
}

/* Decisions are for units that are known, and only to machines that are there; what follows from them is
 * decided with them. */
static void decide(struct cluster *cluster)
{
	struct scheduler *scheduler = cluster_scheduler(cluster);
	const struct scheduler_decision *decisions;
	size_t count = scheduler_run(scheduler, &decisions);

	for (size_t i = 0; i < count; i++) {
		assert(cluster_unit(cluster, decisions[i].unit));
		assert(!decisions[i].to || cluster_machine(cluster, decisions[i].to));
	}
	scheduler_touch_all(scheduler);
	count = scheduler_run(scheduler, &decisions);
	assert(count == 0);
}

static void read_all(struct cluster *cluster)
{
	const struct cluster_unit *unit;
	size_t position = 0, count = 0, named = 0;
	_cleanup_free_ const struct cluster_unit **entries = cluster_entries(cluster, &count);

	while ((unit = cluster_next_entry(cluster, &position))) {
		_cleanup_buf_ struct buf text = BUF_INIT(0);

		named++;
		assert(cluster_entry(cluster, unit->name) == unit);
		buf_add_str(&text, registry_state_name(cluster_unit_current(unit)));
	}
	assert(named == count);
	for (size_t i = 1; i < count; i++)
		assert(strcmp(entries[i - 1]->name, entries[i]->name) < 0);
}

static void tell(struct cluster *cluster, struct slice line, uint64_t index)
{
	_cleanup_free_ char *path = NULL;
	struct slice name, value;

	if (slice_is(line, "~")) {
		cluster_end(cluster);
		cluster_begin(cluster, index);
		return;
	}
	if (slice_is(line, "!")) {
		decide(cluster);
		return;
	}
	(void)text_cut(line, ' ', &name, &value);
	if (memchr(name.data, '\0', name.len))
		return; /* no key has one */
	if (slice_starts_with(name, SLICE_LITERAL("-"))) {
		path = mem_strndup(name.data + 1, name.len - 1);
		cluster_remove(cluster, path, index);
		return;
	}
	path = mem_strndup(name.data, name.len);
	decode_machine(value);
	decode_state(value);
	decode_lease(value);
	decode_assignment(value);
	if (value.len)
		cluster_set(cluster, path, value, index);
	else
		cluster_set_empty(cluster, path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(cluster_freep) struct cluster *cluster = cluster_new();
	struct slice rest = slice_make(data, size), line;

	cluster_begin(cluster, 1);
	for (uint64_t i = 2; rest.len && i < LINES_MAX; i++) {
		(void)text_cut(rest, '\n', &line, &rest);
		tell(cluster, line, i);
	}
	cluster_end(cluster);
	decide(cluster);
	read_all(cluster);
	return 0;
}
