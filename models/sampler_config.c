/* What a published scheduler_config.json says about sampling. */
#include <string.h>

#include "models/sampler_internal.h"

nn_status nn_sampler_options_parse(const nn_json *json, nn_sampler_options *out)
{
    static const char *const names[] = { [NN_SPACING_LEADING] = "leading",
                                         [NN_SPACING_LINSPACE] = "linspace",
                                         [NN_SPACING_TRAILING] = "trailing" };
    const char *spacing = NULL;
    nn_sampler_options o = { 0 };
    NN_TRY(nn_json_string(json, "timestep_spacing", &spacing));
    NN_TRY(nn_json_bool(json, "use_karras_sigmas", &o.karras));
    for (int k = NN_SPACING_LEADING; spacing && k < NN_COUNT(names); k++)
        if (!strcmp(spacing, names[k])) o.spacing = (nn_spacing)k;
    if (spacing && o.spacing == NN_SPACING_DEFAULT)
        return nn_fail(NN_UNSUPPORTED,
                       "%s: timestep_spacing is '%s'; leading, linspace and trailing are known",
                       json->file, spacing);
    *out = o;
    return NN_OK;
}

/* Switches of diffusers' classes, each with the value that the families have. */
static nn_status check_switches(const nn_json *json)
{
    static const struct {
        const char *key;
        bool needed;
    } switches[] = { { "use_exponential_sigmas", false }, { "use_beta_sigmas", false },
                     { "use_lu_lambdas", false },         { "use_flow_sigmas", false },
                     { "skip_prk_steps", true },          { "predict_x0", true },
                     { "lower_order_final", true } };
    for (int i = 0; i < NN_COUNT(switches); i++) {
        bool on = switches[i].needed;
        NN_TRY(nn_json_bool(json, switches[i].key, &on));
        if (on != switches[i].needed)
            return nn_fail(NN_UNSUPPORTED, "%s: %s is %s; name another scheduler", json->file,
                           switches[i].key, on ? "on" : "off");
    }
    return NN_OK;
}

static nn_status check_solver(const nn_json *json)
{
    const char *type = NULL, *last = NULL;
    int order = 2;
    NN_TRY(nn_json_string(json, "solver_type", &type));
    NN_TRY(nn_json_string(json, "final_sigmas_type", &last));
    NN_TRY(nn_json_int(json, "solver_order", &order));
    if (type && strcmp(type, "midpoint") != 0 && strcmp(type, "bh2") != 0)
        return nn_fail(NN_UNSUPPORTED, "%s: solver_type is '%s'; midpoint and bh2 are known",
                       json->file, type);
    if (last && strcmp(last, "zero") != 0)
        return nn_fail(NN_UNSUPPORTED, "%s: final_sigmas_type is '%s'; zero is known", json->file,
                       last);
    if (order != 2)
        return nn_fail(NN_UNSUPPORTED, "%s: solver_order is %d; 2 is known", json->file, order);
    return NN_OK;
}

nn_status nn_sampler_name_parse(const nn_json *json, const char **name)
{
    const nn_sampler_family *f = NULL;
    const char *class = NULL, *algorithm = NULL;
    NN_TRY(nn_json_string(json, "_class_name", &class));
    *name = NULL;
    if (!class) return NN_OK;
    if (nn_sampler_find(class, &f) != NN_OK)
        return nn_fail(NN_UNSUPPORTED, "%s: there is no sampler of class %s; name a scheduler",
                       json->file, class);
    NN_TRY(check_switches(json));
    NN_TRY(check_solver(json));
    NN_TRY(nn_json_string(json, "algorithm_type", &algorithm));
    if (f == &nn_sampler_dpmpp_2m && algorithm) {
        if (!strcmp(algorithm, "sde-dpmsolver++"))
            f = &nn_sampler_dpmpp_2m_sde;
        else if (strcmp(algorithm, "dpmsolver++") != 0)
            return nn_fail(NN_UNSUPPORTED,
                           "%s: algorithm_type is '%s'; dpmsolver++ and sde-dpmsolver++ are known",
                           json->file, algorithm);
    }
    *name = f->name;
    return NN_OK;
}
