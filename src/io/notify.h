/* systemd's service protocols without libsystemd (sd_notify(3), sd_listen_fds(3)). */
#pragma once
#include "base/slice.h"

/* Sends "READY=1", "STATUS=...", "STOPPING=1", "WATCHDOG=1" (several separated by newlines) to NOTIFY_SOCKET.
 * 1 when sent, 0 when nobody asked to be told, -errno. Any thread. */
int notify_send(const char *text);
/* The watchdog's interval in ms that the manager asked this process for, or 0. Send WATCHDOG=1 every half of
 * it. */
uint64_t notify_watchdog_ms(void);
/* Number of listening sockets that were handed over (descriptors 3, 4, ...), or 0. They are set
 * close-on-exec, and the variables are removed so that children do not take them for theirs: call once, at
 * start, before any thread. */
enum { NOTIFY_LISTEN_FDS_START = 3 };
int notify_listen_fds(void);
