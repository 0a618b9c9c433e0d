/* What `systemctl status` prints of a unit. */
#include "base/memory.h"
#include "base/time.h"
#include "manager/directives.h"
#include "manager/activation.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define LOG_LINES 10
#define PROCESSES_MAX 64

void status_describe_exit(const struct exec_record *record, struct buf *out)
{
	const char *name;

	if (record->by_signal) {
		name = unit_signal_name(record->status);
		buf_printf(out, "code=%s, status=%d/%s", record->dumped ? "dumped" : "killed", record->status,
			name ? name : "n/a");
		return;
	}
	name = exit_status_name(record->status);
	buf_printf(out, "code=exited, status=%d/%s", record->status, name ? name : "n/a");
}

/* "5s", "1min 30s", "2h 3min", "3 days": at most two parts. */
static void add_age(int64_t us, struct buf *out)
{
	static const struct {
		int64_t us;
		const char *text;
	} units[] = {{31557600000000, "y"}, {2629800000000, "month"}, {604800000000, "w"},
		{86400000000, " day"}, {3600000000, "h"}, {60000000, "min"}, {1000000, "s"}, {1000, "ms"},
		{1, "us"}};
	int parts = 0;

	if (us <= 0) {
		buf_add_str(out, "0");
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(units) && parts < 2; i++) {
		int64_t count = us / units[i].us;

		if (!count || (parts && units[i].us < 1000))
			continue;
		if (us >= 60000000 && units[i].us < 1000000)
			break; /* minutes and up show no fractions of a second */
		buf_printf(out, "%s%lld%s%s", parts ? " " : "", (long long)count, units[i].text,
			count > 1 && (units[i].text[0] == ' ' || units[i].text[0] == 'm') &&
					units[i].us >= 86400000000
				? "s"
				: "");
		us -= count * units[i].us;
		parts++;
	}
}

static void add_since(int64_t when_us, struct buf *out)
{
	int64_t age_us = time_wall_ns() / 1000 - when_us;
	time_t seconds = (time_t)(when_us / 1000000);
	char text[64];
	struct tm tm;

	if (!when_us || !localtime_r(&seconds, &tm) ||
		!strftime(text, sizeof(text), "%a %Y-%m-%d %H:%M:%S %Z", &tm))
		return;
	buf_printf(out, " since %s; ", text);
	/* As systemd, ages above a second are shown in whole seconds. */
	add_age(age_us >= 1000000 ? age_us - age_us % 1000000 : age_us, out);
	buf_add_str(out, " ago");
}

static const char *dot(const struct service *service)
{
	if (service->state == STATE_FAILED)
		return "\xc3\x97"; /* × */
	if (service->state == STATE_DEAD)
		return "\xe2\x97\x8b"; /* ○ */
	return "\xe2\x97\x8f";	       /* ● */
}

static void add_active(const struct service *service, struct buf *out)
{
	const char *active = service_state_active(service->state);
	int64_t when_us = service->state_changed_us;

	if (service_is_active(service) && service->active_enter_us)
		when_us = service->active_enter_us;
	buf_printf(out, "     Active: %s", active);
	if (service->result != RESULT_SUCCESS &&
		(service->state == STATE_FAILED || service->state == STATE_AUTO_RESTART))
		buf_printf(out, " (%s%sResult: %s)",
			service->state == STATE_FAILED ? "" : service_state_sub(service->state),
			service->state == STATE_FAILED ? "" : ") (", service_result_name(service->result));
	else if (strcmp(active, service_state_sub(service->state)) != 0)
		buf_printf(out, " (%s)", service_state_sub(service->state));
	if (service->state != STATE_DEAD || service->inactive_enter_us)
		add_since(when_us, out);
	buf_add_char(out, '\n');
	if (service->active_enter_us && service->active_exit_us > service->active_enter_us &&
		(service->state == STATE_DEAD || service->state == STATE_FAILED)) {
		int64_t duration = service->active_exit_us - service->active_enter_us;

		buf_add_str(out, "   Duration: ");
		add_age(duration >= 1000 ? duration - duration % 1000 : duration, out);
		buf_add_char(out, '\n');
	}
}

/* "Trigger: Sun 2026-11-29 21:00:00 UTC; 3min 2s left" */
static void add_next(const struct service *service, struct buf *out)
{
	int64_t next_us = timer_unit_next_us(service), left_us = next_us - time_wall_ns() / 1000;
	time_t seconds = (time_t)(next_us / 1000000);
	char text[64];
	struct tm tm;

	if (strcmp(service->kind->type, "timer") != 0)
		return;
	if (!next_us || !localtime_r(&seconds, &tm) ||
		!strftime(text, sizeof(text), "%a %Y-%m-%d %H:%M:%S %Z", &tm)) {
		buf_add_str(out, "    Trigger: n/a\n");
		return;
	}
	buf_printf(out, "    Trigger: %s; ", text);
	add_age(left_us >= 1000000 ? left_us - left_us % 1000000 : left_us, out);
	buf_add_str(out, " left\n");
}

/* Who starts this unit, and which one this starts. */
static void add_triggers(const struct service *service, struct buf *out)
{
	const struct service *triggered = activation_target(service);
	bool first = true;

	list_for_each (it, &service->keeper->services) {
		const struct service *other = list_item(it, struct service, entry);

		if (!other->config.trigger || strcmp(other->config.trigger, service->name) != 0)
			continue;
		buf_printf(
			out, "%s %s %s\n", first ? "TriggeredBy:" : "            ", dot(other), other->name);
		first = false;
	}
	add_next(service, out);
	if (triggered)
		buf_printf(out, "   Triggers: %s %s\n", dot(triggered), triggered->name);
	for (size_t i = 0; i < service->config.socket.count; i++)
		buf_printf(out, "%s %s (%s)\n",
			i ? "            " : "     Listen:", service->config.socket.specs[i].address,
			listen_type_name(service->config.socket.specs[i].type));
}

static void add_process(const char *kind, const struct exec_record *record, struct buf *out)
{
	if (!record->pid || !record->exited || !record->command)
		return;
	buf_printf(out, "    Process: %d %s=%s (", (int)record->pid, kind, record->command);
	status_describe_exit(record, out);
	buf_add_str(out, ")\n");
}

static void add_main(const struct service *service, struct buf *out)
{
	const struct exec_record *record = &service->main_exec;
	char name[64];

	if (service->main_pid) {
		process_name(service->main_pid, name, sizeof(name));
		buf_printf(out, "   Main PID: %d (%s)\n", (int)service->main_pid, name);
	} else if (record->pid && record->exited) {
		buf_printf(out, "   Main PID: %d (", (int)record->pid);
		status_describe_exit(record, out);
		buf_add_str(out, ")\n");
	}
	if (service->control_pid) {
		process_name(service->control_pid, name, sizeof(name));
		buf_printf(out, "  Cntrl PID: %d (%s)\n", (int)service->control_pid, name);
	}
}

/* The command line with its words separated by blanks; the name in brackets when it has none. */
static void add_command_line(pid_t pid, struct buf *out)
{
	char path[64], text[2048];
	_cleanup_close_ int fd = -1;
	ssize_t len;

	(void)snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	len = fd < 0 ? 0 : read(fd, text, sizeof(text));
	while (len > 0 && !text[len - 1])
		len--;
	if (len <= 0) {
		process_name(pid, text, sizeof(text));
		buf_printf(out, "[%s]", text);
		return;
	}
	for (ssize_t start = 0, i = 0; i <= len; i++) {
		struct slice word;

		if (i < len && text[i])
			continue;
		word = slice_make(text + start, (size_t)(i - start));
		buf_add_str(out, start ? " " : "");
		/* Words with blanks are quoted, as systemctl does. */
		bool quote =
			!word.len || memchr(word.data, ' ', word.len) || memchr(word.data, ';', word.len);
		buf_add_str(out, quote ? "\"" : "");
		for (size_t j = 0; j < word.len; j++) {
			unsigned char c = (unsigned char)word.data[j];

			if (quote && (c == '"' || c == '\\' || c == '$' || c == '`'))
				buf_add_char(out, '\\');
			if (c == '\n')
				buf_add_str(out, "\\n");
			else
				buf_add_char(out, c < ' ' || c == 127 ? '?' : (char)c);
		}
		buf_add_str(out, quote ? "\"" : "");
		start = i + 1;
	}
}

/* What the service says of itself. */
static void add_notified(const struct service *service, struct buf *out)
{
	if (service->notify_text)
		buf_printf(out, "     Status: \"%s\"\n", service->notify_text);
	if (service->notify_errno)
		buf_printf(out, "      Error: %d (%s)\n", service->notify_errno,
			strerror(service->notify_errno));
}

static void add_tree(struct service *service, struct buf *out)
{
	_cleanup_free_ char *cgroup = NULL;
	struct pids pids = service_pids(service, true);

	if (pids.count) {
		cgroup = service->uses_cgroup ? tracker_unit_path(&service->keeper->tracker, service->name)
					      : NULL;
		buf_printf(out, "     CGroup: %s\n", cgroup ? cgroup : "n/a (processes found by session)");
	}
	for (size_t i = 0; i < pids.count && i < PROCESSES_MAX; i++) {
		bool last = i + 1 == pids.count || i + 1 == PROCESSES_MAX;

		buf_printf(out, "             %s%d ",
			last ? "\xe2\x94\x94\xe2\x94\x80" : "\xe2\x94\x9c\xe2\x94\x80", (int)pids.items[i]);
		add_command_line(pids.items[i], out);
		buf_add_char(out, '\n');
	}
	pids_done(&pids);
}

/* The last lines of the journal, below an empty one. */
static void add_log(const struct service *service, struct buf *out)
{
	struct journal_query query = {.unit = service->name, .lines = LOG_LINES};
	struct journal_reader *reader;
	struct journal_entry entry;
	enum journal_step step;
	uint64_t damaged;
	bool any = false;

	if (journal_reader_new(service->keeper->journal, &query, &reader) < 0)
		return;
	while ((step = journal_reader_next(reader, &entry, &damaged)) != JOURNAL_END) {
		if (step == JOURNAL_WORK)
			continue;
		if (!any)
			buf_add_char(out, '\n');
		any = true;
		if (step == JOURNAL_ENTRY)
			journal_print(&entry, JOURNAL_SHORT, out);
		else
			journal_print_damage(damaged, JOURNAL_SHORT, out);
	}
	journal_reader_free(reader);
}

static void add_warnings(const struct service *service, struct buf *out)
{
	const struct strings *lists[] = {&service->config.warnings, &service->run_warnings};
	bool first = true;

	for (size_t list = 0; list < ARRAY_LEN(lists); list++) {
		for (size_t i = 0; i < lists[list]->count; i++) {
			buf_printf(out, "%s %s\n", first ? "    Warning:" : "            ",
				lists[list]->items[i]);
			first = false;
		}
	}
}

void status_text(struct service *service, struct buf *out)
{
	_cleanup_buf_ struct buf title = BUF_INIT(0);

	service_title(service, &title);
	buf_printf(out, "%s %s\n", dot(service), buf_text(&title));
	buf_printf(out, "     Loaded: %s (%s/units/%s; runtime)\n", service_load_name(service),
		service->keeper->dir, service->name);
	add_active(service, out);
	add_triggers(service, out);
	for (size_t i = 0; i < EXEC_KIND_MAX; i++)
		add_process(exec_kind_name((enum exec_kind)i),
			i == EXEC_START && service->config.type != SERVICE_FORKING
				? &service->main_exec
				: &service->control_exec[i],
			out);
	add_main(service, out);
	add_notified(service, out);
	add_tree(service, out);
	add_warnings(service, out);
	add_log(service, out);
}
