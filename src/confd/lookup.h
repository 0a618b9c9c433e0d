/* Names to addresses and services, blocking. An answer that does not come is an empty list, as in the
 * original. */
#pragma once
#include "base/memory.h"
#include "base/slice.h"

enum lookup_family { LOOKUP_ANY, LOOKUP_V4, LOOKUP_V6 };

struct lookup_service {
	struct slice target; /* with the dot at the end */
	uint16_t port, priority, weight;
};

/* The addresses of a host as text, sorted as texts; IPv4 in IPv6 shows as IPv4. */
size_t lookup_addresses(
	struct arena *arena, const char *host, enum lookup_family family, struct slice **ret_addresses);
/* The SRV records of a whole name ("_etcd._tcp.example.com."), in the order of the answer. */
size_t lookup_services(struct arena *arena, const char *name, struct lookup_service **ret_services);
