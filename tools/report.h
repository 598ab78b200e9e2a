/* The report of a whole run: one page that needs nothing beside itself, and its numbers as JSON.
 *
 * DIR/manifest.json says what there is; paths in it are relative to DIR:
 *
 *     {"arms": {"alttext": {"name": "Alttext",
 *                           "curve": [{"samples_seen": 0, "eval": "alttext-0.json",
 *                                      "samples": "alttext-0"}, ...]},
 *               "mix": {...}},
 *      "cross": {"styles": ["alt", "short"],
 *                "arms": {"base": {"name": "Base", "alt": "cross-base-alt.json", "short": ...},
 *                         "mix": {...}}},
 *      "captioner": "captioner.json", "captions": "shards/train",
 *      "stages": {"captioner": 41.5, ...}, "seconds": 480, "config": {...},
 *      "revision": "1f0c9ab"}
 *
 * "eval" and "captioner" are files of recap-eval; "samples" is a directory of recap-sample, "name"
 * what to call an arm. The last point of a curve is the arm's result. "cross" has a file of
 * recap-eval for each arm and each style in which the same held-out prompts were worded. Stages may
 * have overlapped; "seconds" is how long any of them ran. All but "arms" may be missing. */
#ifndef TOOLS_REPORT_H
#define TOOLS_REPORT_H

#include "data/shards.h"
#include "tools/eval.h"

enum {
    REPORT_ARMS = 6,
    REPORT_ROWS = REPORT_ARMS + 1, /* of the cross table: the arms and what they started from */
    REPORT_STYLES = 4,
    REPORT_FD = METRICS_KINDS, /* the figures are those of metrics_kind, then the distance */
    REPORT_FIGURES
};

typedef struct report_figure {
    const char *key, *name, *what;
    bool share; /* of 1, shown in percent */
    bool less;  /* less is better */
} report_figure;
extern const report_figure report_figures[REPORT_FIGURES];

typedef struct report_point {
    double samples_seen;
    const char *samples; /* directory of pictures, or NULL */
    metrics_estimate figure[EVAL_SPLITS][REPORT_FIGURES];
} report_point;

typedef struct report_arm {
    const char *key, *name;
    report_point *points; /* in the order of samples seen */
    int n;
    eval_set result; /* of the last point */
} report_arm;

/* A row of the cross table: one model, asked in every style. */
typedef struct report_row {
    const char *key, *name;
    metrics_estimate figure[REPORT_STYLES][REPORT_FIGURES]; /* held out; n 0 where not asked */
} report_row;

typedef struct report_cross {
    const char *style[REPORT_STYLES];
    report_row row[REPORT_ROWS];
    int n_styles, n_rows;
} report_cross;

typedef struct report {
    nn_arena arena;
    nn_json manifest, captioner;
    const char *directory;
    report_arm arm[REPORT_ARMS];
    int n_arms;
    bool compared; /* "mix" and "alttext" are there and answered the same prompts: */
    metrics_estimate difference[EVAL_SPLITS][REPORT_FIGURES]; /* mix minus alttext */
    report_cross cross;
    nn_shards *captions;
    double seconds; /* of the whole run */
} report;

/* Errors leave nothing to free. */
nn_status report_load(const char *directory, const char *manifest, report *r) NN_CHECKED;
void report_free(report *r);

/* Append the page, or {"arms": {KEY: {"held_out": {"soa": {...}, ...}, "seen": ...}},
 * "difference": {"soa": {...}, ...} (held out), "cross": {ARM: {STYLE: {"soa": {...}, ...}}},
 * "captioner": ..., "stages": {KEY: {"seconds": s}},
 * "seconds": s, "config": ..., "revision": ...}. */
nn_status report_write_html(const report *r, nn_text *out) NN_CHECKED;
nn_status report_write_json(const report *r, nn_text *out) NN_CHECKED;

/* The headline tables as plain text: held-out prompts; SOA by the style of the prompts. */
nn_status report_write_headline(const report *r, nn_text *out) NN_CHECKED;

/* A page of curves instead: of n trainings, at most REPORT_ARMS, from their folders of tables
 * (tools/scalars.h). */
nn_status report_runs_html(const char *const dirs[], int n, nn_text *out) NN_CHECKED;

static inline const report_point *report_result(const report_arm *arm)
{
    return &arm->points[arm->n - 1];
}

bool report_known(const metrics_estimate *e);

/* -- parts of the page ------------------------------------------------------------------------ */

extern const char report_style[];

nn_status report_escape(nn_text *out, const char *text) NN_CHECKED;

/* "91.2" percent or "0.437"; sign adds a plus. */
nn_status report_number(nn_text *out, double value, bool share, bool sign) NN_CHECKED;

/* A cell with value and interval; attributes (" class=first") may be "". */
nn_status report_cell_html(const metrics_estimate *e, const report_figure *figure,
                           const char *attributes, nn_text *out) NN_CHECKED;

nn_status report_headline_html(const report *r, int split, nn_text *out) NN_CHECKED;
nn_status report_cross_html(const report *r, nn_text *out) NN_CHECKED;
nn_status report_captioner_html(const report *r, nn_text *out) NN_CHECKED;
nn_status report_stages_html(const report *r, nn_text *out) NN_CHECKED;
nn_status report_config_html(const report *r, nn_text *out) NN_CHECKED;
nn_status report_curves_html(const report *r, int split, nn_text *out) NN_CHECKED;
nn_status report_grid_html(const report *r, nn_text *out) NN_CHECKED;
nn_status report_captions_html(const report *r, nn_text *out) NN_CHECKED;

#endif
