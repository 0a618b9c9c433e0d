/* Template resources: what a file means, what is wrong with one, which files there are. */
#include "confd/report.h"
#include "confd/resource.h"
#include "io/file.h"

#include <errno.h>
#include <pwd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

struct world {
	char directory[64];
	struct confd_config config;
};

static int world_make(void **state)
{
	struct world *world = mem_new(struct world);

	snprintf(world->directory, sizeof(world->directory), "/tmp/flotilla-test-XXXXXX");
	if (!mkdtemp(world->directory))
		return -1;
	world->config.confdir = world->directory;
	world->config.prefix = "";
	*state = world;
	return report_set_level("fatal");
}

static int world_remove(void **state)
{
	struct world *world = *state;
	int r = file_remove_all(world->directory);

	free(world);
	return r;
}

static void put_file(struct world *world, const char *name, const char *text)
{
	_cleanup_free_ char *path = mem_printf("%s/%s", world->directory, name);
	_cleanup_free_ char *directory = mem_strdup(path);

	*strrchr(directory, '/') = '\0';
	assert_int_equal(file_mkdir_all(directory, 0755), 0);
	assert_int_equal(file_write_atomic(path, slice_str(text), NULL), 0);
}

static int load(struct world *world, const char *text, struct resource **ret, struct buf *error)
{
	_cleanup_free_ char *path = mem_printf("%s/r.toml", world->directory);

	put_file(world, "r.toml", text);
	return resource_load(path, &world->config, ret, error);
}

static void the_slides_resource_is_understood(void **state)
{
	static const char text[] =
		"# /etc/confd/conf.d/nginx.toml\n[template]\n# The name of the template\nsrc = "
		"\"nginx.tmpl\"\n"
		"dest = \"/etc/nginx/sites-enabled/app.conf\"\nkeys = [ \"/services/nodejs\" ]\n"
		"owner = \"root\"\nmode = \"0644\"\ncheck_cmd = \"/usr/sbin/nginx -t\"\n"
		"reload_cmd = \"/usr/sbin/service nginx reload\"\n";
	_cleanup_(resource_freep) struct resource *resource = NULL;
	_cleanup_buf_ struct buf error = BUF_INIT(0);
	struct world *world = *state;

	assert_int_equal(load(world, text, &resource, &error), 0);
	assert_true(slice_ends_with(slice_str(resource->source), SLICE_LITERAL("/templates/nginx.tmpl")));
	assert_string_equal(resource->name, "nginx.tmpl");
	assert_string_equal(resource->dest, "/etc/nginx/sites-enabled/app.conf");
	assert_int_equal(resource->query_count, 1);
	assert_string_equal(resource->queries[0].data, "/services/nodejs");
	assert_true(resource->has_mode);
	assert_int_equal(resource->mode, 0644);
	assert_int_equal(resource->uid, 0);
	assert_int_equal(resource->gid, (gid_t)-1);
	assert_string_equal(resource->check_cmd, "/usr/sbin/nginx -t");
	assert_string_equal(resource->reload_cmd, "/usr/sbin/service nginx reload");
}

static void modes_are_numbers_in_any_base(void **state)
{
	static const struct {
		const char *text;
		mode_t mode;
	} cases[] = {{"0644", 0644}, {"0o600", 0600}, {"0x1a4", 0644}, {"420", 0644}, {"0b111", 7},
		{"4755", 4755 & 07777}};
	struct world *world = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_(resource_freep) struct resource *resource = NULL;
		_cleanup_buf_ struct buf error = BUF_INIT(0);
		_cleanup_free_ char *text =
			mem_printf("[template]\nsrc = \"a\"\ndest = \"b\"\nmode = \"%s\"\n", cases[i].text);

		assert_int_equal(load(world, text, &resource, &error), 0);
		assert_int_equal(resource->mode, cases[i].mode);
	}
}

static void prefixes_are_joined_with_the_keys(void **state)
{
	static const struct {
		const char *global, *own, *prefix, *query;
	} cases[] = {
		{"", "", "", "/a/b"},
		{"", "/prod", "/prod", "/prod/a/b"},
		{"", "prod/", "/prod/", "/prod/a/b"},
		{"/x", "/prod", "/x", "/x/a/b"},
		{"x", "", "/x", "/x/a/b"},
	};
	struct world *world = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_(resource_freep) struct resource *resource = NULL;
		_cleanup_buf_ struct buf error = BUF_INIT(0);
		_cleanup_free_ char *text = mem_printf(
			"[template]\nsrc = \"a\"\ndest = \"b\"\nprefix = \"%s\"\nkeys = [\"a//b/\"]\n",
			cases[i].own);

		world->config.prefix = cases[i].global;
		assert_int_equal(load(world, text, &resource, &error), 0);
		assert_true(slice_is(resource->prefix, cases[i].prefix));
		assert_string_equal(resource->queries[0].data, cases[i].query);
	}
}

static void mistakes_name_the_file_and_the_line(void **state)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
		{"[template]\nsrc = \"a\"\ndest = \"b\"\nmode = \"rw\"",
			"toml: line 4 (last key \"template.mode\"): strconv.ParseUint: parsing \"rw\": "
			"invalid syntax"},
		{"[template]\nsrc = \"a\"\ndest = \"b\"\nmode = 644",
			"toml: line 4 (last key \"template.mode\"): expected a string but found an integer "
			"(write it as \"0644\")"},
		{"[template]\nsrc = 5",
			"toml: line 2 (last key \"template.src\"): expected a string but found an integer"},
		{"[template]\nkeys = \"/a\"", "toml: line 2 (last key \"template.keys\"): expected an array "
					      "of strings but found a string"},
		{"[template]\nkeys = [\"/a\",\n1]",
			"toml: line 3 (last key \"template.keys\"): expected a string but found an integer"},
		{"[template]\ndest = \"b\"", "empty src template"},
		{"", "empty src template"},
		{"[template]\nsrc = \"a\"", "empty dest: the resource does not say which file to write"},
		{"[template]\nsrc = \"a\"\ndest = \"b\"\nowner = \"no-such-user\"",
			"toml: line 4 (last key \"template.owner\"): there is no user \"no-such-user\" on "
			"this host"},
		{"[template\n",
			"toml: line 1: expected ] behind the table's name but found the end of the line"},
	};
	struct world *world = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_buf_ struct buf error = BUF_INIT(0);
		_cleanup_free_ char *want = mem_printf(
			"Cannot process template resource %s/r.toml - %s", world->directory, cases[i].want);
		struct resource *resource;

		assert_true(load(world, cases[i].text, &resource, &error) < 0);
		assert_string_equal(buf_text(&error), want);
	}
}

static void files_are_found_below_conf_d_in_order(void **state)
{
	struct world *world = *state;
	_cleanup_buf_ struct buf error = BUF_INIT(0), found = BUF_INIT(0);
	struct resource_paths paths = {0};

	assert_int_equal(resource_list(world->directory, &paths, &error), -ENOENT);
	assert_non_null(strstr(buf_text(&error), "/conf.d: "));
	put_file(world, "conf.d/b.toml", "");
	put_file(world, "conf.d/a/z.toml", "");
	put_file(world, "conf.d/footoml", "");
	put_file(world, "conf.d/c.toml.swp", "");
	put_file(world, "conf.d/README", "");
	assert_int_equal(resource_list(world->directory, &paths, &error), 0);
	for (size_t i = 0; i < paths.count; i++)
		buf_printf(&found, "%s;", strrchr(paths.items[i], '/') + 1);
	assert_string_equal(buf_text(&found), "z.toml;b.toml;footoml;");
	resource_paths_done(&paths);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_slides_resource_is_understood, world_make, world_remove),
		cmocka_unit_test_setup_teardown(modes_are_numbers_in_any_base, world_make, world_remove),
		cmocka_unit_test_setup_teardown(prefixes_are_joined_with_the_keys, world_make, world_remove),
		cmocka_unit_test_setup_teardown(
			mistakes_name_the_file_and_the_line, world_make, world_remove),
		cmocka_unit_test_setup_teardown(
			files_are_found_below_conf_d_in_order, world_make, world_remove),
	};

	return cmocka_run_group_tests_name("resource", tests, NULL, NULL);
}
