/* Numbers for Prometheus, in its text format (version 0.0.4). */
#pragma once
#include "base/buf.h"

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4"

/* type: "counter" or "gauge". A name may be given once. */
void metrics_add(struct buf *out, const char *name, const char *type, const char *help, uint64_t value);
/* One name with a label: the head once, then a line for each value. */
void metrics_add_head(struct buf *out, const char *name, const char *type, const char *help);
void metrics_add_labelled(
	struct buf *out, const char *name, const char *label, const char *label_value, uint64_t value);
/* This process: its resident memory, its processor time, and when it was started (seconds since 1970). */
void metrics_add_process(struct buf *out, uint64_t start_s);
