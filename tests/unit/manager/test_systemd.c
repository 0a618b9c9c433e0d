/* What the systemd backend knows without systemd: object paths, and which units an [Install] section reaches
 * for. */
#include "base/memory.h"
#include "manager/systemd_internal.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static void object_paths_are_systemds(void **state)
{
	static const char *const cases[][2] = {
		{"web.service", "/org/freedesktop/systemd1/unit/web_2eservice"},
		{"web@1.service", "/org/freedesktop/systemd1/unit/web_401_2eservice"},
		{"9a-b_c.service", "/org/freedesktop/systemd1/unit/_39a_2db_5fc_2eservice"},
		{"dev-sda\\x2d1.swap", "/org/freedesktop/systemd1/unit/dev_2dsda_5cx2d1_2eswap"},
		{"-.slice", "/org/freedesktop/systemd1/unit/_2d_2eslice"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_free_ char *path = systemd_object_path(cases[i][0]);

		assert_string_equal(path, cases[i][1]);
	}
}

/* "Alias:NAME Also:NAME …" in order, or "bad". */
static char *names_of(const char *unit, const char *text)
{
	struct systemd_install *install = systemd_install_read(unit, slice_str(text));
	_cleanup_buf_ struct buf out = BUF_INIT(0);

	buf_add_str(&out, install->any ? "" : "none");
	for (size_t i = 0; i < install->count; i++)
		buf_printf(&out, "%s%s:%s", i ? " " : "", systemd_reach_key(install->names[i].reach),
			install->names[i].name);
	if (install->bad) {
		buf_clear(&out);
		buf_add_str(&out, "bad");
	}
	systemd_install_free(install);
	return buf_take(&out, NULL);
}

static void install_sections_tell_whom_they_reach_for(void **state)
{
	static const struct {
		const char *unit, *text, *names;
	} cases[] = {
		{"a.service", "[Service]\nExecStart=/bin/true\n", "none"},
		{"a.service", "[Install]\n", "none"},
		{"a.service", "[Install]\nWantedBy=multi-user.target\n", ""},
		{"a.service", "[Install]\nAlias=b.service c.service\nAlso=d.socket\n",
			"Alias:b.service Alias:c.service Also:d.socket"},
		{"a.service", "[Install]\nAlso=a.service\n", ""},
		{"a.service", "[Install]\nAlso=b.service \\\n c.service\n", "Also:b.service Also:c.service"},
		{"a@1.service", "[Install]\nAlias=%p-%i.service\n", "Alias:a-1.service"},
		{"a.service", "[Install]\nAlias=%H.service\n", "bad"},
		{"a.service", "[Service]\nAlias=b.service\n", "none"},
		{"a.service", "[Install]\nAlias=b.service\n[Unit]\n[Install]\nAlias=c.service\n",
			"Alias:b.service Alias:c.service"},
		{"a.service", "no unit file at all", "none"},
		{"a.service", "[Install]\nRequiredBy=b.service\nUpheldBy=c.service\nWantedBy=d.target\n",
			"RequiredBy:b.service UpheldBy:c.service"},
		{"a.service", "[Install]\nAlias=a\\x2db.service\n", "Alias:a\\x2db.service"},
		/* What systemd might read otherwise. */
		{"a.service", "[Install]\nAlso=a\\x2db.service\n", "bad"},
		{"a.service", "[Install]\nAlias=\"b.service\"\n", "bad"},
		{"a.service", "[Install]\nAlias=b\\.service\n", "bad"},
		{"a.service", "[Install]\nAlias=b.service \\\n# c.service\n", "bad"},
		{"a.service", "[Install]\nWantedBy=b.target\rAlias=c.service\n", "bad"},
		{"a.service", "[Service]\nEnvironment=A=b\r[Install]\rAlias=c.service\n", "bad"},
		{"a.service", "[Foo\n[Install]\nAlias=c.service\n", "bad"},
		/* What could not be stopped. */
		{"a.service", "[Unit]\nRefuseManualStop=yes\n", "bad"},
		{"a.service", "[Unit]\nRefuseManualStop=no\nRefuseManualStart=yes\n", "none"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_free_ char *names = names_of(cases[i].unit, cases[i].text);

		assert_string_equal(names, cases[i].names);
	}
}

static void an_install_section_without_end_is_refused(void **state)
{
	_cleanup_buf_ struct buf text = BUF_INIT(0);
	_cleanup_free_ char *names = NULL;

	(void)state;
	buf_add_str(&text, "[Install]\n");
	for (int i = 0; i < 300; i++)
		buf_printf(&text, "Also=u%d.service\n", i);
	names = names_of("a.service", buf_text(&text));
	assert_string_equal(names, "bad");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(object_paths_are_systemds),
		cmocka_unit_test(install_sections_tell_whom_they_reach_for),
		cmocka_unit_test(an_install_section_without_end_is_refused),
	};

	return cmocka_run_group_tests_name("manager/systemd", tests, NULL, NULL);
}
