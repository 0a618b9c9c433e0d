/* What the parts of `etcdctl snapshot` share. One run of the program, main thread, blocking. */
#pragma once
#include "base/flags.h"
#include "base/programs.h"
#include "checkpoint/checkpoint.h"
#include "store/store.h"
#include <sys/stat.h>

/* snapshot.c */
/* Prints "Error:  ..." and answers the exit status. */
int snapshot_fail(const char *format, ...) _printf_(1, 2);
int snapshot_usage(int status); /* prints it, and answers the status */
/* The flags and the one FILE of a command, which is argv[1] then. False: *ret_status is the command's end;
 * help was shown, or what is wrong was said. */
bool snapshot_parse(
	struct flag *flags, const bool *help, int argc, char **argv, int *ret_status) _must_check_;
/* "a directory", for messages; NULL for a regular file. */
const char *snapshot_odd_kind(mode_t mode);
/* Checks the whole file; ret_store may be NULL. -errno with a text, which names it as `path`. */
int snapshot_read(int fd, const char *path, struct checkpoint **ret_checkpoint, struct store **ret_store,
	char **ret_error) _must_check_;
/* The same by name; what is no regular file is refused. */
int snapshot_read_path(const char *path, struct checkpoint **ret_checkpoint, struct store **ret_store,
	char **ret_error) _must_check_;

/* The commands: argv[0] is the command's name; they answer the exit status. */
int snapshot_save(const struct snapshot_source *from, int argc, char **argv); /* snapshot_save.c */
int snapshot_restore(int argc, char **argv);				      /* snapshot_restore.c */
