/* Entries as text, as journalctl prints them. */
#include "base/hash.h"
#include "base/json.h"
#include "base/text.h"
#include "manager/journal.h"
#include <stdio.h>
#include <time.h>

static const char *const output_names[] = {
	[JOURNAL_SHORT] = "short", [JOURNAL_CAT] = "cat", [JOURNAL_JSON] = "json"};

enum journal_output journal_output_from_name(struct slice name)
{
	if (!name.len)
		return JOURNAL_SHORT;
	for (size_t i = 0; i < ARRAY_LEN(output_names); i++)
		if (slice_is(name, output_names[i]))
			return (enum journal_output)i;
	return JOURNAL_OUTPUT_INVALID;
}

/* Removes colours (ESC [ … letter) and expands tabs, as journalctl does; false when other bytes cannot be
 * printed. */
static bool add_printable(struct slice text, struct buf *out)
{
	for (size_t i = 0; i < text.len;) {
		unsigned char c = (unsigned char)text.data[i];
		uint32_t rune;
		size_t size;

		if (c == 27 && i + 1 < text.len && text.data[i + 1] == '[') {
			size_t end = i + 2;

			while (end < text.len && (unsigned char)text.data[end] >= 0x20 &&
				(unsigned char)text.data[end] < 0x40)
				end++;
			i = end + 1;
			continue;
		}
		if (c == '\t') {
			buf_add_str(out, "        ");
			i++;
			continue;
		}
		size = text_utf8_decode(slice_make(text.data + i, text.len - i), &rune);
		if (!size || rune < ' ' || (rune >= 0x7F && rune < 0xA0))
			return false;
		buf_add(out, text.data + i, size);
		i += size;
	}
	return true;
}

static void add_message(struct slice text, struct buf *out)
{
	size_t before = out->len;

	if (text.len && text.data[text.len - 1] == '\r')
		text.len--;
	if (add_printable(text, out))
		return;
	buf_truncate(out, before);
	if (text.len < 1024)
		buf_printf(out, "[%zuB blob data]", text.len);
	else
		buf_printf(out, "[%.1fK blob data]", (double)text.len / 1024);
}

/* "Nov 22 08:05:30 host sleep[12]: " */
static void add_prefix(const struct journal_entry *entry, struct buf *out)
{
	time_t seconds = (time_t)(entry->realtime_us / 1000000);
	struct tm tm;
	char stamp[32];

	if (localtime_r(&seconds, &tm) && strftime(stamp, sizeof(stamp), "%b %d %H:%M:%S", &tm))
		buf_add_str(out, stamp);
	buf_add_char(out, ' ');
	buf_add_slice(out, journal_entry_value(entry, "_HOSTNAME"));
	buf_add_char(out, ' ');
	buf_add_slice(out, journal_entry_value(entry, "SYSLOG_IDENTIFIER"));
	buf_add_char(out, '[');
	buf_add_slice(out, journal_entry_value(entry, "_PID"));
	buf_add_str(out, "]: ");
}

/* What journalctl writes as a string: UTF-8 without control characters, but with tabs and newlines. */
static bool is_text(struct slice value)
{
	for (size_t i = 0; i < value.len;) {
		uint32_t rune;
		size_t size = text_utf8_decode(slice_make(value.data + i, value.len - i), &rune);

		if (!size || (rune < ' ' && rune != '\t' && rune != '\n') || (rune >= 0x7F && rune < 0xA0))
			return false;
		i += size;
	}
	return true;
}

static void add_json_value(struct slice value, struct buf *out)
{
	if (is_text(value)) {
		json_add_string(out, value);
		return;
	}
	for (size_t i = 0; i < value.len; i++)
		buf_printf(out, "%c%u", i ? ',' : '[', (unsigned char)value.data[i]);
	buf_add_char(out, ']');
}

static void add_json_field(const char *name, struct slice value, struct buf *out)
{
	buf_printf(out, ",\"%s\":", name);
	add_json_value(value, out);
}

static void add_json(const struct journal_entry *entry, struct buf *out)
{
	struct slice boot = journal_entry_value(entry, "_BOOT_ID");

	/* A place in the journal, of journald's parts: which journal, which entry, and when it was. */
	buf_add_str(out, "{\"__CURSOR\":\"s=");
	text_add_hex(out, entry->journal_id, 16);
	buf_printf(out, ";i=%llx;b=", (unsigned long long)entry->sequence);
	buf_add_slice(out, boot);
	buf_printf(out, ";m=%llx;t=%llx;x=%x\"", (unsigned long long)entry->monotonic_us,
		(unsigned long long)entry->realtime_us,
		(unsigned)crc32c(0, entry->message.data, entry->message.len));
	buf_printf(out, ",\"__REALTIME_TIMESTAMP\":\"%lld\",\"__MONOTONIC_TIMESTAMP\":\"%lld\"",
		(long long)entry->realtime_us, (long long)entry->monotonic_us);
	for (size_t i = 0; i < entry->field_count; i++)
		add_json_field(entry->fields[i].name, entry->fields[i].value, out);
	add_json_field("MESSAGE", entry->message, out);
	buf_add_char(out, '}');
}

void journal_print(const struct journal_entry *entry, enum journal_output output, struct buf *out)
{
	if (output == JOURNAL_JSON) {
		add_json(entry, out);
	} else {
		if (output == JOURNAL_SHORT)
			add_prefix(entry, out);
		add_message(entry->message, out);
	}
	buf_add_char(out, '\n');
}

void journal_print_damage(uint64_t bytes, enum journal_output output, struct buf *out)
{
	if (output == JOURNAL_JSON)
		buf_printf(out,
			"{\"PRIORITY\":\"4\",\"SYSLOG_IDENTIFIER\":\"flotilla\",\"_TRANSPORT\":\"driver\","
			"\"MESSAGE\":\"%llu bytes of damaged journal were skipped here\"}\n",
			(unsigned long long)bytes);
	else
		buf_printf(out, "-- %llu bytes of damaged journal skipped --\n", (unsigned long long)bytes);
}
