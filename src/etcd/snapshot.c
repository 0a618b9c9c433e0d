/* `etcdctl snapshot`: saves the state of a running cluster to a file, checks such a file, and makes the data
 * directory of a new cluster's member from it. It stands here and not in etcdctl since it knows the format of
 * files and data directories. Messages as the original's etcdctl writes them, v3's for what comes from there.
 */
#include "etcd/snapshot.h"
#include "base/memory.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

int snapshot_fail(const char *format, ...)
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

int snapshot_usage(int status)
{
	(void)fputs(
		"NAME:\n   etcdctl snapshot - save, check and restore the whole store\n\n"
		"USAGE:\n"
		"   etcdctl [global options] snapshot save FILE     saves what the first endpoint that "
		"answers has\n"
		"   etcdctl snapshot status FILE [options]          checks all of it: hash, index, keys, "
		"size\n"
		"   etcdctl snapshot restore FILE [options]         makes the data directory of a new "
		"cluster's\n"
		"                                                   member; run it once for each member\n\n"
		"   A FILE whose name begins with a dash stands behind \"--\".\n\n"
		"GLOBAL OPTIONS for save:\n"
		"   --endpoints URLS                    asked one after the other until one has sent all of "
		"it\n"
		"   --timeout DURATION                  so long an endpoint may be silent (default: 5s until "
		"it is\n"
		"                                       connected, 5m until it answers, 60s amid the "
		"answer)\n"
		"   --total-timeout DURATION            of all together (default: as long as it takes)\n\n"
		"OPTIONS of status:\n"
		"   --write-out, -w FORMAT              simple, table or json (default simple)\n\n"
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

bool snapshot_parse(struct flag *flags, const bool *help, int argc, char **argv, int *ret_status)
{
	_cleanup_buf_ struct buf why = BUF_INIT(4096);
	int count;

	if (flags_parse(flags, FLAGS_ANYWHERE, argc, argv, &count, &why) < 0) {
		*ret_status = snapshot_fail("%s: see `etcdctl snapshot help`", buf_text(&why));
		return false;
	}
	if (!*help && count == 1 && *argv[1])
		return true;
	*ret_status = snapshot_usage(*help ? 0 : 1);
	return false;
}

/* ---- Files ---- */

const char *snapshot_odd_kind(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return NULL;
	case S_IFDIR:
		return "a directory";
	case S_IFLNK:
		return "a symbolic link";
	case S_IFIFO:
		return "a named pipe";
	case S_IFSOCK:
		return "a socket";
	default:
		return "a device";
	}
}

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

int snapshot_read(int fd, const char *path, struct checkpoint **ret_checkpoint, struct store **ret_store,
	char **ret_error)
{
	_cleanup_(checkpoint_unrefp) struct checkpoint *checkpoint = NULL;
	struct checkpoint_disk disk = {.read = read_range, .arg = &fd};
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0) {
		r = -errno;
		*ret_error = mem_printf("cannot read %s: %s", path, strerror(-r));
		return r;
	}
	if (snapshot_odd_kind(st.st_mode)) {
		*ret_error = mem_printf("%s is %s: name a file that `etcdctl snapshot save` wrote", path,
			snapshot_odd_kind(st.st_mode));
		return -EINVAL;
	}
	r = checkpoint_file_open(&disk, path, (uint64_t)st.st_size, &checkpoint, ret_error);
	if (r == 0)
		r = checkpoint_file_read(&disk, path, checkpoint, ret_store, ret_error);
	if (r == 0)
		*ret_checkpoint = take_ptr(checkpoint);
	return r;
}

int snapshot_read_path(
	const char *path, struct checkpoint **ret_checkpoint, struct store **ret_store, char **ret_error)
{
	/* Not to wait for somebody to write into a named pipe. */
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int r = fd < 0 ? -errno : 0;

	if (r < 0) {
		*ret_error = mem_printf("cannot read %s: %s", path, strerror(-r));
		return r;
	}
	return snapshot_read(fd, path, ret_checkpoint, ret_store, ret_error);
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

enum { STATUS_COLUMNS = 4 };

static void print_line(const int *widths)
{
	for (size_t i = 0; i < STATUS_COLUMNS; i++) {
		(void)putchar('+');
		for (int at = 0; at < widths[i] + 2; at++)
			(void)putchar('-');
	}
	(void)puts("+");
}

/* As v3's etcdctl draws it: titles in the middle, numbers to the right. */
static void print_table(const char *const *cells)
{
	static const char *const titles[STATUS_COLUMNS] = {"HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE"};
	static const bool to_the_right[STATUS_COLUMNS] = {false, true, true, false};
	int widths[STATUS_COLUMNS];

	for (size_t i = 0; i < STATUS_COLUMNS; i++)
		widths[i] = (int)MAX(strlen(titles[i]), strlen(cells[i]));
	print_line(widths);
	for (size_t i = 0; i < STATUS_COLUMNS; i++) {
		int left = (widths[i] - (int)strlen(titles[i])) / 2;

		(void)printf("| %*s%-*s ", left, "", widths[i] - left, titles[i]);
	}
	(void)puts("|");
	print_line(widths);
	for (size_t i = 0; i < STATUS_COLUMNS; i++)
		(void)printf(to_the_right[i] ? "| %*s " : "| %-*s ", widths[i], cells[i]);
	(void)puts("|");
	print_line(widths);
}

static void print_status(const struct checkpoint_info *info, const char *format)
{
	uint64_t bytes = info->manifest_bytes + info->data_bytes;
	_cleanup_buf_ struct buf size = BUF_INIT(0);
	char hash[16], index[24], keys[24];

	add_size(&size, bytes);
	(void)snprintf(hash, sizeof(hash), "%08" PRIx32, info->id.check);
	(void)snprintf(index, sizeof(index), "%" PRIu64, info->image.index);
	(void)snprintf(keys, sizeof(keys), "%" PRIu64, info->image.nodes);
	if (strcmp(format, "table") == 0)
		print_table((const char *const[]){hash, index, keys, buf_text(&size)});
	else if (strcmp(format, "json") == 0)
		(void)printf("{\"hash\":%" PRIu32 ",\"revision\":%s,\"totalKey\":%s,\"totalSize\":%" PRIu64
			     "}\n",
			info->id.check, index, keys, bytes);
	else
		(void)printf("%s, %s, %s, %s\n", hash, index, keys, buf_text(&size));
}

static int show_status(int argc, char **argv)
{
	_cleanup_(checkpoint_unrefp) struct checkpoint *checkpoint = NULL;
	_cleanup_(store_freep) struct store *store = NULL;
	_cleanup_free_ char *error = NULL;
	const char *format = "simple";
	bool help = false;
	struct flag flags[] = {{.name = "write-out,w", .type = FLAG_STRING, .value = &format},
		{.name = "help,h", .type = FLAG_BOOL, .value = &help}, {0}};
	struct checkpoint_info info;
	int status;

	if (!snapshot_parse(flags, &help, argc, argv, &status))
		return status;
	if (strcmp(format, "simple") != 0 && strcmp(format, "table") != 0 && strcmp(format, "json") != 0)
		return snapshot_fail("unknown --write-out \"%s\": simple, table or json", format);
	if (snapshot_read_path(argv[1], &checkpoint, &store, &error) < 0)
		return snapshot_fail("%s", error);
	checkpoint_get_info(checkpoint, &info);
	print_status(&info, format);
	return 0;
}

int snapshot_main(const struct snapshot_source *from, int argc, char **argv)
{
	const char *command = argc > 1 ? argv[1] : "";

	if (strcmp(command, "save") == 0)
		return snapshot_save(from, argc - 1, argv + 1);
	if (strcmp(command, "status") == 0)
		return show_status(argc - 1, argv + 1);
	if (strcmp(command, "restore") == 0)
		return snapshot_restore(argc - 1, argv + 1);
	return snapshot_usage(strcmp(command, "help") == 0 || strcmp(command, "h") == 0 ||
					      strcmp(command, "--help") == 0 || strcmp(command, "-h") == 0
				      ? 0
				      : 1);
}
