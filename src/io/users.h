/* Users and groups by number, or as /etc/passwd and /etc/group have them. Not through NSS: a directory
 * service may be away, and a loop must not wait for it. -ESRCH: there is none. One thread at a time:
 * fgetpwent(3) has one buffer. */
#pragma once
#include "base/macros.h"
#include <sys/types.h>

/* *ret_gid is set only where the name stands in /etc/passwd; may be NULL. */
int users_find(const char *name, uid_t *ret_uid, gid_t *ret_gid) _must_check_;
int users_find_group(const char *name, gid_t *ret) _must_check_;
