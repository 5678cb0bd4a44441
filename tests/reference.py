"""Every rule again in NumPy, one whole array at a time: the specification the kernels must match.

Arguments are named as the compiled rule declares them; arrays are updated in place; scalars arrive
in the arrays' dtype. The order of operations is part of the specification.
"""

import numpy as np


def sgd(w, g, lr):
    w -= lr * g


def momentum(w, g, v, mu, c, lr_v, lr_g):
    v[...] = mu * v + c * g
    w -= lr_v * v + lr_g * g


def adagrad(w, g, s, lr, eps, eps_root):
    s += g * g
    w -= lr * g / (np.sqrt(s + eps_root) + eps)


def rmsprop(w, g, s, lr, rho, c, eps, eps_root):
    s[...] = rho * s + c * (g * g)
    w -= lr * g / (np.sqrt(s + eps_root) + eps)


def adam(w, g, m, v, lr, b1, c1, b2, c2, a, eps, eps_root):
    m[...] = b1 * m + c1 * g
    v[...] = b2 * v + c2 * (g * g)
    w -= lr * m / (np.sqrt(a * v + eps_root) + eps)
