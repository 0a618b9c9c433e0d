/* `etcdctl snapshot save`: the bytes go to a file of this run's own beside the one that is asked for; when
 * all of them were read again and found whole, and are on the disk, it takes that one's place. So whatever
 * fails, and whoever else saves to the same name, a file that was good before stays, and readers never see a
 * half. */
#include "etcd/snapshot.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/time.h"
#include "io/file.h"
#include "io/http_client.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Without --timeout. A large store takes its time before the head, since a checkpoint is written first,
 * beside the writes that go on. */
enum {
	CONNECT_TIMEOUT_MS = 5000,
	HEAD_TIMEOUT_MS = 300000,
	SILENCE_TIMEOUT_MS = 60000,
};

/* ---- The file on its way ---- */

/* Static since signal handlers know nothing else. */
static char part_path[PATH_MAX];
static volatile sig_atomic_t part_exists;

static const int ending_signals[] = {SIGINT, SIGTERM, SIGHUP};

static void remove_part_and_die(int number)
{
	if (part_exists)
		(void)unlink(part_path);
	(void)signal(number, SIG_DFL);
	(void)raise(number);
}

static void catch_signals(void)
{
	for (size_t i = 0; i < ARRAY_LEN(ending_signals); i++)
		if (signal(ending_signals[i], remove_part_and_die) == SIG_IGN)
			(void)signal(ending_signals[i], SIG_IGN); /* such as under nohup */
}

/* A descriptor, or -errno. No signal comes between the file and the note that it is there. */
static int part_create(const char *path)
{
	sigset_t ending, before;
	int fd, r;

	if ((size_t)snprintf(part_path, sizeof(part_path), "%s.part-XXXXXX", path) >= sizeof(part_path))
		return -ENAMETOOLONG;
	catch_signals();
	(void)sigemptyset(&ending);
	for (size_t i = 0; i < ARRAY_LEN(ending_signals); i++)
		(void)sigaddset(&ending, ending_signals[i]);
	(void)sigprocmask(SIG_BLOCK, &ending, &before);
	fd = mkostemp(part_path, O_CLOEXEC); /* mode 0600 */
	r = fd < 0 ? -errno : fd;
	part_exists = fd >= 0;
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
	return r;
}

static void part_remove(void)
{
	if (part_exists)
		(void)unlink(part_path);
	part_exists = 0;
}

/* ---- The download ---- */

struct download {
	const struct snapshot_source *from;
	int fd;
	size_t unsynced_bytes;
	int error; /* of the own disk: another endpoint would not help */
	bool timed_out;
	int64_t until_ms; /* INT64_MAX: as long as it takes */
};

/* A member whose disk this is waits behind each sync: not for all of it at once. */
static void sync_some(struct download *download, size_t len)
{
	download->unsynced_bytes += len;
	if (download->unsynced_bytes < CHECKPOINT_SYNC_BYTES)
		return;
	download->unsynced_bytes = 0;
	if (fdatasync(download->fd) < 0)
		download->error = -errno;
}

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
		sync_some(download, (size_t)n);
	}
}

/* The http client's form, in which 0 is none; `otherwise` when the flag was not given. */
static uint32_t timeout_ms(int64_t ns, uint32_t otherwise)
{
	return ns < 0 ? otherwise : (uint32_t)MIN(ns / NS_PER_MS + (ns % NS_PER_MS > 0), (int64_t)INT32_MAX);
}

/* Why an answer is none; what the server says about it went where the snapshot should have gone. */
static void add_refusal(struct buf *reterr, const char *endpoint, int status, int fd)
{
	char said[256];
	ssize_t len = pread(fd, said, sizeof(said), 0);
	struct slice text = text_trim(slice_make(said, (size_t)MAX(len, (ssize_t)0)));

	buf_printf(reterr, "%s answers with status %d: ", endpoint, status);
	if (status == 404)
		buf_add_str(reterr, "it is no member of this program");
	for (size_t i = 0; i < text.len && status != 404; i++)
		buf_add_char(reterr, (unsigned char)text.data[i] < ' ' ? ' ' : text.data[i]);
}

/* 0, or -errno with a text. */
static int fetch(
	struct http_client *client, const char *endpoint, struct download *download, struct buf *reterr)
{
	int64_t flag_ns = download->from->timeout_ns, left_ms = download->until_ms - time_mono_ms();
	struct http_call_options options = {.url = endpoint,
		.target = "/flotilla/snapshot",
		.connect_timeout_ms = timeout_ms(flag_ns, CONNECT_TIMEOUT_MS),
		.header_timeout_ms = timeout_ms(flag_ns, HEAD_TIMEOUT_MS),
		.body_timeout_ms = timeout_ms(flag_ns, SILENCE_TIMEOUT_MS),
		.on_body = on_piece,
		.user = download};
	struct http_result result;
	int r;

	/* Two more: the loop's clock may be that far behind, and a time out must be seen as the last. */
	if (download->until_ms != INT64_MAX)
		options.total_timeout_ms = (uint32_t)MAX(MIN(left_ms, (int64_t)INT32_MAX), (int64_t)0) + 2;
	r = http_client_fetch(client, &options, &result);
	download->timed_out = download->timed_out || r == -ETIMEDOUT;
	if (download->error) {
		r = download->error;
		buf_printf(reterr, "cannot write %s: %s", part_path, strerror(-r));
	} else if (r < 0) {
		buf_printf(reterr, "%s: %s", endpoint, result.text);
	} else if (result.response.status != 200) {
		r = -EPROTO;
		add_refusal(reterr, endpoint, result.response.status, download->fd);
	}
	http_result_done(&result);
	return r;
}

/* Each endpoint begins anew: what another one has sent until it failed is no part of it. */
static int fetch_from_any(struct download *download, struct buf *reterr)
{
	struct slice rest = slice_str(download->from->endpoints), item;
	_cleanup_(http_client_alone_donep) struct http_client *client = NULL;
	int r = http_client_alone(&client, reterr);

	if (r < 0)
		return r;
	r = -EINVAL;
	while (rest.len && r < 0 && !download->error && time_mono_ms() < download->until_ms) {
		_cleanup_free_ char *url = NULL;

		(void)text_cut(rest, ',', &item, &rest);
		item = text_trim(item);
		if (!item.len)
			continue;
		url = mem_printf("%s%.*s", memmem(item.data, item.len, "://", 3) ? "" : "http://",
			(int)item.len, item.data);
		if (reterr->len)
			buf_add_str(reterr, "; ");
		if (ftruncate(download->fd, 0) < 0 || lseek(download->fd, 0, SEEK_SET) < 0) {
			r = download->error = -errno;
			buf_printf(reterr, "cannot write %s: %s", part_path, strerror(-r));
		} else {
			r = fetch(client, url, download, reterr);
		}
	}
	if (r < 0 && time_mono_ms() >= download->until_ms)
		buf_add_str(reterr, " (the time of --total-timeout is over)");
	else if (r < 0 && download->timed_out)
		buf_add_str(reterr, " (etcdctl --timeout DURATION snapshot save ... waits longer)");
	else if (r < 0 && !reterr->len)
		buf_add_str(reterr, "there is no endpoint to ask: give --endpoints");
	return r;
}

/* ---- The command ---- */

/* rename() would put the snapshot in the place of a device or a pipe too. */
static int check_target(const char *path, struct buf *reterr)
{
	struct stat st;
	const char *kind = lstat(path, &st) < 0 ? NULL : snapshot_odd_kind(st.st_mode);

	if (!kind)
		return 0; /* an error is told when the file beside it cannot be made */
	buf_printf(reterr, "%s is %s, which a snapshot does not replace: name another file", path, kind);
	return -EINVAL;
}

static int put_into_place(int fd, const char *path, struct buf *reterr)
{
	_cleanup_(checkpoint_unrefp) struct checkpoint *checkpoint = NULL;
	_cleanup_free_ char *dir = file_parent(path), *error = NULL;
	int r = fsync(fd) < 0 ? -errno : 0;

	if (r < 0) {
		buf_printf(reterr, "cannot write %s: %s", part_path, strerror(-r));
		return r;
	}
	r = snapshot_read(fd, part_path, &checkpoint, NULL, &error);
	if (r < 0) {
		buf_add_str(reterr, error);
		return r;
	}
	r = check_target(path, reterr);
	if (r < 0)
		return r;
	if (rename(part_path, path) < 0) {
		r = -errno;
		buf_printf(reterr, "cannot rename %s to %s: %s", part_path, path, strerror(-r));
		return r;
	}
	part_exists = 0;
	r = file_sync_dir(dir);
	if (r < 0)
		buf_printf(reterr,
			"it is there, but its name is not on the disk for certain (%s: %s); save it "
			"somewhere else",
			dir, strerror(-r));
	return r;
}

static int save_to(const struct snapshot_source *from, const char *path, struct buf *reterr)
{
	struct download download = {.from = from, .fd = -EBADF, .until_ms = INT64_MAX};
	int r = check_target(path, reterr);

	if (r < 0)
		return r;
	if (from->total_timeout_ns > 0)
		download.until_ms = time_mono_ms() + timeout_ms(from->total_timeout_ns, 0);
	r = download.fd = part_create(path);
	if (r < 0) {
		buf_printf(reterr, "cannot make a file beside %s: %s", path, strerror(-r));
		return r;
	}
	r = fetch_from_any(&download, reterr);
	if (r == 0) {
		buf_clear(reterr); /* of endpoints that were asked in vain */
		r = put_into_place(download.fd, path, reterr);
	}
	part_remove();
	(void)close(download.fd);
	return r;
}

int snapshot_save(const struct snapshot_source *from, int argc, char **argv)
{
	bool help = false;
	struct flag flags[] = {{.name = "help,h", .type = FLAG_BOOL, .value = &help}, {0}};
	_cleanup_buf_ struct buf why = BUF_INIT(0);
	int status;

	if (!snapshot_parse(flags, &help, argc, argv, &status))
		return status;
	if (save_to(from, argv[1], &why) < 0)
		return snapshot_fail("the snapshot was not saved: %s", buf_text(&why));
	(void)printf("Snapshot saved at %s\n", argv[1]);
	return 0;
}
