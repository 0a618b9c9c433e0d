/* Foreign data is recognised before anything is written. The identity file is a few lines "word value": a
 * line that is missing or does not parse means damage, not a new member. */
#include "etcd/datadir.h"
#include "etcd/identity.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/file.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	IDENTITY_MAX_BYTES = 1 << 20,
	DATADIR_VERSION = 1, /* of the directory as a whole: what stands where, and what the identity means */
};

static char *join(const char *path, const char *name)
{
	return mem_printf("%s/%s", path, name);
}

static bool exists_in(const char *path, const char *name)
{
	_cleanup_free_ char *full = join(path, name);
	struct stat st;

	return lstat(full, &st) == 0;
}

/* The original's directories: 2.x and 3.x have member/ or proxy/, 0.4 has the files log and conf. */
static int refuse_foreign(const char *path, struct buf *reterr)
{
	if (exists_in(path, "member/wal") || exists_in(path, "member/snap")) {
		buf_printf(reterr,
			"data directory %s holds the data of an original etcd (member/). Flotilla's members "
			"cannot join "
			"it or read it: start with another --data-dir and copy the keys over the API while "
			"the original runs",
			path);
		return -EEXIST;
	}
	if (exists_in(path, "proxy/cluster")) {
		buf_printf(reterr,
			"data directory %s belongs to an original etcd in proxy mode (proxy/cluster): start "
			"with another "
			"--data-dir",
			path);
		return -EEXIST;
	}
	if (exists_in(path, "conf") && exists_in(path, "log")) {
		buf_printf(reterr,
			"data directory %s holds the data of an original etcd 0.4 (conf, log): start with "
			"another "
			"--data-dir and copy the keys over the API while the original runs",
			path);
		return -EEXIST;
	}
	return 0;
}

/* peer ID URL; one line per URL, those of a member together. */
static bool read_seed(struct datadir *datadir, struct slice text)
{
	struct slice id_text, url;
	struct datadir_seed *seed;
	size_t count = 0;
	uint64_t id;

	if (!text_cut(text, ' ', &id_text, &url) || !url.len || text_hex_to_u64(id_text, &id) < 0 || !id)
		return false;
	if (!datadir->seeds_len || datadir->seeds[datadir->seeds_len - 1].id != id) {
		if (datadir->seeds_len == DATADIR_SEEDS_MAX)
			return false;
		datadir->seeds[datadir->seeds_len++].id = id;
	}
	seed = &datadir->seeds[datadir->seeds_len - 1];
	while (seed->urls[count])
		count++;
	if (count == IDENTITY_URLS_MAX)
		return false;
	seed->urls[count] = mem_strndup(url.data, url.len);
	return true;
}

/* However many digits it has: what is too large to be counted is newer than this program all the same. */
static bool read_version(struct slice text, uint64_t *ret_number)
{
	uint64_t number = 0;

	for (size_t i = 0; i < text.len; i++) {
		if (text.data[i] < '0' || text.data[i] > '9')
			return false;
		number = MIN(number * 10 + (uint64_t)(text.data[i] - '0'), (uint64_t)UINT32_MAX);
	}
	*ret_number = number;
	return text.len > 0;
}

static int read_identity(const char *file, struct datadir *datadir, struct buf *reterr)
{
	_cleanup_buf_ struct buf text = BUF_INIT(IDENTITY_MAX_BYTES);
	struct slice rest, line, word, value, format = {0};
	bool version = false, member = false, cluster = false, seeds = true;
	uint64_t number = 0;
	int r = file_read(file, IDENTITY_MAX_BYTES, &text);

	if (r == -ENOENT) {
		datadir->fresh = true;
		return 0;
	}
	if (r < 0) {
		buf_printf(reterr, "cannot read %s: %s", file, strerror(-r));
		return r;
	}
	rest = buf_slice(&text);
	while (rest.len) {
		(void)text_cut(rest, '\n', &line, &rest);
		(void)text_cut(line, ' ', &word, &value);
		if (slice_is(word, "version"))
			version = read_version(format = value, &number);
		else if (slice_is(word, "member"))
			member = text_hex_to_u64(value, &datadir->member_id) == 0;
		else if (slice_is(word, "name") && !datadir->name)
			datadir->name = mem_strndup(value.data, value.len);
		else if (slice_is(word, "log"))
			datadir->has_log = slice_is(value, "yes");
		else if (slice_is(word, "removed"))
			datadir->removed = slice_is(value, "yes");
		else if (slice_is(word, "peer"))
			seeds = read_seed(datadir, value) && seeds;
		else if (slice_is(word, "cluster"))
			cluster = text_hex_to_u64(value, &datadir->cluster_id) == 0;
	}
	if (version && number > DATADIR_VERSION) {
		buf_printf(reterr,
			"%s: the data directory has format %.*s, this program knows up to %d: it was used by "
			"a "
			"newer version, use that one",
			file, (int)format.len, format.data, DATADIR_VERSION);
		return -EPROTONOSUPPORT;
	}
	if (!version || !number || !member || !cluster || !seeds) {
		buf_printf(reterr,
			"%s is damaged (expected the lines \"version 1\", \"member ID\", \"cluster ID\"): "
			"restore it from a backup, or have this member replaced (etcdctl member replace) and "
			"start it with an empty data directory",
			file);
		return -EBADMSG;
	}
	return 0;
}

/* A log without an identity would be written over by a new member's start, and an identity without its log
 * would vote as if it had promised nothing. */
static int check_whole(struct datadir *datadir, bool rebuild, const char *file, struct buf *reterr)
{
	bool any;
	int r = file_dir_has_files(datadir->log_path, &any);

	/* One that cannot be read is not one that is empty. */
	if (r < 0) {
		buf_printf(reterr, "cannot read directory %s: %s: check the disk and the limit of open files",
			datadir->log_path, strerror(-r));
		return r;
	}
	if (any ? !datadir->fresh : datadir->fresh || !datadir->has_log)
		return 0;
	datadir->log_missing = !any;
	if (rebuild && datadir->log_missing)
		return 0;
	buf_printf(reterr, "data directory is damaged: %s %s, but %s %s: %s", datadir->log_path,
		any ? "has a log" : "is empty", file, any ? "is missing" : "says that there is a log",
		any ? "restore it from a backup, or have this member replaced (etcdctl member replace) and "
		      "start it "
		      "with an empty data directory"
		    : "start it once with --rebuild and its usual flags to get its data from the other "
		      "members, or "
		      "restore a backup");
	return -EBADMSG;
}

static void cannot_write(const char *path, int error, struct buf *reterr)
{
	buf_printf(reterr,
		"cannot write to data directory %s: %s: correct its owner or permissions, or start with "
		"another "
		"--data-dir",
		path, strerror(-error));
}

static int lock_it(const char *own, const char *path, struct datadir *datadir, struct buf *reterr)
{
	int r = file_lock_dir(own, "LOCK", &datadir->lock_fd);

	if (r == -EWOULDBLOCK) {
		_cleanup_free_ char *lock = join(own, "LOCK");
		_cleanup_buf_ struct buf pid = BUF_INIT(64);
		struct slice text;

		(void)!file_read(lock, 64, &pid);
		text = text_trim(buf_slice(&pid));
		buf_printf(reterr,
			"data directory %s is in use by another process (pid %.*s): stop it, or start with "
			"another "
			"--data-dir",
			path, (int)text.len, text.data);
	} else if (r < 0) {
		cannot_write(path, r, reterr);
	}
	return r;
}

static int open_it(const char *path, bool rebuild, struct datadir *ret_datadir, struct buf *reterr)
{
	_cleanup_free_ char *own = join(path, "flotilla"), *log = join(path, "flotilla/log"),
			    *identity = join(path, "flotilla/identity");
	struct datadir datadir = {.lock_fd = -1};
	struct stat st;
	int r;

	if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode)) {
		buf_printf(
			reterr, "data directory %s is not a directory: start with another --data-dir", path);
		return -ENOTDIR;
	}
	r = refuse_foreign(path, reterr);
	if (r < 0)
		return r;
	r = file_mkdir_all(log, 0700);
	if (r < 0) {
		cannot_write(path, r, reterr);
		return r;
	}
	r = lock_it(own, path, &datadir, reterr);
	if (r < 0)
		return r;
	datadir.log_path = take_ptr(log);
	r = read_identity(identity, &datadir, reterr);
	if (r == 0)
		r = check_whole(&datadir, rebuild, identity, reterr);
	if (r < 0) {
		datadir_done(&datadir);
		return r;
	}
	*ret_datadir = datadir;
	return 0;
}

int datadir_open(const char *path, struct datadir *ret_datadir, struct buf *reterr)
{
	return open_it(path, false, ret_datadir, reterr);
}

int datadir_open_to_rebuild(const char *path, struct datadir *ret_datadir, struct buf *reterr)
{
	return open_it(path, true, ret_datadir, reterr);
}

/* A data directory that was just made must still be there after a power failure: the names on the way to it
 * too. Who may not read the directory above it cannot have made this one. */
static int sync_names(const char *path)
{
	_cleanup_free_ char *above = join(path, "..");
	int r = file_sync_dir(path);

	if (r == 0)
		r = file_sync_dir(above);
	return r == -EACCES ? 0 : r;
}

int datadir_set_identity(
	const char *path, const char *name, const struct datadir *datadir, struct buf *reterr)
{
	_cleanup_free_ char *file = join(path, "flotilla/identity");
	_cleanup_buf_ struct buf text = BUF_INIT(IDENTITY_MAX_BYTES);
	int r;

	/* One that ended its line would have what follows taken for the member's id. */
	r = identity_check_name(slice_str(name), reterr);
	if (r < 0)
		return r;
	buf_printf(&text, "version %d\nmember %llx\ncluster %llx\nname %s\nlog %s\n", DATADIR_VERSION,
		(unsigned long long)datadir->member_id, (unsigned long long)datadir->cluster_id, name,
		datadir->has_log ? "yes" : "no");
	if (datadir->removed)
		buf_add_str(&text, "removed yes\n");
	for (size_t i = 0; i < datadir->seeds_len; i++)
		for (char *const *url = datadir->seeds[i].urls; *url; url++)
			buf_printf(&text, "peer %llx %s\n", (unsigned long long)datadir->seeds[i].id, *url);
	r = file_write_atomic(file, buf_slice(&text), NULL);
	if (r == 0)
		r = sync_names(path);
	if (r < 0)
		buf_printf(reterr, "cannot write %s: %s", file, strerror(-r));
	return r;
}

void datadir_forget_seeds(struct datadir *datadir)
{
	for (size_t i = 0; i < datadir->seeds_len; i++)
		for (char **url = datadir->seeds[i].urls; *url; url++) {
			free(*url);
			*url = NULL;
		}
	datadir->seeds_len = 0;
}

void datadir_done(struct datadir *datadir)
{
	datadir_forget_seeds(datadir);
	free(datadir->log_path);
	free(datadir->name);
	if (datadir->lock_fd >= 0)
		(void)close(datadir->lock_fd);
	*datadir = (struct datadir){.lock_fd = -1};
}
