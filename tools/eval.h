/* Results of an evaluation: what a detector found in pictures drawn for prompts.
 *
 * DIR/samples.jsonl has a line per picture: its line of the prompts (tools/data_prompts.c) with
 * "file" added. The results are one JSON object:
 *
 *     {"held_out": {"soa": {"value": 0.9, "low": 0.87, "high": 0.93, "n": 200}, "ca_exact": ...,
 *                   "ca_rmse": ..., "pa": ..., "full": ..., "fd_detector": ...},
 *      "seen": {...},
 *      "fd_replicates": {"held_out": [...], "seen": [...]},
 *      "detector": {"reference_full": {...}, "reference_pictures": 2000},
 *      "samples": [{"prompt": "...", "metric": "soa", "split": "held_out", "seed": 1,
 *                   "file": "000000.png", "named": 2, "present": 1, "counted": 1,
 *                   "count_error": [0, -1], "exact": false, "related": false}, ...]}
 *
 * A figure without prompts is null. */
#ifndef TOOLS_EVAL_H
#define TOOLS_EVAL_H

#include <jansson.h>

#include "data/image.h"
#include "engine/base/arena.h"
#include "models/detector.h"
#include "models/metrics.h"
#include "tools/device.h"

enum { EVAL_HELD_OUT, EVAL_SEEN, EVAL_SPLITS };

const char *eval_split_name(int split);
const char *eval_metric_name(nn_scene_metric metric);

typedef struct eval_sample {
    const char *prompt, *file;
    nn_scene_metric metric;
    int split;
    int64_t seed;
    nn_scene answer; /* of samples.jsonl only */
    nn_scene_score score;
} eval_sample;

/* Distance of the pictures of one split; n is 0 where it was not measured. */
typedef struct eval_distance {
    metrics_estimate estimate;
    double replicate[METRICS_FRECHET_RESAMPLES];
} eval_distance;

typedef struct eval_set {
    nn_arena arena; /* holds the texts */
    eval_sample *samples;
    int64_t n, capacity;
    eval_distance distance[EVAL_SPLITS];
    metrics_estimate ceiling; /* exactness of the detector on reference pictures */
} eval_set;

void eval_free(eval_set *set);

/* DIR/samples.jsonl. */
nn_status eval_read_samples(const char *directory, eval_set *set) NN_CHECKED;

/* The results file; answers are not in it. */
nn_status eval_write(const eval_set *set, const char *path) NN_CHECKED;
nn_status eval_read(const char *path, eval_set *set) NN_CHECKED;

/* The figure of one split, and that of a minus b. Both draw their resamples from the same seed. */
nn_status eval_figure(const eval_set *set, metrics_kind kind, int split,
                      metrics_estimate *out) NN_CHECKED;
nn_status eval_difference(const eval_set *a, const eval_set *b, metrics_kind kind, int split,
                          metrics_estimate *out) NN_CHECKED;

/* NN_ARGUMENT where a and b did not answer the same prompts from the same seeds, in one order. */
nn_status eval_check_paired(const eval_set *a, const eval_set *b) NN_CHECKED;

/* {"value": v, "low": l, "high": h, "n": n}, null without a value; and back (absent or null: NAN
 * and 0). */
nn_status eval_write_estimate(const metrics_estimate *e, nn_text *out) NN_CHECKED;
metrics_estimate eval_read_estimate(const json_t *json);

/* -- looking: eval_look.c --------------------------------------------------------------------- */

typedef struct eval_eye eval_eye; /* a detector with its session */
nn_status eval_eye_open(const char *detector, const device_settings *on, eval_eye **out) NN_CHECKED;
void eval_eye_close(eval_eye *eye);
int eval_eye_width(const eval_eye *eye); /* features of a picture */

/* Where pictures come from: picture i, decoded into *image, which the caller frees. */
typedef nn_status eval_source(void *ctx, int64_t i, nn_image *image);

/* Takes what was found in picture i. */
typedef void eval_sink(void *ctx, int64_t i, const nn_scene_detection *found, int n_found);

/* Look at n pictures; those of another size are resized. features [n, width]. */
nn_status eval_eye_look(eval_eye *eye, const char *what, int64_t n, eval_source *source,
                        eval_sink *sink, void *ctx, float *features) NN_CHECKED;

nn_command_run eval_pictures, eval_captions, eval_compare;
extern const nn_option eval_pictures_options[], eval_captions_options[], eval_compare_options[];

#endif
