/* Event files as TensorBoard reads them: numbers and pictures over the steps of a training.
 *
 * A file is a row of records: u64 length, u32 checksum of those 8 bytes, the bytes, u32 checksum of
 * them; all little-endian, checksums CRC-32C (Castagnoli) rotated right by 15 bits plus 0xa282ead8.
 * Each record is an Event in protocol buffers' encoding. Source: TensorFlow's record_writer.cc,
 * event.proto and summary.proto. */
#ifndef DATA_EVENTS_H
#define DATA_EVENTS_H

#include "engine/base/status.h"

typedef struct nn_events nn_events;

/* A new file DIR/events.out.tfevents.TIME.HOST.PID. What earlier files in DIR have of this step and
 * later ones is not shown any more: the run goes on from there. Owner: nn_events_close. */
nn_status nn_events_open(const char *dir, int64_t step, nn_events **out) NN_CHECKED;

/* A number of a step under a tag ("train/loss"). The record is in the file when it returns. Errors:
 * NN_IO; what was written before stays readable, and later calls may succeed. */
nn_status nn_events_number(nn_events *e, int64_t step, const char *tag, double value) NN_CHECKED;

/* A picture, as the n bytes of a PNG of this size. */
nn_status nn_events_picture(nn_events *e, int64_t step, const char *tag, int64_t height,
                            int64_t width, const void *png, int64_t n) NN_CHECKED;

void nn_events_close(nn_events *e); /* NULL is fine */

/* CRC-32C of n bytes. Source: RFC 3720, appendix B.4. */
uint32_t nn_crc32c(const void *bytes, int64_t n);

#endif
