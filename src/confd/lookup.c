/* getaddrinfo for addresses (it reads /etc/hosts and numbers too), the resolver's res_search for SRV records.
 */
#include "confd/lookup.h"
#include "base/buf.h"

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <stdlib.h>

#define ANSWER_MAX_BYTES (64 * 1024)

static int slice_order(const void *a, const void *b)
{
	return slice_compare(*(const struct slice *)a, *(const struct slice *)b);
}

static bool address_text(
	const struct addrinfo *info, enum lookup_family family, char text[static INET6_ADDRSTRLEN])
{
	const struct sockaddr_in *v4 = (const void *)info->ai_addr;
	const struct sockaddr_in6 *v6 = (const void *)info->ai_addr;

	if (info->ai_family == AF_INET)
		return family != LOOKUP_V6 && inet_ntop(AF_INET, &v4->sin_addr, text, INET6_ADDRSTRLEN);
	if (info->ai_family != AF_INET6)
		return false;
	if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
		return family != LOOKUP_V6 &&
		       inet_ntop(AF_INET, v6->sin6_addr.s6_addr + 12, text, INET6_ADDRSTRLEN);
	return family != LOOKUP_V4 && inet_ntop(AF_INET6, &v6->sin6_addr, text, INET6_ADDRSTRLEN);
}

size_t lookup_addresses(
	struct arena *arena, const char *host, enum lookup_family family, struct slice **ret_addresses)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *infos;
	struct slice *addresses;
	size_t count = 0, kept = 0;

	*ret_addresses = NULL;
	if (!host[0] || getaddrinfo(host, NULL, &hints, &infos) != 0)
		return 0;
	for (const struct addrinfo *info = infos; info; info = info->ai_next)
		count++;
	addresses = arena_alloc(arena, MAX(count, (size_t)1) * sizeof(*addresses));
	count = 0;
	for (const struct addrinfo *info = infos; info; info = info->ai_next) {
		char text[INET6_ADDRSTRLEN];

		if (address_text(info, family, text))
			addresses[count++] =
				slice_make(arena_strndup(arena, text, strlen(text)), strlen(text));
	}
	freeaddrinfo(infos);
	if (count)
		qsort(addresses, count, sizeof(*addresses), slice_order);
	for (size_t i = 0; i < count; i++)
		if (!kept || !slice_equal(addresses[kept - 1], addresses[i]))
			addresses[kept++] = addresses[i];
	*ret_addresses = addresses;
	return kept;
}

static uint16_t big16(const unsigned char *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

/* Reads the record at `at` (behind its name): answers the next one's place, or NULL when the answer is
 * broken. */
static const unsigned char *take_service(struct arena *arena, const unsigned char *answer,
	const unsigned char *end, const unsigned char *at, struct lookup_service *services, size_t *count)
{
	char target[NS_MAXDNAME];
	uint16_t type, len;

	if (end - at < 10)
		return NULL;
	type = big16(at);
	len = big16(at + 8);
	at += 10;
	if (end - at < len)
		return NULL;
	if (type == ns_t_srv && len > 6 && dn_expand(answer, end, at + 6, target, sizeof(target)) >= 0)
		services[(*count)++] = (struct lookup_service){
			.target = slice_str(arena_printf(arena, "%s.", target)),
			.port = big16(at + 4),
			.priority = big16(at),
			.weight = big16(at + 2),
		};
	return at + len;
}

size_t lookup_services(struct arena *arena, const char *name, struct lookup_service **ret_services)
{
	_cleanup_free_ unsigned char *answer = mem_alloc(ANSWER_MAX_BYTES);
	int len = res_search(name, ns_c_in, ns_t_srv, answer, ANSWER_MAX_BYTES);
	const unsigned char *at = answer + NS_HFIXEDSZ, *end;
	size_t questions, answers, count = 0;

	*ret_services = NULL;
	if (len < NS_HFIXEDSZ || len > ANSWER_MAX_BYTES)
		return 0;
	end = answer + len;
	questions = big16(answer + 4);
	answers = big16(answer + 6);
	*ret_services = arena_alloc(arena, MAX(answers, (size_t)1) * sizeof(**ret_services));
	for (size_t i = 0; i < questions; i++) {
		int skipped = dn_skipname(at, end);

		if (skipped < 0 || end - at < skipped + NS_QFIXEDSZ)
			return 0;
		at += skipped + NS_QFIXEDSZ;
	}
	for (size_t i = 0; i < answers && at; i++) {
		int skipped = dn_skipname(at, end);

		if (skipped < 0)
			break;
		at = take_service(arena, answer, end, at + skipped, *ret_services, &count);
	}
	return count;
}
