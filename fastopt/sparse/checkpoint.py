"""Files that a killed training goes on from, in the middle of an epoch."""

from __future__ import annotations

import dataclasses
import math
import os
import time
import warnings
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastopt import _core
from fastopt.checks import number
from fastopt.files import load_npz, save_npz
from fastopt.sparse.order import checked
from fastopt.sparse.rows import Rows, Targets
from fastopt.sparse.run import Past, Run
from fastopt.sparse.stopping import Watch

KIND, VERSION = "fastopt training checkpoint", 2
PIECE, PIECES = 4096, 64  # numbers of X that are compared: its ends, and pieces between them
ARRAYS = ("w", "average", "paid", "lag", "first", "second", "clock")
OF_RUN = (*ARRAYS, "best", "visits")
OF_DUAL = ("w", "beta", "rest")
OF_RESULT = (
    *("intercept", "status", "message", "mode", "reason", "order", "threads", "step", "epochs"),
    *("rows", "nnz", "seconds", "history", "last_intercept", "clipped", "objective", "gap"),
)


def plain(intercept: Any) -> Any:
    """Return an intercept, or those of several classes, as JSON can hold them."""
    return np.asarray(intercept, np.float64).tolist()


def unplain(intercept: Any) -> Any:
    """Return what `plain` was given."""
    return np.array(intercept) if isinstance(intercept, list) else intercept


def numbers_of(result: Any) -> dict[str, Any]:
    """Return what JSON can hold of a finished problem."""
    past = {"rows": result.past.rows, "averaged": result.past.averaged}
    past["mean_intercept"] = plain(result.past.mean_intercept)
    numbers = {name: getattr(result, name) for name in OF_RESULT if hasattr(result, name)}
    for name in ("intercept", "last_intercept"):
        numbers[name] = plain(numbers[name])
    return {**numbers, "past": past}


@dataclasses.dataclass(frozen=True)
class Position:
    """Where the training of one problem is: all that it goes on from."""

    numbers: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @classmethod
    def of(
        cls, run: Run, history: list[Any], seconds: float, watch: Watch | None, best: Any
    ) -> Position:
        """Return where a run is now, between two slices."""
        numbers = {
            "native": _core.hogwild_state(run.native),
            "step": run.step,
            "batches": run.batches_done,
            "seconds": seconds,
            "history": history,
            "watch": None if watch is None else [watch.best, watch.bad, watch.value],
            "best_intercept": None if best is None else plain(best[1]),
        }
        if hasattr(run.given, "state_dict"):
            numbers["order"] = run.given.state_dict()
        names = (*ARRAYS, "visits")
        arrays = {name: getattr(run, name) for name in names if getattr(run, name) is not None}
        return cls(numbers, arrays if best is None else {**arrays, "best": best[0]})

    @property
    def best(self) -> tuple[np.ndarray, float] | None:
        """The model of the best epoch, if there is one."""
        if "best" not in self.arrays:
            return None
        return self.arrays["best"], unplain(self.numbers["best_intercept"])

    def into(self, run: Run, watch: Watch | None) -> None:
        """Take a run, begun with these weights and this step, to where it was."""
        for name in ARRAYS:
            if getattr(run, name) is not None:
                getattr(run, name)[:] = self.arrays[name]
        if "visits" in self.arrays:
            run.give(self.arrays["visits"], self.numbers["native"]["given"][1])
        if "order" in self.numbers:
            run.given.load_state_dict(self.numbers["order"])
        _core.restore_hogwild(run.native, self.numbers["native"])
        run.batches_done = self.numbers["batches"]
        if watch is not None:
            watch.best, watch.bad, watch.value = self.numbers["watch"]


#: What a file knows by a checksum, and what to say where it differs.
CHECKSUMS = {
    "values of X": "are others",
    "columns of X": "are others",
    "row ends of X": "are others",
    "y and weights": "are others",
    "start": "from which training began is another (with warm_start, a fitted model is the start)",
    "validation": "rows to judge by are others",
}


class Checkpoint:
    """A file that holds a training, written every few seconds.

    Parameters
    ----------
    path : str or os.PathLike
    every : float
        Seconds between two writes.
    about : dict, optional
        What whoever resumes needs to know; JSON can hold it.
    stopping : dict, optional
        What decides when training stops; it must be the same to go on.

    Attributes
    ----------
    done : list
        Results of the problems that are finished.
    seconds : float
        Seconds of training that the file brought.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        every: float,
        about: dict[str, Any] | None = None,
        stopping: dict[str, Any] | None = None,
    ) -> None:
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"checkpoint must be a path or None, got {path!r}")
        self.path = os.fspath(path)
        self.every = number("checkpoint_every", every, 0)
        self.about, self.stopping = about or {}, stopping or {}
        self.done: list[Any] = []
        self.seconds = 0.0
        self._key: dict[str, Any] = {}
        self._position: Position | None = None
        self._next, self._result = math.inf, None

    # ---- beginning ----

    def begin(
        self, rows: Rows, problems: Sequence[Targets], W: np.ndarray, b: np.ndarray, result: Any
    ) -> list[Any]:
        """Go on from the file if there is one, else write it; return the finished problems.

        Parameters
        ----------
        rows, problems, W, b
            As for `solve_all`.
        result : type
            Of the results.

        Raises
        ------
        ValueError
            If the file is damaged, or of another training: naming what differs.
        OSError
            If the file cannot be read or written.
        """
        self._key, self._result = self._key_of(rows, problems, W, b), result
        if os.path.exists(self.path):
            self._load(rows)
        else:
            self._write(None)
        self._next = time.perf_counter() + self.every
        return self.done

    def _key_of(
        self, rows: Rows, problems: Sequence[Targets], W: np.ndarray, b: np.ndarray
    ) -> dict[str, Any]:
        """Return what must be the same to go on."""
        settings = {**vars(rows.settings)}
        settings.pop("threads")
        if not isinstance(settings["order"], str):
            if not hasattr(settings["order"], "fingerprint"):
                raise ValueError(
                    "order must be a name, row numbers, a Curriculum, SelfPaced, or have a method "
                    "fingerprint() with a checkpoint, which has to know it again"
                )
            settings["order"] = settings["order"].fingerprint()
        if not isinstance(settings["loss"], str):
            settings["loss"] = "a function of your own"  # which one, nobody can tell
        crc = 0
        for target in problems:
            weights = rows.weights if target.weights is None else target.weights
            crc = zlib.crc32(str(target.positive).encode(), crc)
            for array in (target.y, target.codes, weights):
                crc = zlib.crc32(b"-" if array is None else np.ascontiguousarray(array), crc)
        key = {
            **settings,
            **self.stopping,
            "mode": rows.mode,
            "dtype of X": str(rows.dtype),
            "shape of X": [rows.n, rows.samples.columns],
            "non-zeros of X": rows.samples.nonzeros,
            "values of X": _sampled(rows.X.data),
            "columns of X": _sampled(rows.X.indices, np.int64),
            "row ends of X": _sampled(rows.X.indptr, np.int64),
            "problems": len(problems),
            "y and weights": crc,
            "start": zlib.crc32(np.ascontiguousarray(b), zlib.crc32(np.ascontiguousarray(W))),
        }
        for name, value in key.items():
            if not isinstance(value, (str, int, float, list, type(None))):
                raise ValueError(f"checkpoint: a file cannot hold {name}={value!r}")
        return {name: repr(v) if isinstance(v, float) else v for name, v in key.items()}

    def _load(self, rows: Rows) -> None:
        meta, arrays = load_npz(self.path, KIND, VERSION)
        theirs, ours = meta.get("key"), self._key
        if not isinstance(theirs, dict):
            raise ValueError(f"{self.path}: does not say what it is a checkpoint of")
        changed = [
            f"{name} {CHECKSUMS[name]}"
            if name in CHECKSUMS
            else f"{name} is {theirs.get(name)!r} there, {ours.get(name)!r} here"
            for name in {**theirs, **ours}
            if theirs.get(name) != ours.get(name)
        ]
        if changed:
            raise ValueError(
                f"checkpoint {self.path} is of another training: {'; '.join(changed)}. Train with "
                "the same data and settings to go on, or delete the file"
            )
        try:
            self.done = [self._finished(k, d, arrays) for k, d in enumerate(meta["done"])]
            if meta["position"] is not None:
                names = [name for name in {*OF_RUN, *OF_DUAL} if name in arrays]
                sizes = {"beta": rows.n, "rest": rows.n}
                if "visits" in arrays:
                    sizes["visits"] = len(checked(arrays["visits"], rows.n))
                model = rows.samples.columns * rows.samples.width
                if any(arrays[name].shape != (sizes.get(name, model),) for name in names):
                    raise ValueError("an array has a wrong size")
                self._position = Position(meta["position"], {n: arrays[n] for n in names})
            self.seconds = sum(result.seconds for result in self.done)
            self.seconds += self._position.numbers["seconds"] if self._position else 0.0
            self.about = meta["about"]
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise ValueError(f"{self.path}: does not hold a whole training ({error})") from None

    def _finished(self, k: int, numbers: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
        past = numbers.pop("past")
        mean = arrays["means"][k] if past["averaged"] else None
        past["mean_intercept"] = unplain(past["mean_intercept"])
        for name in ("intercept", "last_intercept"):
            numbers[name] = unplain(numbers[name])
        more = {"last": arrays["lasts"][k], "past": Past(mean=mean, **past)}
        if "betas" in arrays:
            more["beta"] = arrays["betas"][k]
        return self._result(arrays["models"][k], **numbers, **more, resumed=numbers["rows"])

    def resume(self) -> Position | None:
        """Return, once, where the problem was that was being trained."""
        position, self._position = self._position, None
        return position

    # ---- writing ----

    @property
    def due(self) -> bool:
        """Whether it is time to write."""
        return time.perf_counter() >= self._next

    def save(self, position: Position) -> None:
        """Write where training is; what cannot be written is a warning, and training goes on.

        The old file then stays as it is, and the next attempt is after `every` seconds.
        """
        try:
            self._write(position)
        except OSError as error:
            warnings.warn(
                f"checkpoint {self.path} could not be written: {error.strerror or error}. Training "
                f"goes on, the last one stays; the next attempt is in {self.every:g} s",
                RuntimeWarning,
                stacklevel=3,
            )
        self._next = time.perf_counter() + self.every

    def finished(self, result: Any, last: bool) -> None:
        """Take the result of a problem; after the last one the file holds all models."""
        self.done.append(dataclasses.replace(result))
        if last:
            self.save(None)

    def _write(self, position: Position | None) -> None:
        arrays = {}
        if self.done:
            lasts = [r.w if r.last is None else r.last for r in self.done]
            arrays = {"models": np.stack([r.w for r in self.done]), "lasts": np.stack(lasts)}
            means = [r.past.mean for r in self.done]
            if any(mean is not None for mean in means):
                none = np.zeros_like(lasts[0])
                arrays["means"] = np.stack([none if mean is None else mean for mean in means])
            if getattr(self.done[0], "beta", None) is not None:
                arrays["betas"] = np.stack([r.beta for r in self.done])
        meta = {
            "key": self._key,
            "about": self.about,
            "done": [numbers_of(result) for result in self.done],
            "position": None if position is None else position.numbers,
        }
        if position is not None:
            arrays |= position.arrays
        save_npz(self.path, KIND, VERSION, meta, arrays)


def begun(
    checkpoint: str | os.PathLike[str] | Checkpoint | None, every: float
) -> Checkpoint | None:
    """Return the checkpoint that an argument asks for."""
    if checkpoint is None or isinstance(checkpoint, Checkpoint):
        return checkpoint
    return Checkpoint(checkpoint, every)


def kept(
    train: Callable[..., Any], result: type, rows: Rows, target: Targets, w0: np.ndarray,
    intercept0: Any, checkpoint: Checkpoint | None, **options: Any,
) -> Any:  # fmt: skip
    """Train one problem as `train` does to a `result`, from a checkpoint if there is one."""
    if checkpoint is None:
        return train(rows, target, w0, intercept0, **options)
    start = np.array(intercept0, np.float64, ndmin=1)
    for finished in checkpoint.begin(rows, [target], w0[None, :], start, result):
        return finished
    if options.get("deadline") is not None:
        options["deadline"] -= checkpoint.seconds
    found = train(rows, target, w0, intercept0, checkpoint=checkpoint, **options)
    if found.status != "stopped":
        checkpoint.finished(found, last=True)
    return found


def about(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a checkpoint says about its training.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is damaged or no checkpoint.
    """
    meta, _ = load_npz(path, KIND, VERSION)
    return {"seed": meta["key"]["seed"], **meta["about"]}


def of_rows(X: Any, y: np.ndarray) -> list[int]:
    """Return checksums of rows, sparse or dense, and of their targets."""
    parts = [X.data, X.indices, X.indptr] if hasattr(X, "indptr") else [np.ravel(X)]
    return [*map(_sampled, parts), zlib.crc32(np.ascontiguousarray(y))]


def _sampled(array: np.ndarray, dtype: Any = None) -> int:
    """Return a checksum of the ends of an array and of pieces between them."""
    array = np.asarray(array)
    starts = np.linspace(0, max(0, len(array) - PIECE), PIECES).astype(np.int64)
    crc = 0
    for start in np.unique(starts):
        piece = np.ascontiguousarray(array[start : start + PIECE], dtype)
        crc = zlib.crc32(piece, crc)
    return crc
