/* Bits of the records in store/snapshot.h (inside the store). */
#pragma once
#include "store/command.h"

enum { NODE_RECORD_DIR = 1, NODE_RECORD_EXPIRES = 2, NODE_RECORD_ALL = 3 };
enum { EVENT_RECORD_REFRESH = 1 };
enum { SIDE_PRESENT = 1, SIDE_DIR = 2, SIDE_EXPIRES = 4, SIDE_VALUE = 8, SIDE_SHARED = 16, SIDE_ALL = 31 };
/* A command's path, and the number that a create in order puts behind it. */
enum { SNAPSHOT_PATH_MAX = STORE_PATH_MAX + 32 };
/* Indices are counted up by one for each change: none gets here. Leaves room for arithmetic. */
#define SNAPSHOT_INDEX_MAX (UINT64_C(1) << 62)
