/* What a start takes along. First it is found out, then it is done: a start that cannot be has touched
 * nothing. A unit and what it requires, and what that requires, are one group, which is taken as a whole or
 * not at all. The group of the unit that was asked for comes first, and must be possible; then come those of
 * the units that a member wants, one after the other, and one that is not possible is left out: something in
 * it is not there, or it conflicts with what has been taken. What is up already is passed through, as what it
 * needs may not be; but it is not ended by what it would need to start, so that this counts as wanted. */
#include "base/memory.h"
#include "manager/activation.h"
#include "manager/jobs_internal.h"
#include <errno.h>

struct pull {
	struct service *asked;
	bool restart;
	struct service **members; /* the groups that were taken, and behind them the one that is looked at */
	size_t count, cap;
};

/* A stop that has not begun yet is taken back. */
static bool is_starting_or_up(const struct service *service)
{
	return service->job == JOB_START ||
	       (service->job != JOB_STOP &&
		       (service_is_active(service) ||
			       (service->state >= STATE_CONDITION && service->state <= STATE_START_POST)));
}

/* Whether the pull gives it a job. What is about to be restarted starts by itself in a moment. */
static bool starts(const struct pull *pull, const struct service *service)
{
	if (service->state == STATE_AUTO_RESTART)
		return false;
	return (pull->restart && service == pull->asked) || !is_starting_or_up(service);
}

static void add_member(struct pull *pull, struct service *service)
{
	if (service->job_pull == PULL_MEMBER)
		return;
	service->job_pull = PULL_MEMBER;
	if (pull->count == pull->cap) {
		pull->cap = pull->cap ? pull->cap * 2 : 16;
		pull->members = mem_reallocarray(pull->members, pull->cap, sizeof(struct service *));
	}
	pull->members[pull->count++] = service;
}

static int require(struct pull *pull, const struct service *service, enum dependency kind, const char *name,
	struct buf *reterr)
{
	struct service *other = keeper_find(service->keeper, name);

	if (!other || other->unloading) {
		if (host_provides(service->keeper, name))
			return 0;
		buf_printf(reterr, "Unit %s not found.", name);
		return -ENOENT;
	}
	if (kind != DEP_REQUISITE) {
		add_member(pull, other);
		return 0;
	}
	if (service_is_active(other))
		return 0;
	buf_printf(reterr, "Unit %s is not active.", name);
	return -ENOENT;
}

/* Adds to the group what a member that starts requires. */
static int require_all(struct pull *pull, struct service *service, struct buf *reterr)
{
	static const enum dependency kinds[] = {DEP_REQUIRES, DEP_BINDS_TO, DEP_REQUISITE};

	if (service->config.trigger && !service->config.error && !activation_target(service)) {
		buf_printf(reterr, "Unit %s, which it is to start, is not loaded.", service->config.trigger);
		return -ENOENT;
	}
	for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
		const struct strings *names = &service->config.dependencies[kinds[k]];

		for (size_t i = 0; i < names->count; i++) {
			int r = require(pull, service, kinds[k], names->items[i], reterr);

			if (r < 0)
				return r;
		}
	}
	list_for_each (it, &service->keeper->services) {
		struct service *other = list_item(it, struct service, entry);

		if (!other->unloading && jobs_says(other, DEP_REQUIRED_BY, service))
			add_member(pull, other);
	}
	return 0;
}

/* No two members may conflict with each other, if one of them is yet to start. */
static int check_conflicts(const struct pull *pull, struct buf *reterr)
{
	for (size_t i = 0; i < pull->count; i++) {
		const struct service *service = pull->members[i];
		const struct strings *names = &service->config.dependencies[DEP_CONFLICTS];

		for (size_t j = 0; j < names->count; j++) {
			const struct service *other = keeper_find(service->keeper, names->items[j]);

			if (!other || other == service || other->job_pull != PULL_MEMBER ||
				(!starts(pull, service) && !starts(pull, other)))
				continue;
			buf_printf(reterr, "Both %s and %s are needed, but they conflict with each other.",
				service->name, other->name);
			return -EDEADLK;
		}
	}
	return 0;
}

/* Takes a unit with all that it requires, or leaves everything as it was. */
static int take_group(struct pull *pull, struct service *service, struct buf *reterr)
{
	size_t before = pull->count;
	int r = 0;

	add_member(pull, service);
	for (size_t i = before; r == 0 && i < pull->count; i++)
		if (starts(pull, pull->members[i]))
			r = require_all(pull, pull->members[i], reterr);
	if (r == 0)
		r = check_conflicts(pull, reterr);
	if (r == 0)
		return 0;
	while (pull->count > before)
		pull->members[--pull->count]->job_pull = PULL_NONE;
	service->job_pull = PULL_LEFT_OUT; /* more members make it no more possible */
	return r;
}

static void want(struct pull *pull, struct service *other)
{
	_cleanup_buf_ struct buf ignored = BUF_INIT(0);

	if (other && !other->unloading && other->job_pull == PULL_NONE)
		(void)take_group(pull, other, &ignored);
}

static void want_all(struct pull *pull, struct service *service)
{
	static const enum dependency kinds[] = {DEP_REQUIRES, DEP_BINDS_TO, DEP_WANTS};

	if (service->state == STATE_AUTO_RESTART)
		return;
	for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
		const struct strings *names = &service->config.dependencies[kinds[k]];

		for (size_t i = 0; i < names->count; i++)
			want(pull, keeper_find(service->keeper, names->items[i]));
	}
	list_for_each (it, &service->keeper->services) {
		struct service *other = list_item(it, struct service, entry);

		if (jobs_says(other, DEP_REQUIRED_BY, service) || jobs_says(other, DEP_WANTED_BY, service))
			want(pull, other);
	}
}

/* Units of Conflicts=, in either direction, are stopped when one starts, and those that wait for their start
 * need not wait any more. */
static void stop_conflicting(struct service *service)
{
	list_for_each (it, &service->keeper->services) {
		struct service *other = list_item(it, struct service, entry);

		if (other != service && (!service_is_dead(other) || other->job == JOB_START) &&
			(jobs_says(service, DEP_CONFLICTS, other) ||
				jobs_says(other, DEP_CONFLICTS, service)))
			jobs_stop(other);
	}
}

/* Gives the jobs, and then stops what is in the way of any that got one. */
static void commit(struct pull *pull)
{
	size_t count = 0;

	for (size_t i = 0; i < pull->count; i++)
		if (starts(pull, pull->members[i]))
			pull->members[count++] = pull->members[i];
	for (size_t i = 0; i < count; i++)
		jobs_set(pull->members[i], JOB_START, true);
	for (size_t i = 0; i < count; i++)
		stop_conflicting(pull->members[i]);
}

int jobs_pull(struct service *service, bool restart, struct buf *reterr)
{
	struct pull pull = {.asked = service, .restart = restart};
	int r = take_group(&pull, service, reterr);

	for (size_t i = 0; r == 0 && i < pull.count; i++)
		want_all(&pull, pull.members[i]);
	if (r == 0)
		commit(&pull);
	list_for_each (it, &service->keeper->services)
		list_item(it, struct service, entry)->job_pull = PULL_NONE;
	free(pull.members);
	return r;
}
