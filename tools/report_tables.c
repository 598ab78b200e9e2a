/* Tables of the report: results, captioner, time, configuration. */
#include <math.h>

#include "tools/report.h"

nn_status report_cell_html(const metrics_estimate *e, const report_figure *figure,
                           const char *attributes, nn_text *out)
{
    if (!report_known(e)) return nn_text_add(out, "<td%s>&ndash;", attributes);
    NN_TRY(nn_text_add(out, "<td%s><b>", attributes));
    NN_TRY(report_number(out, e->value, figure->share, false));
    NN_TRY(nn_text_add(out, "%s</b><span>", figure->share ? "&thinsp;%" : ""));
    NN_TRY(report_number(out, e->low, figure->share, false));
    NN_TRY(nn_text_add(out, " to "));
    NN_TRY(report_number(out, e->high, figure->share, false));
    return nn_text_add(out, "</span>");
}

static nn_status write_difference(const metrics_estimate *d, const report_figure *figure,
                                  nn_text *out)
{
    if (!report_known(d)) return nn_text_add(out, "<td>&ndash;");
    bool plus = figure->less ? d->high < 0 : d->low > 0;
    bool minus = figure->less ? d->low > 0 : d->high < 0;
    NN_TRY(nn_text_add(out, "<td%s><b>", plus ? " class=plus" : minus ? " class=minus" : ""));
    NN_TRY(report_number(out, d->value, figure->share, true));
    NN_TRY(nn_text_add(out, "</b><span>"));
    NN_TRY(report_number(out, d->low, figure->share, true));
    NN_TRY(nn_text_add(out, " to "));
    NN_TRY(report_number(out, d->high, figure->share, true));
    return nn_text_add(out, "</span>");
}

static bool any_known(const report *r, int split, int f)
{
    for (int i = 0; i < r->n_arms; i++)
        if (report_known(&report_result(&r->arm[i])->figure[split][f])) return true;
    return false;
}

static nn_status write_row(const report *r, int split, int f, nn_text *out)
{
    const report_figure *figure = &report_figures[f];
    int64_t n = 0;
    NN_TRY(nn_text_add(out, "<tr><th>%s %s<span>%s</span></th>", figure->name,
                       figure->less ? "&darr;" : "&uarr;", figure->what));
    for (int i = 0; i < r->n_arms; i++) {
        const metrics_estimate *e = &report_result(&r->arm[i])->figure[split][f];
        n = nn_max(n, e->n);
        NN_TRY(report_cell_html(e, figure, "", out));
    }
    if (r->compared) NN_TRY(write_difference(&r->difference[split][f], figure, out));
    return nn_text_add(out, "<td>%lld</tr>", (long long)n);
}

nn_status report_headline_html(const report *r, int split, nn_text *out)
{
    bool any = false;
    for (int f = 0; f < REPORT_FIGURES; f++) any |= any_known(r, split, f);
    if (!any) return NN_OK;
    NN_TRY(nn_text_add(out, "<div class=scroll><table><thead><tr><th>%s",
                       split == EVAL_HELD_OUT ? "Held-out compositions" : "Compositions seen"));
    for (int i = 0; i < r->n_arms; i++) {
        NN_TRY(
            nn_text_add(out, "<th><span class=key style=\"background:var(--arm%d)\"></span>", i));
        NN_TRY(report_escape(out, r->arm[i].name));
    }
    NN_TRY(nn_text_add(out, "%s<th>n</tr></thead><tbody>",
                       r->compared ? "<th>Mix &minus; Alttext" : ""));
    for (int f = 0; f < REPORT_FIGURES; f++)
        if (any_known(r, split, f)) NN_TRY(write_row(r, split, f, out));
    return nn_text_add(out, "</tbody></table></div>");
}

static nn_status write_facts(const char *column, const json_t *facts, nn_text *out)
{
    static const report_figure share = { .share = true };
    metrics_estimate e = { 0 };
    NN_TRY(nn_text_add(out, "<tr><th>"));
    NN_TRY(report_escape(out, column));
    NN_TRY(nn_text_add(out, "</th>"));
    for (int f = 0; f < METRICS_FACTS; f++) {
        e = eval_read_estimate(json_object_get(facts, metrics_fact_name((metrics_fact)f)));
        NN_TRY(report_cell_html(&e, &share, "", out));
    }
    return nn_text_add(out, "<td>%lld</tr>", (long long)e.n);
}

nn_status report_captioner_html(const report *r, nn_text *out)
{
    const json_t *from =
        r->captioner.node ? r->captioner.node : json_object_get(r->manifest.node, "captioner");
    json_t *columns = json_object_get(from, "columns"), *facts;
    const char *column;
    if (!json_object_size(columns)) return NN_OK;
    NN_TRY(nn_text_add(out,
                       "<h2>Captioner</h2><p class=note>Share of captions that agree with what "
                       "the picture shows.</p><div class=scroll><table><thead><tr><th>Captions"
                       "<th>Objects<th>Counts<th>Relation<th>Background<th>All four<th>n</tr>"
                       "</thead><tbody>"));
    json_object_foreach(columns, column, facts)
    {
        NN_TRY(write_facts(column, facts, out));
    }
    return nn_text_add(out, "</tbody></table></div>");
}

static nn_status write_time(nn_text *out, double seconds)
{
    if (seconds < 120) return nn_text_add(out, "%.1f&nbsp;s", seconds);
    return nn_text_add(out, "%d&nbsp;min %02d&nbsp;s", (int)(seconds / 60), (int)seconds % 60);
}

nn_status report_stages_html(const report *r, nn_text *out)
{
    json_t *stages = json_object_get(r->manifest.node, "stages"), *seconds;
    const char *key;
    if (!json_object_size(stages)) return NN_OK;
    NN_TRY(nn_text_add(out,
                       "<h2>Time</h2><p class=note>Wall time of every stage; two run at a time.</p>"
                       "<div class=scroll><table><tbody>"));
    json_object_foreach(stages, key, seconds)
    {
        double value = json_number_value(seconds), share = r->seconds > 0 ? value / r->seconds : 0;
        NN_TRY(nn_text_add(out, "<tr><td>"));
        NN_TRY(report_escape(out, key));
        NN_TRY(nn_text_add(out,
                           "<td style=\"width:60%%\"><div class=bar style=\"margin-top:9px;"
                           "width:%.1f%%\"></div><td>",
                           100 * share));
        NN_TRY(write_time(out, value));
        NN_TRY(nn_text_add(out, "</tr>"));
    }
    NN_TRY(nn_text_add(out, "<tr><th>Total<td><td><b>"));
    NN_TRY(write_time(out, r->seconds));
    return nn_text_add(out, "</b></tr></tbody></table></div>");
}

static nn_status write_value(const json_t *value, nn_text *out)
{
    if (json_is_string(value)) return report_escape(out, json_string_value(value));
    if (json_is_integer(value))
        return nn_text_add(out, "%lld", (long long)json_integer_value(value));
    if (json_is_real(value)) return nn_text_add(out, "%g", json_real_value(value));
    if (json_is_boolean(value)) return nn_text_add(out, json_is_true(value) ? "yes" : "no");
    return nn_text_add(out, "&ndash;");
}

enum { MOST_DEPTH = 8 };

/* One row per leaf, named by its path: "train.batch". */
static nn_status write_leaves(const json_t *value, const char *path, int depth, nn_text *out)
{
    json_t *child;
    const char *key;
    bool object = json_is_object(value);
    if (depth < MOST_DEPTH && (object || json_is_array(value))) {
        nn_text below = { 0 };
        nn_status status = NN_OK;
        if (object) {
            json_object_foreach((json_t *)(uintptr_t)value, key, child)
            {
                nn_text_clear(&below);
                if (status == NN_OK)
                    status = nn_text_add(&below, "%s%s%s", path, *path ? "." : "", key);
                if (status == NN_OK) status = write_leaves(child, below.text, depth + 1, out);
            }
        } else
            for (size_t i = 0; i < json_array_size(value) && status == NN_OK; i++) {
                nn_text_clear(&below);
                status = nn_text_add(&below, "%s[%zu]", path, i);
                if (status == NN_OK)
                    status = write_leaves(json_array_get(value, i), below.text, depth + 1, out);
            }
        nn_text_free(&below);
        return status;
    }
    NN_TRY(nn_text_add(out, "<tr><td class=mono>"));
    NN_TRY(report_escape(out, path));
    NN_TRY(nn_text_add(out, "<td class=mono>"));
    NN_TRY(write_value(value, out));
    return nn_text_add(out, "</tr>");
}

nn_status report_config_html(const report *r, nn_text *out)
{
    const json_t *config = json_object_get(r->manifest.node, "config");
    if (!json_object_size(config)) return NN_OK;
    NN_TRY(nn_text_add(out, "<h2>Configuration</h2><details><summary>All settings</summary>"
                            "<div class=scroll><table class=left><tbody>"));
    NN_TRY(write_leaves(config, "", 0, out));
    return nn_text_add(out, "</tbody></table></div></details>");
}
