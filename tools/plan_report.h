/* What recap-plan is asked, and what it answers. */
#ifndef TOOLS_PLAN_REPORT_H
#define TOOLS_PLAN_REPORT_H

#include "tools/plan_run.h"

/* Memory that a CUDA context with cuBLASLt takes before anything is planned: an assumption. */
enum { PLAN_CONTEXT_BYTES = 400000000 };

/* What libraries load and generate in a first run on the cpu device, and no plan knows of: what
 * docs/PERFORMANCE.md finds beside the plan of the demo's training, without its graph. */
enum { PLAN_FIRST_RUN_BYTES = 6000000 };

/* In builds without the cuda kernels, what stands for them: their workspace, and what each pass
 * moves beside the operations' own traffic for each parameter: packed weights and parts of
 * gradients. tests/cuda/test_plan_training.c holds both against the kernels. */
enum { PLAN_USUAL_WORKSPACE = 134217728, PLAN_USUAL_MOVED = 11 };

/* Seconds of a pass that was planned without kernels. */
double plan_usual_seconds(const plan_result *r, const plan_rates *rates);

typedef struct plan_request {
    const char *model, *device, *card, *memory, *measured;
    int64_t gpus, of_node, links, global_batch, micro_batch, resolution, steps, samples, threads;
    double link, node_link; /* Gbit/s */
    double link_efficiency, overlap, efficiency, step_ms, price;
    bool recompute, shard, ema, json;
} plan_request;

/* Where the rates come from. */
typedef enum plan_source {
    PLAN_DATA_SHEET,
    PLAN_CEILINGS,
    PLAN_TRAINING,
    PLAN_NO_RATES
} plan_source;

typedef struct plan_answer {
    const plan_card *card; /* NULL = the cpu device of this machine */
    bool has_kernels;      /* those of the device are in this build */
    int64_t side;          /* of the pictures */
    plan_cluster cluster;
    plan_rates rates;
    plan_source source;
    plan_setting setting;
    plan_result result;
    double model_flops;   /* of a pass without recomputation */
    int64_t memory_bytes; /* that a rank may take */
    int64_t base_bytes;   /* of the cpu device: the program and its libraries, and */
    int64_t corpus_bytes; /* the latents of the corpus */
    int64_t needed_bytes;
    plan_times times; /* zero without rates */
} plan_answer;

/* "24GB", "500MB", a number of GB; 10^9 bytes each. */
nn_status plan_memory_parse(const char *text, int64_t *bytes) NN_CHECKED;

/* The rates of a gpu-check.json: its ceilings, and seconds and samples of a whole training step, 0
 * where it has none. */
typedef struct plan_measured {
    double flops, bytes, step_seconds;
    int64_t batch;
} plan_measured;
nn_status plan_measured_read(const char *path, plan_measured *out) NN_CHECKED;

nn_status plan_print(const plan_request *q, const plan_answer *a) NN_CHECKED;
nn_status plan_print_json(const plan_request *q, const plan_answer *a) NN_CHECKED;

#endif
