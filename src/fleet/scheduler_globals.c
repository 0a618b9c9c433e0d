/* What has changed of where global units run, for who keeps account of it elsewhere. */
#include <string.h>

#include "fleet/scheduler_internal.h"

#define SCHEDULER_CHANGES_MAX 4096

static void forget_changes(struct scheduler *s)
{
	arena_reset(&s->change_arena);
	s->change_count = 0;
	s->changes_told = s->changes_lost = false;
}

void scheduler_note_global(
	struct scheduler *s, const struct sched_unit *unit, const struct sched_machine *machine)
{
	if (s->changes_told)
		forget_changes(s);
	if (s->changes_lost || s->change_count == SCHEDULER_CHANGES_MAX) {
		s->changes_lost = true;
		return;
	}
	if (s->change_count == s->change_cap) {
		s->change_cap = s->change_cap ? s->change_cap * 2 : 16;
		s->changes =
			mem_reallocarray(s->changes, s->change_cap, sizeof(struct scheduler_global_change));
	}
	s->changes[s->change_count++] = (struct scheduler_global_change){
		.unit = arena_strndup(&s->change_arena, unit->name, strlen(unit->name)),
		.machine = arena_strndup(&s->change_arena, machine->id, strlen(machine->id))};
}

bool scheduler_global_changes(
	struct scheduler *s, const struct scheduler_global_change **ret_changes, size_t *ret_count)
{
	scheduler_refresh_globals(s);
	if (s->changes_told)
		forget_changes(s);
	s->changes_told = true;
	*ret_changes = s->changes;
	*ret_count = s->changes_lost ? 0 : s->change_count;
	return !s->changes_lost;
}
