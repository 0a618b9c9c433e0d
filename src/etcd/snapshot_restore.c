/* `etcdctl snapshot restore`: the data directory of a new cluster's member, made from the file: an identity
 * of a cluster that never was before, and a log that begins with the whole store. */
#include "etcd/snapshot.h"
#include "etcd/datadir.h"
#include "etcd/disk.h"
#include "etcd/identity.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/text.h"
#include "node/node.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

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
	int r = snapshot_read_path(path, &checkpoint, &store, &error);

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

int snapshot_restore(int argc, char **argv)
{
	struct restore_flags values = {.name = "default", .urls = "http://localhost:2380"};
	bool help = false;
	struct flag flags[] = {
		{.name = "data-dir", .type = FLAG_STRING, .value = &values.data_dir},
		{.name = "name", .type = FLAG_STRING, .value = &values.name},
		{.name = "initial-cluster", .type = FLAG_STRING, .value = &values.cluster},
		{.name = "initial-advertise-peer-urls", .type = FLAG_STRING, .value = &values.urls},
		{.name = "initial-cluster-token", .type = FLAG_STRING, .value = &values.token},
		{.name = "help,h", .type = FLAG_BOOL, .value = &help},
		{0},
	};
	_cleanup_buf_ struct buf why = BUF_INIT(0);
	_cleanup_free_ char *own_dir = NULL, *own_cluster = NULL;
	int status;

	if (!snapshot_parse(flags, &help, argc, argv, &status))
		return status;
	if (identity_check_name(slice_str(values.name), &why) < 0)
		return snapshot_fail("--name: %s", buf_text(&why));
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
	return restore_into(argv[1], &values, &why) < 0 ? snapshot_fail("%s", buf_text(&why)) : 0;
}
