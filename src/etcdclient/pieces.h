/* Cuts the leaves out of a recursive answer as it arrives: the files and the empty directories, whole objects
 * that hold no other object. What is around them says nothing that a reader of the whole tree needs. Pure; no
 * more is kept than the leaf that has begun. */
#pragma once
#include "base/buf.h"

struct pieces {
	struct buf leaf; /* from its brace on; empty: none has begun */
	size_t depth;	 /* of objects that are open */
	bool begun, in_string, escaped;
};

void pieces_init(struct pieces *pieces, size_t leaf_max_bytes);
void pieces_done(struct pieces *pieces);
/* Reads on in `rest` (which moves) up to the end of the next leaf. 1: ret_leaf is one, until the next call;
 * 0: `rest` is used up; -EBADMSG: this is no answer, or a leaf is larger than allowed. */
int pieces_next(struct pieces *pieces, struct slice *rest, struct slice *ret_leaf) _must_check_;
/* Whether what has come is whole. */
bool pieces_are_complete(const struct pieces *pieces);
