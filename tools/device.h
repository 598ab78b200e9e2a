/* The device of a program: which one, and how it computes. */
#ifndef TOOLS_DEVICE_H
#define TOOLS_DEVICE_H

#include "kernels/backend.h"
#include "tools/cli.h"

typedef struct device_settings {
    const char *name;
    int64_t threads;
    int dtype; /* of products: index in device_dtypes */
    bool deterministic;
    const char *conv, *attention, *linear; /* as nn_device_prefer; NULL = the device's own choice */
} device_settings;

extern const char *const device_dtypes[]; /* "f32", "bf16" */

#define DEVICE_DEFAULTS                                                                            \
    {                                                                                              \
        .name = "cpu"                                                                              \
    }

/* Rows of an option table for the settings `s`. */
#define DEVICE_OPTIONS(s)                                                                          \
    { .name = "device",                                                                            \
      .text = &(s).name,                                                                           \
      .value = "NAME",                                                                             \
      .incidental = true,                                                                          \
      .help = "device that computes" },                                                            \
        { .name = "threads",                                                                       \
          .integer = &(s).threads,                                                                 \
          .low = 0,                                                                                \
          .high = 1024,                                                                            \
          .incidental = true,                                                                      \
          .help = "threads; 0 = all processors" },                                                 \
        { .name = "dtype",                                                                         \
          .choice = &(s).dtype,                                                                    \
          .choices = device_dtypes,                                                                \
          .help = "what convolutions and matrix products compute in" },                            \
    {                                                                                              \
        .name = "deterministic", .flag = &(s).deterministic, .incidental = true,                   \
        .help = "equal runs give equal bits (on the cpu they always do)"                           \
    }

/* Rows that name kernels, for programs that compare them. */
#define DEVICE_KERNEL_OPTIONS(s)                                                                   \
    { .name = "conv",                                                                              \
      .text = &(s).conv,                                                                           \
      .value = "KERNEL",                                                                           \
      .help = "kernels of conv2d to ask first, by how their names end: cudnn, gemm, any" },        \
        { .name = "attention",                                                                     \
          .text = &(s).attention,                                                                  \
          .value = "KERNEL",                                                                       \
          .help = "the same of attention: flash, tiled, any" },                                    \
    {                                                                                              \
        .name = "linear", .text = &(s).linear, .value = "KERNEL",                                  \
        .help = "the same of linear: blas, gemm, any"                                              \
    }

/* Errors: those of nn_device_open, nn_device_compute and nn_device_prefer. Owner: nn_device_close.
 */
nn_status device_open(const device_settings *set, nn_device **out) NN_CHECKED;

#endif
