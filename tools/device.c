/* The device of a program. */
#include "tools/device.h"

const char *const device_dtypes[] = { "f32", "bf16", NULL };

static nn_status prepare(const device_settings *set, nn_device *d)
{
    static const nn_dtype dtypes[] = { NN_F32, NN_BF16 };
    NN_TRY(nn_device_compute(d, dtypes[set->dtype]));
    if (set->conv) NN_TRY(nn_device_prefer(d, "conv2d", set->conv));
    if (set->attention) NN_TRY(nn_device_prefer(d, "attention", set->attention));
    return set->linear ? nn_device_prefer(d, "linear", set->linear) : NN_OK;
}

nn_status device_open(const device_settings *set, nn_device **out)
{
    nn_device *d;
    NN_TRY(nn_device_open(set->name, (int)set->threads, &d));
    nn_status status = prepare(set, d);
    if (status != NN_OK) {
        nn_device_close(d);
        return status;
    }
    d->deterministic = set->deterministic;
    *out = d;
    return NN_OK;
}
