/* Weight files of torch.save (.ckpt, .bin, .pt, .pth), read without running anything.
 *
 * File: a zip archive of stored entries, ROOT/data.pkl that describes tensors and ROOT/data/KEY
 * with the numbers (since torch 1.6). The state dict is the top level or lies there under
 * "state_dict" (Lightning, LDM) or "model" (Salesforce). Its tensors keep their names; strings and
 * numbers beside it become metadata; everything else is left out. Tensors that are not row-major
 * are put in order, so they are copies; all others stay where they are. Source:
 * torch/serialization.py. */
#ifndef DATA_TORCH_FILE_H
#define DATA_TORCH_FILE_H

#include "data/weight.h"

extern const nn_weight_format nn_torch_file;

#endif
