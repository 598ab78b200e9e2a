/* Weight files of any format. */
#include "tests/fuzz/fuzz_weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    nn_weight_file file;
    char path[64];
    int fd = fuzz_file(data, n, path);
    if (nn_weight_file_open(path, &file) == NN_OK) fuzz_read_weights(&file);
    close(fd);
    return 0;
}
