/* Writes JSON as Go's encoding/json does: compact, < > & and U+2028/2029 escaped, \n \r \t short, other
 * control bytes \u00xx, each invalid byte \ufffd. Parsing is jansson's. Pure, any thread. */
#pragma once
#include "base/buf.h"

void json_add_string(struct buf *out, struct slice text); /* with the quotes */
