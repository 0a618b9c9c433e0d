/* The recorded behaviour of Go's text/template, for the cases that use confd's functions. */
#include "../template/golden.h"
#include "confd/functions.h"

static const struct golden_exclusion exclusions[] = {
	{"", ""},
};

int main(void)
{
	golden_suite.funcs = confd_funcs;
	golden_suite.func_count = confd_func_count;
	golden_suite.wants_funcs = true;
	golden_suite.exclusions = exclusions;
	golden_suite.exclusion_count = ARRAY_LEN(exclusions);
	return golden_main();
}
