/* The judge as a graph: half, quarter, residual blocks, heat map. */
#include "models/detector.h"

#include "models/block/resnet.h"

static const double eps = 1e-5, focus = 2;

/* Centres are rare: before training every cell holds one with a probability of 0.018. */
static const double rarity = -4;

static const nn_conv halve = { 2, 1, 1, 1, 1 };

detector_config detector_config_default(int n_objects, int size)
{
    return (detector_config){ .n_objects = n_objects,
                              .size = size,
                              .width = 64,
                              .n_blocks = 3,
                              .groups = 8,
                              .threshold = 0.5 };
}

static nn_status check(const nn_json *json, const detector_config *c)
{
    if (c->n_objects < 1 || c->n_objects > NN_SCENE_OBJECTS)
        return nn_fail(NN_FORMAT, "%s: n_objects is %d, expected 1 to %d", json->file, c->n_objects,
                       NN_SCENE_OBJECTS);
    if (c->size < 4 * DETECTOR_STRIDE || c->size > 512 || c->size % DETECTOR_STRIDE)
        return nn_fail(NN_FORMAT, "%s: size is %d, expected a multiple of %d in %d..512",
                       json->file, c->size, DETECTOR_STRIDE, 4 * DETECTOR_STRIDE);
    if (c->groups < 1 || c->width < 2 || c->width > 1024 || c->width % (2 * c->groups))
        return nn_fail(NN_FORMAT,
                       "%s: width is %d, expected a multiple of 2 x %d groups in 2..1024",
                       json->file, c->width, c->groups);
    if (c->n_blocks < 0 || c->n_blocks > 64)
        return nn_fail(NN_FORMAT, "%s: n_blocks is %d, expected 0 to 64", json->file, c->n_blocks);
    if (!(c->threshold > 0 && c->threshold < 1))
        return nn_fail(NN_FORMAT, "%s: threshold is %g, expected a probability between 0 and 1",
                       json->file, c->threshold);
    return NN_OK;
}

nn_status detector_config_parse(const nn_json *json, detector_config *out)
{
    detector_config c = detector_config_default(NN_SCENE_OBJECTS, 64);
    NN_TRY(nn_json_int(json, "n_objects", &c.n_objects));
    NN_TRY(nn_json_int(json, "size", &c.size));
    NN_TRY(nn_json_int(json, "width", &c.width));
    NN_TRY(nn_json_int(json, "n_blocks", &c.n_blocks));
    NN_TRY(nn_json_int(json, "groups", &c.groups));
    NN_TRY(nn_json_double(json, "threshold", &c.threshold));
    NN_TRY(check(json, &c));
    *out = c;
    return NN_OK;
}

nn_status detector_config_write(const detector_config *c, nn_text *out)
{
    char threshold[NN_JSON_REAL];
    return nn_text_add(out,
                       "{\n  \"n_objects\": %d,\n  \"size\": %d,\n  \"width\": %d,\n"
                       "  \"n_blocks\": %d,\n  \"groups\": %d,\n  \"threshold\": %s\n}\n",
                       c->n_objects, c->size, c->width, c->n_blocks, c->groups,
                       nn_json_real(c->threshold, threshold));
}

int64_t detector_cells(const detector_config *c)
{
    return c->size / DETECTOR_STRIDE;
}

nn_tensor *detector_map(nn_scope s, const detector_config *c, nn_tensor *pixels)
{
    nn_tensor *x = conv(nn_at(s, "conv_in"), pixels, c->width / 2, 3, halve, NULL, NULL);
    x = groupnorm_silu(nn_at(s, "norm_in"), x, c->groups, eps);
    x = conv(nn_at(s, "conv_down"), x, c->width, 3, halve, NULL, NULL); /* [N, K, K, width] */
    for (int i = 0; i < c->n_blocks; i++)
        x = resnet_block(nn_at(s, "blocks.%d", i), x, NULL, c->width, c->groups, eps);
    return groupnorm_silu(nn_at(s, "norm_out"), x, c->groups, eps);
}

nn_tensor *detector_logits(nn_scope s, const detector_config *c, nn_tensor *map)
{
    nn_tensor *logits = conv_same(nn_at(s, "conv_out"), map, c->n_objects, 1);
    return nn_scale(s.g, logits, 1, rarity); /* [N, K, K, n_objects] */
}

nn_tensor *detector_features(nn_scope s, nn_tensor *map)
{
    const int64_t *dim = map->view.dim;
    int64_t n = dim[0], width = dim[3], places = dim[1] * dim[2];
    nn_enter(s);
    nn_tensor *sum = nn_sum(s.g, nn_precise(s.g, map), NN_DIMS(n, 1, 1, width));
    return nn_scale(s.g, nn_reshape(s.g, sum, NN_DIMS(n, width)), 1.0 / (double)places, 0);
}

nn_tensor *detector_loss(nn_scope s, const detector_config *c, nn_tensor *pixels,
                         nn_tensor *targets)
{
    nn_tensor *logits = detector_logits(s, c, detector_map(s, c, pixels));
    nn_enter(s);
    return nn_focal(s.g, logits, targets, focus);
}
