/* The scheduler alone: 10,000 units with metadata, conflicts and sidekicks on 1,000 machines, from nothing;
 * then one more at a time, and a machine that dies. Prints one line of JSON. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/time.h"
#include "fleet/scheduler.h"

#define MACHINES 1000
#define UNITS 10000
#define MORE 1000
#define GROUP 50 /* units of one group conflict with each other */

static double ms_since(int64_t begun_ns)
{
	return (double)(time_mono_ns() - begun_ns) / 1e6;
}

static void put_machine(struct scheduler *s, int number)
{
	char id[33], rack[16], region[16];
	const struct scheduler_pair metadata[] = {
		{"disk", number % 3 ? "hdd" : "ssd"}, {"rack", rack}, {"region", region}};

	(void)snprintf(id, sizeof(id), "%032x", number * 2654435761u);
	(void)snprintf(rack, sizeof(rack), "rack%d", number % 40);
	(void)snprintf(region, sizeof(region), "region%d", number % 4);
	scheduler_put_machine(s, id, metadata, 3);
}

/* Of ten units four have no rule, two want metadata, two conflict with those of their group, one does both,
 * and one goes where another one is. */
static char *rules_text(int number)
{
	int group = number / GROUP;

	switch (number % 10) {
	case 0:
	case 1:
		return mem_printf("[X-Fleet]\nMachineMetadata=region=region%d\n", group % 4);
	case 2:
	case 3:
		return mem_printf("[X-Fleet]\nConflicts=g%d-web@*.service\n", group);
	case 4:
		return mem_printf(
			"[X-Fleet]\nConflicts=g%d-web@*.service\nMachineMetadata=disk=ssd\n", group);
	case 5:
		return mem_printf("[X-Fleet]\nMachineOf=g%d-web@%d.service\n", group, number - 1);
	default:
		return mem_strdup("[X-Fleet]\n");
	}
}

struct prepared {
	char name[64];
	struct unit_requirements rules;
};

static struct prepared *prepare(int count)
{
	struct prepared *units = mem_new_array(struct prepared, (size_t)count);

	for (int i = 0; i < count; i++) {
		_cleanup_free_ char *text = rules_text(i);
		_cleanup_(unit_file_freep) struct unit_file *file = NULL;

		(void)snprintf(units[i].name, sizeof(units[i].name), "g%d-%s@%d.service", i / GROUP,
			i % 10 == 5 ? "side" : "web", i);
		if (unit_file_parse(slice_str(text), &file, NULL) < 0)
			abort();
		unit_requirements_read(file, slice_str(units[i].name), &units[i].rules);
	}
	return units;
}

static int by_value(const void *a, const void *b)
{
	double one = *(const double *)a, other = *(const double *)b;

	return (one > other) - (one < other);
}

int main(void)
{
	struct prepared *units = prepare(UNITS + MORE);
	_cleanup_(scheduler_freep) struct scheduler *s = scheduler_new();
	const struct scheduler_decision *decisions;
	double nothing_ms, more_ms[MORE], death_ms;
	size_t placed, moved, placed_more = 0;
	int64_t begun = time_mono_ns();
	char id[33];

	for (int i = 0; i < MACHINES; i++)
		put_machine(s, i);
	for (int i = 0; i < UNITS; i++)
		scheduler_put_unit(s, units[i].name, &units[i].rules, true);
	placed = scheduler_run(s, &decisions);
	nothing_ms = ms_since(begun);
	for (int i = 0; i < MORE; i++) {
		begun = time_mono_ns();
		scheduler_put_unit(s, units[UNITS + i].name, &units[UNITS + i].rules, true);
		placed_more += scheduler_run(s, &decisions);
		more_ms[i] = ms_since(begun);
	}
	begun = time_mono_ns();
	(void)snprintf(id, sizeof(id), "%032x", 500 * 2654435761u);
	scheduler_remove_machine(s, id);
	moved = scheduler_run(s, &decisions);
	death_ms = ms_since(begun);
	qsort(more_ms, MORE, sizeof(*more_ms), by_value);
	printf("{\"machines\": %d, \"units\": %d, \"placed\": %zu, \"from nothing ms\": %.2f, \"more\": %d, "
	       "\"placed more\": "
	       "%zu, \"one more ms median\": %.4f, \"one more ms worst\": %.4f, \"one dies, moved\": %zu, "
	       "\"one dies ms\": "
	       "%.3f}\n",
		MACHINES, UNITS, placed, nothing_ms, MORE, placed_more, more_ms[MORE / 2], more_ms[MORE - 1],
		moved, death_ms);
	for (int i = 0; i < UNITS + MORE; i++)
		unit_requirements_done(&units[i].rules);
	free(units);
	return 0;
}
