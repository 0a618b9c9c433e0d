/* Fields are put together byte by byte, so that neither alignment nor the host's byte order matters;
 * compilers turn the loops into single moves. */
#include "base/wire.h"
#include <errno.h>

static void add_little(struct buf *out, uint64_t value, size_t len)
{
	unsigned char bytes[8];

	for (size_t i = 0; i < len; i++)
		bytes[i] = (unsigned char)(value >> (8 * i));
	buf_add(out, bytes, len);
}

void wire_add_u8(struct buf *out, uint8_t value)
{
	add_little(out, value, 1);
}

void wire_add_u16(struct buf *out, uint16_t value)
{
	add_little(out, value, 2);
}

void wire_add_u32(struct buf *out, uint32_t value)
{
	add_little(out, value, 4);
}

void wire_add_u64(struct buf *out, uint64_t value)
{
	add_little(out, value, 8);
}

void wire_add_varint(struct buf *out, uint64_t value)
{
	unsigned char bytes[10];
	size_t len = 0;

	while (value >= 0x80) {
		bytes[len++] = (unsigned char)(value | 0x80);
		value >>= 7;
	}
	bytes[len++] = (unsigned char)value;
	buf_add(out, bytes, len);
}

void wire_add_bytes(struct buf *out, struct slice bytes)
{
	wire_add_varint(out, bytes.len);
	buf_add_slice(out, bytes);
}

struct wire_reader wire_reader_make(struct slice bytes)
{
	const unsigned char *data = (const unsigned char *)bytes.data;

	return (struct wire_reader){.at = data, .end = bytes.len ? data + bytes.len : data};
}

/* A failed reader is moved to its end, so that every later read fails as well. */
static void fail(struct wire_reader *reader)
{
	reader->failed = true;
	reader->at = reader->end;
}

static uint64_t read_little(struct wire_reader *reader, size_t len)
{
	uint64_t value = 0;

	if (reader->failed || wire_left(reader) < len) {
		fail(reader);
		return 0;
	}
	for (size_t i = 0; i < len; i++)
		value |= (uint64_t)reader->at[i] << (8 * i);
	reader->at += len;
	return value;
}

uint8_t wire_read_u8(struct wire_reader *reader)
{
	return (uint8_t)read_little(reader, 1);
}

uint16_t wire_read_u16(struct wire_reader *reader)
{
	return (uint16_t)read_little(reader, 2);
}

uint32_t wire_read_u32(struct wire_reader *reader)
{
	return (uint32_t)read_little(reader, 4);
}

uint64_t wire_read_u64(struct wire_reader *reader)
{
	return read_little(reader, 8);
}

uint64_t wire_read_varint(struct wire_reader *reader)
{
	uint64_t value = 0;

	for (unsigned int shift = 0; shift < 70; shift += 7) {
		unsigned char byte;

		if (reader->failed || reader->at == reader->end)
			break;
		byte = *reader->at++;
		/* The tenth byte has room for one bit; a final zero byte would be a second spelling of the
		 * same number. */
		if ((shift == 63 && byte > 1) || (shift && !byte))
			break;
		value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return value;
	}
	fail(reader);
	return 0;
}

struct slice wire_read_bytes(struct wire_reader *reader)
{
	uint64_t len = wire_read_varint(reader);
	struct slice bytes;

	if (reader->failed || len > wire_left(reader)) {
		fail(reader);
		return slice_make("", 0);
	}
	bytes = slice_make(reader->at, (size_t)len);
	reader->at += len;
	return bytes;
}

size_t wire_left(const struct wire_reader *reader)
{
	return (size_t)(reader->end - reader->at);
}

int wire_finish(const struct wire_reader *reader)
{
	return reader->failed || reader->at != reader->end ? -EBADMSG : 0;
}
