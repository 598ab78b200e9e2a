/* For fuzzers of weight files: what a reader accepts can be looked up and read to the last byte. */
#ifndef TESTS_FUZZ_FUZZ_WEIGHTS_H
#define TESTS_FUZZ_FUZZ_WEIGHTS_H

#include "tests/fuzz/fuzz.h"

#include "data/weight.h"
#include "engine/base/alloc.h"

/* Reads and closes an open file. */
static inline void fuzz_read_weights(nn_weight_file *file)
{
    for (int64_t i = 0; i < file->n; i++) {
        const nn_weight *t = &file->tensor[i];
        unsigned sum = 0;
        NN_ASSERT(nn_weight_file_find(file, t->name) == t);
        for (int64_t k = 0; k < t->bytes; k++) sum += ((const unsigned char *)t->data)[k];
        float *out = nn_alloc(nn_weight_elements(t) + (sum & 1), sizeof(*out));
        NN_ASSERT(out);
        (void)!nn_weight_to_f32(t, out);
        nn_free(out);
    }
    nn_weight_file_close(file);
}

#endif
