/* The numbers of a training as others read them: a table of comma-separated values for every kind
 * of row, and TensorBoard's event files with the same numbers. */
#ifndef TOOLS_SCALARS_H
#define TOOLS_SCALARS_H

#include "tools/cli.h"

typedef struct scalars scalars;

/* Into DIR, which is made. step: the first one that is still to come; rows that an earlier run
 * wrote of later steps go. Owner: scalars_close. */
nn_status scalars_open(const char *dir, int64_t step, scalars **out) NN_CHECKED;

/* A row of DIR/TABLE.csv: "step" and the names of the fields are its columns. The tags of the same
 * numbers are TABLE/NAME. Rows of one table have the same fields. Errors: NN_IO; NN_ARGUMENT where
 * a file of an earlier run has other columns. The next row may succeed. */
nn_status scalars_add(scalars *s, const char *table, int64_t step, const nn_field *fields,
                      int n_fields) NN_CHECKED;

/* A PNG file under the tag. */
nn_status scalars_picture(scalars *s, int64_t step, const char *tag, int64_t height, int64_t width,
                          const void *png, int64_t n) NN_CHECKED;

void scalars_close(scalars *s); /* NULL is fine */

#endif
