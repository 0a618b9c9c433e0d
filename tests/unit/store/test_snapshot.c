/* The state as records, and back. What a checkpoint makes of it is tested there; here it is the records. */
#include "store_helpers.h"
#include "base/wire.h"
#include "store/snapshot.h"
#include <errno.h>

struct records {
	struct store_image image;
	struct buf nodes, events;
};

static void records_take(struct records *records, struct store *store)
{
	struct store_saver *saver = store_saver_open(store);

	*records = (struct records){0};
	store_saver_image(saver, &records->image);
	while (store_saver_next_node(saver, &records->nodes))
		;
	while (store_saver_next_event(saver, &records->events))
		;
	assert_false(store_saver_next_event(saver, &records->events));
	(void)store_saver_free(saver);
}

static void records_done(struct records *records)
{
	buf_done(&records->nodes);
	buf_done(&records->events);
}

static struct store *records_load(const struct records *records)
{
	struct store_loader *loader = store_loader_new(&records->image);
	struct store *store = NULL;
	int r = store_loader_add_nodes(loader, buf_slice(&records->nodes));

	if (r == 0)
		r = store_loader_add_events(loader, buf_slice(&records->events));
	if (r == 0)
		r = store_loader_finish(loader, &store);
	assert_int_equal(r, store ? 0 : -EBADMSG);
	(void)store_loader_free(loader);
	return store;
}

static struct store *small_store(void)
{
	struct store *store = store_new();
	struct store_command command = command_make(STORE_OP_SET, "/1/b/c", "three");

	apply_ok(store, command_make(STORE_OP_SET, "/1/a", "one"));
	apply_ok(store, command_make(STORE_OP_SET, "/1/a", "two"));
	command.has_expiry = true;
	command.expires_ns = NOW + 5 * NS_PER_S;
	apply_ok(store, command);
	command = command_make(STORE_OP_SET, "/1/e", "");
	command.dir = command.has_expiry = true;
	command.expires_ns = NOW + 7 * NS_PER_S;
	apply_ok(store, command);
	return store;
}

static void records_come_out_as_they_went_in(void **state)
{
	_cleanup_(store_freep) struct store *store = small_store(), *loaded = NULL;
	_cleanup_(records_done) struct records records, again;

	(void)state;
	records_take(&records, store);
	loaded = records_load(&records);
	assert_non_null(loaded);
	assert_int_equal(store_hash(loaded), store_hash(store));
	assert_int_equal(store_next_expiry_ns(loaded), NOW + 5 * NS_PER_S);
	records_take(&again, loaded);
	assert_true(slice_equal(buf_slice(&records.nodes), buf_slice(&again.nodes)));
	assert_true(slice_equal(buf_slice(&records.events), buf_slice(&again.events)));
	get_is(loaded, "/1/a", false,
		"{\"action\":\"get\",\"node\":{\"key\":\"/a\",\"value\":\"two\",\"modifiedIndex\":2,"
		"\"createdIndex\":2}}");
	apply_is(loaded, command_make(STORE_OP_DELETE, "/1/a", ""),
		"{\"action\":\"delete\",\"node\":{\"key\":\"/a\",\"modifiedIndex\":5,\"createdIndex\":2},"
		"\"prevNode\":{\"key\":\"/a\",\"value\":\"two\",\"modifiedIndex\":2,\"createdIndex\":2}}");
}

static void loaded_keys_expire_in_their_order(void **state)
{
	_cleanup_(store_freep) struct store *store = small_store(), *loaded = NULL;
	_cleanup_(records_done) struct records records;
	struct store_command tick = {.op = STORE_OP_TICK, .time_ns = NOW + 6 * NS_PER_S};

	(void)state;
	records_take(&records, store);
	loaded = records_load(&records);
	apply_is(loaded, tick, "expired 1");
	assert_int_equal(store_next_expiry_ns(loaded), NOW + 7 * NS_PER_S);
	tick.time_ns = NOW + 7 * NS_PER_S;
	apply_is(loaded, tick, "expired 1");
	apply_is(store, tick, "expired 2");
	assert_int_equal(store_hash(loaded), store_hash(store));
}

static void directory_that_loses_its_loaded_children_counts_right(void **state)
{
	_cleanup_(store_freep) struct store *store = store_new(), *loaded = NULL;
	_cleanup_(records_done) struct records records;
	struct store_command gone = command_make(STORE_OP_DELETE, "/1/d", "");
	char path[64];

	(void)state;
	for (unsigned i = 0; i < 3000; i++) {
		(void)snprintf(path, sizeof(path), "/1/d/%u/%u/%u", i % 7, i % 90, i);
		apply_ok(store, command_make(STORE_OP_SET, path, "v"));
	}
	records_take(&records, store);
	loaded = records_load(&records);
	for (unsigned i = 0; i < 3000; i += 2) {
		(void)snprintf(path, sizeof(path), "/1/d/%u/%u/%u", i % 7, i % 90, i);
		apply_ok(store, command_make(STORE_OP_DELETE, path, ""));
		apply_ok(loaded, command_make(STORE_OP_DELETE, path, ""));
	}
	assert_int_equal(store_hash(loaded), store_hash(store));
	assert_int_equal(store_nodes(loaded), store_nodes(store));
	gone.recursive = true;
	apply_ok(loaded, gone);
	assert_int_equal(store_nodes(loaded), 3);
}

/* A value is written once, however many events show it, and is one in memory again. */
static void values_that_are_shared_are_written_once(void **state)
{
	_cleanup_(store_freep) struct store *store = store_new(), *loaded = NULL;
	_cleanup_(records_done) struct records records;
	_cleanup_free_ char *large = mem_calloc(1, 100001);

	(void)state;
	memset(large, 'x', 100000);
	apply_ok(store, command_make(STORE_OP_SET, "/1/a", large));
	apply_ok(store, command_make(STORE_OP_SET, "/1/a", large));
	apply_ok(store, command_make(STORE_OP_SET, "/1/b", large));
	records_take(&records, store);
	/* Of a: the first value with its event, which the second refers to; the second in the tree. Of b: in
	 * the tree. */
	assert_in_range(records.nodes.len, 200000, 200200);
	assert_in_range(records.events.len, 100000, 100200);
	loaded = records_load(&records);
	assert_non_null(loaded);
	records_done(&records);
	records_take(&records, loaded);
	assert_in_range(records.events.len, 100000, 100200);
}

static void saver_keeps_its_moment(void **state)
{
	_cleanup_(store_freep) struct store *store = small_store(), *twin = small_store(), *loaded = NULL;
	_cleanup_(records_done) struct records expected, records = {0};
	struct store_saver *saver = store_saver_open(store);
	char path[32];

	(void)state;
	records_take(&expected, twin);
	store_saver_image(saver, &records.image);
	for (unsigned i = 0; i < 1500; i++) { /* more than the history holds */
		(void)snprintf(path, sizeof(path), "/1/%u", i);
		apply_ok(store, command_make(STORE_OP_SET, path, "new"));
	}
	while (store_saver_next_node(saver, &records.nodes))
		;
	while (store_saver_next_event(saver, &records.events))
		;
	(void)store_saver_free(saver);
	assert_true(slice_equal(buf_slice(&expected.nodes), buf_slice(&records.nodes)));
	assert_true(slice_equal(buf_slice(&expected.events), buf_slice(&records.events)));
	loaded = records_load(&records);
	assert_int_equal(store_hash(loaded), store_hash(twin));
}

/* ---- what is refused ---- */

static void add_file(struct buf *out, unsigned flags, uint64_t depth, const char *name)
{
	wire_add_u8(out, (uint8_t)flags);
	wire_add_varint(out, depth);
	wire_add_bytes(out, slice_str(name));
	wire_add_varint(out, 1);
	wire_add_varint(out, 1);
	if (flags & 2)
		wire_add_u64(out, 5);
	if (!(flags & 1))
		wire_add_bytes(out, slice_str("v"));
}

static void nodes_that_make_no_tree_are_refused(void **state)
{
	static const struct {
		unsigned flags;
		uint64_t depth;
		const char *name;
	} second[] = {
		{0, 3, "b"}, /* below nothing */
		{0, 0, "b"}, /* beside the root */
		{0, UINT64_MAX, "b"},
		{0, 2, ""},
		{0, 2, "."},
		{0, 2, ".."},
		{0, 2, "b/c"},
		{0, 2, "a"}, /* twice */
		{0, 2, "A"}, /* before the one before */
		{4, 2, "b"}, /* an unknown flag */
		{0, 1, "1"},
		{0, 1, "0"},
	};
	struct store_image image = {.nodes = 100};

	(void)state;
	for (size_t i = 0; i <= ARRAY_LEN(second); i++) {
		struct store_loader *loader = store_loader_new(&image);
		_cleanup_buf_ struct buf bytes = BUF_INIT(0);
		int r;

		add_file(&bytes, 1, 1, "1");
		add_file(&bytes, 2, 2, "a");
		if (i < ARRAY_LEN(second))
			add_file(&bytes, second[i].flags, second[i].depth, second[i].name);
		else
			add_file(&bytes, 0, 2, "b");
		r = store_loader_add_nodes(loader, buf_slice(&bytes));
		assert_int_equal(r, i < ARRAY_LEN(second) ? -EBADMSG : 0);
		(void)store_loader_free(loader);
	}
}

static void file_has_no_children(void **state)
{
	struct store_image image = {.nodes = 100};
	struct store_loader *loader = store_loader_new(&image);
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);

	(void)state;
	add_file(&bytes, 0, 1, "f");
	add_file(&bytes, 0, 2, "below");
	assert_int_equal(store_loader_add_nodes(loader, buf_slice(&bytes)), -EBADMSG);
	(void)store_loader_free(loader);
}

static void records_cut_or_changed_do_not_load(void **state)
{
	_cleanup_(store_freep) struct store *store = small_store();
	_cleanup_(records_done) struct records records;
	size_t len;

	(void)state;
	records_take(&records, store);
	len = records.nodes.len;
	for (records.nodes.len = 0; records.nodes.len < len; records.nodes.len++)
		assert_null(records_load(&records));
	len = records.events.len;
	for (records.events.len = 0; records.events.len < len; records.events.len++)
		assert_null(records_load(&records));
	/* The hash is of the tree: each bit of it counts, whatever checksums say. */
	for (size_t bit = 0; bit < records.nodes.len * 8; bit++) {
		records.nodes.data[bit / 8] ^= (char)(1 << bit % 8);
		assert_null(records_load(&records));
		records.nodes.data[bit / 8] ^= (char)(1 << bit % 8);
	}
	records.image.clock_ns++;
	assert_null(records_load(&records));
	records.image.clock_ns--;
	records.image.nodes++;
	assert_null(records_load(&records));
	records.image.nodes--;
	records.image.first_kept++;
	assert_null(records_load(&records));
	records.image.first_kept = 0;
	assert_null(records_load(&records));
}

/* A member that loaded the state forgets the same events from then on as one that made it, though they hold
 * values in common otherwise. */
static void what_was_loaded_forgets_the_same_events(void **state)
{
	_cleanup_(store_freep) struct store *store = store_new(), *loaded = NULL;
	_cleanup_free_ char *value = mem_calloc(1, (8 << 20) + 1);
	_cleanup_(records_done) struct records records = {0}, again = {0};

	(void)state;
	memset(value, 'v', 8 << 20);
	for (int i = 0; i < 6; i++)
		apply_ok(store, command_make(STORE_OP_SET, i % 3 ? "/1/a" : "/1/b", value));
	records_take(&records, store);
	assert_true(records.image.first_kept > 1);
	loaded = records_load(&records);
	assert_non_null(loaded);
	for (int i = 0; i < 3; i++) {
		apply_ok(store, command_make(STORE_OP_SET, "/1/c", value));
		apply_ok(loaded, command_make(STORE_OP_SET, "/1/c", value));
		records_done(&records);
		records_done(&again);
		records_take(&records, store);
		records_take(&again, loaded);
		assert_int_equal(records.image.first_kept, again.image.first_kept);
		assert_true(slice_equal(buf_slice(&records.events), buf_slice(&again.events)));
	}
}

static void events_that_share_what_is_not_there_are_refused(void **state)
{
	static const struct {
		uint8_t node, prev;
		uint64_t prev_modified;
		const char *path;
		int r;
	} cases[] = {
		{1 | 16, 0, 0, "/1/a", 0},
		{1 | 16, 0, 0, "/1/b", -EBADMSG},
		{1 | 16, 0, 0, "/1", -EBADMSG},
		{1 | 16, 1 | 16, 1, "/1/a", -EBADMSG}, /* itself */
		{1 | 16, 1 | 16, 99, "/1/a", -EBADMSG},
		{1 | 2 | 16, 0, 0, "/1/a", -EBADMSG},
		{16, 0, 0, "/1/a", -EBADMSG}, /* of a side that is not present */
		{32 | 1, 0, 0, "/1/a", -EBADMSG},
		{1 | 8 | 16, 0, 0, "/1/a", -EBADMSG},
		{1, 0, 0, "/1/a/", -EBADMSG},
		{1, 0, 0, "a", -EBADMSG},
		{1, 0, 0, "", -EBADMSG},
		{1, 0, 0, "/1/a", 0},
	};
	struct store_image image = {.nodes = 3, .index = 1, .first_kept = 1};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct store_loader *loader = store_loader_new(&image);
		_cleanup_buf_ struct buf nodes = BUF_INIT(0), bytes = BUF_INIT(0);

		add_file(&nodes, 1, 1, "1");
		add_file(&nodes, 0, 2, "a");
		assert_int_equal(store_loader_add_nodes(loader, buf_slice(&nodes)), 0);
		wire_add_u8(&bytes, STORE_ACTION_SET);
		wire_add_u8(&bytes, 0);
		wire_add_bytes(&bytes, slice_str(cases[i].path));
		wire_add_u8(&bytes, cases[i].node);
		wire_add_varint(&bytes, 1);
		wire_add_varint(&bytes, 1);
		wire_add_u8(&bytes, cases[i].prev);
		if (cases[i].prev) {
			wire_add_varint(&bytes, 1);
			wire_add_varint(&bytes, cases[i].prev_modified);
		}
		assert_int_equal(store_loader_add_events(loader, buf_slice(&bytes)), cases[i].r);
		(void)store_loader_free(loader);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_come_out_as_they_went_in),
		cmocka_unit_test(loaded_keys_expire_in_their_order),
		cmocka_unit_test(directory_that_loses_its_loaded_children_counts_right),
		cmocka_unit_test(values_that_are_shared_are_written_once),
		cmocka_unit_test(saver_keeps_its_moment),
		cmocka_unit_test(nodes_that_make_no_tree_are_refused),
		cmocka_unit_test(file_has_no_children),
		cmocka_unit_test(records_cut_or_changed_do_not_load),
		cmocka_unit_test(what_was_loaded_forgets_the_same_events),
		cmocka_unit_test(events_that_share_what_is_not_there_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
