/* CRC-32C by the SSE4.2 instruction where the processor has it, else by table. The table hash is FNV-like
 * over 8-byte words with a strong final mix (the finaliser of splitmix64). */
#include "base/hash.h"
#include <string.h>
#include <pthread.h>
#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

uint64_t hash_u64(uint64_t value)
{
	value ^= value >> 30;
	value *= 0xbf58476d1ce4e5b9ULL;
	value ^= value >> 27;
	value *= 0x94d049bb133111ebULL;
	return value ^ (value >> 31);
}

uint64_t hash_bytes(const void *data, size_t len, uint64_t seed)
{
	const unsigned char *at = data;
	uint64_t hash = seed ^ (len * 0x9e3779b97f4a7c15ULL), word;

	for (; len >= 8; at += 8, len -= 8) {
		memcpy(&word, at, 8);
		hash = hash_u64(hash ^ word) + 0x9e3779b97f4a7c15ULL;
	}
	word = 0;
	if (len)
		memcpy(&word, at, len);
	return hash_u64(hash ^ word);
}

static uint32_t crc_table[256];
static pthread_once_t crc_once = PTHREAD_ONCE_INIT;

static void crc_init(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t crc = i;

		for (int bit = 0; bit < 8; bit++)
			crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78U : 0);
		crc_table[i] = crc;
	}
}

static uint32_t crc_by_table(uint32_t crc, const unsigned char *at, size_t len)
{
	(void)pthread_once(&crc_once, crc_init);
	while (len--)
		crc = (crc >> 8) ^ crc_table[(crc ^ *at++) & 0xff];
	return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc_by_instruction(
	uint32_t crc, const unsigned char *at, size_t len)
{
	uint64_t wide = crc, word;

	for (; len >= 8; at += 8, len -= 8) {
		memcpy(&word, at, 8);
		wide = _mm_crc32_u64(wide, word);
	}
	crc = (uint32_t)wide;
	while (len--)
		crc = _mm_crc32_u8(crc, *at++);
	return crc;
}
#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
	crc = ~crc;
#if defined(__x86_64__)
	if (__builtin_cpu_supports("sse4.2"))
		return ~crc_by_instruction(crc, data, len);
#endif
	return ~crc_by_table(crc, data, len);
}
