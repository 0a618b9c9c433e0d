/* An array that grows; a list is short, and is searched from its beginning. */
#include "manager/strings.h"
#include "base/memory.h"
#include <string.h>

#define STRINGS_MAX 16384

void strings_add(struct strings *strings, const char *text)
{
	if (strings->count >= STRINGS_MAX)
		return;
	if (strings->count == strings->cap) {
		strings->cap = strings->cap ? strings->cap * 2 : 4;
		strings->items = mem_reallocarray(strings->items, strings->cap, sizeof(char *));
	}
	strings->items[strings->count++] = mem_strdup(text);
}

void strings_done(struct strings *strings)
{
	for (size_t i = 0; i < strings->count; i++)
		free(strings->items[i]);
	free(strings->items);
	*strings = (struct strings){0};
}

bool strings_have(const struct strings *strings, const char *text)
{
	for (size_t i = 0; i < strings->count; i++)
		if (strcmp(strings->items[i], text) == 0)
			return true;
	return false;
}
