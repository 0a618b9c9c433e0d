/* The texts of the registry's values: byte for byte fleet 1.0's, and whatever comes back is checked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fleet/registry.h"

static void a_machine_is_written_as_fleet_writes_it_and_read_back(void **state)
{
	struct registry_pair pairs[] = {{"disk", "ssd"}, {"hostname", "n1"}};
	struct registry_machine machine = {.id = "1a2b",
					.public_ip = "172.31.78.11",
					.version = "1.0.0",
					.metadata = pairs,
					.metadata_count = 2},
				back;
	_cleanup_buf_ struct buf out = BUF_INIT(4096);

	(void)state;
	registry_encode_machine(&out, &machine);
	assert_string_equal(buf_text(&out),
		"{\"ID\":\"1a2b\",\"PublicIP\":\"172.31.78.11\",\"Metadata\":{\"disk\":\"ssd\",\"hostname\":"
		"\"n1\"},"
		"\"Capabilities\":{\"DISABLE_ENGINE\":false,\"GRPC\":false},\"Version\":\"1.0.0\"}");
	assert_int_equal(registry_decode_machine(buf_slice(&out), &back), 0);
	assert_null(back.peer_api);
	assert_string_equal(back.metadata[1].value, "n1");
	registry_machine_done(&back);
	buf_clear(&out);
	machine.peer_api = "10.0.0.1:49153";
	machine.peer_token = "t";
	machine.boot = "b";
	machine.nonce = "n";
	registry_encode_machine(&out, &machine);
	assert_int_equal(registry_decode_machine(buf_slice(&out), &back), 0);
	assert_string_equal(back.peer_api, "10.0.0.1:49153");
	assert_string_equal(back.peer_token, "t");
	assert_string_equal(back.nonce, "n");
	registry_machine_done(&back);
}

static void broken_machines_are_refused(void **state)
{
	static const char *const texts[] = {
		"", "{", "[]", "1", "{\"ID\":\"\"}", "{\"ID\":7}", "{\"ID\":\"a/b\"}", "null"};
	struct registry_machine back;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		assert_int_equal(registry_decode_machine(slice_str(texts[i]), &back), -22);
}

static void jobs_carry_the_hash_as_numbers(void **state)
{
	_cleanup_buf_ struct buf out = BUF_INIT(4096);
	uint8_t hash[UNIT_HASH_SIZE];
	char hex[UNIT_HASH_HEX_SIZE];

	(void)state;
	assert_int_equal(
		unit_hash_from_hex(SLICE_LITERAL("b0ae5a47fd8991a7655e3660c89736dce908c978"), hash), 0);
	registry_encode_job(&out, "hello.service", hash);
	assert_string_equal(buf_text(&out), "{\"Name\":\"hello.service\",\"UnitHash\":[176,174,90,71,253,137,"
					    "145,167,101,94,54,96,200,151,54,220,233,8,"
					    "201,120]}");
	assert_int_equal(registry_decode_job(buf_slice(&out), hex), 0);
	assert_string_equal(hex, "b0ae5a47fd8991a7655e3660c89736dce908c978");
	assert_int_equal(registry_decode_job(SLICE_LITERAL("{\"UnitHash\":[1,2]}"), hex), -22);
	assert_int_equal(
		registry_decode_job(
			SLICE_LITERAL("{\"UnitHash\":[256,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}"), hex),
		-22);
}

static void units_states_leases_and_assignments_survive_the_way_there_and_back(void **state)
{
	_cleanup_buf_ struct buf out = BUF_INIT(4096);
	struct registry_unit_state unit = {"loaded", "active", "running", "5e6f", "b0ae"}, unit_back;
	struct registry_lease lease = {"5e6f", 1, NULL}, lease_back;
	struct registry_assignment assignment = {"b0ae5a47fd8991a7655e3660c89736dce908c978",
					   REGISTRY_LAUNCHED, true},
				   back;
	char *raw;
	size_t len;

	(void)state;
	registry_encode_unit(&out, SLICE_LITERAL("[Service]\nExecStart=/bin/echo <a> & \"b\"\n"));
	assert_string_equal(buf_text(&out),
		"{\"Raw\":\"[Service]\\nExecStart=/bin/echo \\u003ca\\u003e \\u0026 \\\"b\\\"\\n\"}");
	assert_int_equal(registry_decode_unit(buf_slice(&out), &raw, &len), 0);
	assert_string_equal(raw, "[Service]\nExecStart=/bin/echo <a> & \"b\"\n");
	free(raw);
	buf_clear(&out);
	registry_encode_unit_state(&out, &unit);
	assert_string_equal(buf_text(&out), "{\"loadState\":\"loaded\",\"activeState\":\"active\","
					    "\"subState\":\"running\",\"machineState\":{\"ID\":\"5e6f\","
					    "\"PublicIP\":\"\",\"Metadata\":null,\"Capabilities\":null,"
					    "\"Version\":\"\"},\"unitHash\":\"b0ae\"}");
	assert_int_equal(registry_decode_unit_state(buf_slice(&out), &unit_back), 0);
	assert_string_equal(unit_back.machine, "5e6f");
	registry_unit_state_done(&unit_back);
	buf_clear(&out);
	registry_encode_lease(&out, &lease);
	assert_string_equal(buf_text(&out), "{\"MachineID\":\"5e6f\",\"Version\":1}");
	registry_decode_lease(buf_slice(&out), &lease_back);
	assert_null(lease_back.term);
	registry_lease_done(&lease_back);
	registry_decode_lease(SLICE_LITERAL("5e6f"), &lease_back);
	assert_string_equal(lease_back.machine, "5e6f");
	assert_int_equal(lease_back.version, 0);
	registry_lease_done(&lease_back);
	buf_clear(&out);
	registry_encode_assignment(&out, &assignment);
	assert_int_equal(registry_decode_assignment(buf_slice(&out), &back), 0);
	assert_int_equal(back.state, REGISTRY_LAUNCHED);
	assert_true(back.global);
	assert_int_equal(
		registry_decode_assignment(SLICE_LITERAL("{\"Hash\":\"x\",\"State\":\"loaded\"}"), &back),
		-22);
}

static void of_equal_keys_the_last_one_stays(void **state)
{
	struct registry_pair pairs[3] = {{mem_strdup("b"), mem_strdup("1")},
		{mem_strdup("a"), mem_strdup("2")}, {mem_strdup("b"), mem_strdup("3")}};

	(void)state;
	assert_int_equal(registry_pairs_sort(pairs, 3), 2);
	assert_string_equal(pairs[0].key, "a");
	assert_string_equal(pairs[1].value, "3");
	for (int i = 0; i < 2; i++) {
		free(pairs[i].key);
		free(pairs[i].value);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_machine_is_written_as_fleet_writes_it_and_read_back),
		cmocka_unit_test(broken_machines_are_refused),
		cmocka_unit_test(jobs_carry_the_hash_as_numbers),
		cmocka_unit_test(units_states_leases_and_assignments_survive_the_way_there_and_back),
		cmocka_unit_test(of_equal_keys_the_last_one_stays),
	};

	return cmocka_run_group_tests_name("registry", tests, NULL, NULL);
}
