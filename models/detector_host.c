/* Heat maps on the host: targets from the truth, detections from logits. */
#include <math.h>
#include <stdlib.h>

#include "models/detector.h"

void detector_pixels(const uint8_t *rgb, int64_t n, float *out)
{
    for (int64_t i = 0; i < 3 * n; i++) out[i] = (float)rgb[i] / 127.5f - 1.0f;
}

static int clamp(int value, int most)
{
    return (int)nn_max(0, nn_min(value, most));
}

/* exp(-2 d^2), the Gaussian of half a cell, kept where an object nearby has more. */
static void raise_around(float *heat, int cells, int kinds, int row, int column)
{
    for (int dy = -2; dy <= 2; dy++)
        for (int dx = -2; dx <= 2; dx++) {
            int y = row + dy, x = column + dx;
            if (y < 0 || y >= cells || x < 0 || x >= cells) continue;
            float *at = &heat[(y * cells + x) * kinds];
            *at = fmaxf(*at, expf(-2.0f * (float)(dy * dy + dx * dx)));
        }
}

void detector_target(const detector_config *c, const nn_scene *scene, float *out)
{
    int cells = (int)detector_cells(c), kinds = c->n_objects;
    NN_ASSERT(scene->size == c->size);
    for (int i = 0; i < cells * cells * kinds; i++) out[i] = 0;
    for (int i = 0; i < scene->n_items; i++) {
        const nn_scene_item *it = &scene->item[i];
        if (it->object >= kinds) continue;
        int row = clamp((2 * it->y + it->size) / (2 * DETECTOR_STRIDE), cells - 1);
        int column = clamp((2 * it->x + it->size) / (2 * DETECTOR_STRIDE), cells - 1);
        raise_around(out + it->object, cells, kinds, row, column);
    }
}

/* Whether a cell of one kind stands out; of equals the first in memory does. */
static bool is_peak(const detector_config *c, const float *logits, int row, int column, int kind)
{
    int cells = (int)detector_cells(c), kinds = c->n_objects;
    const float *at = &logits[(row * cells + column) * kinds + kind];
    for (int y = (int)nn_max(0, row - 2); y <= nn_min(row + 2, cells - 1); y++)
        for (int x = (int)nn_max(0, column - 2); x <= nn_min(column + 2, cells - 1); x++) {
            bool near = abs(y - row) < 2 && abs(x - column) < 2;
            const float *other = &logits[(y * cells + x) * kinds];
            for (int k = near ? 0 : kind; k < (near ? kinds : kind + 1); k++)
                if (other[k] > *at || (other[k] == *at && &other[k] < at)) return false;
        }
    return true;
}

int detector_peaks(const detector_config *c, const float *logits, nn_scene_detection *found)
{
    int cells = (int)detector_cells(c), kinds = c->n_objects, n = 0;
    float least = (float)log(c->threshold / (1 - c->threshold));
    for (int i = 0; i < cells * cells * kinds && n < DETECTOR_MOST; i++) {
        int kind = i % kinds, column = i / kinds % cells, row = i / kinds / cells;
        if (!(logits[i] > least) || !is_peak(c, logits, row, column, kind)) continue;
        found[n++] = (nn_scene_detection){ .object = kind,
                                           .x = DETECTOR_STRIDE * ((float)column + 0.5f),
                                           .y = DETECTOR_STRIDE * ((float)row + 0.5f) };
    }
    return n;
}

static bool is_found(const nn_scene_item *it, const nn_scene_detection *found)
{
    float half = 0.5f * (float)it->size;
    return it->object == found->object && fabsf((float)it->x + half - found->x) <= half &&
           fabsf((float)it->y + half - found->y) <= half;
}

bool detector_is_exact(const nn_scene *scene, const nn_scene_detection *found, int n)
{
    unsigned taken = 0;
    if (n != scene->n_items) return false;
    for (int k = 0; k < n; k++) {
        int i = 0;
        while (i < n && ((taken >> i & 1) || !is_found(&scene->item[i], &found[k]))) i++;
        if (i == n) return false;
        taken |= 1u << i;
    }
    return true;
}
