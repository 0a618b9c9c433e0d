/* A growing list of words. Pure; strings_add() copies, and drops what is beyond 16384 words. */
#pragma once
#include "base/macros.h"

struct strings {
	char **items; /* owned */
	size_t count, cap;
};
void strings_add(struct strings *strings, const char *text);
void strings_done(struct strings *strings);
bool strings_have(const struct strings *strings, const char *text);
