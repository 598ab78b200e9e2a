/* Eigenvalues of symmetric matrices: cyclic Jacobi. Source: Golub and Van Loan, Matrix
 * Computations, section 8.5. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "models/metrics.h"

static double off_diagonal(const double *a, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++) sum += a[i * n + j] * a[i * n + j];
    return sum;
}

static double norm(const double *a, int n)
{
    double sum = 0;
    for (int i = 0; i < n * n; i++) sum += a[i] * a[i];
    return sum;
}

/* Rows p and q of m [n, n] turned by the angle of (c, s). */
static void turn_rows(double *m, int n, int p, int q, double c, double s)
{
    double *x = m + p * n, *y = m + q * n;
    for (int i = 0; i < n; i++) {
        double t = x[i];
        x[i] = c * t - s * y[i];
        y[i] = s * t + c * y[i];
    }
}

/* The rotation that clears a[p, q], from both sides; the columns follow from symmetry. */
static void rotate(double *a, int n, int p, int q, double *vectors)
{
    double apq = a[p * n + q], app = a[p * n + p], aqq = a[q * n + q];
    if (fabs(apq) <= DBL_MIN) return;
    double tau = (aqq - app) / (2 * apq);
    double t = (tau >= 0 ? 1 : -1) / (fabs(tau) + sqrt(1 + tau * tau));
    double c = 1 / sqrt(1 + t * t), s = t * c;
    turn_rows(a, n, p, q, c, s);
    for (int i = 0; i < n; i++) {
        a[i * n + p] = a[p * n + i];
        a[i * n + q] = a[q * n + i];
    }
    a[p * n + p] = app - t * apq;
    a[q * n + q] = aqq + t * apq;
    a[p * n + q] = a[q * n + p] = 0;
    if (vectors) turn_rows(vectors, n, p, q, c, s);
}

void metrics_eigen(double *a, int n, double *values, double *vectors)
{
    enum { MOST_SWEEPS = 60 };
    double enough = norm(a, n) * DBL_EPSILON * DBL_EPSILON;
    if (vectors) {
        memset(vectors, 0, (size_t)n * (size_t)n * sizeof(*vectors));
        for (int i = 0; i < n; i++) vectors[i * n + i] = 1;
    }
    for (int sweep = 0; sweep < MOST_SWEEPS && off_diagonal(a, n) > enough; sweep++)
        for (int p = 0; p < n; p++)
            for (int q = p + 1; q < n; q++) rotate(a, n, p, q, vectors);
    for (int i = 0; i < n; i++) values[i] = a[i * n + i];
}
