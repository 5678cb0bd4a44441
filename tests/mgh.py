"""The 35 problems of Moré, Garbow and Hillstrom (ACM TOMS 7, 1981): sums of squared residuals.

Numbers are the paper's. Each entry has the residuals (of real or complex x), the start, and the
values of the minima that the paper lists. The gradient is 2 J'r, J by the complex step: exact to
rounding, as no residual has a kink.
"""

import numpy as np

exp = np.exp
BARD = (0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39)
GAUSS = (0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521, 0.3989)
MEYER = (
    *(34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744),
    *(8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872),
)
KOWALIK = np.array(
    [0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246]
)
KOWALIK_U = np.array([4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625])
OSBORNE_1 = np.array(
    [
        *(844, 908, 932, 936, 925, 908, 881, 850, 818, 784, 751, 718, 685, 658, 628, 603, 580),
        *(558, 538, 522, 506, 490, 478, 467, 457, 448, 438, 431, 424, 420, 414, 411, 406),
    ]
) / 1000  # fmt: skip
OSBORNE_2 = np.array(
    [
        *(1366, 1191, 1112, 1013, 991, 885, 831, 847, 786, 725, 746, 679, 608, 655, 616, 606, 602),
        *(626, 651, 724, 649, 649, 694, 644, 624, 661, 612, 558, 533, 495, 500, 423, 395, 375, 372),
        *(391, 396, 405, 428, 429, 523, 562, 607, 653, 672, 708, 633, 668, 645, 632, 591, 559, 597),
        *(625, 739, 710, 729, 720, 636, 581, 428, 292, 162, 98, 54),
    ]
) / 1000  # fmt: skip


def rosenbrock(x):
    return np.concatenate([10 * (x[1::2] - x[::2] ** 2), 1 - x[::2]])


def freudenstein_roth(x):
    a, b = x
    return np.array([-13 + a + ((5 - b) * b - 2) * b, -29 + a + ((b + 1) * b - 14) * b])


def powell_badly_scaled(x):
    return np.array([1e4 * x[0] * x[1] - 1, exp(-x[0]) + exp(-x[1]) - 1.0001])


def brown_badly_scaled(x):
    return np.array([x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2])


def beale(x):
    return np.array([1.5, 2.25, 2.625]) - x[0] * (1 - x[1] ** np.arange(1, 4))


def jennrich_sampson(x):
    i = np.arange(1, 11)
    return 2 + 2 * i - (exp(i * x[0]) + exp(i * x[1]))


def helical_valley(x):
    theta = np.arctan(x[1] / x[0]) / (2 * np.pi) + (0.5 if x[0].real < 0 else 0)
    return np.array([10 * (x[2] - 10 * theta), 10 * (np.sqrt(x[0] ** 2 + x[1] ** 2) - 1), x[2]])


def bard(x):
    u = np.arange(1, 16)
    v = 16 - u
    return np.array(BARD) - (x[0] + u / (v * x[1] + np.minimum(u, v) * x[2]))


def gaussian(x):
    t = (8 - np.arange(1, 16)) / 2
    return x[0] * exp(-x[1] * (t - x[2]) ** 2 / 2) - np.array([*GAUSS, *GAUSS[-2::-1]])


def meyer(x):
    t = 45 + 5 * np.arange(1, 17)
    return x[0] * exp(x[1] / (t + x[2])) - np.array(MEYER)


def gulf(x):
    t = np.arange(1, 100) / 100
    y = 25 + (-50 * np.log(t)) ** (2 / 3)
    return exp(-(((y - x[1]) ** 2) ** (x[2] / 2)) / x[0]) - t


def box(x):
    t = 0.1 * np.arange(1, 11)
    return exp(-t * x[0]) - exp(-t * x[1]) - x[2] * (exp(-t) - exp(-10 * t))


def powell_singular(x):
    a, b, c, d = x.reshape(-1, 4).T
    r = [a + 10 * b, np.sqrt(5) * (c - d), (b - 2 * c) ** 2, np.sqrt(10) * (a - d) ** 2]
    return np.concatenate(r)


def wood(x):
    a, b, c, d = x
    return np.array(
        [
            *(10 * (b - a * a), 1 - a, np.sqrt(90) * (d - c * c), 1 - c),
            *(np.sqrt(10) * (b + d - 2), (b - d) / np.sqrt(10)),
        ]
    )


def kowalik_osborne(x):
    u = KOWALIK_U
    return KOWALIK - x[0] * (u * u + u * x[1]) / (u * u + u * x[2] + x[3])


def brown_dennis(x):
    t = np.arange(1, 21) / 5
    return (x[0] + t * x[1] - exp(t)) ** 2 + (x[2] + x[3] * np.sin(t) - np.cos(t)) ** 2


def osborne_1(x):
    t = 10 * np.arange(33)
    return OSBORNE_1 - (x[0] + x[1] * exp(-t * x[3]) + x[2] * exp(-t * x[4]))


def biggs(x):
    t = 0.1 * np.arange(1, 14)
    y = exp(-t) - 5 * exp(-10 * t) + 3 * exp(-4 * t)
    return x[2] * exp(-t * x[0]) - x[3] * exp(-t * x[1]) + x[5] * exp(-t * x[4]) - y


def osborne_2(x):
    t = np.arange(65) / 10
    peaks = sum(x[k] * exp(-((t - x[k + 7]) ** 2) * x[k + 4]) for k in (1, 2, 3))
    return OSBORNE_2 - (x[0] * exp(-t * x[4]) + peaks)


def watson(x):
    t, j = np.arange(1, 30)[:, None] / 29, np.arange(1, len(x) + 1)
    slope = (x[1:] * (j[1:] - 1) * t ** (j[1:] - 2)).sum(axis=1)
    r = slope - ((x * t ** (j - 1)).sum(axis=1)) ** 2 - 1
    return np.concatenate([r, [x[0], x[1] - x[0] ** 2 - 1]])


def penalty_1(x):
    return np.concatenate([np.sqrt(1e-5) * (x - 1), [(x * x).sum() - 0.25]])


def penalty_2(x):
    n, i = len(x), np.arange(2, len(x) + 1)
    y = exp(i / 10) + exp((i - 1) / 10)
    return np.concatenate(
        [
            [x[0] - 0.2],
            np.sqrt(1e-5) * (exp(x[1:] / 10) + exp(x[:-1] / 10) - y),
            np.sqrt(1e-5) * (exp(x[1:] / 10) - exp(-1 / 10)),
            [((n - np.arange(n)) * x * x).sum() - 1],
        ]
    )


def variably_dimensioned(x):
    total = (np.arange(1, len(x) + 1) * (x - 1)).sum()
    return np.concatenate([x - 1, [total, total**2]])


def trigonometric(x):
    n, i = len(x), np.arange(1, len(x) + 1)
    return n - np.cos(x).sum() + i * (1 - np.cos(x)) - np.sin(x)


def brown_almost_linear(x):
    return np.concatenate([x[:-1] + x.sum() - (len(x) + 1), [x.prod() - 1]])


def grid(n):
    return np.arange(1, n + 1) / (n + 1)


def discrete_boundary(x):
    n, h = len(x), 1 / (len(x) + 1)
    wide = np.concatenate([[0], x, [0]])
    return 2 * x - wide[:-2] - wide[2:] + h * h * (x + grid(n) + 1) ** 3 / 2


def discrete_integral(x):
    t = grid(len(x))
    cube = (x + t + 1) ** 3
    left = np.cumsum(t * cube)
    right = ((1 - t) * cube).sum() - np.cumsum((1 - t) * cube)
    return x + ((1 - t) * left + t * right) / (2 * (len(x) + 1))


def broyden_tridiagonal(x):
    wide = np.concatenate([[0], x, [0]])
    return (3 - 2 * x) * x - wide[:-2] - 2 * wide[2:] + 1


def broyden_banded(x):
    n = len(x)
    near = [[j for j in range(max(0, i - 5), min(n, i + 2)) if j != i] for i in range(n)]
    band = np.array([(x[j] * (1 + x[j])).sum() for j in near])
    return x * (2 + 5 * x * x) + 1 - band


M = 20  # residuals of the linear problems


def linear_full_rank(x):
    return np.concatenate([x, np.zeros(M - len(x))]) - 2 / M * x.sum() - 1


def linear_rank_1(x):
    return np.arange(1, M + 1) * (np.arange(1, len(x) + 1) * x).sum() - 1


def linear_rank_1_zeros(x):
    total = (np.arange(2, len(x)) * x[1:-1]).sum()
    return np.concatenate([[-1 + 0 * total], np.arange(1, M - 1) * total - 1, [-1]])


def chebyquad(x):
    n = len(x)
    y = 2 * x - 1
    before, now, means = np.ones_like(y), y, []
    for i in range(1, n + 1):
        means.append(now.mean() - (0 if i % 2 else -1 / (i * i - 1)))
        before, now = now, 2 * y * now - before
    return np.array(means)


#: number -> (residuals, start, values of the minima)
PROBLEMS = {
    1: (rosenbrock, (-1.2, 1), (0,)),
    2: (freudenstein_roth, (0.5, -2), (0, 48.98425)),
    3: (powell_badly_scaled, (0, 1), (0,)),
    4: (brown_badly_scaled, (1, 1), (0,)),
    5: (beale, (1, 1), (0,)),
    6: (jennrich_sampson, (0.3, 0.4), (124.362,)),
    7: (helical_valley, (-1, 0, 0), (0,)),
    8: (bard, (1, 1, 1), (8.21487e-3, 17.42864)),
    9: (gaussian, (0.4, 1, 0), (1.12793e-8,)),
    10: (meyer, (0.02, 4000, 250), (87.9458,)),
    11: (gulf, (5, 2.5, 0.15), (0,)),
    12: (box, (0, 10, 20), (0,)),
    13: (powell_singular, (3, -1, 0, 1), (0,)),
    14: (wood, (-3, -1, -3, -1), (0,)),
    15: (kowalik_osborne, (0.25, 0.39, 0.415, 0.39), (3.07505e-4, 1.02734e-3)),
    16: (brown_dennis, (25, 5, -5, -1), (85822.2,)),
    17: (osborne_1, (0.5, 1.5, -1, 0.01, 0.02), (5.46489e-5,)),
    18: (biggs, (1, 2, 1, 1, 1, 1), (0, 5.65565e-3)),
    19: (osborne_2, (1.3, 0.65, 0.65, 0.7, 0.6, 3, 5, 7, 2, 4.5, 5.5), (4.01377e-2,)),
    20: (watson, np.zeros(6), (2.28767e-3,)),
    21: (rosenbrock, np.tile([-1.2, 1], 5), (0,)),
    22: (powell_singular, np.tile([3, -1, 0, 1], 3), (0,)),
    23: (penalty_1, np.arange(1, 5), (2.24997e-5,)),
    24: (penalty_2, np.full(4, 0.5), (9.37629e-6,)),
    25: (variably_dimensioned, 1 - np.arange(1, 11) / 10, (0,)),
    26: (trigonometric, np.full(10, 0.1), (0, 2.79506e-5)),
    27: (brown_almost_linear, np.full(10, 0.5), (0, 1)),
    28: (discrete_boundary, grid(10) * (grid(10) - 1), (0,)),
    29: (discrete_integral, grid(10) * (grid(10) - 1), (0,)),
    30: (broyden_tridiagonal, -np.ones(10), (0,)),
    31: (broyden_banded, -np.ones(10), (0,)),
    32: (linear_full_rank, np.ones(10), (M - 10,)),
    33: (linear_rank_1, np.ones(10), (M * (M - 1) / (2 * (2 * M + 1)),)),
    34: (linear_rank_1_zeros, np.ones(10), ((M * M + 3 * M - 6) / (2 * (2 * M - 3)),)),
    35: (chebyquad, grid(8), (3.51687e-3,)),
}


def jacobian(residuals, x):
    """Return the derivatives of the residuals by the complex step."""
    columns = [residuals(x + 1e-30j * e).imag / 1e-30 for e in np.eye(len(x))]
    return np.stack(columns, axis=1)


def problem(number):
    """Return a function of x that returns (value, gradient), the start, and the minima."""
    residuals, start, minima = PROBLEMS[number]

    def fun(x):
        with np.errstate(all="ignore"):
            r = residuals(x)
            return float(r @ r), 2 * jacobian(residuals, x).T @ r

    return fun, np.array(start, float), minima
