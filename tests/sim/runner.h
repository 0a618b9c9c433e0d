/* What the simulators' programs share: many seeds, several at a time, those that once failed, a summary in a
 * file. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct runner_switch {
	const char *name;  /* "--verbose" */
	const char *title; /* of what ran, in the results; NULL: not told there */
	bool *value;
};
struct runner {
	const char *name;		      /* the program's */
	const struct runner_switch *switches; /* ends with a name of NULL */
	void *summary; /* numbers of eight bytes only; the first is that of nanoseconds of CPU */
	size_t summary_size;
	void (*run_seed)(uint64_t seed, void *summary);
	bool (*is_found)(const void *summary); /* whether there is a finding */
	void (*print)(FILE *out, const void *summary, int64_t ran_ns);
	const bool *stop; /* at the first finding; NULL: never */
};

/* Takes [--seed S] [--seeds N] [--minutes M] [--jobs J] [--regress FILE] [--results FILE] [--version NAME]
 * and the switches, runs, and prints. The exit status: 0 without a finding, 1 with one, 2 for trouble. */
int runner_main(const struct runner *runner, int argc, char **argv);
