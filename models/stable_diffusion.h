/* Stable Diffusion 1.x as a whole: a diffusers folder with UNet, text encoder, codec, tokenizer and
 * schedule.
 *
 *     DIR/unet/{config.json, diffusion_pytorch_model.safetensors}
 *     DIR/text_encoder/{config.json, model.safetensors}
 *     DIR/vae/{config.json, diffusion_pytorch_model.safetensors}
 *     DIR/scheduler/scheduler_config.json
 *     DIR/tokenizer/{vocab.json, merges.txt}, or tokenizer.json
 *
 * or, for drawing, a single file of LDM's layout (.safetensors, .ckpt) that holds all three
 * networks; its configuration is what their shapes say, and for the rest Stable Diffusion 1.x's.
 *
 * Weights may also lie in fp16 files, in several parts, or in .bin files, under any of the names
 * that data/layout.h knows.
 *
 * UNet and text encoder share one store ("unet." and "text." in front of the published names),
 * since they are trained together; the codec is frozen and has its own. */
#ifndef MODELS_STABLE_DIFFUSION_H
#define MODELS_STABLE_DIFFUSION_H

#include "data/clip_bpe.h"
#include "models/clip_text.h"
#include "models/diffusion.h"
#include "models/unet.h"
#include "models/vae.h"

typedef struct sd_model {
    unet_config unet;
    clip_text_config text;
    vae_config vae;
    nn_noise_schedule noise;
    nn_clip_bpe tokenizer;
    nn_params *params;     /* unet.*, text.* */
    nn_params *vae_params; /* encoder.*, decoder.*, quant_conv.*, post_quant_conv.* */
} sd_model;

typedef enum sd_start {
    SD_LOAD,    /* the folder's weights; a missing one is an error */
    SD_FROZEN,  /* the same in frozen stores (engine/params.h): they stay as they are */
    SD_SCRATCH, /* UNet and text encoder drawn from the seed, the codec loaded */
} sd_start;

/* Read the folder. with_grads: UNet and text encoder will be trained. Owner: sd_model_close. */
nn_status sd_model_open(const char *dir, nn_device *device, sd_start start, uint64_t seed,
                        bool with_grads, sd_model *out) NN_CHECKED;
void sd_model_close(sd_model *m);

/* A folder or a single file, to draw with. tokenizer: what nn_clip_bpe_open opens; NULL = the
 * folder's own, and of a single file a folder "tokenizer" beside it, or else the folder that it
 * lies in. Owner: sd_model_close. Errors: also NN_NOT_FOUND where there is no vocabulary. */
nn_status sd_model_open_any(const char *path, const char *tokenizer, nn_device *device,
                            sd_model *out) NN_CHECKED;

/* Whether a path is that of a single file. */
bool sd_is_file(const char *path);

/* The four configurations alone, and the schedule made from its own: what sd_model_open begins
 * with. vae_dir: the folder that holds vae/, usually dir. Owner: sd_model_close. */
nn_status sd_model_configure(const char *dir, const char *vae_dir, sd_model *out) NN_CHECKED;

/* Write UNet and text encoder as f32 to another folder, and copy what belongs to them from `from`.
 */
nn_status sd_model_save(const sd_model *m, const char *from, const char *dir) NN_CHECKED;

/* Whether the UNet was made to fill in pictures: it takes a mask and the latents of the rest of the
 * picture beside the latent. Source: runwayml's stable-diffusion-inpainting, 9 channels. */
bool sd_fills_in(const sd_model *m);

/* The parts as graphs. */
nn_tensor *sd_text(const sd_model *m, nn_graph *g, nn_tensor *ids, bool recompute);
nn_tensor *sd_unet(const sd_model *m, nn_graph *g, nn_tensor *latent, nn_tensor *t,
                   nn_tensor *context, bool recompute);

/* A prompt as the text encoder's ids [max_positions]. *truncated tells that it was too long. */
nn_status sd_tokenize(const sd_model *m, const char *prompt, int32_t *ids,
                      bool *truncated) NN_CHECKED;

/* -- the codec -- */

/* Batches of the codec's encoder or decoder. Images are [n, H, W, 3] in [-1, 1]. Each direction is
 * planned when it is first used. params are borrowed for the codec's life. Owner: the caller. */
typedef struct sd_codec sd_codec;
nn_status sd_codec_create(const vae_config *c, nn_params *params, nn_device *device, int64_t batch,
                          int64_t height, int64_t width, sd_codec **out) NN_CHECKED;
void sd_codec_destroy(sd_codec *codec);

/* From here on memory counts more than time. rest: where that is so, give the plans back until they
 * are needed again. */
void sd_codec_save_memory(sd_codec *codec);
void sd_codec_rest(sd_codec *codec);

/* Sizes of the codec's pictures, and what a latent has of them. */
typedef struct sd_codec_size {
    int64_t batch, height, width;
    int64_t stride; /* between the sides of picture and latent */
    int64_t image_channels, latent_channels;
} sd_codec_size;
const sd_codec_size *sd_codec_size_of(const sd_codec *codec);

/* Elements of one latent. */
int64_t sd_codec_latent_elems(const sd_codec *codec);

/* Means and log-variances of n images, a batch at a time: moments [n, h, w, 2L]. */
nn_status sd_codec_encode(sd_codec *codec, int64_t n, const float *images,
                          float *moments) NN_CHECKED;

/* latents [n, h, w, L] as the UNet sees them (scaled) -> images. */
nn_status sd_codec_decode(sd_codec *codec, int64_t n, const float *latents,
                          float *images) NN_CHECKED;

/* One picture of height x width, at least the codec's size, in tiles of that size. Neighbours share
 * at least `overlap` of a tile's side and are blended there. Group norms and the attention in the
 * codec's middle see a tile only, so the result is near that of the whole, not equal to it: with
 * random weights and tiles of 64 latents within a tenth of the range, and 1 % in the mean. */
nn_status sd_codec_decode_tiles(sd_codec *codec, int64_t height, int64_t width, double overlap,
                                const float *latent, float *image) NN_CHECKED;
nn_status sd_codec_encode_tiles(sd_codec *codec, int64_t height, int64_t width, double overlap,
                                const float *image, float *moments) NN_CHECKED;

/* A latent for the UNet from moments: (mean + exp(logvar / 2) * noise) * scaling_factor; noise NULL
 * = the mean. */
void sd_latent(const vae_config *c, int64_t places, const float *moments, const float *noise,
               float *latent);

#endif
