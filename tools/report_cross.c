/* The cross table: what each arm was trained on, against how the prompts were worded. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tools/report.h"

static const int shown[] = { METRICS_SOA, METRICS_CA_EXACT, METRICS_FULL };

enum { DEEPEST = 30 }; /* percent of the colour behind the best cell of a figure */

static double best_of(const report_cross *cross, int f)
{
    double best = 0;
    for (int k = 0; k < cross->n_rows; k++)
        for (int i = 0; i < cross->n_styles; i++)
            if (report_known(&cross->row[k].figure[i][f]))
                best = fmax(best, cross->row[k].figure[i][f].value);
    return best;
}

static int64_t prompts_of(const report_cross *cross, int f)
{
    int64_t n = 0;
    for (int k = 0; k < cross->n_rows; k++)
        for (int i = 0; i < cross->n_styles; i++) n = nn_max(n, cross->row[k].figure[i][f].n);
    return n;
}

static nn_status write_heads(const report_cross *cross, nn_text *out)
{
    NN_TRY(nn_text_add(out, "<thead><tr><th>"));
    for (int s = 0; s < NN_COUNT(shown); s++) {
        const report_figure *figure = &report_figures[shown[s]];
        NN_TRY(nn_text_add(out, "<th class=\"first group\" colspan=%d>%s %s <span>n %lld</span>",
                           cross->n_styles, figure->name, figure->less ? "&darr;" : "&uarr;",
                           (long long)prompts_of(cross, shown[s])));
    }
    NN_TRY(nn_text_add(out, "</tr><tr><th>Trained on"));
    for (int s = 0; s < NN_COUNT(shown); s++)
        for (int i = 0; i < cross->n_styles; i++) {
            NN_TRY(nn_text_add(out, "<th%s>", i ? "" : " class=first"));
            NN_TRY(report_escape(out, cross->style[i]));
        }
    return nn_text_add(out, "</tr></thead>");
}

/* The dot has the colour that the arm has elsewhere on the page. */
static nn_status write_name(const report *r, const report_row *row, nn_text *out)
{
    NN_TRY(nn_text_add(out, "<tr><th><span class=key style=\"background:var("));
    int arm = 0;
    while (arm < r->n_arms && strcmp(r->arm[arm].key, row->key) != 0) arm++;
    NN_TRY(arm < r->n_arms ? nn_text_add(out, "--arm%d", arm) : nn_text_add(out, "--dim"));
    NN_TRY(nn_text_add(out, ")\"></span>"));
    NN_TRY(report_escape(out, row->name));
    return nn_text_add(out, "</th>");
}

static nn_status write_row(const report *r, const report_row *row, nn_text *out)
{
    NN_TRY(write_name(r, row, out));
    for (int s = 0; s < NN_COUNT(shown); s++) {
        double best = best_of(&r->cross, shown[s]);
        for (int i = 0; i < r->cross.n_styles; i++) {
            const metrics_estimate *e = &row->figure[i][shown[s]];
            double depth = report_known(e) && best > 0 ? DEEPEST * e->value / best : 0;
            char attributes[128];
            snprintf(attributes, sizeof(attributes),
                     "%s style=\"background:color-mix(in srgb,var(--good) %.0f%%,transparent)\"",
                     i ? "" : " class=first", depth);
            NN_TRY(report_cell_html(e, &report_figures[shown[s]], attributes, out));
        }
    }
    return nn_text_add(out, "</tr>");
}

nn_status report_cross_html(const report *r, nn_text *out)
{
    const report_cross *cross = &r->cross;
    if (!cross->n_rows) return NN_OK;
    NN_TRY(nn_text_add(
        out, "<h2>Trained on &times; asked in</h2><p class=note>The same held-out scenes from the "
             "same noise, asked for in each style. Down a column all models read the same words, "
             "so what differs is what training taught them; along a row one model reads the same "
             "scenes in other words, and alt-text often does not say what is asked for. The deeper "
             "the colour, the better within a figure.</p><div class=scroll><table class=cross>"));
    NN_TRY(write_heads(cross, out));
    NN_TRY(nn_text_add(out, "<tbody>"));
    for (int k = 0; k < cross->n_rows; k++) NN_TRY(write_row(r, &cross->row[k], out));
    return nn_text_add(out, "</tbody></table></div>");
}
