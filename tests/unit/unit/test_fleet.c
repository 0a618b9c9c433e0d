#include "unit/unit.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static struct unit_file *parse(const char *body)
{
	_cleanup_free_ char *text = mem_printf("[Service]\nExecStart=/bin/true\n[X-Fleet]\n%s", body);
	struct unit_file *file = NULL;
	struct unit_error error;

	if (unit_file_parse(slice_str(text), &file, &error) < 0)
		fail_msg("%s", error.text);
	return file;
}

static void add_list(struct buf *out, const char *title, const struct unit_slices *slices)
{
	for (size_t i = 0; i < slices->count; i++)
		buf_printf(out, "%s<%.*s>", title, (int)slices->items[i].len, slices->items[i].data);
}

static void requirements_are_read_as_fleet_reads_them(void **state)
{
	static const struct {
		const char *body, *want;
	} rows[] = {
		{"", ""},
		{"MachineID=abc\n", "id<abc>"},
		{"MachineID=\n", "id<>"},
		{"X-ConditionMachineBootID=b\nX-ConditionMachineID=x\n", "id<x>"},
		{"X-ConditionMachineID=x\nMachineID=a\nMachineID=c\n", "id<a>"},
		{"MachineOf=a.service b.service\nX-ConditionMachineOf=%p@9.service\n",
			"of<web@9.service>of<a.service b.service>"},
		{"MachineOf=\"a.service\" \"b.service\"\n", "of<a.service>of<b.service>"},
		{"Conflicts=a* b?\nX-Conflicts=c@%i.service\n", "con<c@1.service>con<a*>con<b?>"},
		{"Replaces=a* b?\n", "rep<a* b?>"},
		{"MachineMetadata=k=v\nX-ConditionMachineMetadata=l=w\n", "meta<l=w>meta<k=v>"},
		{"MachineMetadata=a=b=c\nMachineMetadata=x\nMachineMetadata==y\nMachineMetadata=z=\n", ""},
		{"MachineMetadata=\"a=b\" \"c=d e\"\n", "meta<a=b>meta<c=d e>"},
		{"MachineMetadata=\"a=b\n", "meta<\"a=b>"},
		{"Global=false\nGlobal=Yes\n", "global"},
		{"Global=true\nGlobal=2\n", ""},
		{"Global=\"t\"\n", "global"},
		{"global=true\nconflicts=x\n", ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_(unit_file_freep) struct unit_file *file = parse(rows[i].body);
		_cleanup_(unit_requirements_done) struct unit_requirements req = {0};
		_cleanup_buf_ struct buf out = BUF_INIT(0);

		unit_requirements_read(file, slice_str("web@1.service"), &req);
		if (req.has_machine_id)
			buf_printf(&out, "id<%.*s>", (int)req.machine_id.len, req.machine_id.data);
		add_list(&out, "of", &req.machine_of);
		add_list(&out, "con", &req.conflicts);
		add_list(&out, "rep", &req.replaces);
		for (size_t j = 0; j < req.metadata_count; j++)
			buf_printf(&out, "meta<%.*s=%.*s>", (int)req.metadata[j].key.len,
				req.metadata[j].key.data, (int)req.metadata[j].value.len,
				req.metadata[j].value.data);
		if (req.global)
			buf_add_str(&out, "global");
		assert_string_equal(buf_text(&out), rows[i].want);
	}
}

static void options_that_exclude_each_other_are_refused(void **state)
{
	static const struct {
		const char *body, *error;
	} rows[] = {
		{"", NULL}, {"Global=true\nConflicts=a\n", NULL},
		{"MachineOf=a.service\nConflicts=b*\n", NULL},
		{"MachineOf=a.service\nConflicts=a*\n",
			"unresolvable requirements: peer \"a.service\" matches conflict \"a*\""},
		{"MachineOf=a.service\nReplaces=a*\n",
			"unresolvable requirements: peer \"a.service\" matches replace \"a*\""},
		{"MachineID=x\nMachineOf=a.service\nConflicts=b\nGlobal=1\nReplaces=r\n",
			"MachineID cannot be used with Peers"},
		{"MachineID=x\nConflicts=b\nGlobal=1\n", "MachineID cannot be used with Conflicts"},
		{"MachineID=x\nGlobal=true\nReplaces=r\n", "MachineID cannot be used with Global"},
		{"MachineID=x\nReplaces=r\n", "MachineID cannot be used with Replaces"},
		{"Global=1\nMachineOf=a\n", "Global cannot be used with Peers"},
		{"Global=1\nReplaces=a\n", "Global cannot be used with Replaces"},
		{"Conflicts=1\nReplaces=a\n", "Conflicts cannot be used with Replaces"},
		{"MachineOf=a%i\nConflicts=a1\n", NULL}, /* specifiers are not expanded here */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_(unit_file_freep) struct unit_file *file = parse(rows[i].body);
		struct unit_error error = {0};
		int r = unit_file_validate(file, &error);

		assert_int_equal(r, rows[i].error ? -EINVAL : 0);
		if (rows[i].error)
			assert_string_equal(error.text, rows[i].error);
	}
}

static void options_are_parsed_again_before_they_are_judged(void **state)
{
	_cleanup_(unit_file_freep) struct unit_file *file = unit_file_new();
	_cleanup_buf_ struct buf value = BUF_INIT(0);
	struct unit_error error = {0};

	(void)state;
	buf_add_fill(&value, 'x', 3000);
	assert_int_equal(unit_file_add(file, slice_str("S"), slice_str("A"), buf_slice(&value)), 0);
	assert_int_equal(unit_file_validate(file, &error), -EINVAL);
	assert_string_equal(error.text, "line too long (max 2048 bytes)");
}

static void unknown_keys_are_named_once(void **state)
{
	_cleanup_(unit_file_freep) struct unit_file *file =
		parse("Frobnicate=1\nConflicts=a\nFrobnicate=2\nX-Conflicts=b\nmachineid=3\n");
	struct unit_slices keys;

	(void)state;
	assert_int_equal(unit_file_unknown_fleet_keys(file, &keys), 2);
	assert_true(slice_is(keys.items[0], "Frobnicate"));
	assert_true(slice_is(keys.items[1], "machineid"));
	unit_slices_done(&keys);
}

static void values_that_are_ignored_are_kept_for_a_warning(void **state)
{
	_cleanup_(unit_file_freep) struct unit_file *file =
		parse("MachineMetadata=disk\nMachineMetadata=a=b\nMachineMetadata=a=b=c\nMachineMetadata=\n"
		      "Global=maybe\nGlobal=No\nGlobal=\n");
	struct unit_requirements requirements;

	(void)state;
	unit_requirements_read(file, slice_str("x.service"), &requirements);
	assert_int_equal(requirements.metadata_count, 1);
	assert_false(requirements.global);
	assert_int_equal(requirements.odd_metadata.count, 2);
	assert_true(slice_is(requirements.odd_metadata.items[0], "disk"));
	assert_true(slice_is(requirements.odd_metadata.items[1], "a=b=c"));
	assert_int_equal(requirements.odd_global.count, 1);
	assert_true(slice_is(requirements.odd_global.items[0], "maybe"));
	unit_requirements_done(&requirements);
}

static struct slice machine_metadata(void *userdata, struct slice key)
{
	(void)userdata;
	if (slice_is(key, "disk"))
		return slice_str("ssd");
	if (slice_is(key, "region"))
		return slice_str("east");
	return (struct slice){0};
}

static void machines_are_matched(void **state)
{
	static const struct {
		const char *body;
		bool match;
	} rows[] = {
		{"", true},
		{"MachineMetadata=disk=ssd\n", true},
		{"MachineMetadata=disk=hdd\n", false},
		{"MachineMetadata=disk=hdd\nMachineMetadata=disk=ssd\n", true},
		{"MachineMetadata=disk=ssd\nMachineMetadata=region=west\n", false},
		{"MachineMetadata=disk=ssd\nMachineMetadata=region=east\n", true},
		{"MachineMetadata=rack=1\n", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_(unit_file_freep) struct unit_file *file = parse(rows[i].body);
		_cleanup_(unit_requirements_done) struct unit_requirements req = {0};

		unit_requirements_read(file, slice_str("a.service"), &req);
		assert_int_equal(unit_metadata_match(&req, machine_metadata, NULL), rows[i].match);
	}
	assert_true(unit_machine_id_match(slice_str("1a2b3c4d"), slice_str("1a2b3c4d5e6f")));
	assert_true(unit_machine_id_match(slice_str("1a2b3c4d5e6f"), slice_str("1a2b3c4d5e6f")));
	assert_false(unit_machine_id_match(slice_str("1a2b3c4"), slice_str("1a2b3c4d5e6f")));
	assert_false(unit_machine_id_match(slice_str("1a2b3c4d5"), slice_str("1a2b3c4d5e6f")));
	assert_true(unit_glob_match(slice_str("web@*.service"), slice_str("web@1.service")));
	assert_false(unit_glob_match(slice_str("web@[.service"), slice_str("web@[.service")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requirements_are_read_as_fleet_reads_them),
		cmocka_unit_test(options_that_exclude_each_other_are_refused),
		cmocka_unit_test(options_are_parsed_again_before_they_are_judged),
		cmocka_unit_test(unknown_keys_are_named_once),
		cmocka_unit_test(values_that_are_ignored_are_kept_for_a_warning),
		cmocka_unit_test(machines_are_matched),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
