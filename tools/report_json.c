/* The numbers of the report as JSON, and the headline as plain text. */
#include <stdio.h>

#include "tools/report.h"

/* A part of the manifest as it is; null where it is missing. */
static nn_status copy(const json_t *from, nn_text *out)
{
    if (!from) return nn_text_add(out, "null");
    return nn_json_write(out, from, JSON_COMPACT | JSON_ENCODE_ANY);
}

static nn_status write_figures(const metrics_estimate *figure, nn_text *out)
{
    NN_TRY(nn_text_add(out, "{"));
    for (int f = 0; f < REPORT_FIGURES; f++) {
        NN_TRY(nn_text_add(out, "%s\"%s\": ", f ? ", " : "", report_figures[f].key));
        NN_TRY(report_known(&figure[f]) ? eval_write_estimate(&figure[f], out)
                                        : nn_text_add(out, "null"));
    }
    return nn_text_add(out, "}");
}

static nn_status write_arms(const report *r, nn_text *out)
{
    NN_TRY(nn_text_add(out, "\"arms\": {"));
    for (int i = 0; i < r->n_arms; i++) {
        NN_TRY(nn_text_add(out, i ? ",\n  " : "\n  "));
        NN_TRY(nn_json_write_string(out, r->arm[i].key));
        for (int split = 0; split < EVAL_SPLITS; split++) {
            NN_TRY(
                nn_text_add(out, "%s\"%s\": ", split ? ",\n    " : ": {", eval_split_name(split)));
            NN_TRY(write_figures(report_result(&r->arm[i])->figure[split], out));
        }
        NN_TRY(nn_text_add(out, "}"));
    }
    return nn_text_add(out, "},\n ");
}

static nn_status write_row(const report_cross *cross, const report_row *row, nn_text *out)
{
    NN_TRY(nn_json_write_string(out, row->key));
    for (int i = 0; i < cross->n_styles; i++) {
        NN_TRY(nn_text_add(out, i ? ",\n    " : ": {"));
        NN_TRY(nn_json_write_string(out, cross->style[i]));
        NN_TRY(nn_text_add(out, ": "));
        NN_TRY(write_figures(row->figure[i], out));
    }
    return nn_text_add(out, "}");
}

static nn_status write_cross(const report_cross *cross, nn_text *out)
{
    NN_TRY(nn_text_add(out, "\"cross\": {"));
    for (int i = 0; i < cross->n_rows; i++) {
        NN_TRY(nn_text_add(out, i ? ",\n  " : "\n  "));
        NN_TRY(write_row(cross, &cross->row[i], out));
    }
    return nn_text_add(out, "},\n ");
}

static nn_status write_stages(const report *r, nn_text *out)
{
    json_t *stages = json_object_get(r->manifest.node, "stages"), *seconds;
    const char *key, *comma = "";
    NN_TRY(nn_text_add(out, "\"stages\": {"));
    json_object_foreach(stages, key, seconds)
    {
        NN_TRY(nn_text_add(out, "%s", comma));
        NN_TRY(nn_json_write_string(out, key));
        NN_TRY(nn_text_add(out, ": {\"seconds\": %.6g}", json_number_value(seconds)));
        comma = ", ";
    }
    return nn_text_add(out, "},\n \"seconds\": %.6g,\n ", r->seconds);
}

nn_status report_write_json(const report *r, nn_text *out)
{
    const json_t *root = r->manifest.node;
    NN_TRY(nn_text_add(out, "{"));
    NN_TRY(write_arms(r, out));
    NN_TRY(nn_text_add(out, "\"difference\": "));
    NN_TRY(r->compared ? write_figures(r->difference[EVAL_HELD_OUT], out)
                       : nn_text_add(out, "null"));
    NN_TRY(nn_text_add(out, ",\n "));
    NN_TRY(write_cross(&r->cross, out));
    NN_TRY(nn_text_add(out, "\"captioner\": "));
    NN_TRY(copy(r->captioner.node ? r->captioner.node : json_object_get(root, "captioner"), out));
    NN_TRY(nn_text_add(out, ",\n "));
    NN_TRY(write_stages(r, out));
    NN_TRY(nn_text_add(out, "\"config\": "));
    NN_TRY(copy(json_object_get(root, "config"), out));
    NN_TRY(nn_text_add(out, ",\n \"revision\": "));
    NN_TRY(copy(json_object_get(root, "revision"), out));
    return nn_text_add(out, "}\n");
}

/* "91.2 (87.0 to 94.5)", right-aligned in a column. */
static nn_status write_cell(const metrics_estimate *e, bool share, bool sign, nn_text *out)
{
    char cell[96];
    double scale = share ? 100 : 1;
    int digits = share ? 1 : 3;
    if (!report_known(e)) return nn_text_add(out, "%26s", "-");
    snprintf(cell, sizeof(cell), sign ? "%+.*f (%+.*f to %+.*f)" : "%.*f (%.*f to %.*f)", digits,
             scale * e->value, digits, scale * e->low, digits, scale * e->high);
    return nn_text_add(out, "%26s", cell);
}

static nn_status write_headline_cross(const report_cross *cross, nn_text *out)
{
    if (!cross->n_rows) return NN_OK;
    NN_TRY(nn_text_add(out, "\n%-14s", "SOA % asked in"));
    for (int i = 0; i < cross->n_styles; i++) NN_TRY(nn_text_add(out, "%26s", cross->style[i]));
    NN_TRY(nn_text_add(out, "\n"));
    for (int k = 0; k < cross->n_rows; k++) {
        NN_TRY(nn_text_add(out, "%-14s", cross->row[k].name));
        for (int i = 0; i < cross->n_styles; i++)
            NN_TRY(write_cell(&cross->row[k].figure[i][METRICS_SOA], true, false, out));
        NN_TRY(nn_text_add(out, "\n"));
    }
    return NN_OK;
}

nn_status report_write_headline(const report *r, nn_text *out)
{
    NN_TRY(nn_text_add(out, "%-14s", "held out"));
    for (int i = 0; i < r->n_arms; i++) NN_TRY(nn_text_add(out, "%26s", r->arm[i].name));
    if (r->compared) NN_TRY(nn_text_add(out, "%26s", "mix - alttext"));
    NN_TRY(nn_text_add(out, "\n"));
    for (int f = 0; f < REPORT_FIGURES; f++) {
        const report_figure *figure = &report_figures[f];
        NN_TRY(nn_text_add(out, "%-12s%s", figure->name, figure->share ? " %" : "  "));
        for (int i = 0; i < r->n_arms; i++)
            NN_TRY(write_cell(&report_result(&r->arm[i])->figure[EVAL_HELD_OUT][f], figure->share,
                              false, out));
        if (r->compared)
            NN_TRY(write_cell(&r->difference[EVAL_HELD_OUT][f], figure->share, true, out));
        NN_TRY(nn_text_add(out, "\n"));
    }
    return write_headline_cross(&r->cross, out);
}
