/* What survives a crash of the keeper, in its directory: `units/NAME` the texts, `state/NAME` what was wanted
 * and how it ended, `journal/` what they printed,
 * `timers/NAME` when a Persistent= timer last fired (its modification time), `id` a random name of this
 * directory, `life` which life of the machine the units belong to. Files are replaced by rename and not
 * synced: when the machine goes, its units are gone with it, and the first keeper of the next life forgets
 * them (the cluster decides anew what runs here). The journal and the timers' times are kept. */
#include "base/json.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/text.h"
#include "io/file.h"
#include "manager/keeper.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define STATE_FILE_MAX 65536
#define LEFTOVER_TIMEOUT_MS 2000

static int write_whole(const struct keeper *keeper, const char *path, struct slice bytes)
{
	_cleanup_free_ char *temporary = mem_printf("%s/write.tmp", keeper->dir);
	_cleanup_close_ int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	size_t done = 0;

	if (fd < 0)
		return -errno;
	while (done < bytes.len) {
		ssize_t len = write(fd, bytes.data + done, bytes.len - done);

		if (len < 0 && errno == EINTR)
			continue;
		if (len <= 0)
			return len < 0 ? -errno : -ENOSPC;
		done += (size_t)len;
	}
	return rename(temporary, path) < 0 ? -errno : 0;
}

int store_write_text(struct service *service)
{
	_cleanup_free_ char *path = mem_printf("%s/units/%s", service->keeper->dir, service->name);

	return write_whole(service->keeper, path, slice_make(service->text, service->text_len));
}

void store_write_state(struct service *service)
{
	_cleanup_free_ char *path = mem_printf("%s/state/%s", service->keeper->dir, service->name);
	_cleanup_buf_ struct buf text = BUF_INIT(0);

	buf_add_str(&text, "{\"hash\":");
	json_add_string(&text, slice_str(service->hash));
	buf_printf(&text, ",\"wanted\":%s,\"ended\":%s,\"failed\":%s,\"result\":%d,\"invocation\":\"%s\"",
		service->wanted ? "true" : "false", service_is_dead(service) ? "true" : "false",
		service->state == STATE_FAILED ? "true" : "false", (int)service->result, service->invocation);
	buf_printf(&text,
		",\"status\":%d,\"signal\":%s,\"exit_us\":%lld,\"start_us\":%lld,\"pid\":%d,\"changed_us\":%"
		"lld,\"trigger_us\":%lld}\n",
		service->main_exec.status, service->main_exec.by_signal ? "true" : "false",
		(long long)service->main_exec.exit_us, (long long)service->main_exec.start_us,
		(int)service->main_exec.pid, (long long)service->state_changed_us,
		(long long)service->trigger_us);
	service->store_dirty = false;
	(void)write_whole(service->keeper, path, buf_slice(&text)); /* a full disk must not stop units */
}

void store_remove(struct keeper *keeper, const char *name)
{
	_cleanup_free_ char *text = mem_printf("%s/units/%s", keeper->dir, name);
	_cleanup_free_ char *state = mem_printf("%s/state/%s", keeper->dir, name);

	_cleanup_free_ char *timer = mem_printf("%s/timers/%s", keeper->dir, name);

	(void)unlink(text);
	(void)unlink(state);
	(void)unlink(timer);
}

static void empty_directory(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			(void)unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
}

static int open_id(struct keeper *keeper)
{
	_cleanup_free_ char *path = mem_printf("%s/id", keeper->dir);
	_cleanup_buf_ struct buf text = BUF_INIT(4096), fresh = BUF_INIT(64);
	uint8_t random[16];
	struct slice id;

	if (file_read(path, STATE_FILE_MAX, &text) == 0) {
		id = text_trim(buf_slice(&text));
		if (id.len == KEEPER_ID_SIZE - 1 && strspn(text.data, "0123456789abcdef") == id.len) {
			memcpy(keeper->id, id.data, id.len);
			return 0;
		}
	}
	rng_system(random, sizeof(random));
	text_add_hex(&fresh, random, sizeof(random));
	memcpy(keeper->id, fresh.data, fresh.len);
	return write_whole(keeper, path, buf_slice(&fresh));
}

int store_open(struct keeper *keeper)
{
	static const char *const directories[] = {"", "/units", "/state", "/journal", "/timers"};
	_cleanup_free_ char *life_path = mem_printf("%s/life", keeper->dir);
	_cleanup_buf_ struct buf before = BUF_INIT(4096);
	char life[96];
	int r;

	for (size_t i = 0; i < ARRAY_LEN(directories); i++) {
		_cleanup_free_ char *path = mem_printf("%s%s", keeper->dir, directories[i]);

		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			return -errno;
	}
	r = open_id(keeper);
	if (r == 0)
		r = host_life(life);
	if (r < 0)
		return r;
	(void)!file_read(life_path, STATE_FILE_MAX, &before);
	if (slice_is(buf_slice(&before), life))
		return 0;
	for (size_t i = 1; i <= 2; i++) {
		_cleanup_free_ char *path = mem_printf("%s%s", keeper->dir, directories[i]);

		empty_directory(path);
	}
	return write_whole(keeper, life_path, slice_str(life));
}

static int64_t integer(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

/* Takes over what the last keeper knew; true when the unit ran or was about to. */
static bool restore(struct service *service, const json_t *state)
{
	const char *invocation = json_string_value(json_object_get(state, "invocation"));
	int64_t result = integer(state, "result");
	bool ended = json_is_true(json_object_get(state, "ended"));

	service->wanted = json_is_true(json_object_get(state, "wanted"));
	service->trigger_us = integer(state, "trigger_us");
	service->trigger_restored = service->trigger_us != 0;
	if (invocation && strlen(invocation) < sizeof(service->invocation))
		(void)snprintf(service->invocation, sizeof(service->invocation), "%s", invocation);
	if (!ended)
		return true;
	if (json_is_true(json_object_get(state, "failed")))
		service->state = STATE_FAILED;
	if (result >= 0 && result < RESULT_MAX)
		service->result = (enum service_result)result;
	service->state_changed_us = integer(state, "changed_us");
	service->inactive_enter_us = service->state_changed_us;
	service->main_exec = (struct exec_record){
		.pid = (pid_t)integer(state, "pid"),
		.start_us = integer(state, "start_us"),
		.exit_us = integer(state, "exit_us"),
		.exited = true,
		.by_signal = json_is_true(json_object_get(state, "signal")),
		.status = (int)integer(state, "status"),
	};
	return false;
}

static struct service *load_unit(struct keeper *keeper, const char *name, bool *ret_ran)
{
	_cleanup_free_ char *text_path = mem_printf("%s/units/%s", keeper->dir, name);
	_cleanup_free_ char *state_path = mem_printf("%s/state/%s", keeper->dir, name);
	_cleanup_buf_ struct buf text = BUF_INIT(UNIT_TEXT_MAX), state = BUF_INIT(STATE_FILE_MAX);
	const char *hash;
	struct service *service;
	json_t *json = NULL;

	*ret_ran = false;
	if (unit_name_validate(slice_str(name), NULL) < 0 || file_read(text_path, UNIT_TEXT_MAX, &text) < 0)
		return NULL;
	if (file_read(state_path, STATE_FILE_MAX, &state) == 0)
		json = json_loadb(buf_text(&state), state.len, 0, NULL);
	hash = json_string_value(json_object_get(json, "hash"));
	service = service_new(keeper, name, buf_slice(&text), hash ? hash : "");
	*ret_ran = json && restore(service, json);
	json_decref(json);
	return service;
}

int store_load_units(struct keeper *keeper)
{
	_cleanup_free_ char *path = mem_printf("%s/units", keeper->dir);
	struct strings again = {0}, invocations = {0};
	DIR *dir = opendir(path);
	struct dirent *entry;
	size_t killed;

	if (!dir)
		return -errno;
	while ((entry = readdir(dir)) && keeper->units.count < KEEPER_UNITS_MAX) {
		struct service *service;
		bool ran;

		service = load_unit(keeper, entry->d_name, &ran);
		if (!service)
			continue;
		list_push_back(&keeper->services, &service->entry);
		(void)map_put(&keeper->units, slice_str(service->name), service);
		if (service->invocation[0])
			strings_add(&invocations, service->invocation);
		if (ran && service->wanted)
			strings_add(&again, service->name);
	}
	closedir(dir);
	killed = tracker_kill_leftovers(&keeper->tracker, (const char *const *)invocations.items,
		invocations.count, LEFTOVER_TIMEOUT_MS);
	for (size_t i = 0; i < again.count; i++) {
		_cleanup_buf_ struct buf error = BUF_INIT(0);
		struct service *service = keeper_find(keeper, again.items[i]);

		service_say(service, "%s: the keeper was started again, and starts the unit anew.%s",
			service->name, killed ? " Processes left behind were killed." : "");
		(void)jobs_start(service, &error);
	}
	strings_done(&again);
	strings_done(&invocations);
	return 0;
}
