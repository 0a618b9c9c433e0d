/* Go's text/tabwriter with minimal width 0, padding 1 and tabs as padding: a column is as wide as its widest
 * cell plus one, rounded up to a multiple of 8; the last column is not padded. */
#include <stdlib.h>

#include "base/text.h"
#include "fleetctl/fleetctl.h"

#define TAB 8

static size_t width_of(const char *cell)
{
	struct slice text = slice_str(cell);
	size_t width = 0;

	while (text.len) {
		uint32_t code_point;
		size_t len = text_utf8_decode(text, &code_point);

		len = len ? len : 1;
		text = slice_make(text.data + len, text.len - len);
		width++;
	}
	return width;
}

void ctl_table_add(struct table *table, const char *cell)
{
	if (table->count == table->cap) {
		table->cap = table->cap ? table->cap * 2 : 64;
		table->cells = mem_reallocarray(table->cells, table->cap, sizeof(char *));
	}
	table->cells[table->count++] = mem_strdup(cell);
}

void ctl_table_print(const struct table *table, struct buf *out)
{
	_cleanup_free_ size_t *widths = mem_new_array(size_t, table->columns + 1);

	if (!table->columns)
		return;
	for (size_t i = 0; i < table->count; i++) {
		size_t width = (width_of(table->cells[i]) + 1 + TAB - 1) / TAB * TAB;

		widths[i % table->columns] = MAX(widths[i % table->columns], width);
	}
	for (size_t i = 0; i < table->count; i++) {
		size_t column = i % table->columns, width = width_of(table->cells[i]);

		buf_add_str(out, table->cells[i]);
		if (column + 1 == table->columns)
			buf_add_char(out, '\n');
		else
			buf_add_fill(out, '\t', (widths[column] - width + TAB - 1) / TAB);
	}
}

void ctl_table_done(struct table *table)
{
	for (size_t i = 0; i < table->count; i++)
		free(table->cells[i]);
	free(table->cells);
	*table = (struct table){0};
}
