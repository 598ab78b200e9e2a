/* The page: what stands where. */
#include <math.h>

#include "tools/report.h"

nn_status report_escape(nn_text *out, const char *text)
{
    for (; *text; text++) {
        const char *entity = *text == '<'    ? "&lt;"
                             : *text == '>'  ? "&gt;"
                             : *text == '&'  ? "&amp;"
                             : *text == '"'  ? "&quot;"
                             : *text == '\'' ? "&#39;"
                                             : NULL;
        if (entity)
            NN_TRY(nn_text_add(out, "%s", entity));
        else
            NN_TRY(nn_text_add_bytes(out, text, 1));
    }
    return NN_OK;
}

nn_status report_number(nn_text *out, double value, bool share, bool sign)
{
    if (!isfinite(value)) return nn_text_add(out, "&ndash;");
    const char *mark = value < 0 ? "&minus;" : sign ? "+" : "";
    if (share) return nn_text_add(out, "%s%.1f", mark, 100 * fabs(value));
    return nn_text_add(out, "%s%.*f", mark, fabs(value) < 10 ? 3 : 1, fabs(value));
}

/* "On held-out prompts ... 91.2 % of the named objects, 63.0 % before: +28.2 points." */
static nn_status write_lead(const report *r, nn_text *out)
{
    const metrics_estimate *d = &r->difference[EVAL_HELD_OUT][METRICS_SOA];
    if (!r->compared || !report_known(d)) return NN_OK;
    NN_TRY(nn_text_add(out, "<p class=lead>Training on the mix of rewritten captions instead of "
                            "alt-text changes the share of named objects that are drawn, on "
                            "compositions never seen in training, by <b>"));
    NN_TRY(report_number(out, d->value, true, true));
    NN_TRY(nn_text_add(out, " points</b> (95&nbsp;%% interval "));
    NN_TRY(report_number(out, d->low, true, true));
    NN_TRY(nn_text_add(out, " to "));
    NN_TRY(report_number(out, d->high, true, true));
    return nn_text_add(out, "; %lld prompts, paired).</p>", (long long)d->n);
}

static nn_status write_top(const report *r, nn_text *out)
{
    const char *revision = json_string_value(json_object_get(r->manifest.node, "revision"));
    NN_TRY(nn_text_add(out,
                       "<!doctype html><html lang=en><meta charset=utf-8>"
                       "<meta name=viewport content=\"width=device-width,initial-scale=1\">"
                       "<title>RECAP report</title><style>%s</style><main>"
                       "<h1>RECAP report</h1><p class=dim>One text-to-image model, trained on "
                       "alt-text and on captions that a captioner wrote anew.",
                       report_style));
    if (revision) {
        NN_TRY(nn_text_add(out, " Revision <code>"));
        NN_TRY(report_escape(out, revision));
        NN_TRY(nn_text_add(out, "</code>."));
    }
    NN_TRY(nn_text_add(out, "</p>"));
    return write_lead(r, out);
}

static nn_status write_results(const report *r, nn_text *out)
{
    NN_TRY(nn_text_add(out, "<h2>Results</h2><p class=note>Values with 95&nbsp;%% bootstrap "
                            "intervals over prompts. A difference is paired: both arms drew the "
                            "same prompts from the same noise. It is coloured where its interval "
                            "excludes zero.</p>"));
    for (int split = 0; split < EVAL_SPLITS; split++) NN_TRY(report_headline_html(r, split, out));
    return NN_OK;
}

nn_status report_write_html(const report *r, nn_text *out)
{
    NN_TRY(write_top(r, out));
    NN_TRY(write_results(r, out));
    NN_TRY(report_cross_html(r, out));
    NN_TRY(report_grid_html(r, out));
    NN_TRY(report_captions_html(r, out));
    NN_TRY(nn_text_add(out, "<h2>Figure 5: quality against samples seen</h2>"));
    for (int split = 0; split < EVAL_SPLITS; split++) NN_TRY(report_curves_html(r, split, out));
    NN_TRY(report_captioner_html(r, out));
    NN_TRY(report_stages_html(r, out));
    NN_TRY(report_config_html(r, out));
    return nn_text_add(out, "</main></html>\n");
}
