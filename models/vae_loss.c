/* The codec's training loss: reconstruction of a drawn latent, and how far its distribution is from
 * the unit normal. */
#include "models/vae.h"

/* Mean over all elements, as one element. */
static nn_tensor *mean(nn_graph *g, nn_tensor *x)
{
    nn_tensor *sum = nn_sum(g, x, NN_DIMS(1, 1, 1, 1));
    return nn_scale(g, nn_reshape(g, sum, NN_DIMS(1)), 1.0 / (double)nn_view_elems(&x->view), 0);
}

/* KL(N(mu, exp(logvar)) || N(0, 1)) = (mu^2 + exp(logvar) - logvar - 1) / 2. */
static nn_tensor *divergence(nn_graph *g, nn_tensor *mu, nn_tensor *logvar)
{
    nn_tensor *far = nn_add(g, nn_activation(g, mu, NN_ACT_SQUARE),
                            nn_activation(g, logvar, NN_ACT_EXP)); /* [N, h, w, L] */
    return nn_scale(g, mean(g, nn_sub(g, far, logvar)), 0.5, -0.5);
}

nn_tensor *vae_loss(nn_scope s, const vae_config *c, nn_tensor *image, nn_tensor *noise,
                    double kl_weight)
{
    int64_t l = c->latent_channels;
    nn_tensor *moments = nn_precise(s.g, vae_encode(s, c, image)); /* [N, h, w, 2L] */
    nn_tensor *mu = nn_slice(s.g, moments, 3, 0, l);
    nn_tensor *logvar = nn_slice(s.g, moments, 3, l, 2 * l);
    nn_tensor *std = nn_activation(s.g, nn_scale(s.g, logvar, 0.5, 0), NN_ACT_EXP);
    nn_tensor *latent = nn_add(s.g, mu, nn_mul(s.g, std, noise));
    nn_tensor *drawn = nn_precise(s.g, vae_decode(s, c, latent)); /* [N, H, W, 3] */
    nn_enter(s);
    nn_tensor *off = mean(s.g, nn_activation(s.g, nn_sub(s.g, drawn, image), NN_ACT_ABS));
    nn_tensor *loss = nn_add(s.g, off, nn_mse(s.g, drawn, image, NULL));
    return nn_add(s.g, loss, nn_scale(s.g, divergence(s.g, mu, logvar), kl_weight, 0));
}
