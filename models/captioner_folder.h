/* A captioner on disk: config.json as transformers writes it for BLIP, model.safetensors, and a
 * tokenizer (vocab.txt, or vocab.json with merges.txt).
 *
 * config.json may hold three keys of ours: "caption_columns" and "caption_prefixes", two lists of
 * the same length that say which prefix asks for which kind of caption, and "caption_cleaning",
 * "blip" or "none". */
#ifndef MODELS_CAPTIONER_FOLDER_H
#define MODELS_CAPTIONER_FOLDER_H

#include "data/image.h"
#include "models/caption_text.h"
#include "models/captioner.h"

enum { CAPTIONER_STYLES = 8, CAPTIONER_COLUMN = 32, CAPTIONER_PREFIX = 128 };

/* The prefixes of a captioner by column. */
typedef struct captioner_styles {
    int n;
    char column[CAPTIONER_STYLES][CAPTIONER_COLUMN], prefix[CAPTIONER_STYLES][CAPTIONER_PREFIX];
} captioner_styles;

/* The prefix of a column, or NULL. */
const char *captioner_style(const captioner_styles *styles, const char *column);

/* Set prefixes from "short=a short caption:;long=a detailed caption:". NN_ARGUMENT otherwise. */
nn_status captioner_styles_parse(const char *text, captioner_styles *styles) NN_CHECKED;

typedef struct captioner_folder {
    captioner_config config;
    captioner_styles styles;
    caption_cleaning cleaning;
    caption_words words; /* its special ids are the configuration's */
    nn_params *params;   /* on the device, without gradients */
    char *tokenizer;     /* directory of the tokenizer's files */
} captioner_folder;

/* Load a directory, its weights onto the device. exact: the weights stay f32 on a device in bf16,
 * for training and saving. Owner: captioner_folder_close. */
nn_status captioner_folder_open(const char *dir, nn_device *device, bool exact,
                                captioner_folder *out) NN_CHECKED;

/* The configuration of one directory, the tokenizer of another (they may be the same), weights
 * drawn from the seed and exact. The size of the vocabulary and the special ids are the
 * tokenizer's. */
nn_status captioner_folder_draw(const char *dir, const char *tokenizer, nn_device *device,
                                uint64_t seed, captioner_folder *out) NN_CHECKED;
void captioner_folder_close(captioner_folder *folder);

/* Write everything into a directory, which is made. */
nn_status captioner_folder_save(const captioner_folder *folder, const char *dir) NN_CHECKED;

/* A picture as the encoder takes it: resized to its square (bicubic), CLIP's mean and deviation.
 * out [S, S, 3]. captioner_square stops before the numbers: 8-bit RGB, owner nn_image_free. */
nn_status captioner_square(const captioner_config *c, const nn_image *image,
                           nn_image *out) NN_CHECKED;
void captioner_pixels(const nn_image *square, float *out);

#endif
