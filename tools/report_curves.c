/* Figure 5: each figure against samples seen, with its interval, as SVG. */
#include <math.h>

#include "tools/report.h"

enum { WIDTH = 320, HEIGHT = 200, LEFT = 38, RIGHT = 10, TOP = 10, BOTTOM = 24, TICKS = 4 };

typedef struct axes {
    double x_most, y_most;
    int split, f;
} axes;

static double across(const axes *a, double x)
{
    return LEFT + (WIDTH - LEFT - RIGHT) * (a->x_most > 0 ? x / a->x_most : 0.5);
}

static double up(const axes *a, double y)
{
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y / a->y_most;
}

static const metrics_estimate *at(const axes *a, const report_arm *arm, int i)
{
    return &arm->points[i].figure[a->split][a->f];
}

/* The next number not below x that four ticks divide well. */
static double round_up(double x)
{
    static const double steps[] = { 1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8 };
    double power = pow(10, floor(log10(x)));
    for (int i = 0; i < NN_COUNT(steps); i++)
        if (steps[i] * power >= x * (1 - 1e-12)) return steps[i] * power;
    return 10 * power;
}

/* Shares run from 0 to 1; other figures from 0 to what they reach. */
static bool measure(const report *r, axes *a)
{
    double most = 0;
    int n = 0;
    for (int k = 0; k < r->n_arms; k++)
        for (int i = 0; i < r->arm[k].n; i++) {
            const metrics_estimate *e = at(a, &r->arm[k], i);
            if (!report_known(e)) continue;
            a->x_most = fmax(a->x_most, r->arm[k].points[i].samples_seen);
            most = fmax(most, e->high);
            n++;
        }
    a->y_most = report_figures[a->f].share ? 1 : most > 0 ? round_up(most) : 1;
    return n > 0;
}

static nn_status write_count(nn_text *out, double x)
{
    if (x >= 1e6) return nn_text_add(out, "%.3gM", x / 1e6);
    if (x >= 1e3) return nn_text_add(out, "%.3gk", x / 1e3);
    return nn_text_add(out, "%.3g", x);
}

static nn_status write_axes(const axes *a, nn_text *out)
{
    for (int i = 0; i <= TICKS; i++) {
        double y = a->y_most * i / TICKS;
        double x = a->x_most * i / TICKS;
        NN_TRY(nn_text_add(out,
                           "<line class=grid x1=%d x2=%d y1=%.1f y2=%.1f />"
                           "<text x=%d y=%.1f text-anchor=end>%.3g</text>",
                           LEFT, WIDTH - RIGHT, up(a, y), up(a, y), LEFT - 6, up(a, y) + 4,
                           report_figures[a->f].share ? 100 * y : y));
        if (i % 2 || (i && a->x_most <= 0)) continue;
        NN_TRY(nn_text_add(out, "<text x=%.1f y=%d text-anchor=%s>", across(a, x), HEIGHT - 6,
                           i == 0       ? "start"
                           : i == TICKS ? "end"
                                        : "middle"));
        NN_TRY(write_count(out, x));
        NN_TRY(nn_text_add(out, "</text>"));
    }
    return NN_OK;
}

/* The interval as a ribbon: along the upper ends and back along the lower. */
static nn_status write_band(const axes *a, const report_arm *arm, int color, nn_text *out)
{
    NN_TRY(
        nn_text_add(out, "<polygon style=\"fill:var(--arm%d)\" fill-opacity=.16 points=\"", color));
    for (int i = 0; i < 2 * arm->n; i++) {
        int p = i < arm->n ? i : 2 * arm->n - 1 - i;
        const metrics_estimate *e = at(a, arm, p);
        if (report_known(e))
            NN_TRY(nn_text_add(out, "%.1f,%.1f ", across(a, arm->points[p].samples_seen),
                               up(a, i < arm->n ? e->high : e->low)));
    }
    return nn_text_add(out, "\"/>");
}

static nn_status write_line(const axes *a, const report_arm *arm, int color, nn_text *out)
{
    bool share = report_figures[a->f].share;
    NN_TRY(nn_text_add(out,
                       "<polyline fill=none stroke-width=2 stroke-linejoin=round "
                       "style=\"stroke:var(--arm%d)\" points=\"",
                       color));
    for (int i = 0; i < arm->n; i++)
        if (report_known(at(a, arm, i)))
            NN_TRY(nn_text_add(out, "%.1f,%.1f ", across(a, arm->points[i].samples_seen),
                               up(a, at(a, arm, i)->value)));
    NN_TRY(nn_text_add(out, "\"/>"));
    for (int i = 0; i < arm->n; i++) {
        const metrics_estimate *e = at(a, arm, i);
        if (!report_known(e)) continue;
        NN_TRY(nn_text_add(out, "<circle r=3 cx=%.1f cy=%.1f style=\"fill:var(--arm%d)\"><title>",
                           across(a, arm->points[i].samples_seen), up(a, e->value), color));
        NN_TRY(report_escape(out, arm->name));
        NN_TRY(nn_text_add(out, ", %.0f samples: ", arm->points[i].samples_seen));
        NN_TRY(report_number(out, e->value, share, false));
        NN_TRY(nn_text_add(out, " ("));
        NN_TRY(report_number(out, e->low, share, false));
        NN_TRY(nn_text_add(out, " to "));
        NN_TRY(report_number(out, e->high, share, false));
        NN_TRY(nn_text_add(out, "), n %lld</title></circle>", (long long)e->n));
    }
    return NN_OK;
}

static nn_status write_chart(const report *r, const axes *a, nn_text *out)
{
    const report_figure *figure = &report_figures[a->f];
    NN_TRY(nn_text_add(out,
                       "<div class=card><h3>%s %s%s</h3>"
                       "<svg viewBox=\"0 0 %d %d\" role=img aria-label=\"%s\">",
                       figure->name, figure->less ? "&darr;" : "&uarr;",
                       figure->share ? " <span>percent</span>" : "", WIDTH, HEIGHT, figure->name));
    NN_TRY(write_axes(a, out));
    for (int k = 0; k < r->n_arms; k++) NN_TRY(write_band(a, &r->arm[k], k, out));
    for (int k = 0; k < r->n_arms; k++) NN_TRY(write_line(a, &r->arm[k], k, out));
    return nn_text_add(out, "</svg></div>");
}

nn_status report_curves_html(const report *r, int split, nn_text *out)
{
    bool begun = false;
    for (int f = 0; f < REPORT_FIGURES; f++) {
        axes a = { .split = split, .f = f };
        if (!measure(r, &a)) continue;
        if (!begun) {
            NN_TRY(nn_text_add(
                out,
                "<figure style=\"margin-top:14px\"><figcaption>%s, against samples seen "
                "in training; bands are "
                "95&nbsp;%% intervals. ",
                split == EVAL_HELD_OUT ? "Held-out compositions"
                                       : "Compositions that training shows"));
            for (int k = 0; k < r->n_arms; k++) {
                NN_TRY(nn_text_add(out,
                                   "<span class=arm><span class=key "
                                   "style=\"background:var(--arm%d)\"></span>",
                                   k));
                NN_TRY(report_escape(out, r->arm[k].name));
                NN_TRY(nn_text_add(out, "</span>"));
            }
            NN_TRY(nn_text_add(out, "</figcaption><div class=charts>"));
            begun = true;
        }
        NN_TRY(write_chart(r, &a, out));
    }
    return begun ? nn_text_add(out, "</div></figure>") : NN_OK;
}
