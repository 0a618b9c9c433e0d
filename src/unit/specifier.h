/* systemd's specifiers (systemd.unit(5)) for everything but [X-Fleet]. Pure: what the host knows comes from
 * the caller. */
#pragma once
#include "unit/unit.h"

struct unit_specifiers {
	struct unit_name name;
	/* Appends what stands for `letter` on this host; false: this host does not know it (the specifier
	 * stays as it is). Asked for all but the letters that come from the name. */
	bool (*host)(void *userdata, char letter, struct buf *out);
	void *userdata;
};
/* Appends `text` with its specifiers replaced; %% is a percent sign, unknown ones stay. -ENOBUFS past out's
 * ceiling. */
int unit_specifiers_expand(
	const struct unit_specifiers *specifiers, struct slice text, struct buf *out) _must_check_;
/* Undoes systemd's escaping of names: '-' is '/', \xHH a byte. */
void unit_name_unescape(struct slice text, struct buf *out);
