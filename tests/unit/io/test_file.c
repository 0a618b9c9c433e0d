/* Files and the service manager protocol, in a temporary directory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "base/memory.h"
#include "io/file.h"
#include "io/notify.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[] = "/tmp/flotilla-test-XXXXXX";

static char *in_dir(const char *name)
{
	return mem_printf("%s/%s", dir, name);
}

static int make_dir(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	(void)state;
	return file_remove_all(dir);
}

static void a_file_is_read_up_to_its_ceiling(void **state)
{
	_cleanup_buf_ struct buf out = BUF_INIT(0), big = BUF_INIT(0);
	_cleanup_free_ char *path = in_dir("read");

	(void)state;
	buf_add_fill(&big, 'x', 300000);
	assert_int_equal(file_write_atomic(path, buf_slice(&big), NULL), 0);
	buf_add_str(&out, "kept");
	assert_int_equal(file_read(path, 299999, &out), -EFBIG);
	assert_string_equal(buf_text(&out), "kept");
	assert_int_equal(file_read(path, 300000, &out), 0);
	assert_int_equal(out.len, 300004);
	buf_clear(&out);
	assert_int_equal(file_read("/proc/self/stat", 100000, &out), 0);
	assert_true(out.len > 0);
	buf_clear(&out);
	assert_int_equal(file_read("/dev/zero", 100000, &out), -EFBIG);
	assert_int_equal(out.len, 0);
	assert_int_equal(file_read(dir, 100, &out), -EISDIR);
	assert_int_equal(file_read("/no/such/file", 100, &out), -ENOENT);
}

static void a_file_is_replaced_at_once_with_its_mode(void **state)
{
	_cleanup_free_ char *path = in_dir("atomic"), *missing = in_dir("missing/file");
	_cleanup_buf_ struct buf out = BUF_INIT(0);
	struct stat before, after;
	mode_t old = umask(077);

	(void)state;
	assert_int_equal(
		file_write_atomic(path, SLICE_LITERAL("one"), &(struct file_write_options){.mode = 0666}), 0);
	umask(old);
	assert_int_equal(stat(path, &before), 0);
	assert_int_equal(before.st_mode & 07777, 0666);
	assert_int_equal(file_write_atomic(path, SLICE_LITERAL("two"), NULL), 0);
	assert_int_equal(stat(path, &after), 0);
	assert_int_equal(after.st_mode & 07777, 0644);
	assert_int_not_equal(before.st_ino, after.st_ino);
	assert_int_equal(file_read(path, 100, &out), 0);
	assert_string_equal(buf_text(&out), "two");
	assert_int_equal(
		file_write_atomic(path, SLICE_LITERAL("x"), &(struct file_write_options){.exclusive = true}),
		-EEXIST);
	assert_int_equal(file_write_atomic(missing, SLICE_LITERAL("x"), NULL), -ENOENT);
	buf_clear(&out);
	assert_int_equal(file_read(path, 100, &out), 0);
	assert_string_equal(buf_text(&out), "two");
}

static void a_failed_write_leaves_nothing_behind(void **state)
{
	_cleanup_free_ char *sub = in_dir("sub"), *path = in_dir("sub/target"),
			    *inside = in_dir("sub/target/inside");

	(void)state;
	/* The target is a directory with something in it: rename() must fail, and the temporary file must go.
	 */
	assert_int_equal(file_mkdir_all(inside, 0755), 0);
	assert_true(file_write_atomic(path, SLICE_LITERAL("x"), NULL) < 0);
	assert_int_equal(rmdir(inside), 0);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(rmdir(sub), 0); /* else a temporary file is still in it */
}

static void a_file_is_replaced_whatever_the_length_of_its_name(void **state)
{
	char name[NAME_MAX + 2];
	_cleanup_buf_ struct buf out = BUF_INIT(0);

	(void)state;
	for (size_t len = NAME_MAX - 10; len <= NAME_MAX; len++) {
		_cleanup_free_ char *path = NULL;

		(void)memset(name, 'n', len);
		name[len] = '\0';
		path = in_dir(name);
		assert_int_equal(file_write_atomic(path, SLICE_LITERAL("old"), NULL), 0);
		assert_int_equal(file_write_atomic(path, SLICE_LITERAL("new"), NULL), 0);
		buf_clear(&out);
		assert_int_equal(file_read(path, 100, &out), 0);
		assert_string_equal(buf_text(&out), "new");
		assert_int_equal(unlink(path), 0);
	}
	(void)memset(name, 'n', NAME_MAX + 1);
	name[NAME_MAX + 1] = '\0';
	{
		_cleanup_free_ char *path = in_dir(name);

		assert_int_equal(file_write_atomic(path, SLICE_LITERAL("none"), NULL), -ENAMETOOLONG);
	}
}

static void a_directory_that_cannot_be_read_is_not_an_empty_one(void **state)
{
	_cleanup_free_ char *path = in_dir("maybe"), *file = in_dir("maybe/file"),
			    *hidden = in_dir("maybe/.x");
	bool any = true;

	(void)state;
	assert_int_equal(file_dir_has_files(path, &any), -ENOENT);
	assert_int_equal(file_mkdir_all(path, 0755), 0);
	assert_int_equal(file_write_atomic(hidden, SLICE_LITERAL("x"), NULL), 0);
	assert_int_equal(file_dir_has_files(path, &any), 0);
	assert_false(any);
	assert_int_equal(file_write_atomic(file, SLICE_LITERAL("x"), NULL), 0);
	assert_int_equal(file_dir_has_files(path, &any), 0);
	assert_true(any);
	assert_int_equal(file_dir_has_files(file, &any), -ENOTDIR);
	assert_int_equal(unlink(file), 0);
	assert_int_equal(unlink(hidden), 0);
	assert_int_equal(rmdir(path), 0);
}

static void directories_are_made_and_removed_as_trees(void **state)
{
	_cleanup_free_ char *deep = in_dir("a/b//c/"), *top = in_dir("a"), *file = in_dir("a/b/file"),
			    *below = in_dir("a/b/file/x"), *link = in_dir("a/link"), *kept = in_dir("kept");

	(void)state;
	assert_int_equal(file_mkdir_all(deep, 0755), 0);
	assert_int_equal(file_mkdir_all(deep, 0755), 0);
	assert_int_equal(file_write_atomic(file, SLICE_LITERAL("x"), NULL), 0);
	assert_int_equal(file_mkdir_all(file, 0755), -ENOTDIR);
	assert_int_equal(file_mkdir_all(below, 0755), -ENOTDIR);
	if (geteuid() == 0) {
		_cleanup_free_ char *foreign = in_dir("theirs/a/b");

		/* Why it cannot be made counts, not that the half that is missing is missing. */
		assert_int_equal(chmod(dir, 0755), 0);
		assert_int_equal(seteuid(65534), 0);
		assert_int_equal(file_mkdir_all(foreign, 0755), -EACCES);
		assert_int_equal(seteuid(0), 0);
	}
	assert_int_equal(file_mkdir_all(kept, 0755), 0);
	assert_int_equal(symlink(kept, link), 0);
	assert_int_equal(file_remove_all(top), 0);
	assert_false(file_exists(top));
	assert_true(file_exists(kept));
	assert_int_equal(file_remove_all(top), 0);
}

static void a_tree_of_any_depth_is_removed(void **state)
{
	_cleanup_free_ char *top = in_dir("deep"), *kept = in_dir("kept2"), *inside = in_dir("kept2/file");
	_cleanup_free_ char *file = in_dir("deep/.removed-1");
	int fd, next;

	(void)state;
	assert_int_equal(file_mkdir_all(kept, 0755), 0);
	assert_int_equal(file_write_atomic(inside, SLICE_LITERAL("x"), NULL), 0);
	assert_int_equal(file_mkdir_all(top, 0755), 0);
	assert_int_equal(file_write_atomic(file, SLICE_LITERAL("x"), NULL), 0);
	/* Far deeper than a path may be long, or descriptors are had; with a file and a link on each level.
	 */
	fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < 3000; i++) {
		int made = openat(fd, "file", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

		assert_true(fd >= 0 && made >= 0);
		close(made);
		assert_int_equal(symlinkat(kept, fd, "link"), 0);
		assert_int_equal(mkdirat(fd, "d", 0755), 0);
		next = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(fd);
		fd = next;
	}
	close(fd);
	assert_int_equal(file_remove_all(top), 0);
	assert_false(file_exists(top));
	assert_true(file_exists(inside));
	assert_int_equal(file_remove_all(kept), 0);
}

static void no_part_of_what_is_removed_below_a_root_is_a_link(void **state)
{
	_cleanup_free_ char *root = in_dir("root"), *away = in_dir("away/b"), *a = in_dir("away"),
			    *link = in_dir("root/a");
	_cleanup_free_ char *last = in_dir("root/last");

	(void)state;
	assert_int_equal(file_mkdir_all(away, 0755), 0);
	assert_int_equal(file_mkdir_all(root, 0755), 0);
	/* Who owned root/a has put a link in its place. */
	assert_int_equal(symlink(a, link), 0);
	assert_int_equal(file_remove_below(root, "a/b"), -ENOTDIR);
	assert_true(file_exists(away));
	/* A link as the last part goes itself. */
	assert_int_equal(symlink(a, last), 0);
	assert_int_equal(file_remove_below(root, "last/"), 0);
	assert_int_equal(file_remove_below(root, "nothing/at/all"), 0);
	assert_int_equal(file_remove_below(root, ".."), -EINVAL);
	assert_int_equal(file_remove_below(root, ""), -EINVAL);
	assert_true(file_exists(away) && !file_exists(last));
	assert_int_equal(file_remove_all(root), 0);
	assert_int_equal(file_remove_all(a), 0);
}

static void a_tree_gets_another_owner_and_links_lead_nowhere(void **state)
{
	_cleanup_free_ char *top = in_dir("owned"), *below = in_dir("owned/a/b"),
			    *file = in_dir("owned/a/b/f");
	_cleanup_free_ char *other = in_dir("other"), *link = in_dir("owned/a/link");
	_cleanup_close_ int fd = -1;
	struct stat st;

	(void)state;
	assert_int_equal(file_mkdir_all(below, 0755), 0);
	assert_int_equal(file_mkdir_all(other, 0755), 0);
	assert_int_equal(file_write_atomic(file, SLICE_LITERAL("x"), NULL), 0);
	assert_int_equal(symlink(other, link), 0);
	fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	if (geteuid() == 0) {
		assert_int_equal(file_chown_all(fd, 65534, 65533), 0);
		assert_int_equal(stat(file, &st), 0);
		assert_true(st.st_uid == 65534 && st.st_gid == 65533);
		assert_int_equal(lstat(link, &st), 0);
		assert_true(st.st_uid == 65534);
		assert_int_equal(stat(other, &st), 0);
		assert_true(st.st_uid == 0);
	} else {
		assert_int_equal(file_chown_all(fd, geteuid(), getegid()), 0);
	}
	assert_int_equal(file_remove_all(top), 0);
	assert_int_equal(file_remove_all(other), 0);
}

static void directories_are_made_below_a_root_and_not_through_links(void **state)
{
	_cleanup_free_ char *root = in_dir("made"), *away = in_dir("away"), *link = in_dir("made/link"),
			    *file = in_dir("made/file"), *last = in_dir("made/a/b"),
			    *not_made = in_dir("away/x");
	struct stat st;
	bool made = false;
	int fd;

	(void)state;
	assert_int_equal(file_mkdir_all(root, 0755), 0);
	assert_int_equal(file_mkdir_all(away, 0755), 0);
	assert_int_equal(symlink(away, link), 0);
	assert_int_equal(file_write_atomic(file, SLICE_LITERAL("x"), NULL), 0);
	for (int i = 0; i < 2; i++) {
		fd = file_make_below(root, "a/b", 0700, &made);
		assert_true(fd >= 0 && made == (i == 0));
		close(fd);
	}
	assert_int_equal(stat(last, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(file_make_below(root, "link", 0700, &made), -ELOOP);
	assert_int_equal(file_make_below(root, "link/x", 0700, &made), -ELOOP);
	assert_false(file_exists(not_made));
	assert_int_equal(file_make_below(root, "file", 0700, &made), -ENOTDIR);
	assert_int_equal(file_make_below(root, "file/x", 0700, &made), -ENOTDIR);
	assert_int_equal(file_make_below(root, "../x", 0700, &made), -EINVAL);
	assert_int_equal(file_make_below(away, "b/../c", 0700, &made), -EINVAL);
	assert_int_equal(file_make_below(not_made, "a", 0700, &made), -ENOENT);
	assert_int_equal(file_remove_all(root), 0);
	assert_int_equal(file_remove_all(away), 0);
}

/* What was synced, in order: paths below `dir`. */
static struct buf synced = BUF_INIT(4096);

/* In the place of the C library's. */
int fsync(int fd)
{
	_cleanup_free_ char *link = mem_printf("/proc/self/fd/%d", fd);
	char path[256];
	ssize_t len = readlink(link, path, sizeof(path));

	if (len > (ssize_t)strlen(dir) && memcmp(path, dir, strlen(dir)) == 0)
		buf_printf(&synced, "%.*s ", (int)(len - (ssize_t)strlen(dir)), path + strlen(dir));
	return (int)syscall(SYS_fsync, fd);
}

static void names_of_new_directories_are_durable(void **state)
{
	_cleanup_free_ char *first = in_dir("d"), *deep = in_dir("d/e//f/"), *deeper = in_dir("d/e/f/g");

	(void)state;
	assert_int_equal(file_mkdir_all(first, 0755), 0);
	buf_clear(&synced);
	assert_int_equal(file_mkdir_all(deep, 0755), 0);
	assert_string_equal(buf_text(&synced), "/d /d/e ");
	buf_clear(&synced);
	assert_int_equal(file_mkdir_all(deep, 0755), 0);
	assert_string_equal(buf_text(&synced), "");
	assert_int_equal(file_mkdir_all(deeper, 0755), 0);
	assert_string_equal(buf_text(&synced), "/d/e/f ");
	buf_done(&synced);
	assert_int_equal(file_remove_all(first), 0);
}

static void a_directory_has_one_holder(void **state)
{
	_cleanup_close_ int fd = -1, second = -1;
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(file_lock_dir(dir, "lock", &fd), 0);
	assert_int_equal(file_lock_dir(dir, "lock", &second), -EWOULDBLOCK);
	assert_int_equal(second, -1);
	pid = fork();
	if (pid == 0) {
		int other;

		_exit(file_lock_dir(dir, "lock", &other) == -EWOULDBLOCK ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	closep(&fd);
	assert_int_equal(file_lock_dir(dir, "lock", &fd), 0);
}

static void notifications_reach_the_manager(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	_cleanup_free_ char *path = in_dir("notify");
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char bytes[100] = "";

	(void)state;
	unsetenv("NOTIFY_SOCKET");
	assert_int_equal(notify_send("READY=1"), 0);
	strcpy(address.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	setenv("NOTIFY_SOCKET", path, 1);
	assert_int_equal(notify_send("READY=1\nSTATUS=up"), 1);
	assert_int_equal(recv(fd, bytes, sizeof(bytes) - 1, MSG_DONTWAIT), 17);
	assert_string_equal(bytes, "READY=1\nSTATUS=up");
	setenv("NOTIFY_SOCKET", "relative", 1);
	assert_int_equal(notify_send("READY=1"), -EAFNOSUPPORT);
	setenv("NOTIFY_SOCKET", "/no/such/socket", 1);
	assert_int_equal(notify_send("READY=1"), -ENOENT);
	unsetenv("NOTIFY_SOCKET");
	setenv("WATCHDOG_USEC", "30000000", 1);
	assert_int_equal(notify_watchdog_ms(), 30000);
	setenv("WATCHDOG_PID", "1", 1);
	assert_int_equal(notify_watchdog_ms(), 0);
}

static void inherited_sockets_are_counted_once(void **state)
{
	char pid[20];
	int status;
	pid_t child = fork();

	(void)state;
	if (child == 0) {
		int fds[2], ok;

		(void)!pipe(fds);
		(void)dup2(fds[0], 3);
		(void)dup2(fds[1], 4);
		snprintf(pid, sizeof(pid), "%d", (int)getpid());
		setenv("LISTEN_PID", pid, 1);
		setenv("LISTEN_FDS", "2", 1);
		ok = notify_listen_fds() == 2 && (fcntl(3, F_GETFD) & FD_CLOEXEC) &&
		     (fcntl(4, F_GETFD) & FD_CLOEXEC) && !getenv("LISTEN_FDS") && notify_listen_fds() == 0;
		setenv("LISTEN_PID", "1", 1);
		setenv("LISTEN_FDS", "2", 1);
		ok = ok && notify_listen_fds() == 0;
		_exit(ok ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_is_read_up_to_its_ceiling),
		cmocka_unit_test(a_file_is_replaced_at_once_with_its_mode),
		cmocka_unit_test(a_failed_write_leaves_nothing_behind),
		cmocka_unit_test(a_file_is_replaced_whatever_the_length_of_its_name),
		cmocka_unit_test(a_directory_that_cannot_be_read_is_not_an_empty_one),
		cmocka_unit_test(directories_are_made_and_removed_as_trees),
		cmocka_unit_test(a_tree_of_any_depth_is_removed),
		cmocka_unit_test(no_part_of_what_is_removed_below_a_root_is_a_link),
		cmocka_unit_test(a_tree_gets_another_owner_and_links_lead_nowhere),
		cmocka_unit_test(directories_are_made_below_a_root_and_not_through_links),
		cmocka_unit_test(names_of_new_directories_are_durable),
		cmocka_unit_test(a_directory_has_one_holder),
		cmocka_unit_test(notifications_reach_the_manager),
		cmocka_unit_test(inherited_sockets_are_counted_once),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
