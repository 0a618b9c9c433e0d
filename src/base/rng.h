/* Seeded random generator (xoshiro256**, Blackman and Vigna 2018). The same seed gives the same numbers. Not
 * for secrets: see rng_system(). */
#pragma once
#include "base/macros.h"

struct rng {
	uint64_t state[4];
};

void rng_seed(struct rng *rng, uint64_t seed);
uint64_t rng_next(struct rng *rng);
uint64_t rng_below(struct rng *rng, uint64_t bound);	/* 0 … bound - 1; bound > 0 */
bool rng_chance(struct rng *rng, uint32_t per_million); /* true that often */
/* Bytes from the kernel's generator; ends the process if there are none. Shells only, never pure rooms. */
void rng_system(void *ret_bytes, size_t len);
