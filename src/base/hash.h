/* Checksums and hashes. Pure, any thread. */
#pragma once
#include "base/macros.h"

/* A fast 64-bit hash for tables; not for disk or wire, not against attackers without a secret seed. */
uint64_t hash_bytes(const void *data, size_t len, uint64_t seed);
/* A good mix of one 64-bit value. */
uint64_t hash_u64(uint64_t value);
/* CRC-32C (Castagnoli), as in RFC 3720 B.4: pass 0 first, then the last result to go on. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);
