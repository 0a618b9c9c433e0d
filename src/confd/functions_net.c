/* Look-ups of names. */
#include "confd/functions.h"
#include "confd/lookup.h"

#include <stdlib.h>

static struct template_value service_target(const void *object)
{
	return template_text(((const struct lookup_service *)object)->target);
}

static struct template_value uint16_value(uint16_t value)
{
	return (struct template_value){.type = &template_type_uint16, .natural = value};
}

static struct template_value service_port(const void *object)
{
	return uint16_value(((const struct lookup_service *)object)->port);
}

static struct template_value service_priority(const void *object)
{
	return uint16_value(((const struct lookup_service *)object)->priority);
}

static struct template_value service_weight(const void *object)
{
	return uint16_value(((const struct lookup_service *)object)->weight);
}

static const struct template_field service_fields[] = {
	{"Target", service_target},
	{"Port", service_port},
	{"Priority", service_priority},
	{"Weight", service_weight},
};
static const struct template_type service_type = {
	.name = "net.SRV",
	.kind = TEMPLATE_STRUCT,
	.fields = service_fields,
	.field_count = ARRAY_LEN(service_fields),
};
static const struct template_type service_pointer = {
	.name = "*net.SRV", .kind = TEMPLATE_POINTER, .elem = &service_type};
const struct template_type function_type_services = {
	.name = "[]*net.SRV", .kind = TEMPLATE_LIST, .elem = &service_pointer};

static int lookup(
	struct template_call *call, struct slice host, enum lookup_family family, struct template_value *ret)
{
	struct slice *addresses;
	size_t found = lookup_addresses(
		call->arena, arena_strndup(call->arena, host.data, host.len), family, &addresses);

	*ret = template_list_new(call->arena, &template_type_strings, found);
	for (size_t i = 0; i < found; i++)
		ret->list.items[i] = template_text(addresses[i]);
	return 0;
}

FUNCTION(function_lookup_ip)
{
	(void)count;
	return lookup(call, args[0].text, LOOKUP_ANY, ret);
}

FUNCTION(function_lookup_ipv4)
{
	(void)count;
	return lookup(call, args[0].text, LOOKUP_V4, ret);
}

FUNCTION(function_lookup_ipv6)
{
	(void)count;
	return lookup(call, args[0].text, LOOKUP_V6, ret);
}

struct keyed_service {
	const char *text; /* target, port, priority, weight behind each other: the order of the list */
	const struct lookup_service *service;
};

static int service_compare(const void *a, const void *b)
{
	return strcmp(((const struct keyed_service *)a)->text, ((const struct keyed_service *)b)->text);
}

FUNCTION(function_lookup_srv)
{
	struct slice service = args[0].text, protocol = args[1].text, name = args[2].text;
	struct lookup_service *services;
	struct keyed_service *keyed;
	const char *whole;
	size_t found;

	(void)count;
	if (!service.len && !protocol.len)
		whole = arena_strndup(call->arena, name.data, name.len);
	else
		whole = arena_printf(call->arena, "_%.*s._%.*s.%.*s", (int)service.len, service.data,
			(int)protocol.len, protocol.data, (int)name.len, name.data);
	found = lookup_services(call->arena, whole, &services);
	*ret = template_list_new(call->arena, &function_type_services, found);
	if (!found)
		return 0;
	keyed = arena_alloc(call->arena, found * sizeof(*keyed));
	for (size_t i = 0; i < found; i++) {
		keyed[i].service = &services[i];
		keyed[i].text = arena_printf(call->arena, "%s%u%u%u", services[i].target.data,
			services[i].port, services[i].priority, services[i].weight);
	}
	qsort(keyed, found, sizeof(*keyed), service_compare);
	for (size_t i = 0; i < found; i++)
		ret->list.items[i] = template_object(&service_pointer, keyed[i].service);
	return 0;
}
