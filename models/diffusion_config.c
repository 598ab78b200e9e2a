/* The published scheduler_config.json. */
#include <string.h>

#include "engine/base/alloc.h"
#include "models/diffusion.h"

nn_noise_config nn_noise_config_sd14(void)
{
    return (nn_noise_config){ .n_timesteps = 1000,
                              .beta_start = 0.00085,
                              .beta_end = 0.012,
                              .beta_schedule = NN_BETA_SCALED_LINEAR,
                              .prediction = NN_PREDICT_EPSILON,
                              .set_alpha_to_one = false,
                              .steps_offset = 1 };
}

nn_status nn_noise_config_check(const nn_noise_config *c)
{
    if (c->n_timesteps < 1 || c->n_timesteps > NN_DIFFUSION_MAX_STEPS)
        return nn_fail(NN_ARGUMENT, "num_train_timesteps is %d; 1 to %d are supported",
                       c->n_timesteps, NN_DIFFUSION_MAX_STEPS);
    if (!(c->beta_start > 0 && c->beta_end < 1 && c->beta_start <= c->beta_end))
        return nn_fail(NN_ARGUMENT, "beta goes from %g to %g; 0 < start <= end < 1 is needed",
                       c->beta_start, c->beta_end);
    if (c->steps_offset < 0 || c->steps_offset > 1)
        return nn_fail(NN_ARGUMENT, "steps_offset is %d; 0 and 1 are supported", c->steps_offset);
    return NN_OK;
}

/* The index of the value of a key among n names; *at stays when the key is absent. */
static nn_status choice(const nn_json *json, const char *key, const char *const names[], int n,
                        int *at)
{
    const char *found = NULL;
    NN_TRY(nn_json_string(json, key, &found));
    if (!found) return NN_OK;
    for (int i = 0; i < n; i++) {
        if (strcmp(found, names[i]) != 0) continue;
        *at = i;
        return NN_OK;
    }
    return nn_fail(NN_UNSUPPORTED, "%s: %s is '%s'; '%s', '%s' and '%s' are known", json->file, key,
                   found, names[0], names[1], names[2]);
}

/* Switches that are off in every Stable Diffusion 1.x and change the numbers when they are on. */
static nn_status refuse_unsupported(const nn_json *json)
{
    static const char *const switches[] = { "rescale_betas_zero_snr", "clip_sample",
                                            "thresholding" };
    for (int i = 0; i < NN_COUNT(switches); i++) {
        bool on = false;
        NN_TRY(nn_json_bool(json, switches[i], &on));
        if (on)
            return nn_fail(NN_UNSUPPORTED, "%s: %s is on; only configurations without it are known",
                           json->file, switches[i]);
    }
    return NN_OK;
}

/* The betas themselves are read into the tables; here only how many there are. */
static nn_status count_betas(const nn_json *json, nn_noise_config *c)
{
    if (!nn_json_has(json, "trained_betas")) return NN_OK;
    double *betas = nn_alloc(NN_DIFFUSION_MAX_STEPS, sizeof(*betas));
    NN_NEED(betas);
    c->beta_schedule = NN_BETA_TRAINED;
    nn_status status =
        nn_json_doubles(json, "trained_betas", NN_DIFFUSION_MAX_STEPS, betas, &c->n_timesteps);
    nn_free(betas);
    return status;
}

nn_status nn_noise_config_parse(const nn_json *json, nn_noise_config *out)
{
    static const char *const schedules[] = { "linear", "scaled_linear", "squaredcos_cap_v2" };
    static const char *const predictions[] = { "epsilon", "v_prediction", "sample" };
    nn_noise_config c = nn_noise_config_sd14();
    int schedule = (int)c.beta_schedule, prediction = (int)c.prediction;
    NN_TRY(refuse_unsupported(json));
    NN_TRY(nn_json_int(json, "num_train_timesteps", &c.n_timesteps));
    NN_TRY(nn_json_double(json, "beta_start", &c.beta_start));
    NN_TRY(nn_json_double(json, "beta_end", &c.beta_end));
    NN_TRY(choice(json, "beta_schedule", schedules, NN_COUNT(schedules), &schedule));
    NN_TRY(choice(json, "prediction_type", predictions, NN_COUNT(predictions), &prediction));
    NN_TRY(nn_json_bool(json, "set_alpha_to_one", &c.set_alpha_to_one));
    NN_TRY(nn_json_int(json, "steps_offset", &c.steps_offset));
    c.beta_schedule = (nn_beta_schedule)schedule;
    c.prediction = (nn_prediction)prediction;
    NN_TRY(count_betas(json, &c));
    if (nn_noise_config_check(&c) != NN_OK) return nn_fail_prefix(NN_FORMAT, "%s: ", json->file);
    *out = c;
    return NN_OK;
}
