/* What the formats of weight files share. */
#include "data/weight.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/safetensors.h"
#include "data/torch_file.h"
#include "engine/base/half.h"

static const struct {
    const char *name;
    int bits;
} dtypes[] = {
#define X(name, bits) { #name, bits },
    NN_ST_DTYPES(X)
#undef X
};

const char *nn_st_dtype_name(nn_st_dtype dtype)
{
    return dtypes[dtype].name;
}

int nn_st_dtype_bits(nn_st_dtype dtype)
{
    return dtypes[dtype].bits;
}

int64_t nn_weight_elements(const nn_weight *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->dim[i];
    return n;
}

bool nn_weight_is_float(const nn_weight *t)
{
    return t->dtype == NN_ST_F32 || t->dtype == NN_ST_F16 || t->dtype == NN_ST_BF16 ||
           t->dtype == NN_ST_F64;
}

nn_weight_shape nn_weight_shape_text(int rank, const int64_t *dim)
{
    nn_weight_shape text;
    int at = snprintf(text.s, sizeof(text.s), "[");
    for (int i = 0; i < rank; i++)
        at += snprintf(text.s + at, sizeof(text.s) - (size_t)at, "%s%lld", i ? "," : "",
                       (long long)dim[i]);
    snprintf(text.s + at, sizeof(text.s) - (size_t)at, "]");
    return text;
}

static float value_at(nn_st_dtype dtype, const char *p)
{
    float f;
    double d;
    uint16_t h;
    switch (dtype) {
    case NN_ST_F32:
        memcpy(&f, p, sizeof(f));
        return f;
    case NN_ST_F64:
        memcpy(&d, p, sizeof(d));
        return (float)d;
    default:
        memcpy(&h, p, sizeof(h));
        return dtype == NN_ST_F16 ? nn_f16_to_f32(h) : nn_bf16_to_f32(h);
    }
}

nn_status nn_weight_convert(const nn_weight *t, int64_t first, int64_t n, nn_st_dtype dtype,
                            void *out)
{
    if (!nn_weight_is_float(t))
        return nn_fail(NN_UNSUPPORTED, "tensor '%s' is %s, a float dtype was expected", t->name,
                       nn_st_dtype_name(t->dtype));
    int64_t size = nn_st_dtype_bits(t->dtype) / 8;
    const char *from = (const char *)t->data + first * size;
    if (dtype == t->dtype) {
        if (n) memcpy(out, from, (size_t)(n * size));
        return NN_OK;
    }
    float *single = out;
    uint16_t *half = out;
    for (int64_t i = 0; i < n; i++) {
        float value = value_at(t->dtype, from + i * size);
        if (dtype == NN_ST_F32)
            single[i] = value;
        else
            half[i] = dtype == NN_ST_F16 ? nn_f32_to_f16(value) : nn_f32_to_bf16(value);
    }
    return NN_OK;
}

nn_status nn_weight_to_f32(const nn_weight *t, float *out)
{
    return nn_weight_convert(t, 0, nn_weight_elements(t), NN_ST_F32, out);
}

nn_status nn_weight_file_open_as(const char *path, const nn_weight_format *format,
                                 nn_weight_file *file)
{
    *file = (nn_weight_file){ .format = format };
    NN_TRY(nn_map_open(path, &file->map));
    nn_status status = format->read(path, file);
    if (status != NN_OK) nn_weight_file_close(file);
    return status;
}

nn_status nn_weight_file_open(const char *path, nn_weight_file *file)
{
    *file = (nn_weight_file){ .format = &nn_safetensors };
    NN_TRY(nn_map_open(path, &file->map));
    if (!nn_safetensors.recognises(&file->map) && nn_torch_file.recognises(&file->map))
        file->format = &nn_torch_file;
    nn_status status = file->format->read(path, file);
    if (status != NN_OK) nn_weight_file_close(file);
    return status;
}

void nn_weight_file_close(nn_weight_file *file)
{
    nn_map_close(&file->map);
    nn_arena_free(&file->arena);
    *file = (nn_weight_file){ 0 };
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const nn_weight *)a)->name, ((const nn_weight *)b)->name);
}

const nn_weight *nn_weight_file_find(const nn_weight_file *file, const char *name)
{
    nn_weight wanted = { .name = name };
    if (!file->n) return NULL;
    return bsearch(&wanted, file->tensor, (size_t)file->n, sizeof(*file->tensor), by_name);
}

const char *nn_weight_file_metadata(const nn_weight_file *file, const char *key)
{
    for (int64_t i = 0; i < file->n_metadata; i++)
        if (strcmp(file->metadata[i].key, key) == 0) return file->metadata[i].value;
    return NULL;
}
