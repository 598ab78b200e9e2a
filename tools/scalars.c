/* Tables of numbers over the steps of a training, and TensorBoard's events beside them. */
#include "tools/scalars.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/events.h"
#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "engine/base/str.h"

enum { TABLES = 4, MOST_BYTES = 1 << 30 /* of a table that is gone on with */ };

typedef struct table {
    char *name, *path;
    FILE *file;
} table;

struct scalars {
    char *dir;
    int64_t first; /* step of this run */
    nn_events *events;
    table tables[TABLES];
    int n_tables;
};

nn_status scalars_open(const char *dir, int64_t step, scalars **out)
{
    NN_TRY(nn_file_make_dir(dir));
    scalars *s = nn_alloc(1, sizeof(*s));
    NN_NEED(s);
    s->first = step;
    s->dir = nn_strdup(dir);
    nn_status status = s->dir ? nn_events_open(dir, step, &s->events) : NN_MEMORY;
    if (status != NN_OK) {
        scalars_close(s);
        return status;
    }
    *out = s;
    return NN_OK;
}

/* Of the text of a table its head and the rows before `first`. NN_ARGUMENT: another head. */
static nn_status keep_rows(const table *t, const char *text, const char *head, int64_t first,
                           nn_text *out)
{
    const size_t length = strlen(head);
    if (strncmp(text, head, length) != 0)
        return nn_fail(NN_ARGUMENT, "%s: has other columns than this run writes; move it away",
                       t->path);
    NN_TRY(nn_text_add(out, "%s", head));
    const char *end;
    for (const char *row = text + length; (end = strchr(row, '\n')); row = end + 1)
        if (strtoll(row, NULL, 10) < first) NN_TRY(nn_text_add_bytes(out, row, end + 1 - row));
    return NN_OK;
}

/* The file as it has to be before rows of `first` and later steps are added. */
static nn_status make_file(const table *t, const char *head, int64_t first)
{
    nn_text rows = { 0 };
    char *old = NULL;
    int64_t n;
    nn_status status = NN_OK;
    if (nn_file_exists(t->path)) {
        NN_TRY(nn_file_read(t->path, MOST_BYTES, &old, &n));
        status = keep_rows(t, old, head, first, &rows);
    } else
        status = nn_text_add(&rows, "%s", head);
    if (status == NN_OK) status = nn_file_write(t->path, rows.text, rows.length);
    nn_text_free(&rows);
    nn_free(old);
    return status;
}

static nn_status open_file(table *t, int64_t first, const nn_field *fields, int n_fields)
{
    nn_text head = { 0 };
    nn_status status = nn_text_add(&head, "step");
    for (int i = 0; i < n_fields && status == NN_OK; i++)
        status = nn_text_add(&head, ",%s", fields[i].name);
    if (status == NN_OK) status = nn_text_add(&head, "\n");
    if (status == NN_OK) status = make_file(t, head.text, first);
    nn_text_free(&head);
    NN_TRY(status);
    t->file = fopen(t->path, "a");
    return t->file ? NN_OK : nn_fail(NN_IO, "%s: cannot open: %s", t->path, strerror(errno));
}

static nn_status find_table(scalars *s, const char *name, table **out)
{
    for (int i = 0; i < s->n_tables; i++) {
        *out = &s->tables[i];
        if (!strcmp(name, (*out)->name)) return NN_OK;
    }
    NN_ASSERT(s->n_tables < TABLES);
    table *t = &s->tables[s->n_tables];
    t->name = nn_strdup(name);
    t->path = nn_format("%s/%s.csv", s->dir, name);
    s->n_tables++; /* scalars_close frees what is there */
    *out = t;
    return t->name && t->path ? NN_OK : NN_MEMORY;
}

static nn_status add_row(const table *t, int64_t step, const nn_field *fields, int n_fields)
{
    fprintf(t->file, "%" PRId64, step);
    for (int i = 0; i < n_fields; i++) fprintf(t->file, ",%.9g", fields[i].value);
    fputc('\n', t->file);
    if (fflush(t->file) == 0) return NN_OK;
    clearerr(t->file);
    return nn_fail(NN_IO, "%s: cannot write: %s", t->path, strerror(errno));
}

nn_status scalars_add(scalars *s, const char *name, int64_t step, const nn_field *fields,
                      int n_fields)
{
    char tag[128];
    table *t;
    NN_TRY(find_table(s, name, &t));
    if (!t->file) NN_TRY(open_file(t, s->first, fields, n_fields));
    NN_TRY(add_row(t, step, fields, n_fields));
    for (int i = 0; i < n_fields; i++) {
        snprintf(tag, sizeof(tag), "%s/%s", name, fields[i].name);
        NN_TRY(nn_events_number(s->events, step, tag, fields[i].value));
    }
    return NN_OK;
}

nn_status scalars_picture(scalars *s, int64_t step, const char *tag, int64_t height, int64_t width,
                          const void *png, int64_t n)
{
    return nn_events_picture(s->events, step, tag, height, width, png, n);
}

void scalars_close(scalars *s)
{
    if (!s) return;
    for (int i = 0; i < s->n_tables; i++) {
        if (s->tables[i].file) fclose(s->tables[i].file);
        nn_free(s->tables[i].name);
        nn_free(s->tables[i].path);
    }
    nn_events_close(s->events);
    nn_free(s->dir);
    nn_free(s);
}
