/* Time and memory of this process. */
#include "engine/base/clock.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static double seconds_of(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double nn_clock_seconds(void)
{
    return seconds_of(CLOCK_MONOTONIC);
}

/* The 22nd field, in ticks since the system began; the second, a name in brackets, may have blanks
 * and brackets in it. */
double nn_clock_age_seconds(void)
{
    char line[1024];
    unsigned long long began = 0;
    FILE *f = fopen("/proc/self/stat", "r");
    if (!f) return 0;
    const char *rest = fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
    fclose(f);
    for (int field = 2; rest && field < 22; field++) rest = strchr(rest + 1, ' ');
    if (!rest || sscanf(rest, "%llu", &began) != 1) return 0;
    return seconds_of(CLOCK_BOOTTIME) - (double)began / (double)sysconf(_SC_CLK_TCK);
}

double nn_clock_cpu_seconds(void)
{
    return seconds_of(CLOCK_PROCESS_CPUTIME_ID);
}

int64_t nn_clock_rss_bytes(void)
{
    long long pages = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f) return 0;
    if (fscanf(f, "%lld %lld", &pages, &resident) != 2) resident = 0;
    fclose(f);
    return resident * sysconf(_SC_PAGESIZE);
}

int64_t nn_clock_peak_rss_bytes(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (int64_t)usage.ru_maxrss * 1024;
}

int64_t nn_clock_available_bytes(void)
{
    char line[128];
    long long kib = 0;
    FILE *f = fopen("/proc/meminfo", "r");
    if (!f) return 0;
    while (fgets(line, sizeof(line), f))
        if (sscanf(line, "MemAvailable: %lld kB", &kib) == 1) break;
    fclose(f);
    return kib * 1024;
}
