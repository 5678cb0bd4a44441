"""Every rule again in NumPy, one whole array at a time: the specification the kernels must match.

Arguments are named as the compiled rule declares them; arrays are updated in place; scalars arrive
in the arrays' dtype. The order of operations is part of the specification.
"""

import numpy as np


def divide(x, y):
    """x / y, but 0 where y is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(y == 0, 0, x / y).astype(x.dtype)


def sgd(w, g, lr):
    w -= lr * g


def momentum(w, g, v, mu, c, lr_v, lr_g):
    v[...] = mu * v + c * g
    w -= lr_v * v + lr_g * g


def signsgd(w, g, lr):
    w -= lr * np.sign(g)


def signsgd_eps(w, g, lr, eps):
    w -= lr * divide(g, np.abs(g) + eps)


def signum(w, g, m, lr, b, c):
    m[...] = b * m + c * g
    w -= lr * np.sign(m)


def signum_eps(w, g, m, lr, b, c, eps):
    m[...] = b * m + c * g
    w -= lr * divide(m, np.abs(m) + eps)


def adagrad(w, g, s, lr, eps, eps_root):
    s += g * g
    w -= divide(lr * g, np.sqrt(s + eps_root) + eps)


def rmsprop(w, g, s, lr, rho, c, eps, eps_root):
    s[...] = rho * s + c * (g * g)
    w -= divide(lr * g, np.sqrt(s + eps_root) + eps)


def rmsprop_momentum(w, g, s, v, rho, c, eps, eps_root, mu, c_v, lr_v, lr_g):
    s[...] = rho * s + c * (g * g)
    x = divide(g, np.sqrt(s + eps_root) + eps)
    v[...] = mu * v + c_v * x
    w -= lr_v * v + lr_g * x


def rmsprop_centered(w, g, s, a, lr, rho, c, eps, eps_root):
    s[...] = rho * s + c * (g * g)
    a[...] = rho * a + c * g
    w -= divide(lr * g, np.sqrt(np.maximum(0, s - a * a) + eps_root) + eps)


def rmsprop_centered_momentum(w, g, s, v, a, rho, c, eps, eps_root, mu, c_v, lr_v, lr_g):
    s[...] = rho * s + c * (g * g)
    a[...] = rho * a + c * g
    x = divide(g, np.sqrt(np.maximum(0, s - a * a) + eps_root) + eps)
    v[...] = mu * v + c_v * x
    w -= lr_v * v + lr_g * x


def adam(w, g, m, v, lr, b1, c1, b2, c2, a, eps, eps_root):
    m[...] = b1 * m + c1 * g
    v[...] = b2 * v + c2 * (g * g)
    w -= divide(lr * m, np.sqrt(a * v + eps_root) + eps)


def adadelta(w, g, s, d, lr, rho, c, eps):
    s[...] = rho * s + c * (g * g)
    x = np.sqrt(d + eps) / np.sqrt(s + eps) * g
    d[...] = rho * d + c * (x * x)
    w -= lr * x


def delta_bar_delta(w, g, a, r, kappa, down, theta, c):
    s = np.sign(a) * g
    r[...] = np.where(s > 0, r + kappa, np.where(s < 0, r * down, r))
    a[...] = theta * a + c * g
    w -= r * g


def rprop(w, g, p, d, up, down, least, most, forget):
    s = np.sign(p) * g
    d[...] = np.where(
        s > 0, np.minimum(d * up, most), np.where(s < 0, np.maximum(d * down, least), d)
    )
    p[...] = np.where(s * forget < 0, 0, g)
    w -= np.sign(p) * d


def rprop_undo(w, g, p, d, up, down, least, most, forget, undo):
    s = np.sign(p) * g
    back = np.where(s < 0, undo * np.sign(p) * d, 0)
    d[...] = np.where(
        s > 0, np.minimum(d * up, most), np.where(s < 0, np.maximum(d * down, least), d)
    )
    p[...] = np.where(s * forget < 0, 0, g)
    w -= np.sign(p) * d - back


def ftrl(w, g, z, s, lr, b, k1, k2):
    before = np.sqrt(s)
    s += g * g
    z += g - (np.sqrt(s) - before) / lr * w
    slope = (b + np.sqrt(s)) / lr + k2
    w[...] = np.where(np.abs(z) <= k1, 0, divide(np.sign(z) * k1 - z, slope))


def amsgrad(w, g, m, v, x, lr, b1, c1, b2, c2, a_v, a_x, eps, eps_root):
    m[...] = b1 * m + c1 * g
    v[...] = b2 * v + c2 * (g * g)
    x[...] = np.maximum(x, a_v * v)
    w -= divide(lr * m, np.sqrt(a_x * x + eps_root) + eps)


def adamax(w, g, m, u, lr, b1, c1, b2, eps, eps_outside):
    m[...] = b1 * m + c1 * g
    u[...] = np.maximum(b2 * u, np.abs(g) + eps)
    w -= divide(lr * m, u + eps_outside)


def nadam(w, g, m, v, lr_m, lr_g, b1, c1, b2, c2, a, eps):
    m[...] = b1 * m + c1 * g
    v[...] = b2 * v + c2 * (g * g)
    w -= divide(lr_m * m + lr_g * g, np.sqrt(a * v) + eps)


def radam(w, g, m, v, lr_m, lr_r, b1, c1, b2, c2, eps):
    m[...] = b1 * m + c1 * g
    v[...] = b2 * v + c2 * (g * g)
    w -= lr_m * m + divide(lr_r * m, np.sqrt(v) + eps)


def adabelief(w, g, m, s, lr, b1, c1, b2, c2, a, eps, eps_root):
    m[...] = b1 * m + c1 * g
    e = g - m
    s[...] = b2 * s + c2 * (e * e) + eps_root
    w -= divide(lr * m, np.sqrt(a * s) + eps)


def lion(w, g, m, lr, b1, c1, b2, c2):
    u = b1 * m + c1 * g
    m[...] = b2 * m + c2 * g
    w -= lr * np.sign(u)


def schedule_free_sgd(w, g, z, lr, c, lr_y):
    w += c * (z - w) - lr_y * g
    z -= lr * g


def schedule_free_adamw(w, g, z, v, lr, c, lr_y, b2, c2, a, eps, wd):
    v[...] = b2 * v + c2 * (g * g)
    x = divide(g, np.sqrt(a * v) + eps) + wd * w
    w += c * (z - w) - lr_y * x
    z -= lr * x


def lamb_moments(w, g, m, v, lr, b1, c1, b2, c2, a_m, a, eps, wd, most):
    m[...] = b1 * m + c1 * g
    v[...] = b2 * v + c2 * (g * g)


def lamb(w, g, m, v, lr, b1, c1, b2, c2, a_m, a, eps, wd, most):
    root = np.sqrt(a * v) + eps
    w -= lr * (a_m * m / np.where(root == 0, 1, root).astype(w.dtype) + wd * w)


def adafactor(w, g, lr, weight, eps1, eps1_least, eps2, d, late):
    w -= lr * g  # g is the direction: see test_adafactor


def adafactor_momentum(w, g, m, b, c, weight, eps1, eps1_least, eps2, d, late):
    m[...] = b * m + c * g
    w -= m


def muon_moments(w, g, m, h, lr, mu, c, a_m, a_g, eps, sum, steps, x1, x3, x5):
    m[...] = mu * m + c * g
    h[...] = a_m * m + a_g * g


def muon(w, g, m, lr, mu, c, a_m, a_g, eps, sum, steps, x1, x3, x5):
    w -= lr * g  # g is orthogonal: see test_muon
