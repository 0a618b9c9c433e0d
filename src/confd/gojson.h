/* JSON as the template functions json and jsonArray read it: Go's encoding/json into interface{} values,
 * numbers as float64, with its error texts (which jansson cannot give, nor its leniency with broken UTF-8).
 * Pure. */
#pragma once
#include "template/value.h"

#define GOJSON_DEPTH_MAX 1000

/* type: &template_type_map or &template_type_list; null gives the nil one. -EINVAL with the message. */
int gojson_decode(struct arena *arena, struct slice text, const struct template_type *type,
	struct template_value *ret_value, struct buf *reterr) _must_check_;
