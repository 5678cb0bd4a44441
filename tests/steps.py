"""A whole step in NumPy in float64, from the documentation: stages, and nine rules between them.

A rule takes w, the gradient, a dictionary to remember things in, and its step number from 1 on.
"""

import numpy as np


def sgd(w, g, s, t, lr=0.1, wd=0.0):
    return w - lr * (g + wd * w)


def momentum(w, g, s, t, lr=0.1, mu=0.9, dampening=0.5, wd=0.0):
    g = g + wd * w
    s["v"] = g if t == 1 else mu * s["v"] + (1 - dampening) * g
    return w - lr * s["v"]


def lookahead(w, g, s, t, lr=0.1, mu=0.9, wd=0.0):
    """The gradient is taken at w + mu v; w is there when this is called."""
    s["v"] = mu * s.get("v", 0 * w) - lr * (g + wd * w)
    return w - lr * (g + wd * w)


def adam(w, g, s, t, lr=0.1, b1=0.9, b2=0.99, eps=1e-3, wd=0.0):
    g = g + wd * w
    s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0) + (1 - b2) * g * g
    return w - lr * s["m"] / (1 - b1**t) / (np.sqrt(s["v"] / (1 - b2**t)) + eps)


def lion(w, g, s, t, lr=0.1, b1=0.9, b2=0.99, wd=0.0):
    m = s.get("m", 0)
    s["m"] = b2 * m + (1 - b2) * g
    return w - lr * (np.sign(b1 * m + (1 - b1) * g) + wd * w)


def rprop(w, g, s, t, lr=0.1):
    before, d = s.get("g", 0 * g), s.get("d", lr + 0 * w)
    same = before * g
    s["d"] = np.where(
        same > 0, np.minimum(1.2 * d, 50), np.where(same < 0, np.maximum(0.5 * d, 1e-6), d)
    )
    s["g"] = np.where(same < 0, 0, g)
    return w - np.sign(s["g"]) * s["d"]


def adadelta(w, g, s, t, lr=1.0, rho=0.9, eps=1e-3, wd=0.0):
    g = g + wd * w
    s["s"] = rho * s.get("s", 0) + (1 - rho) * g * g
    x = np.sqrt((s.get("x", 0) + eps) / (s["s"] + eps)) * g
    s["x"] = rho * s.get("x", 0) + (1 - rho) * x * x
    return w - lr * x


def lamb(w, g, s, t, lr=0.1, b1=0.9, b2=0.99, eps=1e-3, wd=0.0):
    s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0) + (1 - b2) * g * g
    r = s["m"] / (1 - b1**t) / (np.sqrt(s["v"] / (1 - b2**t)) + eps) + wd * w
    size, length = np.sqrt((w * w).sum()), np.sqrt((r * r).sum())
    return w - lr * (size / length if size != 0 and length != 0 else 1.0) * r


def schedule_free(y, g, s, t, lr=0.1, beta=0.9, wd=0.0):
    z = s.get("z", y)
    x = (y - (1 - beta) * z) / beta
    s["z"] = z - lr * (g + wd * y)
    x = (1 - 1 / t) * x + s["z"] / t
    return (1 - beta) * s["z"] + beta * x


def rows_of(x):
    return x.reshape(len(x), -1) if x.ndim > 1 else x.reshape(1, -1)


def bounded(x, most, nan=False):
    """x with each row's 2-norm at most `most`; `nan`: a row with NaN in it becomes NaN."""
    if x.size == 0:
        return x
    norms = np.sqrt((rows_of(x) ** 2).sum(1, keepdims=True))
    over = ~(norms <= most) if nan else norms > most
    return (rows_of(x) * np.where(over, most / np.where(norms == 0, 1, norms), 1)).reshape(x.shape)


class Steps:
    """What an optimizer of `rule` with the options `o` does to parameters: name -> array."""

    def __init__(self, rule, params, o, numbers):
        self.rule, self.o, self.numbers = rule, o, numbers
        self.w = {name: np.array(w, "f8") for name, w in params.items()}
        self.ema = {name: w.copy() for name, w in self.w.items()}
        self.memory = {name: {} for name in self.w}
        self.t = dict.fromkeys(self.w, 0)
        self.gathered, self.ahead = [], False

    def look_ahead(self, frozen):
        for name, s in self.memory.items():
            if name not in frozen and not self.ahead:
                self.w[name] = self.w[name] + 0.9 * s.get("v", 0)
        self.ahead = True

    def step(self, grads, frozen=()):
        """Return whether the step was taken, or left out for a gradient that is not finite."""
        o, live = self.o, [name for name in self.w if name not in frozen]
        grads = {name: np.array(grads[name], "f8") for name in live}
        if o.get("nonfinite") == "mask":
            grads = {name: np.where(np.isfinite(g), g, 0) for name, g in grads.items()}
        self.gathered.append(grads)
        if len(self.gathered) < o.get("accumulate", 1):
            return False
        grads = {
            name: sum(one[name] for one in self.gathered) / len(self.gathered) for name in live
        }
        self.gathered = []
        if o.get("nonfinite") == "skip" and not all(np.isfinite(g).all() for g in grads.values()):
            return False
        grads = self.clipped(grads)
        for name, g in grads.items():
            self.update(name, g)
        self.ahead = False
        return True

    def clipped(self, grads):
        most, per = self.o.get("clip_norm"), self.o.get("clip_per", "all")
        if most and per == "row":
            return {name: bounded(g, most, nan=True) for name, g in grads.items()}
        norms = {name: np.sqrt((g * g).sum()) for name, g in grads.items()}
        if most and per == "all":
            norms = dict.fromkeys(norms, np.sqrt(sum(n * n for n in norms.values())))
        if most:
            grads = {k: g * (1 if norms[k] <= most else most / norms[k]) for k, g in grads.items()}
        limit = self.o.get("clip_value", np.inf)
        return {name: np.clip(g, -limit, limit) for name, g in grads.items()}

    def update(self, name, g):
        o, w, lr = self.o, self.w[name], self.numbers["lr"]
        self.t[name] += 1
        g = -g if o.get("maximize") else g
        l1, wd = o.get("l1", 0), o.get("weight_decay", 0)
        if o.get("proximal"):
            w = self.rule(w, g, self.memory[name], self.t[name], **self.numbers)
            w = np.where(np.abs(w) > lr * l1, w - np.sign(w) * lr * l1, w - w) / (1 + lr * wd)
        else:
            numbers = {**self.numbers, "wd": wd} if "weight_decay" in o else self.numbers
            w = self.rule(w, g + l1 * np.sign(w), self.memory[name], self.t[name], **numbers)
        w = np.clip(w, o.get("lower", -np.inf), o.get("upper", np.inf))
        if "max_norm" in o:
            w = bounded(w, o["max_norm"])
        self.w[name] = w
        self.ema[name] = o.get("ema", 0) * self.ema[name] + (1 - o.get("ema", 0)) * w
