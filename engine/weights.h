/* Published weight files and parameter stores: load by name, save under the same names. */
#ifndef ENGINE_WEIGHTS_H
#define ENGINE_WEIGHTS_H

#include "engine/params.h"

/* Parameters whose names begin with `ours` have the name with `theirs` in its place in the file;
 * the first entry that fits counts. Parameters that no entry fits take no part: one store may live
 * in several files. */
typedef struct nn_prefix {
    const char *ours, *theirs;
} nn_prefix;

/* Fill a store (f32, allocated), or the part of it that the prefixes name (none = all), from a
 * safetensors file, an index of several, or the directory of a model component. F32, F16, BF16 and
 * F64 become f32. Everything is checked before anything is written. Errors: a parameter that the
 * file lacks (NN_NOT_FOUND, with the nearest name there), one of another shape (NN_SHAPE, with
 * both), a tensor that is not float (NN_UNSUPPORTED). *n_extra (NULL = not wanted) gets the number
 * of tensors that no parameter asked for; the log names a few.
 */
nn_status nn_params_load(nn_params *params, const char *path, const nn_prefix *prefixes,
                         int n_prefixes, int64_t *n_extra) NN_CHECKED;

/* Write a store, or the part of it that the prefixes name (none = all), to one safetensors file as
 * F32, F16 or BF16. The file appears completely or not at all. */
nn_status nn_params_save(const nn_params *params, const char *path, const nn_prefix *prefixes,
                         int n_prefixes, nn_dtype dtype) NN_CHECKED;

#endif
