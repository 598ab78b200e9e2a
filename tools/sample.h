/* recap-sample: settings, the networks at work, and pictures one batch after the other. */
#ifndef TOOLS_SAMPLE_H
#define TOOLS_SAMPLE_H

#include "data/image.h"
#include "models/sd_draw.h"
#include "tools/device.h"
#include "tools/prompts.h"

enum { SAMPLE_TILE_AUTO, SAMPLE_TILE_ON, SAMPLE_TILE_OFF };
enum { SAMPLE_LONG_TRUNCATE, SAMPLE_LONG_WINDOWS };

/* What the command line says. */
typedef struct sample_settings {
    const char *model, *tokenizer; /* tokenizer NULL = the model's */
    const char *prompt, *prompt_file, *negative, *output, *output_dir;
    const char *scheduler; /* NULL = the model's own */
    const char *init_image, *mask_image, *grid, *sheet;
    device_settings on;
    int64_t steps, seed, height, width, batch, per_prompt; /* height, width 0 = as it comes */
    int64_t clip_skip, preview_every, tile, columns, cell;
    double guidance, rescale, eta, strength;
    bool karras, weights, fast;
    int spacing, rng, long_prompt, tiling;
} sample_settings;

#define SAMPLE_DEFAULTS                                                                            \
    {                                                                                              \
        .negative = "", .on = DEVICE_DEFAULTS, .steps = 50, .batch = 1, .per_prompt = 1,           \
        .tile = 512, .cell = 128, .guidance = 7.5, .strength = 0.8                                 \
    }

extern const nn_option sample_options[];
extern const char *const sample_rng_names[];
nn_status sample_command(const nn_cli *cli);

/* Contradictions between settings, and texts that no picture could carry. */
nn_status sample_check(const sample_settings *set) NN_CHECKED;

/* Draw everything. */
nn_status sample_run(const sample_settings *set) NN_CHECKED;

/* -- what to start from -- */

/* {0} = from noise. Owner: sample_canvas_free. */
typedef struct sample_canvas {
    nn_image picture; /* of the size that is drawn */
    uint8_t *cover;   /* [h, w] of the picture: 0 = it stays */
    uint8_t *mask;    /* the same of the latent */
} sample_canvas;

/* Read --init-image and --mask-image; sides that are 0 become those of the picture, rounded down to
 * multiples of `stride`, or `usual` without one. The rest is diffusers' rule: Lanczos to the size;
 * a mask is white (grey from 128 on) where the picture is drawn anew, and a latent has the mask of
 * the first of its pixels. */
nn_status sample_canvas_read(const sample_settings *set, int64_t stride, int64_t usual,
                             int64_t *height, int64_t *width, sample_canvas *out) NN_CHECKED;
void sample_canvas_free(sample_canvas *c);

/* -- the networks -- */

/* One picture to draw. */
typedef struct sample_picture {
    int64_t index; /* in the run: its number, and its file's */
    const prompt_line *line;
    const char *negative_text;
    uint64_t seed;
    sd_prompt prompt, negative; /* of equally many windows */
} sample_picture;

typedef struct sample_engine {
    const sample_settings *set;
    int dtype; /* index in device_dtypes */
    nn_device *device;
    sd_model model;
    sd_draw_options draw;
    int64_t batch, height, width;
    sd_session *session; /* for the windows of the last batch */
    sd_codec *codec;
    bool tiled;
    float *moments; /* of the canvas */
    float *grey;    /* of the canvas that is grey where it is drawn anew; NULL = not wanted */
    const uint8_t *mask;
    float *latents; /* [batch] */
    double opened;  /* age of the process when all was open; told, and cleared, before the first
                       step; 0 = not to be told */
} sample_engine;

/* Device, weights and sampler. Owner: sample_engine_close. */
nn_status sample_engine_open(const sample_settings *set, int dtype, sample_engine *e) NN_CHECKED;
void sample_engine_close(sample_engine *e);

/* For batches of pictures of this size. The canvas is borrowed. */
nn_status sample_engine_prepare(sample_engine *e, int64_t batch, int64_t height, int64_t width,
                                const sample_canvas *canvas) NN_CHECKED;

/* Images [n, height, width, 3] in [-1, 1] of n <= batch pictures whose prompts fill as many
 * windows.
 */
nn_status sample_engine_draw(sample_engine *e, int64_t n, const sample_picture *pictures,
                             const sd_watch *watch, float *images) NN_CHECKED;

/* Latents of n <= batch pictures to images. */
nn_status sample_engine_decode(sample_engine *e, int64_t n, const float *latents,
                               float *images) NN_CHECKED;

/* -- files -- */

/* How a picture was made, as it is written into it. */
typedef struct sample_info {
    const sample_settings *set;
    const char *prompt, *negative, *scheduler, *title, *dtype;
    bool karras;
    int64_t width, height;
    uint64_t seed, model;
} sample_info;

/* A number that names the weights in a model's folder or file: of the names and sizes of their
 * files and of 256 blocks spread over each. */
nn_status sample_model_hash(const char *model, uint64_t *hash) NN_CHECKED;

bool sample_is_finite(const float *image, int64_t n);

/* image [height, width, 3] in [-1, 1] -> 8-bit PNG (round half to even) with the texts `parameters`
 * (the layout of AUTOMATIC1111's web UI) and `recap` (JSON). A value that is not finite is an error
 * (NN_NUMERIC): no picture is written. */
nn_status sample_write_png(const char *path, const float *image,
                           const sample_info *info) NN_CHECKED;

/* DIR/samples.jsonl: for each picture the line of its prompt with "seed" and "file". */
typedef uint64_t sample_seed_of(const void *ctx, int64_t picture);
nn_status sample_write_list(const char *dir, const prompts *list, int64_t per_prompt,
                            sample_seed_of *seed_of, const void *ctx) NN_CHECKED;

/* Pictures side by side in one PNG: n files, in rows of `columns`. cell 0: full size, touching;
 * else each fits into a square of so many pixels, with a margin. */
nn_status sample_write_sheet(const char *path, char *const files[], int64_t n, int64_t columns,
                             int64_t cell) NN_CHECKED;

#endif
