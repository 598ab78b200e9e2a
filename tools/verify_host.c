/* Cases without a network: samplers on a formula, resizing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/resize.h"
#include "engine/base/alloc.h"
#include "engine/base/rng.h"
#include "models/sampler.h"
#include "tools/verify.h"
#include "tools/verify_formula.h"

typedef struct run {
    nn_sampler *sampler;
    verify_tensor x;
    float *input, *output;
    const char *formula;
} run;

static void expect_timestep(verify_case *v, const run *r, int i)
{
    const json_t *list = json_object_get(json_object_get(v->json, "expect"), "timesteps");
    const json_t *want = json_array_get(list, (size_t)i);
    char what[64];
    snprintf(what, sizeof(what), "timestep %d", i);
    if (want)
        verify_number(v, what, nn_sampler_timestep(r->sampler, i), json_number_value(want), 1e-4,
                      1e-5);
}

static void expect_trajectory(verify_case *v, const run *r, int i)
{
    static const int64_t places[] = { 0, 137 };
    const json_t *list = json_object_get(json_object_get(v->json, "expect"), "trajectory");
    const json_t *want = json_array_get(list, (size_t)i);
    for (int k = 0; k < 2 && want; k++) {
        char what[64];
        snprintf(what, sizeof(what), "latent[%d] after call %d", (int)places[k], i);
        if (places[k] < r->x.n)
            verify_number(v, what, r->x.values[places[k]],
                          json_number_value(json_array_get(want, (size_t)k)), v->abs, v->rel);
    }
}

static nn_status one_call(verify_case *v, run *r, int i)
{
    verify_tensor noise = { 0 };
    nn_sampler_scale_input(r->sampler, i, r->x.values, r->input);
    for (int64_t k = 0; k < r->x.n; k++)
        NN_TRY(verify_formula(r->formula, r->input[k], nn_sampler_timestep(r->sampler, i),
                              &r->output[k]));
    if (nn_sampler_needs_noise(r->sampler, i)) NN_TRY(verify_input(v, "noise", i, &noise));
    nn_sampler_step(r->sampler, i, r->output, r->x.values, noise.values);
    verify_tensor_free(&noise);
    expect_timestep(v, r, i);
    expect_trajectory(v, r, i);
    return NN_OK;
}

static nn_status sample(verify_case *v, run *r)
{
    const json_t *expect = json_object_get(v->json, "expect"),
                 *sigma = json_object_get(expect, "init_noise_sigma");
    const json_t *steps = json_object_get(expect, "timesteps");
    int calls = nn_sampler_calls(r->sampler);
    float start = nn_sampler_init_noise_sigma(r->sampler);
    if (steps && (int)json_array_size(steps) != calls)
        return nn_fail(NN_SHAPE, "%s: %d calls, %d are expected", v->name, calls,
                       (int)json_array_size(steps));
    if (sigma) verify_number(v, "init_noise_sigma", start, json_number_value(sigma), 1e-5, 1e-6);
    for (int64_t k = 0; k < r->x.n; k++) r->x.values[k] *= start;
    for (int i = 0; i < calls; i++) NN_TRY(one_call(v, r, i));
    return verify_expect(v, "sample", r->x.values, r->x.rank, r->x.dim);
}

static nn_status open_and_sample(verify_case *v, run *r, const nn_noise_schedule *schedule)
{
    const json_t *args = json_object_get(v->json, "args");
    const char *name = json_string_value(json_object_get(args, "scheduler"));
    nn_sampler_options o = { .karras = json_is_true(json_object_get(args, "karras")),
                             .eta = json_number_value(json_object_get(args, "eta")) };
    r->formula = json_string_value(json_object_get(args, "model"));
    if (!name || !r->formula)
        return nn_fail(NN_FORMAT, "%s: args need scheduler and model", v->name);
    NN_TRY(verify_input(v, "x", 0, &r->x));
    r->input = nn_alloc(2 * r->x.n, sizeof(float));
    NN_NEED(r->input);
    r->output = r->input + r->x.n;
    NN_TRY(nn_sampler_create(name, &o, schedule,
                             (int)json_integer_value(json_object_get(args, "steps")), r->x.n,
                             &r->sampler));
    return sample(v, r);
}

nn_status verify_scheduler(verify_case *v)
{
    const char *preset = json_string_value(json_object_get(v->json, "config"));
    nn_noise_config config = nn_noise_config_sd14();
    nn_noise_schedule schedule;
    run r = { 0 };
    if (!preset || strcmp(preset, "sd14") != 0)
        return nn_fail(NN_UNSUPPORTED, "%s: only sd14's schedule", v->name);
    NN_TRY(nn_noise_schedule_init(&schedule, &config));
    nn_status status = open_and_sample(v, &r, &schedule);
    nn_sampler_destroy(r.sampler);
    nn_free(r.input);
    verify_tensor_free(&r.x);
    nn_noise_schedule_deinit(&schedule);
    return status;
}

/* -- resize -- */

static nn_status make_picture(const verify_case *v, nn_image *out)
{
    const json_t *rgb = json_object_get(json_object_get(v->json, "inputs"), "rgb");
    const char *name = json_string_value(json_object_get(rgb, "fill_u8"));
    int64_t w = json_integer_value(json_object_get(rgb, "width")),
            h = json_integer_value(json_object_get(rgb, "height"));
    if (!name) return nn_fail(NN_FORMAT, "%s: rgb needs fill_u8", v->name);
    NN_TRY(nn_image_create(w, h, out));
    uint64_t hash = nn_hash_text(name);
    for (int64_t i = 0; i < w * h * 3;
         i++) /* the upper 8 of the 24 bits behind the uniform number */
        out->rgb[i] = (uint8_t)((int64_t)((verify_uniform(hash, i) + 1.0f) * 0x1p23f) >> 16);
    return NN_OK;
}

nn_status verify_resize(verify_case *v)
{
    static const char *const filters[] = { "box", "bilinear", "hamming", "bicubic", "lanczos" };
    const json_t *args = json_object_get(v->json, "args"),
                 *expect = json_object_get(v->json, "expect");
    const char *filter = json_string_value(json_object_get(args, "filter")), *key;
    const char *want_hash = json_string_value(json_object_get(expect, "fnv1a64"));
    int f = 0;
    nn_image src = { 0 }, dst = { 0 };
    json_t *want;
    while (f < NN_COUNT(filters) && (!filter || strcmp(filter, filters[f]) != 0)) f++;
    if (f == NN_COUNT(filters))
        return nn_fail(NN_FORMAT, "%s: filter '%s'", v->name, filter ? filter : "");
    NN_TRY(make_picture(v, &src));
    nn_status status = nn_image_resize(&src, json_integer_value(json_object_get(args, "width")),
                                       json_integer_value(json_object_get(args, "height")),
                                       (nn_resize_filter)f, NN_RESIZE_PILLOW_13, &dst);
    if (status == NN_OK) {
        int64_t n = dst.width * dst.height * 3;
        char got[17];
        snprintf(got, sizeof(got), "%016llx", (unsigned long long)nn_hash(0, dst.rgb, n));
        if (want_hash && strcmp(got, want_hash) != 0)
            verify_number(v, "hash of the bytes", 1, 0, 1e-9, 0);
        json_object_foreach(json_object_get(expect, "at"), key, want)
        {
            int64_t at = strtoll(key, NULL, 10);
            if (at >= 0 && at < n)
                verify_number(v, key, dst.rgb[at], json_number_value(want), 0.5, 0);
        }
    }
    nn_image_free(&src);
    nn_image_free(&dst);
    return status;
}
