/* The graph: symbolic nodes built once, planned, and run many times.
 *
 * Invariants
 *  1. Nodes stand in the order in which they run; an input of a node was made before it.
 *  2. Everything lives in the graph's arena: pointers are valid until nn_graph_destroy.
 *  3. The first error sticks: constructors after it return the poison tensor, and nn_plan_create
 * reports it.
 *  4. A tensor either owns storage (its root is itself) or is a view into its root's. */
#ifndef ENGINE_GRAPH_H
#define ENGINE_GRAPH_H

#include "engine/base/arena.h"
#include "engine/params.h"
#include "kernels/kernel.h"
#include "kernels/params.h"

typedef struct nn_graph nn_graph;
typedef struct nn_node nn_node;
typedef struct nn_tensor nn_tensor;

typedef enum nn_tensor_kind {
    NN_ACTIVATION, /* output of a node, planned */
    NN_INPUT,      /* planned, written by the host */
    NN_EXTERNAL,   /* memory that outlives the graph: parameters, gradients, optimizer state */
    NN_POISON
} nn_tensor_kind;

struct nn_tensor {
    nn_view view; /* data is NULL until planned */
    nn_tensor_kind kind;
    int id;
    const char *name;
    nn_node *node; /* the node that makes it; NULL for inputs and externals */
    int slot;      /* which of the node's outputs */
    nn_tensor *root;
    int64_t offset;   /* elements from the start of the root's storage */
    bool needs_grad;  /* a gradient must reach it */
    bool keep;        /* readable after the run */
    nn_param *param;  /* of an external that is a parameter, */
    nn_params *store; /* and where it lives */
    void *external;   /* memory of an external root, or of an activation bound to outside memory */
    bool bound;       /* an activation that is written to `external` */
    nn_tensor *grad;  /* set by nn_backward */
    nn_tensor *cast;  /* its copy in the graph's other float type, made when first asked for */
};

struct nn_node {
    nn_op_id op;
    int id;
    nn_graph *graph;
    const char *scope; /* name path, for errors and profiles */
    int n_in, n_out;
    nn_tensor *in[NN_MAX_IN]; /* NULL = optional operand that is absent */
    nn_tensor *out[NN_MAX_OUT];
    const void *params;
    uint64_t stream; /* names the node's random numbers; a recomputed copy keeps it */
    int segment;     /* > 0: recomputed in backward instead of kept */
    bool backward;   /* made by nn_backward */
};

struct nn_graph {
    nn_arena arena;
    nn_status status; /* the first error */
    char *error;
    nn_node **nodes;
    int64_t n_nodes, nodes_capacity;
    nn_tensor **tensors; /* roots and views alike */
    int64_t n_tensors, tensors_capacity;
    const char *scope;
    int segment, n_segments;
    bool in_backward;
    bool training;
    nn_dtype compute; /* NN_BF16: products are of bf16; NN_F32: of what their operands are */
    nn_tensor poison;
};

/* What an operation means. One const descriptor at the end of each file in engine/ops. */
typedef struct nn_op {
    const char *name;
    size_t params_bytes;
    /* The only shape and dtype check. Fills out[0 .. n_out); returns through nn_want /
     * nn_graph_fail on error. */
    nn_status (*infer)(const nn_node *n, nn_view out[]);
    /* Builds nodes: dx[i] is the gradient of in[i] for each i with nn_wants_grad(n, i). dy[i] is
     * NULL where no gradient arrives. NULL = the op has no gradient. */
    nn_status (*grad)(nn_graph *g, const nn_node *n, nn_tensor *const dy[], nn_tensor *dx[]);
    void (*cost)(const nn_node *n, double *flops,
                 double *bytes); /* NULL = no flops, reads and writes once */
    int n_out;
    unsigned inplace; /* bit i: out[0] may take the storage of in[i] */
    bool is_view;     /* out[*] lie in the storage of in[0] */
    bool aliases;     /* out[0] is in[0], after the node wrote into it */
    bool mutates;     /* writes into its inputs; kept even if nobody reads its outputs */
    bool random;      /* uses nn_call.seed */
} nn_op;

const nn_op *nn_op_of(nn_op_id id);

/* Append a node. in[] may hold NULL for absent operands. Returns its first output, or the poison
 * tensor. */
nn_tensor *nn_node_add(nn_graph *g, nn_op_id op, const void *params, int n_in,
                       nn_tensor *const in[]);
#define NN_NODE(g, ID, params, ...)                                                                \
    nn_node_add((g), NN_OP_##ID, (params),                                                         \
                (int)(sizeof((nn_tensor *[]){ __VA_ARGS__ }) / sizeof(nn_tensor *)),               \
                (nn_tensor *[]){ __VA_ARGS__ })

/* Another output of the node that made t (poison stays poison). */
nn_tensor *nn_sibling(nn_tensor *t, int slot);

/* Memory outside the graph as a tensor; name must outlive the graph. */
nn_tensor *nn_external(nn_graph *g, const char *name, const nn_view *view, void *data);

/* Keep `status`, whose message is this thread's, as the graph's error if it is the first. Returns
 * the poison. */
nn_tensor *nn_graph_stick(nn_graph *g, nn_status status);

/* An error at a node's scope, for infer. */
nn_status nn_node_fail(const nn_node *n, const char *fmt, ...) NN_PRINTF(2, 3);
#define NN_WANT(node, cond, ...)                                                                   \
    do {                                                                                           \
        if (!(cond)) return nn_node_fail((node), __VA_ARGS__);                                     \
    } while (0)

/* Helpers for infer and grad. */
static inline const nn_view *nn_in(const nn_node *n, int i)
{
    static const nn_view absent = { 0 };
    return i < n->n_in && n->in[i] ? &n->in[i]->view : &absent;
}

static inline bool nn_wants_grad(const nn_node *n, int i)
{
    return i < n->n_in && n->in[i] && n->in[i]->needs_grad;
}

/* Statistics and losses are kept in f32, or f64 when the data is. */
static inline nn_dtype nn_stat_dtype(const nn_view *x)
{
    return x->dtype == NN_F64 ? NN_F64 : NN_F32;
}

static inline nn_view nn_like(const nn_view *x) /* contiguous, same shape and dtype */
{
    return nn_view_make(x->dtype, x->rank, x->dim);
}

/* x as an operand of a product: in a graph that computes in bf16, f32 is rounded. */
nn_tensor *nn_lower(nn_graph *g, nn_tensor *x);

/* The shape with its last n dims left out, in the dtype of statistics. */
nn_view nn_leading(const nn_view *x, int n);

#endif
