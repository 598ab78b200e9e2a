/* The training loop that all trainers share: steps, accumulation, schedule, moving average,
 * checkpoints, resumption, progress and interruption. A trainer adds its graph and its data. */
#ifndef TOOLS_TRAINER_H
#define TOOLS_TRAINER_H

#include "engine/checkpoint.h"
#include "engine/dist/comm.h"
#include "engine/optim.h"
#include "tools/device.h"
#include "tools/scalars.h"

/* The ranks of a job, and what each of them does of an update: `passes` of `batch` samples. */
typedef struct trainer_ranks {
    nn_comm *comm; /* over host memory; NULL = the only rank */
    int rank, n;   /* which of how many; n 0: see trainer_share */
    int64_t most;  /* samples of a pass at most; 0 = as the settings say */
    int64_t batch, passes;
} trainer_ranks;

/* What the command line decides. Options with the names that users of diffusers' trainers know. */
typedef struct trainer_settings {
    const char *output;
    device_settings on;
    int64_t steps, batch, accumulate, global_batch, warmup, seed, checkpoint_every, keep;
    int schedule; /* index in trainer_schedules */
    double lr, beta1, beta2, eps, weight_decay, clip_norm, ema_decay;
    double comm_timeout; /* seconds */
    double bucket_mb;
    int comm_dtype; /* index in device_dtypes */
    const char *logging_dir, *validation_data;
    int64_t validation_every; /* updates */
    double peak_tflops;
    bool profile, shard, background, fuse;
    const char *memory;  /* see tools/trainer_fit.h; NULL = whatever it takes */
    trainer_ranks ranks; /* not from the command line: see trainer_command */
} trainer_settings;

extern const char *const trainer_schedules[];

/* Of everything but the number of updates and the learning rate. */
#define TRAINER_DEFAULTS                                                                           \
    .on = DEVICE_DEFAULTS, .batch = 64, .accumulate = 1, .checkpoint_every = 500, .keep = 2,       \
    .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 1e-2, .clip_norm = 1.0,             \
    .comm_timeout = 600, .bucket_mb = 8, .background = true

/* Of the trainers that validate. */
#define TRAINER_VALIDATION_OPTIONS(s)                                                              \
    { .name = "validation-data",                                                                   \
      .text = &(s).validation_data,                                                                \
      .value = "SHARDS",                                                                           \
      .incidental = true,                                                                          \
      .help = "samples that are not trained on; the loss on them every --validation-steps "        \
              "updates" },                                                                         \
    {                                                                                              \
        .name = "validation-steps", .integer = &(s).validation_every, .incidental = true,          \
        .low = 1, .high = 1e9, .help = "updates between validations"                               \
    }

/* Rows of an option table for the settings `s`. */
#define TRAINER_OPTIONS(s)                                                                         \
    { .name = "output-dir",                                                                        \
      .text = &(s).output,                                                                         \
      .value = "DIR",                                                                              \
      .required = true,                                                                            \
      .incidental = true,                                                                          \
      .help = "where checkpoints and the trained model go" },                                      \
        DEVICE_OPTIONS((s).on),                                                                    \
        { .name = "max-train-steps",                                                               \
          .integer = &(s).steps,                                                                   \
          .low = 1,                                                                                \
          .high = 1e9,                                                                             \
          .help = "updates of the weights" },                                                      \
        { .name = "train-batch-size",                                                              \
          .integer = &(s).batch,                                                                   \
          .low = 1,                                                                                \
          .high = 65536,                                                                           \
          .help = "samples in one pass, at most" },                                                \
        { .name = "gradient-accumulation-steps",                                                   \
          .integer = &(s).accumulate,                                                              \
          .low = 1,                                                                                \
          .high = 65536,                                                                           \
          .help = "passes in one update, over all ranks" },                                        \
        { .name = "global-batch-size",                                                             \
          .integer = &(s).global_batch,                                                            \
          .low = 0,                                                                                \
          .high = 1e9,                                                                             \
          .incidental = true,                                                                      \
          .excludes = "gradient-accumulation-steps",                                               \
          .help = "samples in one update, over all ranks; gives the passes in one update" },       \
        { .name = "learning-rate",                                                                 \
          .real = &(s).lr,                                                                         \
          .low = 0,                                                                                \
          .high = 1,                                                                               \
          .help = "learning rate" },                                                               \
        { .name = "lr-scheduler",                                                                  \
          .choice = &(s).schedule,                                                                 \
          .choices = trainer_schedules,                                                            \
          .help = "how the rate goes on after the warm-up" },                                      \
        { .name = "lr-warmup-steps",                                                               \
          .integer = &(s).warmup,                                                                  \
          .low = 0,                                                                                \
          .high = 1e9,                                                                             \
          .help = "updates until the rate is reached" },                                           \
        { .name = "adam-beta1",                                                                    \
          .real = &(s).beta1,                                                                      \
          .low = 0,                                                                                \
          .high = 1,                                                                               \
          .help = "AdamW's beta1" },                                                               \
        { .name = "adam-beta2",                                                                    \
          .real = &(s).beta2,                                                                      \
          .low = 0,                                                                                \
          .high = 1,                                                                               \
          .help = "AdamW's beta2" },                                                               \
        { .name = "adam-epsilon",                                                                  \
          .real = &(s).eps,                                                                        \
          .low = 0,                                                                                \
          .high = 1,                                                                               \
          .help = "AdamW's epsilon" },                                                             \
        { .name = "adam-weight-decay",                                                             \
          .real = &(s).weight_decay,                                                               \
          .low = 0,                                                                                \
          .high = 1,                                                                               \
          .help = "decoupled weight decay" },                                                      \
        { .name = "max-grad-norm",                                                                 \
          .real = &(s).clip_norm,                                                                  \
          .low = 0,                                                                                \
          .high = 1e9,                                                                             \
          .help = "global norm the gradients are clipped to; 0 = off" },                           \
        { .name = "ema-decay",                                                                     \
          .real = &(s).ema_decay,                                                                  \
          .low = 0,                                                                                \
          .high = 1,                                                                               \
          .help = "moving average of the weights, which is what gets saved; 0 = off" },            \
        { .name = "seed",                                                                          \
          .integer = &(s).seed,                                                                    \
          .low = 0,                                                                                \
          .high = 1e15,                                                                            \
          .help = "seed of everything" },                                                          \
        { .name = "checkpointing-steps",                                                           \
          .integer = &(s).checkpoint_every,                                                        \
          .low = 1,                                                                                \
          .high = 1e9,                                                                             \
          .incidental = true,                                                                      \
          .help = "updates between checkpoints" },                                                 \
        { .name = "checkpoints-total-limit",                                                       \
          .integer = &(s).keep,                                                                    \
          .low = 1,                                                                                \
          .high = 1000,                                                                            \
          .incidental = true,                                                                      \
          .help = "newest checkpoints that are kept" },                                            \
        { .name = "background-checkpoints",                                                        \
          .flag = &(s).background,                                                                 \
          .incidental = true,                                                                      \
          .help = "write checkpoints while training waits, not from a copy in memory" },           \
        { .name = "shard-optimizer",                                                               \
          .flag = &(s).shard,                                                                      \
          .incidental = true,                                                                      \
          .help = "each rank keeps and updates its part of moments and average only (ZeRO-1)" },   \
        { .name = "fuse-update",                                                                   \
          .flag = &(s).fuse,                                                                       \
          .incidental = true,                                                                      \
          .help = "update each parameter in the backward pass; gradients take no memory" },        \
        { .name = "comm-timeout",                                                                  \
          .real = &(s).comm_timeout,                                                               \
          .low = 0,                                                                                \
          .high = 1e6,                                                                             \
          .incidental = true,                                                                      \
          .help = "seconds that ranks wait for each other before the job ends; 0 = for ever" },    \
        { .name = "comm-bucket-mb",                                                                \
          .real = &(s).bucket_mb,                                                                  \
          .low = 0.001,                                                                            \
          .high = 1e6,                                                                             \
          .incidental = true,                                                                      \
          .help = "megabytes of gradients that ranks sum at once, while backward goes on" },       \
        { .name = "comm-dtype",                                                                    \
          .choice = &(s).comm_dtype,                                                               \
          .choices = device_dtypes,                                                                \
          .incidental = true,                                                                      \
          .help = "what gradients are sent to other ranks as; they are added in f32" },            \
        { .name = "logging-dir",                                                                   \
          .text = &(s).logging_dir,                                                                \
          .value = "DIR",                                                                          \
          .incidental = true,                                                                      \
          .help = "numbers of every update as TensorBoard's events and as tables (CSV)" },         \
        { .name = "peak-tflops",                                                                   \
          .real = &(s).peak_tflops,                                                                \
          .low = 0,                                                                                \
          .high = 1e6,                                                                             \
          .incidental = true,                                                                      \
          .help = "what a rank could compute; the log then has the share that was made of it "     \
                  "(mfu); 0 = it has not" },                                                       \
    {                                                                                              \
        .name = "profile", .flag = &(s).profile, .incidental = true,                               \
        .help = "time every node: a table at the end and trace.json in the output directory"       \
    }

/* A position in a stream of samples. {0} = the trainer needs none. */
typedef struct trainer_stream {
    void *ctx;
    void (*tell)(void *ctx, int64_t *epoch, int64_t *position);    /* after each update */
    nn_status (*seek)(void *ctx, int64_t epoch, int64_t position); /* once before the first step */
} trainer_stream;

/* One pass. In a round of passes each rank does one: rank 0 the first of its samples, and so on. */
typedef struct trainer_pass {
    int64_t update;        /* from 0 */
    int64_t number;        /* of the pass, counted over all updates and ranks */
    int64_t first;         /* number of its first sample, counted over all passes */
    int64_t before, after; /* samples of the round's other ranks in front of these, and behind */
} trainer_pass;

/* A piece of the flat gradients, which backward has completed after so many steps of its plan. */
typedef struct trainer_bucket {
    int64_t first, n; /* elements */
    int64_t after;
    int owner; /* the rank whose part of the optimizer it is in */
} trainer_bucket;

typedef struct trainer_buckets {
    trainer_bucket *items; /* in the order in which they are completed */
    int64_t n, capacity;
    int64_t *tickets; /* [n] */
    uint16_t *half;   /* on the device, flat: what is sent instead; NULL = the gradients are */
} trainer_buckets;

/* Seconds of an update. */
typedef struct trainer_exchange {
    double waited; /* for gradients and values, when there was nothing else to do */
    double total;  /* that their exchange took */
} trainer_exchange;

/* Build the loss of one pass, of set.ranks.batch samples, and remember the inputs. */
typedef nn_tensor *trainer_build(void *ctx, nn_graph *g, nn_params *params);

/* The loss on samples that the training does not see, measured on what would be saved (the moving
 * average, if there is one). {0} = none. */
typedef struct trainer_validation {
    int64_t n_samples; /* of the data; used are as many as fill whole passes on all ranks */
    trainer_build *build;
    nn_status (*feed)(void *ctx, nn_plan *plan, int64_t pass); /* pass 0 begins anew */
} trainer_validation;

typedef struct trainer_watch trainer_watch;

typedef struct trainer {
    const char *what; /* for the progress line */
    trainer_settings set;
    const nn_option *options; /* the command's; see trainer_describe */
    uint64_t start;           /* hash of what training starts from, by trainer_hash_* */
    uint64_t data;            /* hash of the samples' names; ranks must have the same */
    int64_t n_samples;        /* of the data */
    nn_device *device;
    nn_params *params; /* allocated with gradients; values loaded or drawn */
    void *ctx;
    trainer_build *build;
    /* Write one pass's inputs. What they are is a function of the numbers of its samples alone. */
    nn_status (*feed)(void *ctx, nn_plan *plan, const trainer_pass *pass);
    trainer_stream stream;
    trainer_validation validation;
    /* After each update (step counts from 1), on all ranks, of which the first one alone may write:
     * snapshots, validation. NULL = nothing. */
    nn_status (*after)(void *ctx, struct trainer *t, int64_t step);
    /* Set by trainer_run. */
    nn_optimizer *optimizer;
    const nn_plan *pass, *update; /* while it runs; update NULL = the pass does it */
    nn_comm *wire;                /* over the device's buffers; NULL = one rank */
    bool sharded;                 /* each rank has a part of the optimizer */
    nn_optimizer_peers peers;     /* then: the others */
    trainer_buckets buckets;      /* with a wire */
    trainer_exchange exchange;
    int64_t step;
    double loss; /* mean over the last update's passes */
    trainer_watch *watch;
} trainer;

/* Train to set.steps, going on from the newest checkpoint in set.output if there is one; a run with
 * other settings is NN_ARGUMENT. When it returns NN_OK the store holds the trained weights (the
 * moving average if there is one). NN_INTERRUPTED: a checkpoint was saved.
 *
 * With several ranks this is one training: every rank computes its passes of each update, gradients
 * are summed, and all ranks make the same update. The first rank alone reads and writes
 * checkpoints. Ranks that were given different things end in NN_ARGUMENT before the first update,
 * and when any rank fails all do. */
nn_status trainer_run(trainer *t) NN_CHECKED;

/* -- around the loop */

/* The course of a trainer's command: the ranks meet, and set.ranks is filled in; then nothing if
 * set.output holds a finished run of this many steps; else the device is opened, set.output made,
 * `work` called and the run marked as finished. `close` is called before the device closes,
 * whatever happened. Of several ranks the first one alone writes; when one fails the job ends. */
typedef nn_status trainer_work(void *ctx, nn_device *device);
nn_status trainer_command(trainer_settings *set, void *ctx, trainer_work *work,
                          void (*close)(void *ctx)) NN_CHECKED;

/* NN_ARGUMENT, with the option that is in the way, if updates are to be fused into the backward
 * pass and cannot be. After trainer_share. */
nn_status trainer_check_fusion(const trainer_settings *set) NN_CHECKED;

/* The store of what the loss declares, with gradients; the values are not set. Owner:
 * nn_params_destroy, also after an error. */
nn_status trainer_make_params(trainer_build *build, void *ctx, nn_device *device,
                              nn_params **out) NN_CHECKED;

/* -- what a run shares with the one that it goes on from */

/* Add the settings as lines "name=value": every option that is not incidental (the number of
 * updates only where the schedule depends on it), the hash of the start, the number of samples.
 * Device and threads may change: they touch the last digits alone. */
nn_status trainer_describe(const trainer *t, nn_text *out) NN_CHECKED;

/* NN_ARGUMENT, with every setting that differs and both its values, unless the two descriptions are
 * the same. directory: of the checkpoints, for the message. */
nn_status trainer_compare(const char *directory, const char *saved, const char *now) NN_CHECKED;

/* Add the lines in which two descriptions differ, as "name OF_FIRST 'a' OF_SECOND 'b'; ...". */
nn_status trainer_differences(const char *first, const char *second, const char *of_first,
                              const char *of_second, nn_text *out) NN_CHECKED;

/* Mix weights, or the bytes of those of the files DIR/NAME that are there, into *hash. names ends
 * with NULL. */
nn_status trainer_hash_params(const nn_params *params, uint64_t *hash) NN_CHECKED;
nn_status trainer_hash_files(const char *directory, const char *const names[],
                             uint64_t *hash) NN_CHECKED;

/* -- watching a training */

/* Plan the validation; once the first step is known, open what --logging-dir asks for. Owner:
 * trainer_watch_close, also after an error. */
nn_status trainer_watch_open(trainer *t) NN_CHECKED;
nn_status trainer_watch_start(trainer *t) NN_CHECKED;
void trainer_watch_close(trainer *t);

/* Numbers of update t->step, or a picture as a PNG file, to what --logging-dir asks for. That it
 * could not be written is a warning. */
void trainer_watch_add(const trainer *t, const char *table, const nn_field *fields, int n_fields);
void trainer_watch_picture(const trainer *t, const char *tag, int64_t height, int64_t width,
                           const void *png, int64_t n);

/* Whether something is to be validated after update `step`: the last one always is. */
bool trainer_validates_after(const trainer_settings *set, int64_t step);

/* Measure and log the validation's loss. By all ranks together. */
nn_status trainer_validate(trainer *t) NN_CHECKED;

/* -- checkpoints in set.output/checkpoints; what is said is called by all ranks together */

typedef struct trainer_saves {
    trainer *t;   /* borrowed, as is: */
    char *config; /* what a run that goes on must share */
    char *directory;
    int64_t epoch, position; /* of the data, where the next update begins */
    nn_saver *saver;         /* of the first rank, from its first save in the background on */
    bool no_room;            /* for its copy */
    int64_t newest;          /* update of the last checkpoint that is known to be there; 0 = none */
    double stood;            /* seconds for which the last save has kept training from going on */
} trainer_saves;

/* After t->optimizer is there. Owner: trainer_saves_close, which waits. */
nn_status trainer_saves_open(trainer *t, char *config, trainer_saves *out) NN_CHECKED;
void trainer_saves_close(trainer_saves *s);

/* Go on from the newest checkpoint, if there is one (all ranks). */
nn_status trainer_saves_resume(trainer_saves *s) NN_CHECKED;

/* An update is complete: the data is where the next one begins. */
void trainer_saves_mark(trainer_saves *s);

/* Save (all ranks). goes_on: training will, and does not wait until it is written unless
 * set.background is off; when it cannot be written there is a warning. Otherwise that is an error.
 */
nn_status trainer_saves_save(trainer_saves *s, bool goes_on) NN_CHECKED;

/* Tell what became of a save that has ended, or with `wait` of any. */
void trainer_saves_poll(trainer_saves *s, bool wait);

/* Host memory that saving in the background takes, on this rank. */
int64_t trainer_saves_copy_bytes(const trainer *t);

/* -- ranks */

/* Cut an update into passes: set.accumulate from set.global_batch if that is given, and what each
 * of set.ranks.n ranks does of it. Where they can, all ranks do passes of set.batch samples, so
 * that the passes are those of one rank; else smaller ones. Errors: NN_ARGUMENT names the divisors
 * when an update cannot be cut so. */
nn_status trainer_share(trainer_settings *set) NN_CHECKED;

/* Meet the other ranks of the job, and share. Owner: trainer_ranks_close. */
nn_status trainer_ranks_open(trainer_settings *set) NN_CHECKED;
void trainer_ranks_close(trainer_ranks *ranks);

/* This rank has failed: say so on stderr and end the others' waiting; over MPI it ends the job, and
 * does not return. wire: what is open over ranks->comm, or NULL. */
void trainer_ranks_fail(const trainer_ranks *ranks, nn_comm *wire);

/* n bytes of the first rank to all. */
nn_status trainer_ranks_tell(const trainer_ranks *ranks, void *bytes, int64_t n) NN_CHECKED;

/* What collectives on the device's buffers go over: ranks->comm itself where the host can touch
 * them. Owner: nn_comm_close, unless it is that. */
nn_status trainer_ranks_wire(const trainer *t, nn_comm **out) NN_CHECKED;

/* Exchange weights and moving average, if there is one, on all ranks together. */
nn_status trainer_swap_average(trainer *t) NN_CHECKED;

/* NN_ARGUMENT, with every setting that differs, unless this rank was given what the first one was.
 */
nn_status trainer_ranks_compare(const trainer *t) NN_CHECKED;

/* -- gradients in buckets: t->wire is open, t->sharded known; all are called by all ranks together
 */

/* Cut the plan of a pass where buckets are complete. Owner: trainer_buckets_close, which after
 * nothing else is legal too. Errors: NN_ARGUMENT if gradients are to be sent as bf16 and the bits
 * not to depend on the number of ranks. */
nn_status trainer_buckets_open(trainer *t, nn_plan *pass) NN_CHECKED;
void trainer_buckets_close(trainer *t);

/* Run the pass and sum its gradients over the ranks, in their order, to where they are needed:
 * after the last pass of an update the ranks that update with them, otherwise the first rank. Those
 * of other ranks are undefined. */
nn_status trainer_buckets_run(trainer *t, nn_plan *pass, uint64_t seed, bool last) NN_CHECKED;

/* -- the optimizer in parts, one on each rank; all are called by all ranks together */

/* Whether there is something to cut. */
bool trainer_shards_possible(const trainer *t);

/* t->optimizer of this rank's part, with t->peers. */
nn_status trainer_shards_open(trainer *t, const nn_adamw_options *options) NN_CHECKED;

/* Elements of the flat buffers that are a rank's part. */
void trainer_shards_part(const trainer *t, int rank, int64_t *first, int64_t *n);

/* The values of all parts to all. */
nn_status trainer_shards_values(trainer *t) NN_CHECKED;

/* What the others do while the first rank saves a checkpoint, or loads one. After the first rank
 * has looked for one to load, it calls trainer_shards_end. */
nn_status trainer_shards_follow(const trainer *t, bool saves) NN_CHECKED;
nn_status trainer_shards_end(const trainer *t) NN_CHECKED;

#endif
