/* Pictures of a corpus as the codec gives them back. */
#ifndef TOOLS_TRAIN_REBUILD_H
#define TOOLS_TRAIN_REBUILD_H

#include "kernels/backend.h"
#include "tools/train_images.h"

/* {0} holds none. */
typedef struct rebuilt {
    int64_t first, n, bytes; /* samples first .. first + n - 1, bytes in a picture */
    uint8_t **rgb;           /* [n]; NULL where the picture is as it was */
} rebuilt;

/* Pass a share of the samples first .. first + n - 1, chosen by the seed, through the codec in
 * directory: encoded to the means and decoded. Samples that cannot be read are left out. Owner:
 * rebuilt_close, also after an error. */
nn_status rebuilt_open(const char *directory, const train_images *images, nn_device *device,
                       int64_t first, int64_t n, double share, uint64_t seed,
                       rebuilt *out) NN_CHECKED;
void rebuilt_close(rebuilt *r);

/* [size, size, 3], or NULL where the sample is not among them. */
const uint8_t *rebuilt_at(const rebuilt *r, int64_t number);

#endif
