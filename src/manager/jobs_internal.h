/* What jobs.c and jobs_pull.c have in common. */
#pragma once
#include "manager/keeper.h"

/* jobs.c */
/* The unit's own text names the other. */
bool jobs_says(const struct service *service, enum dependency kind, const struct service *on);
/* The same, where Wants= and Requires= may also stand in the other unit, in its [Install] section. */
bool jobs_depends(const struct service *service, enum dependency kind, const struct service *on);
void jobs_set(struct service *service, enum job_kind kind, bool manual);

/* jobs_pull.c */
/* Gives the unit, and what it needs, a job to start, and stops what conflicts with any of them. With
 * `restart` the unit gets one also when it is up. -ENOENT, -EDEADLK with the reason in `reterr`: it cannot
 * start, and nothing was done. */
int jobs_pull(struct service *service, bool restart, struct buf *reterr);
