/* Formulas in x and t, as case files name fake denoisers by: "0.2*x*cos(0.013*t) + 0.15*sin(x)". */
#ifndef TOOLS_VERIFY_FORMULA_H
#define TOOLS_VERIFY_FORMULA_H

#include "engine/base/status.h"

/* Value of the formula in f32. + - * /, unary minus, parentheses, numbers, x, t, pi, sin, cos, exp,
 * tanh, sqrt, abs. Errors: NN_FORMAT naming the place. */
nn_status verify_formula(const char *text, float x, float t, float *value) NN_CHECKED;

#endif
