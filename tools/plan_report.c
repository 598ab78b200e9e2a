/* The answer of recap-plan, as text and as JSON. */
#include "tools/plan_report.h"

#include <inttypes.h>
#include <stdio.h>

static double gb(int64_t bytes)
{
    return 1e-9 * (double)bytes;
}

static double tera(double value)
{
    return 1e-12 * value;
}

/* -- text -------------------------------------------------------------------------------------- */

static void print_memory(const plan_answer *a)
{
    const plan_result *r = &a->result;
    printf("\nmemory of a %s              GB\n", a->card ? "GPU " : "rank");
    printf("  weights, gradients, moments%8.3f  (%.1f million parameters)\n", gb(r->state_bytes),
           1e-6 * (double)r->n_parameters);
    printf("  weights of the codec       %8.3f\n", gb(r->beside_bytes));
    printf("  activations                %8.3f\n", gb(r->activation_bytes));
    printf("  workspace                  %8.3f\n", gb(r->workspace_bytes));
    if (!a->card) {
        printf("  code and descriptions      %8.3f\n", gb(r->program_bytes + a->base_bytes));
        printf("  a batch                    %8.3f\n", gb(r->host_bytes));
        printf("  latents of the corpus      %8.3f\n", gb(a->corpus_bytes));
    }
    printf("  needs                      %8.3f of %.3f\n", gb(a->needed_bytes),
           gb(a->memory_bytes));
}

static void print_times(const plan_request *q, const plan_answer *a)
{
    const plan_times *t = &a->times;
    const double gpus = a->cluster.gpus;
    printf("\nan update                       ms\n");
    printf("  %5" PRId64 " pass(es)           %10.1f\n", a->setting.passes, 1e3 * t->passes);
    printf("  AdamW                    %10.1f\n", 1e3 * t->update);
    printf(
        "  exchange, not hidden     %10.1f  (%.1f %% of the update; %.2f GB sent by each GPU take "
        "%.1f ms)\n",
        1e3 * t->waiting, 100 * t->waiting / t->step, 1e-9 * t->exchanged_bytes, 1e3 * t->exchange);
    printf("  together                 %10.1f  (%.1f images/s, %.0f %% of the cards' arithmetic)\n",
           1e3 * t->step, t->images_per_second, 100 * t->utilisation);
    printf("\n%" PRId64 " updates: %.1f hours on %.0f GPUs, %.0f GPU hours", q->steps,
           t->run / 3600, gpus, t->gpu_hours);
    if (q->price > 0) printf(", %.0f at %g an hour", q->price * t->gpu_hours, q->price);
    printf("\n");
}

static void print_rates(const plan_answer *a)
{
    static const char *const from[] = { "the data sheet", "measured ceilings", "measured ceilings",
                                        "" };
    static const char *const reached[] = { "assumed", "assumed", "from the measured training step",
                                           "" };
    printf("- A kernel takes as long as its arithmetic at %.0f TFLOP/s or its traffic at %.2f TB/s "
           "does, whichever\n  is longer (%s), over %.2f of that (%s), one after the other.\n",
           tera(a->rates.flops), tera(a->rates.bytes), from[a->source], a->rates.efficiency,
           reached[a->source]);
}

static void print_assumptions(const plan_request *q, const plan_answer *a)
{
    const plan_cluster *c = &a->cluster;
    printf("\nassumed\n");
    if (!a->card) {
        printf("- Latents are in the cache already; files of the model are not counted.\n");
        return;
    }
    if (q->step_ms > 0)
        printf("- An update takes %g ms on one GPU without communication (--step-ms).\n",
               q->step_ms);
    else
        print_rates(a);
    printf(
        "- bf16 with f32 weights, gradients and moments. %s\n",
        a->has_kernels
            ? "Kernels are those of the cuda device, for an H100."
            : "The cuda kernels are not in this build: of\n  workspace 0.134 GB are taken, and 11 "
              "bytes that a pass moves beside for each parameter.");
    if (c->gpus > 1) {
        printf("- Gradients are f32 and exchanged once an update around a ring: %d GPUs a node at "
               "%.0f GB/s%s",
               c->of_node, 1e-9 * c->peer, c->gpus > c->of_node ? ",\n  nodes" : "");
        if (c->gpus > c->of_node)
            printf(" at %.1f GB/s (%" PRId64 " x %g Gbit/s)", 1e-9 * c->link, q->links, q->link);
        printf(", %.2f of that reached (assumed), %.2f of it hidden.\n", c->link_efficiency,
               c->overlap);
    }
    printf(
        "- No time is lost to data, checkpoints, launches or failures; latents are in the cache.\n"
        "- The CUDA context takes 0.4 GB, which the memory of the card is without.\n");
}

nn_status plan_print(const plan_request *q, const plan_answer *a)
{
    nn_text how = { 0 };
    NN_TRY(plan_say(&a->setting, &how));
    printf("A PREDICTION from the plan of the engine; nothing was measured.\n\n");
    printf("%s at %" PRId64 " x %" PRId64 ", %" PRId64 " samples an update on %" PRId64 " %s%s\n",
           q->model ? q->model : "Stable Diffusion 1.4 (UNet and text encoder)", a->side, a->side,
           q->global_batch, q->gpus, a->card ? "x " : "rank(s) of ",
           a->card ? a->card->name : q->device);
    printf("%s, %" PRId64 " pass(es) on each\n", how.text, a->setting.passes);
    nn_text_free(&how);
    print_memory(a);
    if (a->card) print_times(q, a);
    print_assumptions(q, a);
    return NN_OK;
}

/* -- JSON -------------------------------------------------------------------------------------- */

static void print_json_memory(const plan_answer *a)
{
    const plan_result *r = &a->result;
    printf("\"parameters\": %" PRId64 ", \"state_bytes\": %" PRId64 ", \"beside_bytes\": %" PRId64
           ", \"activation_bytes\": %" PRId64 ", \"workspace_bytes\": %" PRId64
           ", \"program_bytes\": %" PRId64 ", \"host_bytes\": %" PRId64
           ", \"corpus_bytes\": %" PRId64 ", \"base_bytes\": %" PRId64
           ", \"needed_bytes\": %" PRId64 ", \"memory_bytes\": %" PRId64,
           r->n_parameters, r->state_bytes, r->beside_bytes, r->activation_bytes,
           r->workspace_bytes, r->program_bytes, r->host_bytes, a->corpus_bytes, a->base_bytes,
           a->needed_bytes, a->memory_bytes);
}

static void print_json_times(const plan_request *q, const plan_answer *a)
{
    const plan_times *t = &a->times;
    static const char *const sources[] = { "data sheet", "measured ceilings",
                                           "measured training step", "none" };
    printf(", \"rates\": \"%s\", \"tflops\": %.1f, \"gbytes_per_s\": %.1f, \"efficiency\": %.4f, "
           "\"passes_seconds\": %.6f, \"optimizer_seconds\": %.6f, \"exchange_seconds\": %.6f, "
           "\"exchanged_bytes\": %.0f, \"step_seconds\": %.6f, \"communication_share\": %.4f, "
           "\"images_per_second\": %.3f, \"utilisation\": %.4f, \"steps\": %" PRId64
           ", \"hours\": %.3f, \"gpu_hours\": %.1f, \"cost\": %.2f",
           q->step_ms > 0 ? "--step-ms" : sources[a->source], tera(a->rates.flops),
           1e-9 * a->rates.bytes, a->rates.efficiency, t->passes, t->update, t->exchange,
           t->exchanged_bytes, t->step, t->waiting / t->step, t->images_per_second, t->utilisation,
           q->steps, t->run / 3600, t->gpu_hours, q->price * t->gpu_hours);
}

nn_status plan_print_json(const plan_request *q, const plan_answer *a)
{
    const plan_setting *s = &a->setting;
    printf("{\"prediction\": true, \"device\": \"%s\", \"kernels\": %s, \"ranks\": %d, "
           "\"resolution\": %" PRId64 ", \"global_batch\": %" PRId64 ", \"micro_batch\": %" PRId64
           ", \"passes\": %" PRId64 ", \"recompute\": %s, \"shard_optimizer\": %s, ",
           a->card ? a->card->name : q->device, a->has_kernels ? "true" : "false", s->ranks,
           a->side, q->global_batch, s->batch, s->passes, s->recompute ? "true" : "false",
           s->shard && s->ranks > 1 ? "true" : "false");
    print_json_memory(a);
    if (a->card) print_json_times(q, a);
    puts("}");
    return NN_OK;
}
