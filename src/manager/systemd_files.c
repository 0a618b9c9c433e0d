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

static int make_dirs(const struct systemd *systemd)
{
	_cleanup_free_ char *wanted = mem_printf("%s/" WANTED_DIR, systemd->units_dir);

	return file_mkdir_all(wanted, 0755);
}

int systemd_files_open(struct systemd *systemd, struct buf *reterr)
{
	int r = is_systemds(systemd->units_dir) ? -EINVAL : 0;

	if (r < 0) {
		buf_printf(reterr,
			"units_directory=%s is one of systemd's own: name one that holds fleet's units only",
			systemd->units_dir);
		return r;
	}
	r = make_dirs(systemd);
	if (r < 0) {
		buf_printf(reterr, "cannot make the units' directory %s: %s (units_directory names another)",
			systemd->units_dir, strerror(-r));
	} else if (access(systemd->units_dir, W_OK) < 0) {
		r = -errno;
		buf_printf(reterr,
			"cannot write into the units' directory %s: %s (units_directory names another)",
			systemd->units_dir, strerror(-r));
	}
	return r;
}

/* Into the directory or .wanted, which somebody may have removed since they were made; then other units lack
 * their files too, which is seen when systemd has read its files again. */
static int write_file(struct systemd *systemd, const char *path, struct slice data)
{
	static const struct file_write_options options = {.no_sync = true};
	int r = file_write_atomic(path, data, &options);

	if (r != -ENOENT)
		return r;
	r = make_dirs(systemd);
	systemd->reload_wanted |= r >= 0;
	return r < 0 ? r : file_write_atomic(path, data, &options);
}

void systemd_files_read_wanted(struct systemd_unit *unit)
{
	const struct systemd *systemd = unit->systemd;
	_cleanup_free_ char *path = wanted_path(systemd, unit->name);
	_cleanup_buf_ struct buf marker = BUF_INIT(4096);

	unit->wanted = systemd->life[0] && file_read(path, sizeof(systemd->life), &marker) >= 0 &&
		       slice_is(buf_slice(&marker), systemd->life);
	unit->marked = unit->wanted;
}

/* Without the marker the worst is that the next fleetd asks once more to start what runs. */
static void mark(struct systemd_unit *unit)
{
	_cleanup_free_ char *path = wanted_path(unit->systemd, unit->name);

	(void)!write_file(unit->systemd, path, slice_str(unit->systemd->life));
	unit->marked = true;
}

void systemd_files_want(struct systemd_unit *unit, bool wanted)
{
	_cleanup_free_ char *path = wanted_path(unit->systemd, unit->name);

	if (unit->wanted == wanted && unit->marked == wanted)
		return;
	unit->wanted = wanted;
	systemd_unit_changed(unit);
	if (wanted) {
		mark(unit);
	} else {
		(void)unlink(path);
		unit->marked = false;
	}
}

/* What cannot be read is no unit of a known text: whoever wants one of that name replaces it. */
static void adopt_text(struct systemd_unit *unit, const char *path)
{
	_cleanup_buf_ struct buf text = BUF_INIT(UNIT_TEXT_MAX);
	uint8_t hash[UNIT_HASH_SIZE];
	struct unit_file *file;

	unit->hash[0] = '\0';
	if (file_read(path, UNIT_TEXT_MAX, &text) < 0 || unit_file_parse(buf_slice(&text), &file, NULL) < 0)
		return;
	unit_file_hash(file, hash);
	unit_hash_hex(hash, unit->hash);
	unit_file_free(file);
	systemd_unit_keep_text(unit, mem_strndup(text.len ? text.data : "", text.len), text.len);
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
	adopt_text(unit, path);
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
						  : write_file(unit->systemd, path, buf_slice(&canonical));
	}
	if (r < 0)
		buf_printf(reterr, "cannot write %s: %s", path, strerror(-r));
	else if (unit->marked)
		mark(unit); /* who removed the file may have removed the marker */
	return r;
}

int systemd_files_restore(struct systemd_unit *unit, struct buf *reterr)
{
	if (!unit->text || systemd_files_has(unit->systemd, unit->name))
		return 0;
	return systemd_files_write(unit, slice_make(unit->text, unit->text_len), reterr);
}

static bool leads_to(const char *link, const char *path)
{
	char target[4096];
	ssize_t len = readlink(link, target, sizeof(target) - 1);

	if (len < 0)
		return false;
	target[len] = '\0';
	return strcmp(target, path) == 0;
}

/* Removes the link if it leads to our file. */
static void remove_link(const char *link, const char *path)
{
	if (leads_to(link, path))
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

	/* systemd before version 250 names the link, and directories may have several names. The file may be
	 * gone. */
	return strcmp(fragment, path) == 0 || leads_to(fragment, path) ||
	       (stat(path, &ours) == 0 && stat(fragment, &theirs) == 0 && ours.st_dev == theirs.st_dev &&
		       ours.st_ino == theirs.st_ino);
}
