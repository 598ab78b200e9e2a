/* Checksums that find damage in files: XXH64, which keeps up with memory. It is no protection
 * against somebody who means harm. Source: the xxHash specification by Yann Collet, seed 0. */
#ifndef ENGINE_BASE_CHECKSUM_H
#define ENGINE_BASE_CHECKSUM_H

#include <stdint.h>

/* Bytes that come in pieces: start, add each, end. */
typedef struct nn_checksum {
    uint64_t lane[4];
    unsigned char rest[32]; /* the last n % 32 bytes */
    uint64_t n;
} nn_checksum;

void nn_checksum_start(nn_checksum *c);
void nn_checksum_add(nn_checksum *c, const void *bytes, int64_t n);
uint64_t nn_checksum_end(const nn_checksum *c);

/* Of bytes at hand. */
uint64_t nn_checksum_of(const void *bytes, int64_t n);

#endif
