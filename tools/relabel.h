/* The command of recap-relabel. */
#ifndef TOOLS_RELABEL_H
#define TOOLS_RELABEL_H

#include "tools/cli.h"

extern const nn_option relabel_options[];
nn_command_run relabel;

#endif
