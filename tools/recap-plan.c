/* recap-plan: what RECAP's training of Stable Diffusion takes on machines that are not there. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "engine/base/clock.h"
#include "tools/plan_losses.h"
#include "tools/plan_report.h"
#include "tools/trainer.h"

static plan_request ask = { .card = "h100",
                            .gpus = 1,
                            .links = 1,
                            .link = 400,
                            .link_efficiency = 0.8,
                            .global_batch = 512,
                            .steps = 250000 };

static const nn_option options[] = {
    { .name = "model",
      .text = &ask.model,
      .value = "DIR",
      .help = "diffusers folder, of which the configurations are read; else Stable Diffusion 1.4" },
    { .name = "resolution",
      .integer = &ask.resolution,
      .low = 0,
      .high = 4096,
      .help = "side of the pictures; 0 = what the UNet was made for" },
    { .name = "gpus", .integer = &ask.gpus, .low = 1, .high = 65536, .help = "ranks" },
    { .name = "card", .text = &ask.card, .value = "NAME", .help = "h100, a100-40, rtx4090, ..." },
    { .name = "device",
      .text = &ask.device,
      .value = "NAME",
      .excludes = "card",
      .help = "cpu: memory of recap-train on this machine, instead of a card" },
    { .name = "threads",
      .integer = &ask.threads,
      .low = 0,
      .high = 1024,
      .help = "of --device cpu; 0 = all processors" },
    { .name = "memory",
      .text = &ask.memory,
      .value = "SIZE",
      .help = "that a rank may take: 24GB; else the card's" },
    { .name = "gpus-per-node",
      .integer = &ask.of_node,
      .low = 0,
      .high = 1024,
      .help = "0 = as the card is usually built in" },
    { .name = "node-link",
      .real = &ask.node_link,
      .low = 0,
      .high = 1e6,
      .help = "Gbit/s between two GPUs of a node, one direction; 0 = the card's" },
    { .name = "link",
      .real = &ask.link,
      .low = 0.001,
      .high = 1e6,
      .help = "Gbit/s of a network link of a node, one direction" },
    { .name = "links",
      .integer = &ask.links,
      .low = 1,
      .high = 64,
      .help = "such links of a node that a collective uses at once" },
    { .name = "link-efficiency",
      .real = &ask.link_efficiency,
      .low = 0.01,
      .high = 1,
      .help = "share of a link's rate that collectives reach" },
    { .name = "overlap",
      .real = &ask.overlap,
      .low = 0,
      .high = 1,
      .help = "share of the exchange that is done while the last pass computes" },
    { .name = "global-batch-size",
      .integer = &ask.global_batch,
      .low = 1,
      .high = 1e9,
      .help = "samples in one update, over all ranks" },
    { .name = "micro-batch",
      .integer = &ask.micro_batch,
      .low = 0,
      .high = 65536,
      .help = "samples in a pass; 0 = as many as fit" },
    { .name = "recompute", .flag = &ask.recompute, .help = "as --gradient-checkpointing" },
    { .name = "shard-optimizer", .flag = &ask.shard, .help = "optimizer in parts (ZeRO-1)" },
    { .name = "ema", .flag = &ask.ema, .help = "moving average of the weights" },
    { .name = "steps", .integer = &ask.steps, .low = 1, .high = 1e9, .help = "updates" },
    { .name = "samples",
      .integer = &ask.samples,
      .low = 0,
      .high = 1e12,
      .help = "of the corpus, whose latents every rank keeps in the host's memory" },
    { .name = "efficiency",
      .real = &ask.efficiency,
      .low = 0,
      .high = 1,
      .help = "share of the rates that kernels reach; 0 = measured, or else 0.5" },
    { .name = "measured",
      .text = &ask.measured,
      .value = "FILE",
      .help = "gpu-check.json of make gpu-check: its rates instead of the data sheet's" },
    { .name = "step-ms",
      .real = &ask.step_ms,
      .low = 0,
      .high = 1e9,
      .help = "measured time of an update on one GPU without communication; 0 = the model's" },
    { .name = "price",
      .real = &ask.price,
      .low = 0,
      .high = 1e6,
      .help = "of a GPU for an hour, in any currency" },
    { .name = "json", .flag = &ask.json, .help = "one JSON object" },
    { 0 },
};

static nn_status configure(sd_model *m)
{
    const nn_noise_config noise = nn_noise_config_sd14();
    if (ask.model) return sd_model_configure(ask.model, ask.model, m);
    m->unet = unet_config_sd14();
    m->text = clip_text_config_sd14();
    m->vae = vae_config_sd14();
    return nn_noise_schedule_init(&m->noise, &noise);
}

/* -- the machines ------------------------------------------------------------------------------ */

typedef struct planner {
    nn_device *device, *real; /* real: of --device, which the other plans as */
    plan_task task;
    plan_answer *a;
} planner;

static nn_status open_host(planner *p)
{
    NN_TRY(nn_device_open(ask.device, (int)ask.threads, &p->real));
    if (!p->real->backend->host_memory)
        return nn_fail(NN_ARGUMENT, "--device is '%s'; expected cpu or ref, or a --card",
                       ask.device);
    NN_TRY(nn_device_open_absent(p->real, &p->device));
    p->a->has_kernels = true;
    p->a->source = PLAN_NO_RATES;
    p->a->rates = (plan_rates){ 1e11, 1e11, 1 }; /* to compare settings by */
    p->a->memory_bytes = nn_device_free_bytes(p->real);
    return NN_OK;
}

static nn_status open_card(planner *p)
{
    plan_answer *a = p->a;
    NN_TRY(plan_card_find(ask.card, &a->card));
    a->has_kernels = nn_device_open("null:cuda", 1, &p->device) == NN_OK;
    if (!a->has_kernels) NN_TRY(nn_device_open("null", 1, &p->device));
    NN_TRY(nn_device_compute(p->device, NN_BF16));
    a->memory_bytes = (int64_t)a->card->memory;
    a->rates = (plan_rates){ a->card->flops, a->card->bandwidth, ask.efficiency };
    if (ask.efficiency == 0) a->rates.efficiency = 0.5;
    a->cluster =
        (plan_cluster){ .gpus = (int)ask.gpus,
                        .of_node = ask.of_node ? (int)ask.of_node : a->card->of_node,
                        .peer = ask.node_link > 0 ? ask.node_link / 8 * 1e9 : a->card->peer,
                        .link = ask.link / 8 * 1e9 * (double)ask.links,
                        .link_efficiency = ask.link_efficiency,
                        .overlap = ask.overlap,
                        .step_latency = 1e-5 };
    return NN_OK;
}

/* Rates of --measured; and where it has a whole training step, how much of them it reached. */
static nn_status read_measured(planner *p, const diffusion_plan *of)
{
    plan_answer *a = p->a;
    plan_measured m;
    plan_result step;
    if (!ask.measured || !a->card) return NN_OK;
    NN_TRY(plan_measured_read(ask.measured, &m));
    a->rates.flops = m.flops;
    a->rates.bytes = m.bytes;
    a->source = PLAN_CEILINGS;
    if (!(m.step_seconds > 0) || ask.efficiency > 0) return NN_OK;
    const sd_model published = { .unet = unet_config_sd14(),
                                 .text = clip_text_config_sd14(),
                                 .vae = of->model->vae };
    diffusion_plan same = { &published, published.unet.sample_size, false };
    const plan_task task = diffusion_task(&same, false);
    const plan_setting setting = { .batch = m.batch, .passes = 1, .ranks = 1 };
    a->rates.efficiency = 1;
    NN_TRY(plan_training(&task, p->device, &setting, &a->rates, &step));
    if (!a->has_kernels) step.pass.seconds = plan_usual_seconds(&step, &a->rates);
    a->rates.efficiency = (step.pass.seconds + step.update.seconds) / m.step_seconds;
    a->source = PLAN_TRAINING;
    return NN_OK;
}

/* -- what is asked ----------------------------------------------------------------------------- */

/* As recap-train cuts an update, with its words where that cannot be. */
static nn_status share(plan_limits *l)
{
    trainer_settings set = { .batch = ask.micro_batch ? ask.micro_batch : ask.global_batch,
                             .global_batch = ask.global_batch,
                             .ranks.n = (int)ask.gpus };
    NN_TRY(trainer_share(&set));
    l->ranks = (int)ask.gpus;
    l->samples = set.ranks.batch * set.ranks.passes;
    l->most = set.ranks.batch;
    l->recompute = ask.recompute;
    l->shard = ask.shard;
    return NN_OK;
}

/* The setting that was asked for; where it does not fit, what comes nearest. */
static nn_status plan_exact(planner *p, const plan_limits *l)
{
    plan_answer *a = p->a;
    plan_setting nearest;
    plan_result r;
    nn_text how = { 0 };
    a->setting = (plan_setting){ l->most, l->samples / l->most, l->ranks, l->recompute, l->shard };
    NN_TRY(plan_training(&p->task, p->device, &a->setting, &a->rates, &a->result));
    const int64_t needed = plan_bytes(&a->result) + l->fixed_bytes;
    if (needed <= l->bytes) return NN_OK;
    NN_TRY(plan_fit(&p->task, p->device, l, &a->rates, &nearest, &r));
    nn_status status = plan_say(&nearest, &how);
    if (status == NN_OK)
        status = nn_fail(NN_MEMORY, "--micro-batch %" PRId64 " needs %s of %s; what fits: %s (%s)",
                         l->most, plan_size_text(needed, true).s, plan_size_text(l->bytes, false).s,
                         how.text, plan_size_text(plan_bytes(&r) + l->fixed_bytes, true).s);
    nn_text_free(&how);
    return status;
}

/* Arithmetic of the model itself: without what is computed twice. */
static nn_status count_model(planner *p)
{
    plan_setting once = p->a->setting;
    plan_result r;
    p->a->model_flops = p->a->result.pass.flops;
    if (!once.recompute) return NN_OK;
    once.recompute = false;
    NN_TRY(plan_training(&p->task, p->device, &once, &p->a->rates, &r));
    p->a->model_flops = r.pass.flops;
    return NN_OK;
}

static nn_status choose(planner *p)
{
    plan_answer *a = p->a;
    plan_limits l = { 0 };
    if (ask.memory) NN_TRY(plan_memory_parse(ask.memory, &a->memory_bytes));
    if (a->card) a->memory_bytes -= PLAN_CONTEXT_BYTES;
    NN_TRY(share(&l));
    l.bytes = a->memory_bytes;
    l.fixed_bytes = a->base_bytes + a->corpus_bytes + (a->has_kernels ? 0 : PLAN_USUAL_WORKSPACE);
    NN_TRY(ask.micro_batch ? plan_exact(p, &l)
                           : plan_fit(&p->task, p->device, &l, &a->rates, &a->setting, &a->result));
    NN_TRY(count_model(p));
    if (!a->has_kernels) {
        a->result.workspace_bytes += PLAN_USUAL_WORKSPACE;
        a->result.pass.seconds = plan_usual_seconds(&a->result, &a->rates);
    }
    a->needed_bytes = plan_bytes(&a->result) + a->base_bytes + a->corpus_bytes;
    return NN_OK;
}

/* A measured step in the place of the model's. */
static void take_step(plan_answer *a)
{
    const double seconds = 1e-3 * ask.step_ms;
    a->result.pass.seconds =
        fmax(seconds - a->result.update.seconds, 0) / (double)a->setting.passes;
    a->result.update.seconds = fmin(a->result.update.seconds, seconds);
}

static nn_status answer(planner *p, sd_model *m)
{
    plan_answer *a = p->a;
    const int64_t stride = vae_stride(&m->vae);
    NN_TRY(ask.device ? open_host(p) : open_card(p));
    a->side = ask.resolution ? ask.resolution : m->unet.sample_size * stride;
    diffusion_plan of = { m, a->side / stride, false };
    p->task = diffusion_task(&of, ask.ema);
    if (!a->card) a->corpus_bytes = ask.samples * diffusion_latent_bytes(m, of.side);
    NN_TRY(read_measured(p, &of));
    NN_TRY(choose(p));
    if (ask.step_ms > 0) take_step(a);
    if (a->card)
        plan_run(&a->cluster, &a->setting, &a->result, a->model_flops, a->card->flops, ask.steps,
                 &a->times);
    return ask.json ? plan_print_json(&ask, a) : plan_print(&ask, a);
}

static nn_status plan(const nn_cli *cli)
{
    plan_answer a = { .base_bytes = ask.device ? nn_clock_rss_bytes() + PLAN_FIRST_RUN_BYTES : 0 };
    planner p = { .a = &a };
    sd_model m = { 0 };
    (void)cli;
    nn_status status = configure(&m);
    if (status == NN_OK) status = answer(&p, &m);
    nn_device_close(p.device);
    nn_device_close(p.real);
    sd_model_close(&m);
    return status;
}

static const nn_command commands[] = {
    { .summary = "Predicts memory, time and cost of recap-train diffusion. Measures nothing.",
      .example = "recap-plan --gpus 64 --card h100 --link 400 --price 2.5",
      .options = options,
      .run = plan },
    { 0 },
};

static const nn_program program = { "recap-plan",
                                    "Plans RECAP's training on machines that are not there.",
                                    commands };

int main(int argc, char **argv)
{
    return nn_cli_main(&program, argc, argv);
}
