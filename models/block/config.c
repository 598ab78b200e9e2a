/* What several configurations share. */
#include "models/block/config.h"

#include <string.h>

static const struct {
    const char *name;
    nn_act act;
} known[] = { { "gelu", NN_ACT_GELU },
              { "quick_gelu", NN_ACT_QUICK_GELU },
              { "gelu_pytorch_tanh", NN_ACT_GELU_TANH },
              { "relu", NN_ACT_RELU },
              { "silu", NN_ACT_SILU } };

const char *config_activation_name(nn_act act)
{
    for (int i = 0; i < NN_COUNT(known); i++)
        if (known[i].act == act) return known[i].name;
    return "unknown";
}

nn_status config_activation(const nn_json *json, const char *key, nn_act *act)
{
    const char *name = NULL;
    NN_TRY(nn_json_string(json, key, &name));
    if (!name) return NN_OK;
    for (int i = 0; i < NN_COUNT(known); i++)
        if (!strcmp(name, known[i].name)) {
            *act = known[i].act;
            return NN_OK;
        }
    return nn_fail(NN_UNSUPPORTED,
                   "%s: %s is '%s'; gelu, quick_gelu, gelu_pytorch_tanh, relu and silu are known",
                   json->file, key, name);
}

nn_status config_check_heads(const nn_json *json, int64_t width, int heads)
{
    if (heads >= 1 && width >= heads && width % heads == 0) return NN_OK;
    return nn_fail(NN_FORMAT, "%s: a width of %lld cannot be cut into %d heads", json->file,
                   (long long)width, heads);
}
