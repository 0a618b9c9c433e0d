/* `etcdctl snapshot`: saves the state of a running cluster to a file, checks such a file, and makes the data
 * directory of a new cluster's member from it. It stands here and not in etcdctl since it knows the format of
 * files and data directories. Messages as the original's etcdctl writes them, v3's for what comes from there.
 */
#include "etcd/datadir.h"
#include "etcd/disk.h"
#include "etcd/identity.h"
#include "base/flags.h"
#include "base/memory.h"
#include "base/programs.h"
#include "base/rng.h"
#include "base/text.h"
#include "checkpoint/checkpoint.h"
#include "io/file.h"
#include "io/http_client.h"
#include "node/node.h"
#include "store/store.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CONNECT_TIMEOUT_MS = 5000, ANSWER_TIMEOUT_MS = 600000, URLS_MAX = 16 };

static int _printf_(1, 2) fail(const char *format, ...)
{
	va_list args;

	(void)fflush(stdout);
	(void)fputs("Error:  ", stderr);
	va_start(args, format);
	(void)vfprintf(stderr, format, args);
	va_end(args);
	(void)fputc('\n', stderr);
	return 1;
}

static int usage(int status)
{
	(void)fputs(
		"NAME:\n   etcdctl snapshot - save, check and restore the whole store\n\n"
		"USAGE:\n"
		"   etcdctl [global options] snapshot save FILE     saves what the first endpoint that "
		"answers has\n"
		"   etcdctl snapshot status FILE                    checks all of it: hash, index, keys, "
		"size\n"
		"   etcdctl snapshot restore FILE [options]         makes the data directory of a new "
		"cluster's\n"
		"                                                   member; run it once for each member\n\n"
		"OPTIONS of restore:\n"
		"   --data-dir DIR                      (default NAME.etcd); it must not hold a member yet\n"
		"   --name NAME                         of the member (default \"default\")\n"
		"   --initial-cluster NAME=URL,...      all members of the new cluster (default this one "
		"alone)\n"
		"   --initial-advertise-peer-urls URLs  of this member (default http://localhost:2380)\n"
		"   --initial-cluster-token TOKEN       the same for each member, and new for each restore "
		"(default: one\n"
		"                                       made from the snapshot: restored once more with the\n"
		"                                       same URLs it makes the same ids, so remove what is\n"
		"                                       left of the first time)\n",
		status ? stderr : stdout);
	return status;
}

/* ---- Files ---- */

static int read_range(void *arg, const char *name, uint64_t offset, size_t len, struct buf *out)
{
	const int *fd = arg;

	(void)name;
	while (len > 0) {
		char *to = buf_reserve(out, len);
		ssize_t n = to ? pread(*fd, to, len, (off_t)offset) : -1;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return to ? -errno : -ENOBUFS;
		if (n == 0)
			return 0;
		buf_commit(out, (size_t)n);
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* Checks the whole file; ret_store may be NULL. */
static int read_snapshot(
	const char *path, struct checkpoint **ret_checkpoint, struct store **ret_store, char **ret_error)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_(checkpoint_unrefp) struct checkpoint *checkpoint = NULL;
	struct checkpoint_disk disk = {.read = read_range, .arg = &fd};
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0) {
		r = -errno;
		*ret_error = mem_printf("cannot read %s: %s", path, strerror(-r));
		return r;
	}
	r = checkpoint_file_open(&disk, path, (uint64_t)st.st_size, &checkpoint, ret_error);
	if (r == 0)
		r = checkpoint_file_read(&disk, path, checkpoint, ret_store, ret_error);
	if (r == 0)
		*ret_checkpoint = take_ptr(checkpoint);
	return r;
}

/* ---- save ---- */

struct download {
	int fd;
	int error;
	uint64_t bytes;
};

static void on_piece(struct http_call *call, struct slice piece, void *user)
{
	struct download *download = user;

	(void)call;
	while (piece.len > 0 && !download->error) {
		ssize_t n = write(download->fd, piece.data, piece.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			download->error = -errno;
			break;
		}
		piece.data += n;
		piece.len -= (size_t)n;
		download->bytes += (uint64_t)n;
	}
}

/* 0, or -errno with a text. */
static int fetch(struct http_client *client, const char *endpoint, int fd, struct buf *reterr)
{
	struct download download = {.fd = fd};
	struct http_call_options options = {.url = endpoint,
		.target = "/flotilla/snapshot",
		.connect_timeout_ms = CONNECT_TIMEOUT_MS,
		.header_timeout_ms = ANSWER_TIMEOUT_MS,
		.on_body = on_piece,
		.user = &download};
	struct http_result result;
	int r = http_client_fetch(client, &options, &result);

	if (r < 0)
		buf_printf(reterr, "%s: %s", endpoint, result.text);
	else if (download.error)
		buf_printf(reterr, "cannot write: %s", strerror(-download.error));
	else if (result.response.status != 200)
		buf_printf(reterr, "%s answers with status %d%s", endpoint, result.response.status,
			result.response.status == 404 ? ": it is no member of this program" : "");
	if (r >= 0)
		r = download.error ? download.error : result.response.status != 200 ? -EPROTO : 0;
	http_result_done(&result);
	return r;
}

static int download_to(const char *endpoints, int fd, struct buf *reterr)
{
	struct slice rest = slice_str(endpoints), item;
	_cleanup_(http_client_alone_donep) struct http_client *client = NULL;
	int r = http_client_alone(&client, reterr);

	if (r < 0)
		return r;
	r = -EINVAL;
	while (rest.len && r < 0) {
		_cleanup_free_ char *url = NULL;

		(void)text_cut(rest, ',', &item, &rest);
		item = text_trim(item);
		if (!item.len)
			continue;
		url = mem_printf("%s%.*s", memmem(item.data, item.len, "://", 3) ? "" : "http://",
			(int)item.len, item.data);
		if (reterr->len)
			buf_add_str(reterr, "; ");
		r = ftruncate(fd, 0) < 0 || lseek(fd, 0, SEEK_SET) < 0 ? -errno
								       : fetch(client, url, fd, reterr);
	}
	return r;
}

static int save(const char *endpoints, const char *path)
{
	_cleanup_free_ char *part = mem_printf("%s.part", path), *dir = file_parent(path), *error = NULL;
	_cleanup_(checkpoint_unrefp) struct checkpoint *checkpoint = NULL;
	_cleanup_close_ int fd = open(part, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	_cleanup_buf_ struct buf why = BUF_INIT(0);
	int r;

	if (fd < 0)
		return fail("cannot write %s: %s", part, strerror(errno));
	r = download_to(endpoints, fd, &why);
	if (r == 0 && fsync(fd) < 0) {
		r = -errno;
		buf_printf(&why, "cannot write %s: %s", part, strerror(-r));
	}
	if (r == 0) {
		r = read_snapshot(part, &checkpoint, NULL, &error);
		if (r < 0)
			buf_add_str(&why, error);
	}
	if (r == 0 && rename(part, path) < 0) {
		r = -errno;
		buf_printf(&why, "cannot rename %s to %s: %s", part, path, strerror(-r));
	}
	if (r == 0) {
		r = file_sync_dir(dir);
		if (r < 0)
			buf_printf(&why,
				"it is there, but its name is not on the disk for certain (%s: %s); save it "
				"somewhere else",
				dir, strerror(-r));
	}
	if (r < 0) {
		(void)unlink(part);
		return fail("the snapshot was not saved: %s", buf_text(&why));
	}
	(void)printf("Snapshot saved at %s\n", path);
	return 0;
}

/* ---- status ---- */

static void add_size(struct buf *out, uint64_t bytes)
{
	static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
	double size = (double)bytes;
	size_t unit = 0;

	for (; size >= 1000 && unit + 1 < ARRAY_LEN(units); unit++)
		size /= 1000;
	buf_printf(out, size < 10 && unit ? "%.1f %s" : "%.0f %s", size, units[unit]);
}

static int show_status(const char *path)
{
	_cleanup_(checkpoint_unrefp) struct checkpoint *checkpoint = NULL;
	_cleanup_(store_freep) struct store *store = NULL;
	_cleanup_free_ char *error = NULL;
	_cleanup_buf_ struct buf size = BUF_INIT(0);
	struct checkpoint_info info;

	if (read_snapshot(path, &checkpoint, &store, &error) < 0)
		return fail("%s", error);
	checkpoint_get_info(checkpoint, &info);
	add_size(&size, info.manifest_bytes + info.data_bytes);
	(void)printf("%08" PRIx32 ", %" PRIu64 ", %" PRIu64 ", %s\n", info.id.check, info.image.index,
		info.image.nodes, buf_text(&size));
	return 0;
}

/* ---- restore ---- */

struct restore_flags {
	const char *data_dir, *name, *cluster, *urls, *token;
};

static int run_plans(const char *log_path, struct node_restore *restore)
{
	_cleanup_close_ int dir_fd = open(log_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct disk_file file = DISK_FILE_INIT;
	struct wal_plan plan = {0};
	struct disk_counts counts = {0};
	int r = dir_fd < 0 ? -errno : 0;

	while (r == 0 && node_restore_next(restore, &plan))
		r = disk_run_plan(dir_fd, &file, &plan, &counts);
	disk_file_done(&file);
	buf_done(&plan.bytes);
	return r;
}

/* The member's own URLs must be those that the cluster knows it by. */
static int find_self(const struct restore_flags *flags, const struct identity_cluster *cluster,
	const struct identity_member **ret_self, struct buf *reterr)
{
	const struct identity_member *self = identity_find(cluster, flags->name);
	struct slice rest = slice_str(flags->urls), url;
	size_t count = 0;

	if (!self) {
		buf_printf(reterr, "--initial-cluster does not name %s: correct it, or --name", flags->name);
		return -EINVAL;
	}
	while (rest.len) {
		bool known = false;

		(void)text_cut(rest, ',', &url, &rest);
		url = text_trim(url);
		for (size_t i = 0; i < self->url_count; i++)
			known = known || slice_is(url, self->urls[i]);
		count += known;
		if (!known)
			break;
	}
	if (count != self->url_count || rest.len) {
		buf_printf(reterr,
			"%s has different URLs in --initial-cluster and --initial-advertise-peer-urls",
			flags->name);
		return -EINVAL;
	}
	*ret_self = self;
	return 0;
}

static int make_files(const struct restore_flags *flags, const struct identity_cluster *cluster,
	const struct identity_member *self, const struct checkpoint_info *info, struct store *store,
	struct buf *reterr)
{
	struct node_member members[IDENTITY_MEMBERS_MAX];
	struct node_config config = {.cluster_id = cluster->id,
		.member_id = self->id,
		.members = members,
		.members_len = cluster->count};
	_cleanup_(node_restore_freep) struct node_restore *restore = NULL;
	struct datadir datadir;
	uint64_t seed;
	int r;

	for (size_t i = 0; i < cluster->count; i++)
		members[i] = (struct node_member){.id = cluster->members[i].id,
			.peer_urls = (const char *const *)cluster->members[i].urls};
	rng_system(&seed, sizeof(seed));
	r = node_restore_new(store, &config, info->id.index, info->id.term, seed, &restore);
	if (r < 0) {
		buf_printf(reterr, "the initial cluster cannot be: %s", strerror(-r));
		return r;
	}
	r = datadir_open(flags->data_dir, &datadir, reterr);
	if (r < 0)
		return r;
	if (!datadir.fresh) {
		buf_printf(reterr,
			"data directory %s holds member %" PRIx64 " already: restore into another one",
			flags->data_dir, datadir.member_id);
		datadir_done(&datadir);
		return -EEXIST;
	}
	r = run_plans(datadir.log_path, restore);
	if (r < 0) {
		buf_printf(reterr, "cannot write to %s: %s; remove the directory before you try again",
			datadir.log_path, strerror(-r));
	} else {
		datadir.member_id = self->id;
		datadir.cluster_id = cluster->id;
		datadir.has_log = true;
		r = datadir_set_identity(flags->data_dir, flags->name, &datadir, reterr);
	}
	datadir_done(&datadir);
	return r;
}

static int restore_into(const char *path, const struct restore_flags *flags, struct buf *reterr)
{
	_cleanup_(checkpoint_unrefp) struct checkpoint *checkpoint = NULL;
	struct identity_cluster *cluster = mem_new(struct identity_cluster);
	_cleanup_free_ char *error = NULL, *token = NULL;
	const struct identity_member *self = NULL;
	struct checkpoint_info info;
	struct store *store = NULL;
	int r = read_snapshot(path, &checkpoint, &store, &error);

	if (r < 0) {
		buf_add_str(reterr, error);
		free(cluster);
		return r;
	}
	checkpoint_get_info(checkpoint, &info);
	/* Never the old cluster's: what is left of it must not take the new members for its own. And nothing
	 * random: each member of the new cluster is restored by a command of its own. */
	token = flags->token ? mem_strdup(flags->token) : mem_printf("restored-%08" PRIx32, info.id.check);
	r = identity_parse(flags->cluster, token, cluster, reterr);
	if (r == 0)
		r = find_self(flags, cluster, &self, reterr);
	if (r == 0 && cluster->id == info.cluster_id) {
		buf_add_str(reterr,
			"with this --initial-cluster-token the new cluster would be taken for the old one: "
			"leave it out, or give one that was never used");
		r = -EINVAL;
	}
	if (r == 0)
		r = make_files(flags, cluster, self, &info, take_ptr(store), reterr);
	if (r == 0)
		(void)printf("Restored index %" PRIu64 " into %s: member %" PRIx64 " (%s) of cluster %" PRIx64
			     "\n",
			info.image.index, flags->data_dir, self->id, flags->name, cluster->id);
	(void)store_free(store);
	identity_cluster_done(cluster);
	free(cluster);
	return r;
}

static int restore(int argc, char **argv)
{
	struct restore_flags values = {.name = "default", .urls = "http://localhost:2380"};
	struct flag flags[] = {
		{.name = "data-dir", .type = FLAG_STRING, .value = &values.data_dir},
		{.name = "name", .type = FLAG_STRING, .value = &values.name},
		{.name = "initial-cluster", .type = FLAG_STRING, .value = &values.cluster},
		{.name = "initial-advertise-peer-urls", .type = FLAG_STRING, .value = &values.urls},
		{.name = "initial-cluster-token", .type = FLAG_STRING, .value = &values.token},
		{0},
	};
	_cleanup_buf_ struct buf why = BUF_INIT(0);
	_cleanup_free_ char *own_dir = NULL, *own_cluster = NULL;
	int count;

	if (flags_parse(flags, FLAGS_ANYWHERE, argc, argv, &count, &why) < 0)
		return fail("%s", buf_text(&why));
	if (count != 1)
		return usage(1);
	if (!values.data_dir)
		values.data_dir = own_dir = mem_printf("%s.etcd", values.name);
	if (!values.cluster) {
		_cleanup_buf_ struct buf cluster = BUF_INIT(0);
		struct slice rest = slice_str(values.urls), url;

		while (rest.len) {
			(void)text_cut(rest, ',', &url, &rest);
			buf_printf(&cluster, "%s%s=%.*s", cluster.len ? "," : "", values.name, (int)url.len,
				url.data);
		}
		values.cluster = own_cluster = buf_take(&cluster, NULL);
	}
	return restore_into(argv[1], &values, &why) < 0 ? fail("%s", buf_text(&why)) : 0;
}

int snapshot_main(const char *endpoints, int argc, char **argv)
{
	const char *command = argc > 1 ? argv[1] : "";

	if (strcmp(command, "save") == 0 && argc == 3)
		return save(endpoints, argv[2]);
	if (strcmp(command, "status") == 0 && argc == 3)
		return show_status(argv[2]);
	if (strcmp(command, "restore") == 0)
		return restore(argc - 1, argv + 1);
	return usage(strcmp(command, "help") == 0 || strcmp(command, "h") == 0 ||
				     strcmp(command, "--help") == 0 || strcmp(command, "-h") == 0
			     ? 0
			     : 1);
}
