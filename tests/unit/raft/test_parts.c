/* The parts of the room one by one: message and membership encodings, the log, loading, limits. */
#include "cluster.h"
#include "raft/log.h"

static struct raft_options options_of(uint64_t id, uint64_t voters)
{
	struct raft_options options = {.id = id, .seed = 1, .heartbeat_ticks = 2, .election_ticks = 10};

	for (uint64_t voter = 1; voter <= voters; voter++)
		assert_int_equal(raft_set_add(&options.conf.voters, voter), 0);
	return options;
}

static struct raft *started(const struct raft_options *options)
{
	struct raft *raft = raft_new(options);

	assert_int_equal(raft_start(raft), 0);
	return raft;
}

static void drain(struct raft *raft)
{
	struct raft_batch batch;

	while (raft_has_ready(raft)) {
		uint64_t last = 0;

		raft_ready(raft, &batch);
		for (size_t i = 0; i < batch.committed_count; i++)
			last = batch.committed[i].index;
		if (last)
			raft_applied(raft, last);
		raft_advance(raft);
		if (batch.write.id)
			raft_persisted(raft, batch.write.id);
	}
}

static void encode_sample(struct buf *out)
{
	struct raft_entry entries[3] = {
		{.index = 5, .term = 2, .type = RAFT_ENTRY_EMPTY},
		{.index = 6, .term = 3, .type = RAFT_ENTRY_DATA, .data = raft_blob_new("hello", 5)},
		{.index = 7, .term = 3, .type = RAFT_ENTRY_CONF, .data = raft_blob_new("", 0)},
	};
	struct raft_message message = {.type = RAFT_MSG_APPEND,
		.reject = true,
		.transfer = true,
		.from = 1,
		.to = UINT64_MAX,
		.term = 3,
		.index = 4,
		.log_term = 2,
		.commit = 300,
		.context = UINT64_MAX,
		.hint_index = 1,
		.hint_term = 129,
		.entries = entries,
		.entry_count = 3};

	raft_message_encode(&message, out);
	raft_entries_unref(entries, 3);
}

static void a_message_comes_back_as_it_was(void **state)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT(0), again = BUF_INIT(0);
	struct raft_message message;

	(void)state;
	encode_sample(&bytes);
	assert_int_equal(raft_message_decode(buf_slice(&bytes), &message), 0);
	assert_int_equal(message.type, RAFT_MSG_APPEND);
	assert_true(message.reject && message.transfer);
	assert_true(message.to == UINT64_MAX && message.context == UINT64_MAX);
	assert_int_equal(message.entry_count, 3);
	assert_null(message.entries[0].data);
	assert_int_equal(message.entries[1].data->len, 5);
	assert_memory_equal(message.entries[1].data->data, "hello", 5);
	assert_int_equal(message.entries[2].type, RAFT_ENTRY_CONF);
	assert_int_equal(message.entries[2].data->len, 0);
	raft_message_encode(&message, &again);
	assert_true(slice_equal(buf_slice(&bytes), buf_slice(&again)));
	raft_message_done(&message);
	raft_message_done(&message);
}

static void a_cut_or_changed_message_is_refused_or_harmless(void **state)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);
	struct raft_message message;

	(void)state;
	encode_sample(&bytes);
	for (size_t len = 0; len < bytes.len; len++)
		assert_int_equal(raft_message_decode(slice_make(bytes.data, len), &message), -EBADMSG);
	for (size_t at = 0; at < bytes.len * 8; at++) {
		_cleanup_free_ char *copy = mem_dup(bytes.data, bytes.len);

		copy[at / 8] = (char)(copy[at / 8] ^ (1 << at % 8));
		if (raft_message_decode(slice_make(copy, bytes.len), &message) == 0)
			raft_message_done(&message);
	}
	buf_add_char(&bytes, 'x');
	assert_int_equal(raft_message_decode(buf_slice(&bytes), &message), -EBADMSG);
}

static void names_are_known(void **state)
{
	(void)state;
	for (int i = 0; i < RAFT_MSG_TYPE_MAX; i++)
		assert_non_null(raft_message_name((enum raft_message_type)i));
	assert_string_equal(raft_message_name(RAFT_MSG_TYPE_MAX), "unknown");
	assert_string_equal(raft_role_name(RAFT_LEADER), "leader");
	assert_string_equal(raft_role_name(RAFT_ROLE_MAX), "unknown");
	assert_string_equal(raft_progress_state_name(RAFT_SNAPSHOT), "snapshot");
	assert_string_equal(raft_progress_state_name(RAFT_PROGRESS_STATE_MAX), "unknown");
}

static void membership_changes_are_checked(void **state)
{
	struct raft_conf conf = options_of(1, 3).conf, next;
	struct raft_conf_change change = {.step_count = 1, .context = SLICE_LITERAL("urls")}, decoded;
	_cleanup_(raft_blob_unrefp) struct raft_blob *blob = NULL;
	struct raft_set set = {.count = 0};

	(void)state;
	change.steps[0].op = RAFT_CONF_ADD_VOTER;
	change.steps[0].id = 4;
	blob = raft_conf_change_encode(&change);
	assert_int_equal(raft_conf_change_decode(raft_blob_slice(blob), &decoded), 0);
	assert_int_equal(decoded.step_count, 1);
	assert_true(decoded.steps[0].op == RAFT_CONF_ADD_VOTER && decoded.steps[0].id == 4);
	assert_true(slice_is(decoded.context, "urls"));
	for (size_t len = 0; len < blob->len; len++)
		assert_int_equal(raft_conf_change_decode(slice_make(blob->data, len), &decoded), -EBADMSG);
	blob->data[2] = RAFT_CONF_OP_MAX;
	assert_int_equal(raft_conf_change_decode(raft_blob_slice(blob), &decoded), -EBADMSG);
	blob->data[1] = RAFT_MEMBERS_MAX + 1;
	assert_int_equal(raft_conf_change_decode(raft_blob_slice(blob), &decoded), -EBADMSG);

	assert_int_equal(raft_conf_change_apply(&conf, &change, &next), 0);
	assert_int_equal(next.voters.count, 4);
	assert_int_equal(next.outgoing.count, 0);
	change.steps[0].op = RAFT_CONF_ADD_LEARNER; /* a learner twice, a voter made a learner */
	assert_int_equal(raft_conf_change_apply(&conf, &change, &next), 0);
	assert_int_equal(raft_conf_change_apply(&next, &change, &next), -EINVAL);
	change.steps[0].id = 3;
	assert_int_equal(raft_conf_change_apply(&conf, &change, &next), 0);
	assert_true(next.voters.count == 2 && raft_set_has(&next.learners, 3));
	change.steps[0].op = RAFT_CONF_REMOVE; /* the last voter stays */
	change.step_count = 3;
	for (uint64_t i = 0; i < 3; i++) {
		change.steps[i].op = RAFT_CONF_REMOVE;
		change.steps[i].id = i + 1;
	}
	assert_int_equal(raft_conf_change_apply(&conf, &change, &next), -EINVAL);
	change.step_count = 0; /* nothing to leave */
	assert_int_equal(raft_conf_change_apply(&conf, &change, &next), -EINVAL);

	for (uint64_t id = 1; id <= RAFT_MEMBERS_MAX; id++)
		assert_int_equal(raft_set_add(&set, id), 0);
	assert_int_equal(raft_set_add(&set, 99), -ENOSPC);
	assert_int_equal(raft_set_add(&set, 5), -EEXIST);
	assert_int_equal(raft_set_remove(&set, 99), -ENOENT);
	conf.voters = set;
	change = (struct raft_conf_change){.step_count = 1, .steps = {{RAFT_CONF_ADD_VOTER, 99}}};
	assert_int_equal(raft_conf_change_apply(&conf, &change, &next), -ENOSPC);
}

static void the_log_finds_terms_and_keeps_entries(void **state)
{
	static const uint64_t terms[] = {1, 1, 4, 4, 4, 7};
	struct raft_log_ops none = {.entries = NULL};
	struct raft_entry slice[8];
	struct raft_log log;

	(void)state;
	raft_log_init(&log, 10, 1);
	for (uint64_t i = 0; i < ARRAY_LEN(terms); i++) {
		struct raft_entry entry = {
			.index = 11 + i, .term = terms[i], .data = raft_blob_new("12345", 5)};

		raft_log_append(&log, &entry);
		raft_blob_unref(entry.data);
	}
	assert_int_equal(log.cached_bytes, 30);
	assert_int_equal(raft_log_term(&log, 9), 0);
	assert_int_equal(raft_log_term(&log, 10), 1);
	assert_int_equal(raft_log_term(&log, 13), 4);
	assert_int_equal(raft_log_term(&log, 16), 7);
	assert_int_equal(raft_log_term(&log, 17), 0);
	assert_int_equal(raft_log_find(&log, 16, 6), 15);
	assert_int_equal(raft_log_find(&log, 99, 3), 12);
	assert_int_equal(raft_log_find(&log, 15, 0), 10);
	assert_int_equal(raft_log_find(&log, 3, 9), 3);
	assert_int_equal(raft_log_slice(&log, &none, 10, 12, 100, slice, 8), -ENOENT);
	assert_int_equal(raft_log_slice(&log, &none, 11, 17, 12, slice, 8), 2);
	raft_entries_unref(slice, 2);
	assert_int_equal(raft_log_slice(&log, &none, 11, 17, 1, slice, 8), 1);
	raft_entries_unref(slice, 1);
	assert_int_equal(raft_log_slice(&log, &none, 11, 17, 100, slice, 3), 3);
	raft_entries_unref(slice, 3);
	raft_log_evict(&log, 12);
	assert_int_equal(log.cached_bytes, 20);
	assert_int_equal(raft_log_slice(&log, &none, 12, 17, 100, slice, 8), -ENOENT);
	assert_int_equal(raft_log_term(&log, 11), 1);
	raft_log_compact(&log, 13);
	raft_log_compact(&log, 12); /* not back */
	assert_int_equal(log.snapshot_index, 13);
	assert_int_equal(raft_log_term(&log, 13), 4);
	assert_int_equal(raft_log_term(&log, 12), 0);
	raft_log_truncate(&log, 14);
	assert_int_equal(log.last, 13);
	assert_int_equal(log.cached_bytes, 0);
	raft_log_done(&log);
	assert_true(slice_is(raft_blob_slice(NULL), ""));
	assert_null(raft_blob_ref(NULL));
}

static void a_log_longer_than_its_ring_grows(void **state)
{
	struct raft_options options = options_of(1, 1);
	struct raft *raft = started(&options);
	struct raft_blob *blob = raft_blob_new("x", 1);
	struct raft_status status;
	uint64_t index;

	(void)state;
	raft_campaign(raft);
	drain(raft);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(raft_propose(raft, &blob, 1, &index), RAFT_APPENDED);
	drain(raft);
	raft_status_get(raft, &status);
	assert_int_equal(status.applied, 1001);
	assert_int_equal(status.cached_bytes, 1000);
	assert_int_equal(blob->refs, 1001);
	raft_compact(raft, 900);
	assert_int_equal(blob->refs, 102);
	raft_free(raft);
	assert_int_equal(blob->refs, 1);
	raft_blob_unref(blob);
}

static void a_log_is_loaded_record_by_record(void **state)
{
	struct raft_options options = options_of(1, 3);
	struct raft *raft = raft_new(&options);
	struct raft_hard_state hard_state = {.term = 3, .vote = 2, .commit = 2};
	struct raft_entry entry = {.index = 2, .term = 1};
	struct raft_status status;

	(void)state;
	assert_int_equal(raft_load_entry(raft, &entry), -EBADMSG); /* a gap */
	for (uint64_t i = 1; i <= 4; i++) {
		entry = (struct raft_entry){.index = i, .term = 1};
		assert_int_equal(raft_load_entry(raft, &entry), 0);
	}
	entry = (struct raft_entry){.index = 5, .term = 0};
	assert_int_equal(raft_load_entry(raft, &entry), -EBADMSG);
	entry = (struct raft_entry){.index = 5, .term = 1, .type = RAFT_ENTRY_TYPE_MAX};
	assert_int_equal(raft_load_entry(raft, &entry), -EBADMSG);
	assert_int_equal(raft_load_hard_state(raft, &hard_state), 0);
	/* A later record of the same index replaces it and all behind it; not what is committed. */
	entry = (struct raft_entry){.index = 3, .term = 3};
	assert_int_equal(raft_load_entry(raft, &entry), 0);
	entry = (struct raft_entry){.index = 2, .term = 1};
	assert_int_equal(raft_load_entry(raft, &entry), 0);
	entry = (struct raft_entry){.index = 2, .term = 2};
	assert_int_equal(raft_load_entry(raft, &entry), -EBADMSG);
	hard_state.term = 2;
	assert_int_equal(raft_load_hard_state(raft, &hard_state), -EBADMSG);
	assert_int_equal(raft_start(raft), 0);
	raft_status_get(raft, &status);
	assert_int_equal(status.last_index, 3);
	assert_int_equal(status.last_term, 3);
	assert_int_equal(status.persisted, 3);
	assert_int_equal(status.commit, 2);
	drain(raft);
	raft_status_get(raft, &status);
	assert_int_equal(status.applied, 2);
	raft_free(raft);
	assert_null(raft_free(NULL));
}

static void proposals_have_limits(void **state)
{
	struct raft_options options = options_of(1, 1);
	struct raft *raft = started(&options);
	struct raft_blob **many = mem_new_array(struct raft_blob *, RAFT_MESSAGE_ENTRIES_MAX + 1);
	struct raft_blob *large = raft_blob_new("", 0);
	uint64_t id;

	(void)state;
	assert_int_equal(raft_propose(raft, many, RAFT_MESSAGE_ENTRIES_MAX + 1, &id), -EMSGSIZE);
	large->len = RAFT_ENTRY_BYTES_MAX + 1;
	assert_int_equal(raft_propose(raft, &large, 1, &id), -EMSGSIZE);
	large->len = 0;
	raft_blob_unref(large);
	mem_free(many);
	raft_free(raft);
}

static void a_write_is_told_of_once(void **state)
{
	struct raft_options options = options_of(1, 1);
	struct raft *raft = started(&options);

	(void)state;
	raft_campaign(raft);
	drain(raft);
	raft_persisted(raft, 1);
	raft_persisted(raft, 0);
	raft_free(raft);
}

static void a_candidate_is_due_at_its_next_question(void **state)
{
	struct raft_options options = options_of(1, 3);
	struct raft *raft = started(&options);

	(void)state;
	assert_in_range(raft_ticks_until_due(raft), 10, 19);
	raft_campaign(raft);
	assert_int_equal(raft_ticks_until_due(raft), 2);
	raft_free(raft);
}

/* One that joins is no member yet, as far as it knows. */
static void who_may_not_lead_does_not_wake_up_for_a_leader(void **state)
{
	struct raft_options joining = options_of(9, 3), learning = options_of(9, 3);
	struct raft_message heartbeat = {.type = RAFT_MSG_HEARTBEAT, .from = 1, .to = 9, .term = 1};

	(void)state;
	assert_int_equal(raft_set_add(&learning.conf.learners, 9), 0);
	for (unsigned i = 0; i < 2; i++) {
		struct raft *raft = started(i ? &learning : &joining);

		for (uint32_t ticks = 0; ticks < 100; ticks += raft_ticks_until_due(raft)) {
			assert_int_equal(raft_ticks_until_due(raft), 10);
			raft_tick(raft, raft_ticks_until_due(raft));
		}
		raft_step(raft, &heartbeat);
		assert_in_range(raft_ticks_until_due(raft), 10, 19);
		raft_tick(raft, raft_ticks_until_due(raft)); /* it gives the leader up */
		assert_int_equal(raft_ticks_until_due(raft), 10);
		raft_tick(raft, 1);
		assert_int_equal(raft_ticks_until_due(raft), 10);
		raft_free(raft);
	}
}

/* A member that has not applied a committed membership change must not campaign: its majority may be another
 * one. */
static void who_has_not_applied_a_change_does_not_campaign(void **state)
{
	struct raft_options options = options_of(1, 3);
	struct raft *raft = raft_new(&options);
	struct raft_hard_state hard_state = {.term = 1, .commit = 3};
	struct raft_batch batch;
	struct raft_status status;

	(void)state;
	for (uint64_t i = 1; i <= 3; i++) {
		struct raft_entry entry = {
			.index = i, .term = 1, .type = i == 3 ? RAFT_ENTRY_CONF : RAFT_ENTRY_EMPTY};

		assert_int_equal(raft_load_entry(raft, &entry), 0);
	}
	assert_int_equal(raft_load_hard_state(raft, &hard_state), 0);
	assert_int_equal(raft_start(raft), 0);
	raft_campaign(raft);
	raft_status_get(raft, &status);
	assert_int_equal(status.role, RAFT_FOLLOWER);
	raft_ready(raft, &batch);
	assert_int_equal(batch.committed_count, 3);
	raft_applied(raft, 2);
	raft_campaign(raft);
	raft_status_get(raft, &status);
	assert_int_equal(status.role, RAFT_FOLLOWER);
	raft_applied(raft, 3);
	raft_campaign(raft);
	raft_status_get(raft, &status);
	assert_int_equal(status.role, RAFT_PRECANDIDATE);
	raft_advance(raft);
	raft_free(raft);
}

static void committed_entries_that_change_no_members_do_not_stop_a_campaign(void **state)
{
	struct raft_options options = options_of(1, 3);
	struct raft *raft = raft_new(&options);
	struct raft_hard_state hard_state = {.term = 1, .commit = 1};
	struct raft_entry entry = {.index = 1, .term = 1, .type = RAFT_ENTRY_EMPTY};
	struct raft_conf_change leave = {.step_count = 0};
	struct raft_status status;

	(void)state;
	assert_int_equal(raft_load_entry(raft, &entry), 0);
	assert_int_equal(raft_load_hard_state(raft, &hard_state), 0);
	assert_int_equal(raft_start(raft), 0);
	assert_int_equal(raft_apply_conf(raft, &leave), -EINVAL); /* nothing to leave */
	raft_campaign(raft);
	raft_status_get(raft, &status);
	assert_int_equal(status.role, RAFT_PRECANDIDATE);
	raft_free(raft);
}

static void an_entry_above_the_limit_is_refused(void **state)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT(0);
	struct raft_entry entry = {.index = 1, .term = 1, .data = raft_blob_new(NULL, 0)};
	struct raft_message message = {
		.type = RAFT_MSG_APPEND, .from = 1, .to = 2, .term = 1, .entries = &entry, .entry_count = 1};
	char *large = mem_calloc(1, sizeof(struct raft_blob) + RAFT_ENTRY_BYTES_MAX + 1);

	(void)state;
	raft_blob_unref(entry.data);
	entry.data = (struct raft_blob *)large;
	entry.data->refs = 1;
	entry.data->len = RAFT_ENTRY_BYTES_MAX;
	raft_message_encode(&message, &bytes);
	assert_int_equal(raft_message_decode(buf_slice(&bytes), &message), 0);
	raft_message_done(&message);
	buf_clear(&bytes);
	entry.data->len = RAFT_ENTRY_BYTES_MAX + 1;
	message.entries = &entry;
	message.entry_count = 1;
	raft_message_encode(&message, &bytes);
	assert_int_equal(raft_message_decode(buf_slice(&bytes), &message), -EBADMSG);
	mem_free(large);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_message_comes_back_as_it_was),
		cmocka_unit_test(a_cut_or_changed_message_is_refused_or_harmless),
		cmocka_unit_test(names_are_known),
		cmocka_unit_test(membership_changes_are_checked),
		cmocka_unit_test(the_log_finds_terms_and_keeps_entries),
		cmocka_unit_test(a_log_longer_than_its_ring_grows),
		cmocka_unit_test(a_log_is_loaded_record_by_record),
		cmocka_unit_test(proposals_have_limits),
		cmocka_unit_test(a_write_is_told_of_once),
		cmocka_unit_test(a_candidate_is_due_at_its_next_question),
		cmocka_unit_test(who_may_not_lead_does_not_wake_up_for_a_leader),
		cmocka_unit_test(who_has_not_applied_a_change_does_not_campaign),
		cmocka_unit_test(committed_entries_that_change_no_members_do_not_stop_a_campaign),
		cmocka_unit_test(an_entry_above_the_limit_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
