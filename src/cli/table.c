#include "cli/table.h"

#include "base/alloc.h"

#include <string.h>

struct cell { const char *p; size_t len, width; };
struct line { struct cell *cells; size_t n; };

struct table {
	struct line *lines;
	size_t n;
	size_t minwidth, padding;
	size_t *widths, n_widths;
	struct sbuf *out;
};

/* Columns of a terminal are counted in characters, not bytes. */
static size_t count_chars(const char *p, size_t n)
{
	size_t w = 0;

	for (size_t i = 0; i < n; i++)
		w += ((unsigned char)p[i] & 0xc0) != 0x80;
	return w;
}

static struct line parse_line(const char *p, size_t n)
{
	struct line l = { .cells = NULL, .n = 1 };
	size_t k = 0;

	for (size_t i = 0; i < n; i++)
		l.n += p[i] == '\t';
	l.cells = new_array(struct cell, l.n);
	for (const char *end = p + n;; p++) {
		const char *tab = memchr(p, '\t', end - p);
		size_t len = (tab ? tab : end) - p;

		l.cells[k++] = (struct cell){ p, len, count_chars(p, len) };
		if (!tab)
			return l;
		p = tab;
	}
}

static void write_lines(struct table *t, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++) {
		struct line *l = &t->lines[i];

		for (size_t k = 0; k < l->n; k++) {
			sbuf_add(t->out, l->cells[k].p, l->cells[k].len);
			for (size_t w = l->cells[k].width; k < t->n_widths && w < t->widths[k]; w++)
				sbuf_putc(t->out, ' ');
		}
		sbuf_putc(t->out, '\n');
	}
}

/* Lines [from, to) share the columns that stand in widths; finds the blocks of the next column. */
static void format(struct table *t, size_t from, size_t to)
{
	size_t column = t->n_widths;

	for (size_t i = from; i < to; i++) {
		size_t width = t->minwidth, end = i;

		if (column + 1 >= t->lines[i].n)
			continue;
		write_lines(t, from, i);
		for (; end < to && column + 1 < t->lines[end].n; end++)
			width = MAX(width, t->lines[end].cells[column].width + t->padding);
		t->widths[t->n_widths++] = width;
		format(t, i, end);
		t->n_widths--;
		from = end;
		i = end - 1;
	}
	write_lines(t, from, to);
}

void table_format(const char *text, size_t minwidth, size_t padding, struct sbuf *out)
{
	struct table t = { .minwidth = minwidth, .padding = padding, .out = out };
	size_t max_cells = 0, cap = 0;

	while (*text) {
		size_t n = strcspn(text, "\n");

		if (t.n == cap) {
			cap = cap ? cap * 2 : 16;
			t.lines = xrealloc(t.lines, cap, sizeof(*t.lines));
		}
		t.lines[t.n] = parse_line(text, n);
		max_cells = MAX(max_cells, t.lines[t.n].n);
		t.n++;
		text += n + (text[n] == '\n');
	}
	t.widths = new_array(size_t, max_cells + 1);
	format(&t, 0, t.n);
	for (size_t i = 0; i < t.n; i++)
		free(t.lines[i].cells);
	free(t.lines);
	free(t.widths);
}
