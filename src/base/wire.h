/* Little-endian fields and varints, written to a struct buf and read by a cursor that never runs past its
 * end. Reading past the end or a malformed field sets `failed` and answers zeros: check once at the end.
 * Pure, any thread. */
#pragma once
#include "base/buf.h"

void wire_add_u8(struct buf *out, uint8_t value);
void wire_add_u16(struct buf *out, uint16_t value);
void wire_add_u32(struct buf *out, uint32_t value);
void wire_add_u64(struct buf *out, uint64_t value);
void wire_add_varint(struct buf *out, uint64_t value);	  /* LEB128, 1-10 bytes */
void wire_add_bytes(struct buf *out, struct slice bytes); /* varint length, then the bytes */

struct wire_reader {
	const unsigned char *at, *end;
	bool failed;
};
struct wire_reader wire_reader_make(struct slice bytes);
uint8_t wire_read_u8(struct wire_reader *reader);
uint16_t wire_read_u16(struct wire_reader *reader);
uint32_t wire_read_u32(struct wire_reader *reader);
uint64_t wire_read_u64(struct wire_reader *reader);
uint64_t wire_read_varint(struct wire_reader *reader);
struct slice wire_read_bytes(struct wire_reader *reader); /* borrowed from the input */
size_t wire_left(const struct wire_reader *reader);
/* 0 when everything was well-formed and used up, else -EBADMSG. */
int wire_finish(const struct wire_reader *reader) _must_check_;
