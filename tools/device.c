/* The device of a program. */
#include "tools/device.h"

const char *const device_dtypes[] = { "f32", "bf16", NULL };

nn_status device_open(const device_settings *set, nn_device **out)
{
    static const nn_dtype dtypes[] = { NN_F32, NN_BF16 };
    nn_device *d;
    NN_TRY(nn_device_open(set->name, (int)set->threads, &d));
    nn_status status = nn_device_compute(d, dtypes[set->dtype]);
    if (status != NN_OK) {
        nn_device_close(d);
        return status;
    }
    d->deterministic = set->deterministic;
    *out = d;
    return NN_OK;
}
