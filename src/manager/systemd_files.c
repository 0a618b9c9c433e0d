/* The directory of the units that are fleet's: NAME is the text of a unit, .wanted/NAME says that it was last
 * asked to start, and in which life of systemd. systemd looks at neither; it has a link to the former. */
#include "base/memory.h"
#include "base/text.h"
#include "io/file.h"
#include "manager/systemd_internal.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define WANTED_DIR ".wanted"

char *systemd_files_path(const struct systemd *systemd, const char *name)
{
	return mem_printf("%s/%s", systemd->units_dir, name);
}

static char *wanted_path(const struct systemd *systemd, const char *name)
{
	return mem_printf("%s/" WANTED_DIR "/%s", systemd->units_dir, name);
}

/* Every file in the directory counts as fleet's: it may not be one where systemd looks for units itself. */
static bool is_systemds(const char *path)
{
	_cleanup_free_ char *real = realpath(path, NULL), *slashed = NULL;

	slashed = mem_printf("%s/", real ? real : path);
	return strstr(slashed, "/systemd/") != NULL;
}

int systemd_files_open(struct systemd *systemd, struct buf *reterr)
{
	_cleanup_free_ char *wanted = mem_printf("%s/" WANTED_DIR, systemd->units_dir);
	int r = is_systemds(systemd->units_dir) ? -EINVAL : 0;

	if (r < 0) {
		buf_printf(reterr,
			"units_directory=%s is one of systemd's own: name one that holds fleet's units only",
			systemd->units_dir);
		return r;
	}
	r = file_mkdir_all(wanted, 0755);
	if (r < 0) {
		buf_printf(reterr, "cannot make the units' directory %s: %s (units_directory names another)",
			wanted, strerror(-r));
	} else if (access(systemd->units_dir, W_OK) < 0) {
		r = -errno;
		buf_printf(reterr,
			"cannot write into the units' directory %s: %s (units_directory names another)",
			systemd->units_dir, strerror(-r));
	}
	return r;
}

void systemd_files_read_wanted(struct systemd_unit *unit)
{
	const struct systemd *systemd = unit->systemd;
	_cleanup_free_ char *path = wanted_path(systemd, unit->name);
	_cleanup_buf_ struct buf marker = BUF_INIT(4096);

	unit->wanted = systemd->life[0] && file_read(path, sizeof(systemd->life), &marker) >= 0 &&
		       slice_is(buf_slice(&marker), systemd->life);
}

void systemd_files_want(struct systemd_unit *unit, bool wanted)
{
	struct systemd *systemd = unit->systemd;
	_cleanup_free_ char *path = wanted_path(systemd, unit->name);

	if (unit->wanted == wanted)
		return;
	unit->wanted = wanted;
	systemd_unit_changed(unit);
	/* Without the marker the worst is that the next fleetd asks once more to start what runs. */
	if (wanted)
		(void)!file_write_atomic(
			path, slice_str(systemd->life), &(struct file_write_options){.no_sync = true});
	else
		(void)unlink(path);
}

static int hash_of_file(const char *path, char ret_hex[static UNIT_HASH_HEX_SIZE])
{
	_cleanup_buf_ struct buf text = BUF_INIT(UNIT_TEXT_MAX);
	uint8_t hash[UNIT_HASH_SIZE];
	struct unit_file *file;
	int r = file_read(path, UNIT_TEXT_MAX, &text);

	if (r >= 0)
		r = unit_file_parse(buf_slice(&text), &file, NULL);
	if (r < 0)
		return r;
	unit_file_hash(file, hash);
	unit_hash_hex(hash, ret_hex);
	unit_file_free(file);
	return 0;
}

static void adopt(struct systemd *systemd, const char *name)
{
	_cleanup_free_ char *path = systemd_files_path(systemd, name);
	struct systemd_unit *unit;
	struct stat status;

	if (lstat(path, &status) < 0 || !S_ISREG(status.st_mode))
		return;
	unit = systemd_unit_get(systemd, name);
	unit->known = true;
	/* Until systemd has said more of it. */
	(void)snprintf(unit->load, sizeof(unit->load), "error");
	(void)snprintf(unit->active, sizeof(unit->active), "inactive");
	(void)snprintf(unit->sub, sizeof(unit->sub), "dead");
	/* What cannot be read is no unit of a known text: whoever wants one of that name replaces it. */
	if (hash_of_file(path, unit->hash) < 0)
		unit->hash[0] = '\0';
}

int systemd_files_scan(struct systemd *systemd)
{
	DIR *dir = opendir(systemd->units_dir);
	struct dirent *entry;

	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] != '.' && unit_name_validate(slice_str(entry->d_name), NULL) >= 0)
			adopt(systemd, entry->d_name);
	}
	(void)closedir(dir);
	return 0;
}

int systemd_files_write(struct systemd_unit *unit, struct slice text, struct buf *reterr)
{
	_cleanup_free_ char *path = systemd_files_path(unit->systemd, unit->name);
	_cleanup_buf_ struct buf canonical = BUF_INIT(2 * UNIT_TEXT_MAX); /* some empty lines may be added */
	struct unit_file *file;
	int r = unit_file_parse(text, &file, NULL);

	/* In the form that was looked at, without comments: systemd reads some of them otherwise than fleet.
	 */
	if (r >= 0) {
		unit_file_serialise(file, &canonical);
		unit_file_free(file);
		/* What is written can be read again. */
		r = canonical.len > UNIT_TEXT_MAX ? -E2BIG
						  : file_write_atomic(path, buf_slice(&canonical),
							    &(struct file_write_options){.no_sync = true});
	}
	if (r < 0)
		buf_printf(reterr, "cannot write %s: %s", path, strerror(-r));
	return r;
}

/* Removes the link if it leads to our file. */
static void remove_link(const char *link, const char *path)
{
	char target[4096];
	ssize_t len = readlink(link, target, sizeof(target) - 1);

	if (len < 0)
		return;
	target[len] = '\0';
	if (strcmp(target, path) == 0)
		(void)unlink(link);
}

void systemd_files_remove_links(struct systemd_unit *unit)
{
	const char *runtime = unit->systemd->config.user ? getenv("XDG_RUNTIME_DIR") : "/run";
	_cleanup_free_ char *path = systemd_files_path(unit->systemd, unit->name);
	_cleanup_free_ char *root = mem_printf(
		"%s/systemd/%s", runtime ? runtime : "", unit->systemd->config.user ? "user" : "system");
	_cleanup_free_ char *link = mem_printf("%s/%s", root, unit->name);
	DIR *dir = opendir(root);
	struct dirent *entry;

	remove_link(link, path);
	while (dir && (entry = readdir(dir))) {
		_cleanup_free_ char *wants = mem_printf("%s/%s/%s", root, entry->d_name, unit->name);

		if (entry->d_name[0] != '.')
			remove_link(wants, path);
	}
	if (dir)
		(void)closedir(dir);
}

void systemd_files_remove(struct systemd_unit *unit)
{
	_cleanup_free_ char *path = systemd_files_path(unit->systemd, unit->name);
	_cleanup_free_ char *wanted = wanted_path(unit->systemd, unit->name);

	(void)unlink(wanted);
	(void)unlink(path);
}

bool systemd_files_has(const struct systemd *systemd, const char *name)
{
	_cleanup_free_ char *path = systemd_files_path(systemd, name);

	return file_exists(path);
}

bool systemd_files_is_ours(const struct systemd *systemd, const char *name, const char *fragment)
{
	_cleanup_free_ char *path = systemd_files_path(systemd, name);
	struct stat ours, theirs;

	/* systemd before version 250 names the link, and directories may have several names. */
	return strcmp(fragment, path) == 0 ||
	       (stat(path, &ours) == 0 && stat(fragment, &theirs) == 0 && ours.st_dev == theirs.st_dev &&
		       ours.st_ino == theirs.st_ino);
}
