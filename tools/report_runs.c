/* Curves of trainings: the tables that --logging-dir leaves, several runs in each chart. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/alloc.h"
#include "engine/base/file.h"
#include "tools/report.h"

enum {
    WIDTH = 320,
    HEIGHT = 200,
    LEFT = 52,
    RIGHT = 10,
    TOP = 10,
    BOTTOM = 24,
    TICKS = 4,
    POINTS = 200, /* of a line; more rows are averaged */
    MOST_COLUMNS = 24,
    MOST_BYTES = 1 << 30
};

typedef struct table {
    char *text; /* of the file; the names below are parts of it */
    const char *name[MOST_COLUMNS];
    int n_columns; /* the first is the step */
    double *cells; /* [n_rows, n_columns] */
    int64_t n_rows, capacity;
} table;

static const char *const kinds[] = { "train", "validation" };
enum { KINDS = NN_COUNT(kinds) };

typedef struct run {
    const char *dir;
    table of[KINDS];
} run;

typedef struct chart {
    const run *runs;
    int n_runs, kind;
    const char *name;
    double x[2], y[2]; /* least and most */
    double tick;       /* between the lines of the grid; y begins and ends at such lines */
} chart;

/* -- reading ----------------------------------------------------------------------------------- */

/* Names apart, and the line behind them. */
static char *read_head(table *t)
{
    char *end = t->text + strcspn(t->text, "\n");
    char *line = *end ? end + 1 : end;
    *end = 0;
    for (char *at = t->text; at && t->n_columns < MOST_COLUMNS;) {
        char *comma = strchr(at, ',');
        t->name[t->n_columns++] = at;
        if (comma) *comma++ = 0;
        at = comma;
    }
    return line;
}

static nn_status read_rows(table *t, const char *path, char *at)
{
    for (int64_t line = 2; *at; line++) {
        char *end;
        NN_TRY(nn_grow(&t->cells, &t->capacity, (t->n_rows + 1) * t->n_columns - 1,
                       sizeof(*t->cells)));
        for (int c = 0; c < t->n_columns; c++) {
            t->cells[t->n_rows * t->n_columns + c] = strtod(at, &end);
            if (end == at || *end != (c + 1 < t->n_columns ? ',' : '\n'))
                return nn_fail(NN_FORMAT, "%s:%lld: %d numbers are expected, as many as columns",
                               path, (long long)line, t->n_columns);
            at = end + 1;
        }
        t->n_rows++;
    }
    return NN_OK;
}

static nn_status read_table(const char *dir, const char *kind, table *t)
{
    int64_t n;
    char *path = nn_format("%s/%s.csv", dir, kind);
    NN_NEED(path);
    nn_status status = nn_file_exists(path) ? nn_file_read(path, MOST_BYTES, &t->text, &n) : NN_OK;
    if (status == NN_OK && t->text) {
        char *rows = read_head(t);
        status =
            strcmp(t->name[0], "step") == 0
                ? read_rows(t, path, rows)
                : nn_fail(NN_FORMAT, "%s: its first column is '%s', not 'step'", path, t->name[0]);
    }
    nn_free(path);
    return status;
}

static nn_status read_run(const char *dir, run *r)
{
    r->dir = dir;
    for (int k = 0; k < KINDS; k++) NN_TRY(read_table(dir, kinds[k], &r->of[k]));
    if (!r->of[0].text)
        return nn_fail(NN_NOT_FOUND,
                       "%s: has no train.csv; name a folder that a training was given "
                       "as --logging-dir",
                       dir);
    return NN_OK;
}

/* The number of a column, or -1. */
static int column(const table *t, const char *name)
{
    for (int c = 1; c < t->n_columns; c++)
        if (!strcmp(name, t->name[c])) return c;
    return -1;
}

/* -- drawing ----------------------------------------------------------------------------------- */

/* Point p of a line: the mean of its rows. false: none of them is a number. */
static bool point_at(const table *t, int c, int64_t p, double *x, double *y)
{
    const int64_t points = nn_min(t->n_rows, POINTS);
    const int64_t first = p * t->n_rows / points, last = (p + 1) * t->n_rows / points;
    int64_t n = 0;
    *x = *y = 0;
    for (int64_t i = first; i < last; i++) {
        const double *row = t->cells + i * t->n_columns;
        if (!isfinite(row[c])) continue;
        *x += row[0];
        *y += row[c];
        n++;
    }
    *x /= (double)n;
    *y /= (double)n;
    return n > 0;
}

static void extend(double range[2], double x)
{
    range[0] = fmin(range[0], x);
    range[1] = fmax(range[1], x);
}

/* From the range of the values to one that begins and ends at numbers of few digits. */
static void choose_ticks(chart *ch)
{
    static const double steps[] = { 1, 2, 2.5, 5 };
    const double span = fmax(ch->y[1] - ch->y[0], 0.1 * fmax(fabs(ch->y[0]), fabs(ch->y[1])));
    const double least = span > 0 ? span / TICKS : 1, power = pow(10, floor(log10(least)));
    ch->tick = 10 * power;
    for (int i = NN_COUNT(steps) - 1; i >= 0; i--)
        if (steps[i] * power >= least * (1 - 1e-9)) ch->tick = steps[i] * power;
    ch->y[0] = floor(ch->y[0] / ch->tick) * ch->tick;
    ch->y[1] = fmax(ceil(ch->y[1] / ch->tick) * ch->tick, ch->y[0] + ch->tick);
}

static bool measure(chart *ch)
{
    double x, y;
    ch->x[0] = ch->y[0] = INFINITY;
    ch->x[1] = ch->y[1] = -INFINITY;
    for (int k = 0; k < ch->n_runs; k++) {
        const table *t = &ch->runs[k].of[ch->kind];
        const int c = column(t, ch->name);
        for (int64_t p = 0; c > 0 && p < nn_min(t->n_rows, POINTS); p++) {
            if (!point_at(t, c, p, &x, &y)) continue;
            extend(ch->x, x);
            extend(ch->y, y);
        }
    }
    if (!isfinite(ch->y[0])) return false;
    if (ch->x[0] == ch->x[1]) ch->x[1] += 1;
    choose_ticks(ch);
    return true;
}

static double across(const chart *ch, double x)
{
    return LEFT + (WIDTH - LEFT - RIGHT) * (x - ch->x[0]) / (ch->x[1] - ch->x[0]);
}

static double up(const chart *ch, double y)
{
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (y - ch->y[0]) / (ch->y[1] - ch->y[0]);
}

static nn_status write_axes(const chart *ch, nn_text *out)
{
    const int n = (int)((ch->y[1] - ch->y[0]) / ch->tick + 0.5);
    for (int i = 0; i <= n; i++) {
        const double y = ch->y[0] + i * ch->tick;
        NN_TRY(nn_text_add(out,
                           "<line class=grid x1=%d x2=%d y1=%.1f y2=%.1f />"
                           "<text x=%d y=%.1f text-anchor=end>%.4g</text>",
                           LEFT, WIDTH - RIGHT, up(ch, y), up(ch, y), LEFT - 6, up(ch, y) + 4, y));
    }
    return nn_text_add(out,
                       "<text x=%d y=%d text-anchor=start>%.0f</text>"
                       "<text x=%d y=%d text-anchor=end>%.0f</text>",
                       LEFT, HEIGHT - 6, ch->x[0], WIDTH - RIGHT, HEIGHT - 6, ch->x[1]);
}

static nn_status write_line(const chart *ch, int k, nn_text *out)
{
    const table *t = &ch->runs[k].of[ch->kind];
    const int c = column(t, ch->name);
    double x, y;
    if (c < 0) return NN_OK;
    NN_TRY(nn_text_add(out,
                       "<polyline fill=none stroke-width=1.5 stroke-linejoin=round "
                       "style=\"stroke:var(--arm%d)\" points=\"",
                       k));
    for (int64_t p = 0; p < nn_min(t->n_rows, POINTS); p++)
        if (point_at(t, c, p, &x, &y))
            NN_TRY(nn_text_add(out, "%.1f,%.1f ", across(ch, x), up(ch, y)));
    return nn_text_add(out, "\"/>");
}

static nn_status write_chart(chart *ch, nn_text *out)
{
    if (!measure(ch)) return NN_OK;
    NN_TRY(nn_text_add(out, "<div class=card><h3>"));
    NN_TRY(report_escape(out, ch->name));
    NN_TRY(nn_text_add(out, " <span>%s</span></h3><svg viewBox=\"0 0 %d %d\" role=img>",
                       kinds[ch->kind], WIDTH, HEIGHT));
    NN_TRY(write_axes(ch, out));
    for (int k = 0; k < ch->n_runs; k++) NN_TRY(write_line(ch, k, out));
    return nn_text_add(out, "</svg></div>");
}

/* Whether a run in front of this one has a column of that name. */
static bool seen(const run *runs, int n, int kind, const char *name)
{
    for (int k = 0; k < n; k++)
        if (column(&runs[k].of[kind], name) > 0) return true;
    return false;
}

static nn_status write_charts(const run *runs, int n, nn_text *out)
{
    NN_TRY(nn_text_add(out, "<div class=charts>"));
    for (int kind = KINDS - 1; kind >= 0; kind--)
        for (int k = 0; k < n; k++)
            for (int c = 1; c < runs[k].of[kind].n_columns; c++) {
                chart ch = {
                    .runs = runs, .n_runs = n, .kind = kind, .name = runs[k].of[kind].name[c]
                };
                if (!seen(runs, k, kind, ch.name)) NN_TRY(write_chart(&ch, out));
            }
    return nn_text_add(out, "</div>");
}

static nn_status write_page(const run *runs, int n, nn_text *out)
{
    NN_TRY(nn_text_add(out,
                       "<!doctype html><html lang=en><meta charset=utf-8>"
                       "<meta name=viewport content=\"width=device-width,initial-scale=1\">"
                       "<title>RECAP trainings</title><style>%s</style><main>"
                       "<h1>Trainings</h1><p class=dim>Against updates; each point is the mean of "
                       "the rows that it stands for.</p><p>",
                       report_style));
    for (int k = 0; k < n; k++) {
        NN_TRY(nn_text_add(out,
                           "<span class=arm><span class=key "
                           "style=\"background:var(--arm%d)\"></span>",
                           k));
        NN_TRY(report_escape(out, runs[k].dir));
        NN_TRY(nn_text_add(out, " (%lld updates)</span>", (long long)runs[k].of[0].n_rows));
    }
    NN_TRY(nn_text_add(out, "</p>"));
    NN_TRY(write_charts(runs, n, out));
    return nn_text_add(out, "</main></html>\n");
}

nn_status report_runs_html(const char *const dirs[], int n, nn_text *out)
{
    run runs[REPORT_ARMS] = { 0 };
    nn_status status = NN_OK;
    if (n > REPORT_ARMS)
        return nn_fail(NN_ARGUMENT, "%d trainings do not fit into one page; %d do", n, REPORT_ARMS);
    for (int k = 0; k < n && status == NN_OK; k++) status = read_run(dirs[k], &runs[k]);
    if (status == NN_OK) status = write_page(runs, n, out);
    for (int k = 0; k < n; k++)
        for (int kind = 0; kind < KINDS; kind++) {
            nn_free(runs[k].of[kind].text);
            nn_free(runs[k].of[kind].cells);
        }
    return status;
}
