/* The judge: finds the objects in a picture, and says how a picture looks to it.
 *
 * A fully convolutional network with a heat map of object centres per kind of object, a quarter of
 * the picture's resolution. Trained on scenes whose truth is known, it counts and locates what a
 * generator has drawn (SOA, CA, PA), and its pooled features carry the Frechet distance. Source of
 * the heat map: Zhou et al. 2019, Objects as Points. */
#ifndef MODELS_DETECTOR_H
#define MODELS_DETECTOR_H

#include "data/json.h"
#include "data/scenes.h"
#include "engine/nn.h"

enum {
    DETECTOR_STRIDE = 4, /* pixels a side of a cell of the heat map */
    DETECTOR_MOST = 64   /* detections in one picture */
};

typedef struct detector_config {
    int n_objects;    /* kinds, a prefix of the vocabulary of scenes */
    int size;         /* pixels a side, a multiple of DETECTOR_STRIDE */
    int width;        /* channels at a quarter of the resolution, and features */
    int n_blocks;     /* residual blocks there */
    int groups;       /* of group normalisation; width is a multiple of 2 x groups */
    double threshold; /* least probability of a centre */
} detector_config;

/* 64 channels, 3 blocks: 242 thousand parameters; at 64 pixels 0.13 GFLOP a picture, 0.38
 * trained. */
detector_config detector_config_default(int n_objects, int size);

/* config.json: { "n_objects": 16, "size": 64, "width": 64, "n_blocks": 3, "groups": 8,
 * "threshold": 0.5 }; what is absent has the default. write appends. */
nn_status detector_config_parse(const nn_json *json, detector_config *out) NN_CHECKED;
nn_status detector_config_write(const detector_config *c, nn_text *out) NN_CHECKED;

int64_t detector_cells(const detector_config *c); /* K, a side of the heat map */

/* pixels [N, S, S, 3] in [-1, 1] -> [N, K, K, width], normalised and activated: what the other two
 * start from. */
nn_tensor *detector_map(nn_scope s, const detector_config *c, nn_tensor *pixels);

/* map -> logits of centres [N, K, K, n_objects]. */
nn_tensor *detector_logits(nn_scope s, const detector_config *c, nn_tensor *map);

/* map -> its mean over all places, [N, width]. */
nn_tensor *detector_features(nn_scope s, nn_tensor *map);

/* Focal loss of the heat map against targets [N, K, K, n_objects]. */
nn_tensor *detector_loss(nn_scope s, const detector_config *c, nn_tensor *pixels,
                         nn_tensor *targets);

/* -- pictures, truth and answers on the host -- */

/* n pixels of 8-bit RGB as 3n numbers in [-1, 1]. */
void detector_pixels(const uint8_t *rgb, int64_t n, float *out);

/* The targets of a scene of the same size, [K, K, n_objects]: 1 in the cell of each object's centre
 * and a Gaussian of half a cell around it. Objects beyond n_objects are left out. */
void detector_target(const detector_config *c, const nn_scene *scene, float *out);

/* The peaks of a heat map of logits [K, K, n_objects], in reading order: above the threshold, the
 * highest of their kind in 5 x 5 cells and of all kinds in 3 x 3; found [DETECTOR_MOST]. Returns
 * how many. Centres are those of cells, in pixels. */
int detector_peaks(const detector_config *c, const float *logits, nn_scene_detection *found);

/* Whether the detections are the scene's objects: as many, and each of the same kind within half an
 * object's size of its centre along both axes. */
bool detector_is_exact(const nn_scene *scene, const nn_scene_detection *found, int n);

/* -- looking at pictures -- */

/* Read DIR/config.json and the weights beside it into a new store on the device. Owner of the
 * store: nn_params_destroy. */
nn_status detector_open(const char *directory, nn_device *device, detector_config *config,
                        nn_params **params) NN_CHECKED;

/* A plan for batches of `images` pictures. Store and device must outlive it. Owner: the caller. */
typedef struct detector_session detector_session;
nn_status detector_session_create(const detector_config *c, nn_params *params, nn_device *device,
                                  int64_t images, detector_session **out) NN_CHECKED;
void detector_session_destroy(detector_session *session); /* NULL is legal */

/* pixels [images, S, S, 3] -> logits [images, K, K, n_objects], features [images, width]; either
 * may be NULL. */
nn_status detector_session_look(detector_session *session, const float *pixels, float *logits,
                                float *features) NN_CHECKED;

#endif
