/* Whole training steps. */
#include "tools/bench.h"

const bench_case bench_trainings[] = { { 0 } };
