// What cusim's tests check with.
#ifndef CUSIM_EXPECT_H
#define CUSIM_EXPECT_H

#include <cstdio>
#include <cstdlib>

typedef unsigned short bf16_bits;

#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: expected %s\n", __FILE__, __LINE__, #condition);               \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#endif
