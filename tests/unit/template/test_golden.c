/* The recorded behaviour of Go's text/template, for the cases that need none but the builtin functions. */
#include "golden.h"

static const struct golden_exclusion exclusions[] = {
	{"", ""},
};

int main(void)
{
	golden_suite.exclusions = exclusions;
	golden_suite.exclusion_count = ARRAY_LEN(exclusions);
	return golden_main();
}
