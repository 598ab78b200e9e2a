/* Parameters: named tensors that outlive graphs. One store holds what is trained or loaded
 * together.
 *
 * Life: declare (building a graph does it), nn_params_alloc, then initialise or load; later graphs
 * find the same parameters by name. Values, gradients and optimizer state are flat f32 buffers in
 * one order, that of declaration, so that the optimizer sees one vector. Parameters that one
 * product reads as one can be joined: then they lie one behind the other, each still under its own
 * name.
 *
 * For networks that compute in bf16 a store keeps a flat bf16 copy of the values with the same
 * offsets. Where nothing is trained on a device that stores bf16, matrices and kernels exist as
 * bf16 only, unless the store is exact: weights that training starts from, or that are saved again,
 * must not pass through bf16. Either way the host reads and writes f32.
 *
 * Values that never change need not be kept. In a frozen store each parameter has a source, a
 * mapped file or the generator that drew it. Vectors are kept. A matrix or kernel that lies in a
 * file as the device wants it is read there; another one comes when a plan first reads it. Once the
 * kernels of a frozen plan have packed it, its memory goes back to the system, until somebody reads
 * it again. */
#ifndef ENGINE_PARAMS_H
#define ENGINE_PARAMS_H

#include "engine/base/arena.h"
#include "kernels/backend.h"

typedef enum nn_init_kind {
    NN_INIT_ZEROS,
    NN_INIT_ONES,
    NN_INIT_NORMAL,
    NN_INIT_UNIFORM
} nn_init_kind;
typedef struct nn_init {
    nn_init_kind kind;
    float scale; /* standard deviation, or half the width of the uniform */
} nn_init;

/* Where the values of a frozen store come from. of: what was bound with it. The pool may be used.
 * Never allocates. */
typedef struct nn_param nn_param;
typedef nn_status nn_params_fetch(const void *of, const nn_param *param, nn_pool *pool, float *out);

struct nn_param {
    const char *name; /* the published name */
    nn_view view;     /* data: the values, on the device; bf16 where there is nothing better */
    void *half;       /* the bf16 values, on the device; NULL = none */
    nn_init init;
    int64_t offset;   /* elements in the flat buffers; final once the store is allocated */
    int64_t index;    /* order of declaration */
    nn_param *next;   /* directly behind it, of the same joined one; NULL = none */
    nn_param *joined; /* what it is the first of; NULL = nothing */
    bool inner;       /* it is the next of another */

    /* Of frozen stores: */
    nn_params_fetch *fetch; /* NULL = not bound yet */
    const void *of;
    bool mapped; /* the values lie in a mapped file */
    bool absent; /* they have a place, but must be fetched before they are read */
    bool kept;   /* some plan reads them in every run */
    void *own;   /* their place, or that of what it is the first of */
};

/* What a store must keep as long as it lives. */
typedef struct nn_params_held {
    struct nn_params_held *next;
    void *it;
    void (*close)(void *it);
} nn_params_held;

typedef struct nn_params {
    nn_arena arena;
    nn_param **items;
    int64_t n, capacity;
    int64_t n_elems; /* of all; what is not joined begins at multiples of 16 elements */
    nn_device *device;
    float *values;  /* flat; NULL when matrices and kernels are bf16 only */
    float *grads;   /* flat; NULL until somebody wants it kept */
    uint16_t *half; /* flat, bf16; NULL = none */
    float *vectors; /* where there are no flat f32 values: the vectors, one after the other */
    int64_t n_vector_elems; /* in it */
    nn_dtype dtype;         /* of new parameters: NN_F32 (NN_F64 in gradient tests) */
    bool exact;  /* set before nn_params_alloc: f32 values are kept also without gradients */
    bool frozen; /* set before nn_params_alloc: the values come from sources and never change.
                    Cleared by it where they are kept after all: with gradients, on devices whose
                    memory the host does not reach, or that store bf16 */
    nn_params_held *held;
    bool sealed;      /* allocated: no more declarations */
    bool trained;     /* allocated with gradients */
    bool stale;       /* the values changed, their bf16 copy has not */
    uint64_t version; /* raised when the values change; kernels repack then */
    int64_t *table;   /* open-addressing index by name */
    int64_t table_size;
} nn_params;

/* An empty store is {.dtype = NN_F32}. */
nn_status nn_params_create(nn_params **out) NN_CHECKED;
void nn_params_destroy(nn_params *p);

/* Find or declare. Errors: a known name with another shape (NN_SHAPE); an unknown one in a sealed
 * store. */
nn_status nn_params_declare(nn_params *p, const char *name, nn_init init, int rank,
                            const int64_t *dim, nn_param **out) NN_CHECKED;
nn_param *nn_params_find(const nn_params *p, const char *name); /* NULL if absent */

/* Parameters as one, behind each other along their first dim, which alone may differ. The result is
 * no item of the store; it has values, gradient and bf16 copy where those of its parts are. The
 * same parts give the same result. Errors: shapes that do not fit, or a part that is joined
 * otherwise (NN_SHAPE); the store is allocated and they lie apart (NN_ARGUMENT). */
nn_status nn_params_join(nn_params *p, int n, nn_param *const parts[], nn_param **out) NN_CHECKED;

/* Reserve the flat buffers on the device and seal the store. with_grads: graphs may ask for
 * gradients. Where the device wants bf16 (nn_device_storage): with gradients the bf16 copy beside
 * the f32 values, without them bf16 instead of f32, unless the store is exact. */
nn_status nn_params_alloc(nn_params *p, nn_device *device, bool with_grads) NN_CHECKED;

/* Reserve the buffer of the gradients, zeroed, if a store that was allocated with them has none
 * yet. A backward pass that keeps gradients does it, and an optimizer that reads them there. */
nn_status nn_params_keep_grads(nn_params *p) NN_CHECKED;

/* Reserve the bf16 copy of an f32 store if it is sealed and has none. Building a graph in bf16 does
 * it. */
nn_status nn_params_lower(nn_params *p) NN_CHECKED;

/* Bring the bf16 copy up to date if the values have changed. Running a plan does it. */
nn_status nn_params_refresh(nn_params *p) NN_CHECKED;

/* Draw all values: each from its own stream, keyed by (seed, name), whatever the order of
 * declaration. A frozen store is bound to the generator. */
nn_status nn_params_init(nn_params *p, uint64_t seed) NN_CHECKED;

/* Copy one parameter from or to host memory (contiguous, in the dtype of the store, whatever is
 * kept on the device). NN_UNSUPPORTED: writing to a frozen store. */
nn_status nn_params_write(nn_params *p, nn_param *param, const void *src) NN_CHECKED;
nn_status nn_params_read(const nn_params *p, const nn_param *param, void *dst) NN_CHECKED;

/* The same of n elements from `first` on. */
nn_status nn_params_write_part(nn_params *p, nn_param *param, int64_t first, int64_t n,
                               const void *src) NN_CHECKED;
nn_status nn_params_read_part(const nn_params *p, const nn_param *param, int64_t first, int64_t n,
                              void *dst) NN_CHECKED;

/* The gradient of one parameter, as nn_params_read. The store must keep gradients. */
nn_status nn_params_read_gradient(const nn_params *p, const nn_param *param, void *dst) NN_CHECKED;

/* The values changed outside the engine: packed copies and the bf16 copy are stale. */
void nn_params_touch(nn_params *p);

/* -- frozen stores -- */

/* Give a parameter its source, before graphs read it. mapped: its f32 values in a mapped file,
 * aligned for them; NULL = they are fetched, and so are joined ones. `of` (and the file) must live
 * as long as the store; see nn_params_hold. */
nn_status nn_params_bind(nn_params *p, nn_param *param, nn_params_fetch *fetch, const void *of,
                         const float *mapped) NN_CHECKED;
bool nn_params_is_bound(const nn_params *p, const nn_param *param);

/* The store takes `it` over: close(it) when the store is destroyed, or at once after an error. */
nn_status nn_params_hold(nn_params *p, void *it, void (*close)(void *it)) NN_CHECKED;

/* A plan reads them in every run; false: one did already. */
bool nn_params_keep(nn_params *p, nn_param *param);

/* Make sure that the values can be read at view.data. In stores that are not frozen they can. */
nn_status nn_params_need(const nn_params *p, nn_param *param) NN_CHECKED;

/* Nobody reads them soon: their memory goes back to the system unless a plan keeps them, or there
 * is no source. _all: also those that plans keep, for stores that no plan reads at the moment. */
void nn_params_give_back(nn_params *p, nn_param *param);
void nn_params_give_back_all(nn_params *p);

/* Sum of the elements of all parameters (without padding). */
int64_t nn_params_count(const nn_params *p);

/* Hash of names, shapes and values as the host reads them: two stores that compute the same have
 * the same. */
nn_status nn_params_hash(const nn_params *p, uint64_t *hash) NN_CHECKED;

#endif
