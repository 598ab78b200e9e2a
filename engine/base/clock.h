/* Time and memory of this process, as the operating system counts them. */
#ifndef ENGINE_BASE_CLOCK_H
#define ENGINE_BASE_CLOCK_H

#include <stdint.h>

double nn_clock_seconds(void);         /* monotonic wall time */
double nn_clock_age_seconds(void);     /* wall time since the process began, to 10 ms; 0 where
                                          unknown */
double nn_clock_cpu_seconds(void);     /* user + system time of all threads */
int64_t nn_clock_rss_bytes(void);      /* resident now; 0 where unknown */
int64_t nn_clock_peak_rss_bytes(void); /* resident at most so far */

/* What the system can give to programs without swapping (Linux: MemAvailable); 0 where unknown. */
int64_t nn_clock_available_bytes(void);

#endif
