/* The safetensors reader: whatever it accepts can be looked up, read to the last byte and written
 * again. */
#include "tests/fuzz/fuzz.h"

#include "data/safetensors.h"
#include "engine/base/alloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    nn_weight_file file;
    char path[64];
    int fd = fuzz_file(data, n, path);
    if (nn_safetensors_open(path, &file) == NN_OK) {
        for (int64_t i = 0; i < file.n; i++) {
            const nn_weight *t = &file.tensor[i];
            unsigned sum = 0;
            NN_ASSERT(nn_weight_file_find(&file, t->name) == t);
            for (int64_t k = 0; k < t->bytes; k++) sum += ((const unsigned char *)t->data)[k];
            float *out = nn_alloc(nn_weight_elements(t) + (sum & 1), sizeof(*out));
            NN_ASSERT(out);
            (void)!nn_weight_to_f32(t, out);
            nn_free(out);
        }
        nn_weight_file_close(&file);
    }
    close(fd);
    return 0;
}
