/* Which compilation of the cpu kernels this processor can run. */
#ifdef NN_CPU
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

int nn_cpu_level(void)
{
    enum { AVX512, AVX2, PORTABLE };
    const char *wish = getenv("NN_CPU_ISA");
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                __builtin_cpu_supports("bmi2");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                  __builtin_cpu_supports("avx512cd");
    if (avx512 && (!wish || !strcmp(wish, "avx512"))) return AVX512;
    if (avx2 && (!wish || strcmp(wish, "portable") != 0)) return AVX2;
    return PORTABLE;
}
#endif
