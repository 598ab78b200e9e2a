/* The report of a whole run: one page that needs nothing beside itself, and its numbers as JSON.
 *
 * DIR/manifest.json says what there is; paths in it are relative to DIR:
 *
 *     {"arms": {"alttext": {"name": "Alttext",
 *                           "curve": [{"samples_seen": 0, "eval": "alttext-0.json",
 *                                      "samples": "alttext-0"}, ...]},
 *               "mix": {...}},
 *      "captioner": "captioner.json", "captions": "shards/train",
 *      "stages": {"captioner": 41.5, ...}, "config": {...}, "revision": "1f0c9ab"}
 *
 * "eval" and "captioner" are files of recap-eval; "samples" is a directory of recap-sample, "name"
 * what to call an arm. The last point of a curve is the arm's result. All but "arms" may be
 * missing. */
#ifndef TOOLS_REPORT_H
#define TOOLS_REPORT_H

#include "data/shards.h"
#include "tools/eval.h"

enum {
    REPORT_ARMS = 6,
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

typedef struct report {
    nn_arena arena;
    nn_json manifest, captioner;
    const char *directory;
    report_arm arm[REPORT_ARMS];
    int n_arms;
    bool compared; /* "mix" and "alttext" are there and answered the same prompts: */
    metrics_estimate difference[EVAL_SPLITS][REPORT_FIGURES]; /* mix minus alttext */
    nn_shards *captions;
    double seconds; /* of all stages */
} report;

/* Errors leave nothing to free. */
nn_status report_load(const char *directory, const char *manifest, report *r) NN_CHECKED;
void report_free(report *r);

/* Append the page, or {"arms": {KEY: {"held_out": {"soa": {...}, ...}, "seen": ...}},
 * "difference": {"soa": {...}, ...} (held out), "captioner": ..., "stages": {KEY: {"seconds": s}},
 * "seconds": s, "config": ..., "revision": ...}. */
nn_status report_write_html(const report *r, nn_text *out) NN_CHECKED;
nn_status report_write_json(const report *r, nn_text *out) NN_CHECKED;

/* The headline table as plain text: held-out prompts. */
nn_status report_write_headline(const report *r, nn_text *out) NN_CHECKED;

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

nn_status report_headline_html(const report *r, int split, nn_text *out) NN_CHECKED;
nn_status report_captioner_html(const report *r, nn_text *out) NN_CHECKED;
nn_status report_stages_html(const report *r, nn_text *out) NN_CHECKED;
nn_status report_config_html(const report *r, nn_text *out) NN_CHECKED;
nn_status report_curves_html(const report *r, int split, nn_text *out) NN_CHECKED;
nn_status report_grid_html(const report *r, nn_text *out) NN_CHECKED;
nn_status report_captions_html(const report *r, nn_text *out) NN_CHECKED;

#endif
