/* Published weight files and parameter stores: load by name, save under the same names. */
#ifndef ENGINE_WEIGHTS_H
#define ENGINE_WEIGHTS_H

#include "data/weights.h"
#include "engine/params.h"

/* Parameters whose names begin with `ours` have the name with `theirs` in its place in the file;
 * the first entry that fits counts. Parameters that no entry fits take no part: one store may live
 * in several files. */
typedef struct nn_prefix {
    const char *ours, *theirs;
} nn_prefix;

/* Whether weights fill a store, or the part of it that the prefixes name (none = all). Errors: a
 * parameter that is missing (NN_NOT_FOUND, with its shape and the nearest name there), one of
 * another shape (NN_SHAPE, with both), a tensor that is not float (NN_UNSUPPORTED). *n_extra (NULL
 * = not wanted) gets the number of tensors that no parameter asked for; the log names a few. The
 * store need not be allocated. */
nn_status nn_params_check(const nn_params *params, const nn_weights *weights,
                          const nn_prefix *prefixes, int n_prefixes, int64_t *n_extra) NN_CHECKED;

/* Check, then fill the store (f32, allocated). F32, F16, BF16 and F64 become f32. Everything is
 * checked before anything is written. A frozen store is bound to the weights, which must stay open
 * as long as it lives. */
nn_status nn_params_load_from(nn_params *params, const nn_weights *weights,
                              const nn_prefix *prefixes, int n_prefixes,
                              int64_t *n_extra) NN_CHECKED;

/* The same from what nn_weights_open opens, by the names that stand there. A frozen store keeps the
 * files mapped; they must not be changed in place meanwhile. */
nn_status nn_params_load(nn_params *params, const char *path, const nn_prefix *prefixes,
                         int n_prefixes, int64_t *n_extra) NN_CHECKED;

/* The same for a published network, whatever layout its file has. prefix NULL = none. */
nn_status nn_params_load_network(nn_params *params, const char *path, nn_network network,
                                 const nn_prefix *prefix) NN_CHECKED;

/* Write a store, or the part of it that the prefixes name (none = all), to one safetensors file as
 * F32, F16 or BF16. The file appears completely or not at all. */
nn_status nn_params_save(const nn_params *params, const char *path, const nn_prefix *prefixes,
                         int n_prefixes, nn_dtype dtype) NN_CHECKED;

/* The whole store as a published network: what other programs expect to find twice is there twice.
 */
nn_status nn_params_save_network(const nn_params *params, const char *path, nn_network network,
                                 nn_dtype dtype) NN_CHECKED;

#endif
