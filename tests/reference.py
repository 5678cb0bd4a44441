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


def adadelta(w, g, s, d, lr, rho, c, eps):
    s[...] = rho * s + c * (g * g)
    x = np.sqrt(d + eps) / np.sqrt(s + eps) * g
    d[...] = rho * d + c * (x * x)
    w -= lr * x


def rprop(w, g, p, d, up, down, least, most, forget):
    s = np.sign(g) * np.sign(p)
    d[...] = np.where(
        s > 0, np.minimum(d * up, most), np.where(s < 0, np.maximum(d * down, least), d)
    )
    p[...] = np.where(s * forget < 0, 0, g)
    w -= np.sign(p) * d


def amsgrad(w, g, m, v, x, lr, b1, c1, b2, c2, a, eps, eps_root):
    m[...] = b1 * m + c1 * g
    v[...] = b2 * v + c2 * (g * g)
    x[...] = np.maximum(x, v)
    w -= lr * m / (np.sqrt(a * x + eps_root) + eps)


def adamax(w, g, m, u, lr, b1, c1, b2, eps):
    m[...] = b1 * m + c1 * g
    u[...] = np.maximum(b2 * u, np.abs(g) + eps)
    w -= lr * m / u


def nadam(w, g, m, v, lr_m, lr_g, b1, c1, b2, c2, a, eps):
    m[...] = b1 * m + c1 * g
    v[...] = b2 * v + c2 * (g * g)
    w -= (lr_m * m + lr_g * g) / (np.sqrt(a * v) + eps)


def radam(w, g, m, v, lr_m, lr_r, b1, c1, b2, c2, eps):
    m[...] = b1 * m + c1 * g
    v[...] = b2 * v + c2 * (g * g)
    w -= lr_m * m + lr_r * m / (np.sqrt(v) + eps)


def adabelief(w, g, m, s, lr, b1, c1, b2, c2, a, eps, eps_root):
    m[...] = b1 * m + c1 * g
    e = g - m
    s[...] = b2 * s + c2 * (e * e) + eps_root
    w -= lr * m / (np.sqrt(a * s) + eps)


def lion(w, g, m, lr, b1, c1, b2, c2):
    u = b1 * m + c1 * g
    m[...] = b2 * m + c2 * g
    w -= lr * np.sign(u)
