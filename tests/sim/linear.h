/* Is a history of operations on one key linearizable? (Herlihy and Wing 1990; the search is Wing and Gong's,
 * 1993, with Lowe's memory of configurations seen, 2017.) Each write writes a value of its own, so most
 * operations tell what they saw, which keeps the search narrow. Pure. */
#pragma once
#include "base/macros.h"

enum lin_kind { LIN_SET, LIN_CREATE, LIN_UPDATE, LIN_CAS, LIN_CAD, LIN_DELETE, LIN_GET, LIN_KIND_MAX };
enum lin_result {
	LIN_OK,
	LIN_MISSING,  /* the key was not there */
	LIN_EXISTS,   /* create: it was */
	LIN_MISMATCH, /* CAS, CAD: another value was there */
	LIN_UNKNOWN,  /* no answer: happened at any time after the call, or never */
};

#define LIN_ABSENT 0u
#define LIN_NOT_TOLD UINT32_MAX

struct lin_op {
	enum lin_kind kind;
	enum lin_result result;
	int64_t call_ns, return_ns; /* return_ns means nothing when unknown */
	uint32_t value;		    /* what a write writes; not LIN_ABSENT */
	uint32_t expect;	    /* CAS, CAD */
	uint32_t seen;	/* the value before it (of a get: its value), LIN_ABSENT, or LIN_NOT_TOLD */
	uint64_t order; /* of writes that succeeded: they came in this order, says the store; 0: not told */
};

enum lin_verdict { LIN_FINE, LIN_VIOLATION, LIN_UNDECIDED /* the search was cut off */ };

/* The key is absent at first. *ret_stuck: on a violation, the operation behind the longest order that was
 * found. */
enum lin_verdict lin_check(const struct lin_op *ops, size_t count, size_t steps_max, size_t *ret_stuck);
