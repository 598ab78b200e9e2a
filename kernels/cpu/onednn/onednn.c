/* Programs of oneDNN primitives. */
#include "kernels/cpu/onednn/onednn.h"

#include "engine/base/alloc.h"
#include "kernels/cpu/cpu.h"

extern void omp_set_num_threads(int n); /* libgomp's, by name: see engine/base/pool.c */

enum { MAX_STEPS = 6, MAX_ARGS = 6 };

/* By nn_cpu_level. */
static const dnnl_cpu_isa_t isa[] = { dnnl_cpu_isa_all, dnnl_cpu_isa_avx2, dnnl_cpu_isa_sse41 };

typedef struct context { /* of a device */
    dnnl_engine_t engine;
    dnnl_stream_t stream;
} context;

typedef struct step {
    dnnl_primitive_t primitive;
    bool packs; /* runs only when weights are to be packed */
    int n;
    nn_dnnl_where where[MAX_ARGS];
    size_t at[MAX_ARGS];
    void *data[MAX_ARGS]; /* the address that the memory object has */
    dnnl_exec_arg_t args[MAX_ARGS];
} step;

/* The workspace holds the copies, and behind them the scratchpad of whichever step runs. Packing
 * comes first and has all of it. */
typedef struct program {
    int n;
    step steps[MAX_STEPS];
    size_t copies, scratch, pack_scratch; /* bytes */
} program;

nn_status nn_dnnl_check(dnnl_status_t status, const char *doing)
{
    if (status == dnnl_success) return NN_OK;
    return nn_fail(status == dnnl_out_of_memory   ? NN_MEMORY
                   : status == dnnl_unimplemented ? NN_UNSUPPORTED
                                                  : NN_DEVICE,
                   "oneDNN: %s failed with status %d", doing, (int)status);
}

nn_status nn_dnnl_open(nn_device *d)
{
    context *x = nn_alloc(1, sizeof(*x));
    NN_NEED(x);
    d->stream = x;
    /* The limit can be set until the library is first used, and is the same for every device. */
    (void)dnnl_set_max_cpu_isa(isa[nn_cpu_level()]);
    NN_TRY(nn_dnnl_check(dnnl_engine_create(&x->engine, dnnl_cpu, 0), "opening the processor"));
    return nn_dnnl_check(dnnl_stream_create(&x->stream, x->engine, dnnl_stream_default_flags),
                         "opening a stream");
}

void nn_dnnl_close(nn_device *d)
{
    context *x = d->stream;
    if (!x) return;
    if (x->stream) dnnl_stream_destroy(x->stream);
    if (x->engine) dnnl_engine_destroy(x->engine);
    nn_free(x);
    d->stream = NULL;
}

static dnnl_engine_t engine_of(const nn_call *c)
{
    return ((context *)c->stream)->engine;
}

dnnl_memory_desc_t nn_dnnl_strided(int rank, const int64_t *dim, const int64_t *stride)
{
    dnnl_memory_desc_t md;
    dnnl_dims_t dims, strides;
    for (int i = 0; i < rank; i++) {
        dims[i] = dim[i];
        strides[i] = stride[i];
        if (dim[i] != 1) continue;
        strides[i] = 1; /* beyond every smaller stride, as in a packed layout */
        for (int k = 0; k < rank; k++)
            if (dim[k] != 1 && k > i) strides[i] = nn_max(strides[i], dim[k] * stride[k]);
    }
    NN_ASSERT(dnnl_memory_desc_init_by_strides(&md, rank, dims, dnnl_f32, strides) == dnnl_success);
    return md;
}

dnnl_memory_desc_t nn_dnnl_any(const dnnl_memory_desc_t *like)
{
    dnnl_memory_desc_t md;
    NN_ASSERT(dnnl_memory_desc_init_by_tag(&md, like->ndims, like->dims, like->data_type,
                                           dnnl_format_tag_any) == dnnl_success);
    return md;
}

bool nn_dnnl_has_bf16(void)
{
    return (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core_bf16) ==
           dnnl_cpu_isa_avx512_core_bf16;
}

dnnl_memory_desc_t nn_dnnl_of(const dnnl_memory_desc_t *md, dnnl_data_type_t type)
{
    dnnl_memory_desc_t out = *md;
    out.data_type = type;
    return out;
}

nn_status nn_dnnl_begin(nn_call *c)
{
    omp_set_num_threads(nn_pool_threads(c->pool));
    c->state = nn_alloc(1, sizeof(program));
    NN_NEED(c->state);
    return NN_OK;
}

static dnnl_status_t make_attr(bool accumulate, dnnl_primitive_attr_t *out)
{
    dnnl_primitive_attr_t attr;
    dnnl_post_ops_t ops = NULL;
    dnnl_status_t status = dnnl_primitive_attr_create(&attr);
    if (status != dnnl_success) return status;
    status = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (status == dnnl_success && accumulate) status = dnnl_post_ops_create(&ops);
    if (status == dnnl_success && accumulate) status = dnnl_post_ops_append_sum(ops, 1);
    if (status == dnnl_success && accumulate) status = dnnl_primitive_attr_set_post_ops(attr, ops);
    if (ops) dnnl_post_ops_destroy(ops);
    if (status != dnnl_success)
        dnnl_primitive_attr_destroy(attr);
    else
        *out = attr;
    return status;
}

nn_status nn_dnnl_describe(const nn_call *c, const void *op_desc, bool accumulate,
                           const_dnnl_primitive_desc_t hint, dnnl_primitive_desc_t *out)
{
    dnnl_primitive_attr_t attr = NULL;
    *out = NULL;
    NN_TRY(nn_dnnl_check(make_attr(accumulate, &attr), "making attributes"));
    dnnl_status_t status = dnnl_primitive_desc_create(out, op_desc, attr, engine_of(c), hint);
    dnnl_primitive_attr_destroy(attr);
    return nn_dnnl_check(status, "choosing an implementation");
}

static size_t reserve(size_t *bytes, const dnnl_memory_desc_t *md)
{
    size_t at = (*bytes + 63) / 64 * 64;
    *bytes = at + dnnl_memory_desc_get_size(md);
    return at;
}

/* What the program takes of the workspace. */
static void account(nn_call *c)
{
    program *p = c->state;
    p->copies = (p->copies + 63) / 64 * 64;
    c->workspace_bytes = p->copies + p->scratch;
    c->repack_bytes = p->pack_scratch;
}

/* A place for a copy in the workspace. */
static size_t reserve_copy(nn_call *c, const dnnl_memory_desc_t *md)
{
    program *p = c->state;
    size_t at = reserve(&p->copies, md);
    account(c);
    return at;
}

static nn_status add_arg(const nn_call *c, step *s, const nn_dnnl_arg *a)
{
    NN_ASSERT(s->n < MAX_ARGS);
    s->where[s->n] = a->where;
    s->at[s->n] = a->at;
    s->args[s->n].arg = a->arg;
    NN_TRY(nn_dnnl_check(
        dnnl_memory_create(&s->args[s->n].memory, &a->md, engine_of(c), DNNL_MEMORY_NONE),
        "describing memory"));
    s->n++;
    return NN_OK;
}

static nn_status append(nn_call *c, const_dnnl_primitive_desc_t pd, bool packs, int n,
                        const nn_dnnl_arg *args)
{
    program *p = c->state;
    NN_ASSERT(p->n < MAX_STEPS);
    step *s = &p->steps[p->n++];
    s->packs = packs;
    NN_TRY(nn_dnnl_check(dnnl_primitive_create(&s->primitive, pd), "making a primitive"));
    for (int i = 0; i < n; i++) NN_TRY(add_arg(c, s, &args[i]));
    nn_dnnl_arg scratch = { .arg = DNNL_ARG_SCRATCHPAD,
                            .where = packs ? NN_DNNL_WORKSPACE : NN_DNNL_SCRATCH };
    scratch.md = *dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    size_t bytes = dnnl_memory_desc_get_size(&scratch.md);
    size_t *most = packs ? &p->pack_scratch : &p->scratch;
    *most = nn_max(*most, bytes);
    account(c);
    return bytes ? add_arg(c, s, &scratch) : NN_OK;
}

nn_status nn_dnnl_append(nn_call *c, const_dnnl_primitive_desc_t pd, int n, const nn_dnnl_arg *args)
{
    return append(c, pd, false, n, args);
}

static nn_status append_reorder(nn_call *c, const nn_dnnl_arg *from, const nn_dnnl_arg *to,
                                bool packs, bool accumulate)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    nn_dnnl_arg args[] = { *from, *to };
    args[0].arg = DNNL_ARG_FROM;
    args[1].arg = DNNL_ARG_TO;
    NN_TRY(nn_dnnl_check(make_attr(accumulate, &attr), "making attributes"));
    dnnl_status_t status = dnnl_reorder_primitive_desc_create(&pd, &from->md, engine_of(c), &to->md,
                                                              engine_of(c), attr);
    dnnl_primitive_attr_destroy(attr);
    NN_TRY(nn_dnnl_check(status, "choosing a reorder"));
    nn_status result = append(c, pd, packs, 2, args);
    dnnl_primitive_desc_destroy(pd);
    return result;
}

/* The library's SSE4.1 kernels fault on operands that are not aligned to 16 bytes, which views and
 * mapped files need not be; the later instruction sets do not mind. */
static bool wants_alignment(void)
{
    return isa[nn_cpu_level()] == dnnl_cpu_isa_sse41;
}

static nn_status arrange(nn_call *c, nn_dnnl_arg *a, const dnnl_memory_desc_t *want, bool packs)
{
    if (dnnl_memory_desc_equal(&a->md, want) && !wants_alignment()) return NN_OK;
    nn_dnnl_arg copy = { .arg = a->arg, .md = *want };
    copy.where = packs ? NN_DNNL_PACKED : NN_DNNL_WORKSPACE;
    copy.at = packs ? reserve(&c->packed_bytes, want) : reserve_copy(c, want);
    NN_TRY(append_reorder(c, a, &copy, packs, false));
    *a = copy;
    return NN_OK;
}

nn_status nn_dnnl_arrange(nn_call *c, nn_dnnl_arg *a, const dnnl_memory_desc_t *want)
{
    return arrange(c, a, want, false);
}

nn_status nn_dnnl_pack(nn_call *c, nn_dnnl_arg *a, const dnnl_memory_desc_t *want)
{
    const nn_dnnl_arg published = *a;
    NN_TRY(arrange(c, a, want, c->frozen));
    if (a->where == NN_DNNL_PACKED && published.where == NN_DNNL_IN)
        c->packed_in |= 1u << published.at;
    return NN_OK;
}

nn_status nn_dnnl_append_to(nn_call *c, const_dnnl_primitive_desc_t pd, int n, nn_dnnl_arg *args,
                            const dnnl_memory_desc_t *layout, bool accumulate)
{
    nn_dnnl_arg result = args[n - 1], *made = &args[n - 1];
    if (dnnl_memory_desc_equal(&result.md, layout)) return append(c, pd, false, n, args);
    made->md = *layout;
    made->where = NN_DNNL_WORKSPACE;
    made->at = reserve_copy(c, layout);
    NN_TRY(append(c, pd, false, n, args));
    return append_reorder(c, made, &result, false, accumulate);
}

static void *address(const nn_call *c, nn_dnnl_where where, size_t at)
{
    switch (where) {
    case NN_DNNL_IN:
        return c->in[at].data;
    case NN_DNNL_OUT:
        return c->out[at].data;
    case NN_DNNL_PACKED:
        return (char *)c->packed + at;
    case NN_DNNL_SCRATCH:
        return (char *)c->workspace + ((const program *)c->state)->copies;
    default:
        return (char *)c->workspace + at;
    }
}

static dnnl_status_t run_step(const nn_call *c, step *s)
{
    for (int i = 0; i < s->n; i++) {
        void *data = address(c, s->where[i], s->at[i]);
        if (data == s->data[i]) continue;
        dnnl_status_t status = dnnl_memory_set_data_handle(s->args[i].memory, data);
        if (status != dnnl_success) return status;
        s->data[i] = data;
    }
    return dnnl_primitive_execute(s->primitive, ((context *)c->stream)->stream, s->n, s->args);
}

static nn_status run_steps(const nn_call *c, bool packs)
{
    program *p = c->state;
    omp_set_num_threads(nn_pool_threads(c->pool)); /* the scratchpads were cut for these */
    for (int i = 0; i < p->n; i++)
        if (p->steps[i].packs == packs)
            NN_TRY(nn_dnnl_check(run_step(c, &p->steps[i]), "running a primitive"));
    return NN_OK;
}

nn_status nn_dnnl_run_packing(const nn_call *c)
{
    return run_steps(c, true);
}

nn_status nn_dnnl_run(const nn_call *c)
{
    return run_steps(c, false);
}

void nn_dnnl_release(nn_call *c)
{
    program *p = c->state;
    for (int i = 0; p && i < p->n; i++) {
        step *s = &p->steps[i];
        for (int k = 0; k < s->n; k++) dnnl_memory_destroy(s->args[k].memory);
        if (s->primitive) dnnl_primitive_destroy(s->primitive);
    }
    nn_free(p);
    c->state = NULL;
}
