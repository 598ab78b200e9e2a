/* Pictures for the trainers of codec and judge: a corpus of shards as squares of one size, the last
 * of it held out for measuring. */
#ifndef TOOLS_TRAIN_IMAGES_H
#define TOOLS_TRAIN_IMAGES_H

#include "data/loader.h"
#include "data/scenes.h"
#include "engine/base/rng.h"
#include "tools/trainer.h"

typedef struct train_image {
    uint8_t *rgb; /* [size, size, 3] */
    bool has_scene;
    nn_scene scene; /* the truth, of the same size as the picture */
} train_image;

void train_image_free(train_image *image);

/* What to open. */
typedef struct train_corpus {
    const char *shards;
    int64_t size;     /* pixels a side; others are scaled to it, and their middle is taken */
    int64_t held_out; /* samples at the end that training never sees */
    bool needs_scene; /* a sample without the truth of its size is a fault */
    uint64_t seed;    /* of the order */
} train_corpus;

typedef struct train_images {
    train_corpus corpus;
    int64_t n_train; /* samples before those held out */
    nn_shards *shards;
    nn_shard_report report;
    nn_loader *loader; /* after the first seek */
} train_images;

/* Errors: NN_ARGUMENT when nothing would be left to train on. out stays where it is while it is
 * open; a corpus of up to 1 GiB of pixels is held in memory. Owner: train_images_close. */
nn_status train_images_open(const train_corpus *corpus, train_images *out) NN_CHECKED;
void train_images_close(train_images *images); /* logs what could not be read */

/* The next picture to train on; it is valid until the next call. number: of the sample. */
nn_status train_images_next(train_images *images, const train_image **image,
                            int64_t *number) NN_CHECKED;

/* Pass over the next n pictures to train on. */
nn_status train_images_skip(train_images *images, int64_t n) NN_CHECKED;

/* Where the stream stands, and going there: once before the first picture. */
void train_images_tell(const train_images *images, int64_t *epoch, int64_t *position);
nn_status train_images_seek(train_images *images, int64_t epoch, int64_t position) NN_CHECKED;

/* The two as a trainer takes them. */
trainer_stream train_images_stream(train_images *images);

/* Sample number i of the corpus; from n_train on they are the ones held out. Owner:
 * train_image_free. */
nn_status train_images_read(const train_images *images, int64_t i, train_image *out) NN_CHECKED;

/* The upper left corner of a crop of so many pixels a side: around an object of the scene, at most
 * a quarter of the crop off its centre; anywhere where there is no scene. */
void train_crop_place(const train_image *image, int64_t size, int64_t crop, nn_rng *rng, int64_t *x,
                      int64_t *y);

/* Pixels [crop, crop, 3] at (x, y) of a picture of that size, in [-1, 1]. */
void train_crop_pixels(const train_image *image, int64_t size, int64_t crop, int64_t x, int64_t y,
                       float *out);

/* Numbers in [-1, 1] as 8-bit values: rounded, what lies outside is clipped. */
void train_bytes(const float *pixels, int64_t n, uint8_t *out);

/* Sum of the squared differences. */
double train_squared_error(const uint8_t *a, const uint8_t *b, int64_t n);

/* Peak signal-to-noise ratio of 8-bit values, dB; 99 where nothing differs. */
double train_psnr(double mean_squared_error);

#endif
