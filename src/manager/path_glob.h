/* Whether anything matches a pattern of the file system (glob(7)): as glob(3), but it stops at the first
 * match and looks at no more than so many directory entries, since it runs in the keeper's loop. */
#pragma once
#include "base/macros.h"

/* pattern: absolute, in its simplest form. -E2BIG: nothing was found among the first `max` entries, and there
 * are more. */
int path_glob(const char *pattern, size_t max) _must_check_; /* 1: there is a match; 0: none */
