/* A member whose data is damaged gets it anew from the others (--rebuild). A voter that forgot its log and
 * its vote must not come back under its id, since it would not keep what it promised. So a new member takes
 * its place, with the same URLs and an id of its own: it gets the log without a vote, and its vote in the
 * step in which the old one loses its own. That the others agree to it, by a quorum without this one, is the
 * proof that there is one. */
#pragma once
#include "etcd/config.h"
#include "etcd/datadir.h"

/* Blocking, at start, with the directory's lock held and nobody using the log. Asks the others for the
 * replacement, moves the log aside (DIR/flotilla/damaged-...), and writes down who this member is now; the
 * start then goes on as that of one that joins. It may be called again after it was interrupted anywhere.
 * -errno with what to do in reterr: then the damaged files are where they were. */
int rebuild_member(const struct config *config, struct datadir *datadir, struct buf *reterr) _must_check_;
