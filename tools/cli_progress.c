/* The progress line, and stderr beside it. */
#include "tools/cli_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"

static const double REDRAW_S = 0.1, PLAIN_S = 10;
enum { SHOWN = 5 }; /* fields that a line has room for */

/* One terminal, one line: the state of this process's stderr. */
static const nn_progress *live; /* whose line stands on the terminal */
static bool quiet;

void nn_cli_quiet(bool yes)
{
    quiet = yes;
}

static bool on_terminal(void)
{
    return isatty(STDERR_FILENO);
}

void nn_cli_print(const char *line)
{
    fprintf(stderr, "%s%s\n", live ? "\r\033[K" : "", line);
    if (live) fprintf(stderr, "%s", live->line);
}

void nn_cli_sink(void *ctx, nn_log_level level, const char *line)
{
    char text[1200];
    (void)ctx;
    snprintf(text, sizeof(text), "%s%s", level == NN_LOG_WARN ? "warning: " : "", line);
    nn_cli_print(text);
}

static void add(char *line, size_t size, const char *fmt, ...) NN_PRINTF(3, 4);
static void add(char *line, size_t size, const char *fmt, ...)
{
    size_t n = strlen(line);
    va_list args;
    va_start(args, fmt);
    vsnprintf(line + n, size - n, fmt, args);
    va_end(args);
}

static void add_time(char *line, size_t size, double seconds)
{
    int64_t s = (int64_t)seconds;
    if (s >= 3600)
        add(line, size, "%lldh%02lldm", (long long)(s / 3600), (long long)(s / 60 % 60));
    else if (s >= 60)
        add(line, size, "%lldm%02llds", (long long)(s / 60), (long long)(s % 60));
    else
        add(line, size, "%llds", (long long)s);
}

/* "train 120/1000 step 12%  3.4/s  ETA 4m12s  loss 0.1234  lr 1e-05" */
static void compose(nn_progress *p, double now, const nn_field *fields, int n_fields)
{
    char *line = p->line;
    const size_t size = sizeof(p->line);
    double seconds = now - p->started;
    double rate = seconds > 0 ? (double)(p->done - p->first) / seconds : 0;
    line[0] = 0;
    add(line, size, "%s %lld", p->what, (long long)p->done);
    if (p->total) add(line, size, "/%lld", (long long)p->total);
    add(line, size, " %s", p->unit);
    if (p->total) add(line, size, " %3.0f%%", 100.0 * (double)p->done / (double)p->total);
    add(line, size, "  %.3g/s", rate);
    if (p->total > p->done && rate > 0) {
        add(line, size, "  ETA ");
        add_time(line, size, (double)(p->total - p->done) / rate);
    } else {
        add(line, size, "  in ");
        add_time(line, size, seconds);
    }
    for (int i = 0; i < n_fields && i < SHOWN; i++)
        add(line, size, "  %s %.4g", fields[i].name, fields[i].value);
}

static void show(nn_progress *p, double now)
{
    p->shown = now;
    if (quiet) return;
    if (on_terminal()) {
        fprintf(stderr, "\r\033[K%s", p->line);
        live = p;
    } else
        fprintf(stderr, "%s\n", p->line);
}

void nn_progress_start(nn_progress *p, const char *what, const char *unit, int64_t first,
                       int64_t total)
{
    double now = nn_clock_seconds();
    *p = (nn_progress){ what, unit, first, total, first, now, now, "" };
}

void nn_progress_step(nn_progress *p, int64_t done, const nn_field *fields, int n_fields)
{
    enum { MOST = 16 };
    nn_field all[MOST] = { { p->unit, (double)done } };
    int n = 1;
    for (int i = 0; i < n_fields && n < MOST; i++) all[n++] = fields[i];
    nn_cli_log(p->what, all, n);
    double now = nn_clock_seconds();
    p->done = done;
    compose(p, now, fields, n_fields);
    if (now - p->shown >= (on_terminal() ? REDRAW_S : PLAIN_S)) show(p, now);
}

void nn_progress_stop(nn_progress *p)
{
    if (p->line[0]) show(p, nn_clock_seconds());
    if (live) fprintf(stderr, "\n");
    live = NULL;
}
