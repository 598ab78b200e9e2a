/* Pictures through the detector, batch by batch. */
#include <string.h>

#include "data/resize.h"
#include "engine/base/alloc.h"
#include "tools/eval.h"

enum { BATCH = 32 };

struct eval_eye {
    nn_device *device;
    nn_params *params;
    detector_config config;
    detector_session *session;
    float *pixels, *logits, *features; /* of a batch */
};

static nn_status open_eye(eval_eye *eye, const char *detector, const device_settings *on)
{
    NN_TRY(device_open(on, &eye->device));
    NN_TRY(detector_open(detector, eye->device, &eye->config, &eye->params));
    const detector_config *c = &eye->config;
    NN_TRY(detector_session_create(c, eye->params, eye->device, BATCH, &eye->session));
    int64_t cells = detector_cells(c);
    eye->pixels = nn_alloc((int64_t)BATCH * c->size * c->size * 3, sizeof(float));
    eye->logits = nn_alloc(BATCH * cells * cells * c->n_objects, sizeof(float));
    eye->features = nn_alloc((int64_t)BATCH * c->width, sizeof(float));
    NN_NEED(eye->pixels);
    NN_NEED(eye->logits);
    NN_NEED(eye->features);
    return NN_OK;
}

nn_status eval_eye_open(const char *detector, const device_settings *on, eval_eye **out)
{
    eval_eye *eye = nn_alloc(1, sizeof(*eye));
    NN_NEED(eye);
    nn_status status = open_eye(eye, detector, on);
    if (status != NN_OK) {
        eval_eye_close(eye);
        return status;
    }
    *out = eye;
    return NN_OK;
}

void eval_eye_close(eval_eye *eye)
{
    if (!eye) return;
    detector_session_destroy(eye->session);
    nn_params_destroy(eye->params);
    if (eye->device) nn_device_close(eye->device);
    nn_free(eye->pixels);
    nn_free(eye->logits);
    nn_free(eye->features);
    nn_free(eye);
}

int eval_eye_width(const eval_eye *eye)
{
    return eye->config.width;
}

/* One picture as the detector takes it. */
static nn_status show(eval_eye *eye, const nn_image *image, float *pixels)
{
    int64_t side = eye->config.size;
    nn_image fitted = { 0 };
    if (image->width != side || image->height != side)
        NN_TRY(nn_image_resize(image, side, side, NN_RESIZE_BICUBIC, NN_RESIZE_PILLOW_13, &fitted));
    detector_pixels(fitted.rgb ? fitted.rgb : image->rgb, side * side, pixels);
    nn_image_free(&fitted);
    return NN_OK;
}

/* The pictures first .. first + count - 1; the rest of the batch keeps what was there. */
static nn_status look_batch(eval_eye *eye, int64_t first, int64_t count, eval_source *source,
                            eval_sink *sink, void *ctx, float *features)
{
    const detector_config *c = &eye->config;
    int64_t cells = detector_cells(c);
    for (int64_t i = 0; i < count; i++) {
        nn_image image = { 0 };
        NN_TRY(source(ctx, first + i, &image));
        nn_status status = show(eye, &image, eye->pixels + i * c->size * c->size * 3);
        nn_image_free(&image);
        if (status != NN_OK) return status;
    }
    NN_TRY(detector_session_look(eye->session, eye->pixels, eye->logits, eye->features));
    memcpy(features + first * c->width, eye->features,
           (size_t)(count * c->width) * sizeof(*features));
    for (int64_t i = 0; i < count; i++) {
        nn_scene_detection found[DETECTOR_MOST];
        int n = detector_peaks(c, eye->logits + i * cells * cells * c->n_objects, found);
        sink(ctx, first + i, found, n);
    }
    return NN_OK;
}

nn_status eval_eye_look(eval_eye *eye, const char *what, int64_t n, eval_source *source,
                        eval_sink *sink, void *ctx, float *features)
{
    nn_progress progress;
    nn_status status = NN_OK;
    nn_progress_start(&progress, what, "picture", 0, n);
    for (int64_t i = 0; i < n && status == NN_OK; i += BATCH) {
        int64_t count = nn_min(BATCH, n - i);
        status = nn_cli_interrupted() ? nn_fail(NN_INTERRUPTED, "interrupted; nothing was written")
                                      : look_batch(eye, i, count, source, sink, ctx, features);
        nn_progress_step(&progress, i + count, NULL, 0);
    }
    nn_progress_stop(&progress);
    return status;
}
