/* What the parts of fmt share (inside the room): the printer with the flags of the verb at work, and how
 * numbers and texts are printed by it. */
#pragma once
#include "template/format.h"

struct printer {
	struct arena *arena;
	struct buf *out;
	int width, precision;
	bool has_width, has_precision;
	bool minus, plus, sharp, space, zero, plus_v, sharp_v;
	bool erroring; /* inside %!verb(...): no further error texts, no String() */
	bool reordered, good_index;
};

/* format.c: the error text for a verb that does not suit its value. */
void printer_bad_verb(struct printer *p, struct template_value value, uint32_t verb);

/* format_scalar.c. Each answers for a bad verb itself, but the text's, which answers false. */
void printer_add_padded(struct printer *p, struct slice text);	      /* to the width, by the flags */
struct slice printer_truncated(struct printer *p, struct slice text); /* to the precision */
void printer_add_integer(
	struct printer *p, struct template_value value, uint64_t bits, bool is_signed, uint32_t verb);
void printer_add_float(struct printer *p, struct template_value value, uint32_t verb);
void printer_add_complex(struct printer *p, struct template_value value, uint32_t verb);
bool printer_add_text(struct printer *p, struct slice text, uint32_t verb);
