/* The safetensors reader, and the check of its checksums. */
#include "tests/fuzz/fuzz_weights.h"

#include "data/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    nn_weight_file file;
    char path[64];
    int fd = fuzz_file(data, n, path);
    if (nn_safetensors_open(path, &file) == NN_OK) {
        (void)!nn_safetensors_verify(path, &file);
        fuzz_read_weights(&file);
    }
    close(fd);
    return 0;
}
