/* What becomes an entry of the journal, and with which fields: those that journald gives a unit's output
 * (_SYSTEMD_UNIT=, _SYSTEMD_INVOCATION_ID=, who wrote it by the kernel's word), and those that systemd gives
 * what it says of a unit itself (UNIT=, INVOCATION_ID=). */
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/time.h"
#include "manager/keeper.h"
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#define IDENTIFIER_MAX 128

static char *of_host(struct keeper *keeper, char letter)
{
	struct buf text = BUF_INIT(1024);

	(void)host_specifier(keeper, letter, &text);
	return buf_take(&text, NULL);
}

int keeper_journal_open(struct keeper *keeper)
{
	_cleanup_free_ char *dir = mem_printf("%s/journal", keeper->dir);

	keeper->machine_id = of_host(keeper, 'm');
	keeper->boot_id = of_host(keeper, 'b');
	return journal_open(dir, keeper->journal_bytes_max, &keeper->journal);
}

void keeper_journal_close(struct keeper *keeper)
{
	keeper->journal = journal_close(keeper->journal);
	keeper->machine_id = mem_free(keeper->machine_id);
	keeper->boot_id = mem_free(keeper->boot_id);
}

/* One word, as it is printed before the message. */
static struct slice word_of(const char *identifier, char room[static IDENTIFIER_MAX])
{
	size_t len = 0;

	for (; identifier[len] && len < IDENTIFIER_MAX; len++)
		room[len] = (unsigned char)identifier[len] > ' ' && identifier[len] != 127 ? identifier[len]
											   : '_';
	if (!len)
		room[len++] = '_';
	return slice_make(room, len);
}

/* The unit goes on while its lines cannot be kept; how many those were stands where they would have stood, as
 * soon as something can be written again. */
static void note_lost(struct service *service, int result)
{
	uint64_t lost = service->lines_lost;
	_cleanup_free_ char *text = NULL;

	if (result < 0) {
		if (!lost)
			log_warning("cannot keep what %s prints: %s", service->name, strerror(-result));
		service->lines_lost++;
		return;
	}
	if (!lost)
		return;
	service->lines_lost = 0;
	text = mem_printf(
		"%s: %llu lines before this could not be kept.", service->name, (unsigned long long)lost);
	keeper_say(service, text);
	if (service->lines_lost) /* nor could this one */
		service->lines_lost = lost;
}

void keeper_log(struct service *service, const struct log_source *source, struct slice message)
{
	const struct keeper *keeper = service->keeper;
	char identifier[IDENTIFIER_MAX], numbers[4][TEXT_U64_BYTES];
	struct journal_field fields[] = {
		{"PRIORITY", text_from_u64((uint64_t)source->priority, numbers[0])},
		{"SYSLOG_IDENTIFIER", word_of(source->identifier, identifier)},
		{"_PID", text_from_u64((uint64_t)source->pid, numbers[1])},
		{"_UID", text_from_u64(source->uid, numbers[2])},
		{"_GID", text_from_u64(source->gid, numbers[3])},
		{"_HOSTNAME", slice_str(keeper->hostname)},
		{"_MACHINE_ID", slice_str(keeper->machine_id)},
		{"_BOOT_ID", slice_str(keeper->boot_id)},
		{"_TRANSPORT", source->driver ? SLICE_LITERAL("driver") : SLICE_LITERAL("stdout")},
		{source->driver ? "UNIT" : "_SYSTEMD_UNIT", slice_str(service->name)},
		{source->driver ? "INVOCATION_ID" : "_SYSTEMD_INVOCATION_ID", slice_str(source->invocation)},
	};
	size_t count = ARRAY_LEN(fields) - !source->invocation[0];

	int r = journal_append(
		keeper->journal, time_wall_ns() / 1000, time_mono_ns() / 1000, fields, count, message);

	note_lost(service, r);
}

void keeper_say(struct service *service, const char *text)
{
	struct log_source source = {.identifier = "flotilla",
		.invocation = service->invocation,
		.pid = getpid(),
		.uid = geteuid(),
		.gid = getegid(),
		.priority = LOG_INFO,
		.driver = true};

	keeper_log(service, &source, slice_str(text));
}
