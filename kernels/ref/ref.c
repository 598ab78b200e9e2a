/* Accessors of the oracle, and its table. */
#include "kernels/ref/ref.h"

#include "engine/base/half.h"

#define NN_OP(ID, name) extern const nn_kernel nn_ref_##name[];
#include "kernels/ops.def"
#undef NN_OP

const nn_kernel *const nn_ref_table[NN_OP_COUNT] = {
#define NN_OP(ID, name) nn_ref_##name,
#include "kernels/ops.def"
#undef NN_OP
};

double nn_ref_get(const nn_view *v, int64_t offset)
{
    switch (v->dtype) {
    case NN_F32:
        return ((const float *)v->data)[offset];
    case NN_F64:
        return ((const double *)v->data)[offset];
    case NN_BF16:
        return nn_bf16_to_f32(((const uint16_t *)v->data)[offset]);
    case NN_F16:
        return nn_f16_to_f32(((const uint16_t *)v->data)[offset]);
    case NN_I32:
        return ((const int32_t *)v->data)[offset];
    case NN_NONE:
        break;
    }
    return 0;
}

void nn_ref_put(const nn_view *v, int64_t offset, double value)
{
    switch (v->dtype) {
    case NN_F32:
        ((float *)v->data)[offset] = (float)value;
        break;
    case NN_F64:
        ((double *)v->data)[offset] = value;
        break;
    case NN_BF16:
        ((uint16_t *)v->data)[offset] = nn_f32_to_bf16((float)value);
        break;
    case NN_F16:
        ((uint16_t *)v->data)[offset] = nn_f32_to_f16((float)value);
        break;
    case NN_I32:
        ((int32_t *)v->data)[offset] = (int32_t)value;
        break;
    case NN_NONE:
        break;
    }
}

nn_ref_index nn_ref_begin(const nn_view *shape, int rank)
{
    nn_ref_index i = { .rank = rank, .more = true };
    for (int d = 0; d < rank; d++) {
        i.dim[d] = shape->dim[d];
        if (!shape->dim[d]) i.more = false;
    }
    return i;
}

void nn_ref_next(nn_ref_index *i)
{
    for (int d = i->rank - 1; d >= 0; d--) {
        if (++i->at[d] < i->dim[d]) return;
        i->at[d] = 0;
    }
    i->more = false;
}

int64_t nn_ref_offset(const nn_view *v, const nn_ref_index *i)
{
    int64_t offset = 0;
    int shift = i->rank > v->rank ? i->rank - v->rank : 0;
    for (int d = 0; d + shift < i->rank; d++)
        if (v->dim[d] != 1) offset += i->at[d + shift] * v->stride[d];
    return offset;
}
