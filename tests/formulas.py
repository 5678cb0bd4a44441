"""The published formulas in plain Python, one number at a time, independent of the package.

Each function returns a generator function: it is sent (p, g) and yields the new p.
"""

import math


def over(x, y):
    """x / y; 0 where y is 0, for which the papers say nothing."""
    return x / y if y else 0.0


def sgd(lr, wd=0.0):
    def run():
        while True:
            p, g = yield
            yield p - lr * (g + wd * p)

    return run


def momentum_torch(lr, mu, dampening=0.0, nesterov=False):
    def run():
        v = None
        while True:
            p, g = yield
            v = g if v is None else mu * v + (1 - dampening) * g
            yield p - lr * (g + mu * v if nesterov else v)

    return run


def momentum_classic(lr, mu, nesterov=False):
    def run():
        v = 0.0
        while True:
            p, g = yield
            v = mu * v - lr * g
            yield p + (mu * v - lr * g if nesterov else v)

    return run


def signsgd(lr, mu=0.0, eps=0.0):
    def run():
        m = 0.0
        while True:
            p, g = yield
            m = mu * m + (1 - mu) * g
            yield p - lr * over(m, abs(m) + eps)

    return run


def adagrad(lr, eps, init=0.0, lr_decay=0.0, inside=0.0):
    def run():
        s, t = init, 0
        while True:
            p, g = yield
            s += g * g
            yield p - lr / (1 + t * lr_decay) * over(g, math.sqrt(s + inside) + eps)
            t += 1

    return run


def rmsprop(lr, rho, eps, inside=0.0, centered=False, mu=0.0, classic=False, nesterov=False):
    def run():
        s = a = v = 0.0
        while True:
            p, g = yield
            s = rho * s + (1 - rho) * g * g
            a = rho * a + (1 - rho) * g
            x = over(g, math.sqrt((max(0.0, s - a * a) if centered else s) + inside) + eps)
            if classic:
                v = mu * v - lr * x
                yield p + (mu * v - lr * x if nesterov else v)
            else:
                v = mu * v + x
                yield p - lr * (x + mu * v if nesterov else v)

    return run


def adam(
    lr, b1, b2, eps, wd=0.0, decoupled=False, inside=0.0, correct=True, hat=False, independent=False
):
    def run():
        m = v = 0.0
        t = 0
        while True:
            p, g = yield
            t += 1
            if decoupled:
                p -= (1 if independent else lr) * wd * p
            else:
                g += wd * p
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * g * g
            if hat:
                rate = lr * math.sqrt(1 - b2**t) / (1 - b1**t)
                yield p - rate * over(m, math.sqrt(v + inside) + eps)
            elif correct:
                yield p - lr * over(m / (1 - b1**t), math.sqrt(v / (1 - b2**t) + inside) + eps)
            else:
                yield p - lr * over(m, math.sqrt(v + inside) + eps)

    return run


def adadelta(lr, rho, eps):
    def run():
        s = d = 0.0
        while True:
            p, g = yield
            s = rho * s + (1 - rho) * g * g
            x = math.sqrt(d + eps) / math.sqrt(s + eps) * g
            d = rho * d + (1 - rho) * x * x
            yield p - lr * x

    return run


def delta_bar_delta(lr, kappa, phi, theta):
    def run():
        average, rate = 0.0, lr
        while True:
            p, g = yield
            if average * g > 0:
                rate += kappa
            elif average * g < 0:
                rate *= 1 - phi
            average = (1 - theta) * g + theta * average
            yield p - rate * g

    return run


def rprop(lr, down, up, least, most, variant, losses=()):
    def run():
        before, d, last, t = 0.0, lr, 0.0, 0
        while True:
            p, g = yield
            if g * before > 0:
                d = min(d * up, most)
            elif g * before < 0:
                d = max(d * down, least)
                if variant == "plus" or (variant == "iplus" and losses[t] > losses[t - 1]):
                    p -= last
                if variant != "minus":
                    g = 0.0
            before, t = g, t + 1
            last = -d if g > 0 else d if g < 0 else 0.0
            yield p + last

    return run


def ftrl(lr, beta, l1, l2, init, start):
    def run():
        n = init
        z = -(start * ((beta + math.sqrt(n)) / lr + l2) + math.copysign(l1, start))
        while True:
            p, g = yield
            sigma = (math.sqrt(n + g * g) - math.sqrt(n)) / lr
            z += g - sigma * p
            n += g * g
            if abs(z) <= l1:
                yield 0.0
            else:
                yield -(z - math.copysign(l1, z)) / ((beta + math.sqrt(n)) / lr + l2)

    return run


def adamax(lr, b1, b2, eps, outside=0.0):
    def run():
        m = u = t = 0.0
        while True:
            p, g = yield
            t += 1
            m = b1 * m + (1 - b1) * g
            u = max(b2 * u, abs(g) + eps)
            yield p - lr / (1 - b1**t) * over(m, u + outside)

    return run


def amsgrad(lr, b1, b2, eps, form="torch"):
    def run():
        m = v = most = t = 0.0
        while True:
            p, g = yield
            t += 1
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
            most = max(most, v / (1 - b2**t) if form == "optax" else v)
            if form == "paper":  # Algorithm 2, with an eps
                yield p - lr * over(m, math.sqrt(most) + eps)
            elif form == "keras":
                rate = lr * math.sqrt(1 - b2**t) / (1 - b1**t)
                yield p - rate * m / (math.sqrt(most) + eps)
            else:
                root = math.sqrt(most / (1 - b2**t) if form == "torch" else most) + eps
                yield p - lr * m / (1 - b1**t) / root

    return run


def nadam(lr, b1, b2, eps, psi):
    def run():
        m = v = t = 0.0
        product = 1.0
        while True:
            p, g = yield
            t += 1
            mu, after = (
                b1 if psi is None else b1 * (1 - 0.5 * 0.96 ** (i * psi)) for i in (t, t + 1)
            )
            product *= mu
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
            mean = (1 - mu) * g / (1 - product) + after * m / (1 - product * after)
            yield p - lr * over(mean, math.sqrt(v / (1 - b2**t)) + eps)

    return run


def radam(lr, b1, b2, threshold=5):
    def run():
        m = v = t = 0.0
        most = 2 / (1 - b2) - 1
        while True:
            p, g = yield
            t += 1
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
            rho, mean = most - 2 * t * b2**t / (1 - b2**t), m / (1 - b1**t)
            if rho > threshold:
                r = ((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho)) ** 0.5
                mean = over(r * mean, math.sqrt(v / (1 - b2**t)))
            yield p - lr * mean

    return run


def adabelief(lr, b1, b2, eps):
    def run():
        m = s = t = 0.0
        while True:
            p, g = yield
            t += 1
            m = b1 * m + (1 - b1) * g
            s = b2 * s + (1 - b2) * (g - m) ** 2 + eps
            yield p - lr / (1 - b1**t) * over(m, math.sqrt(s / (1 - b2**t)) + eps)

    return run


def schedule_free(lr, beta, warmup=0, r=0.0, power=2.0, wd=0.0, b2=None, eps=0.0):
    """The paper's three sequences; the gradient is at y, and y is what the parameters hold."""

    def run():
        x = z = None
        v = total = most = t = 0.0
        while True:
            y, g = yield
            if z is None:
                x = z = y
            t += 1
            rate = lr(t - 1) if callable(lr) else lr
            rate *= t / warmup if t < warmup else 1
            if b2 is not None:
                v = b2 * v + (1 - b2) * g * g
                g = over(g, math.sqrt(v / (1 - b2**t)) + eps)
            z -= rate * (g + wd * y)
            most = max(most, rate)
            total += t**r * most**power
            c = t**r * most**power / total
            x = (1 - c) * x + c * z
            yield (1 - beta) * z + beta * x

    return run


def lion(lr, b1, b2, wd):
    def run():
        m = 0.0
        while True:
            p, g = yield
            u = b1 * m + (1 - b1) * g
            m = b2 * m + (1 - b2) * g
            yield p - lr * ((u > 0) - (u < 0) + wd * p)

    return run


def adafactor(eps1, eps2, d):
    """Of a vector of one element, with the proposed steps and decay."""

    def run():
        v = t = 0.0
        while True:
            p, g = yield
            t += 1
            beta = 1 - t**-0.8
            v = beta * v + (1 - beta) * (g * g + eps1)
            u = g / math.sqrt(v)
            yield p - max(eps2, abs(p)) * min(1e-2, 1 / math.sqrt(t)) * u / max(1, abs(u) / d)

    return run


def muon(lr, mu, eps):
    """Of a matrix with one element, without Nesterov's momentum."""

    def run():
        m = 0.0
        while True:
            p, g = yield
            m = mu * m + g
            x = m / (abs(m) + eps)
            for _ in range(5):
                x = 3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5
            yield p - lr * x

    return run
