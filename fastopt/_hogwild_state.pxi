# Where a run of the lock-free runner is, as numbers: with its arrays, all that it goes on from.


def hogwild_state(Hogwild hogwild):
    """Return the numbers of a run between two slices; of several classes, intercepts are lists.

    One thread's are taken as they are, so that it goes on to the same bits; several workers bring
    together what they have learned first. The arrays w, average, paid, lag and states go with them.
    """
    cdef fo_hogwild *run = &hogwild.run
    cdef fo_worker *me = run.worker
    if PLACES[run.mode] != "serial":
        hogwild.settle()
    rows, nonzeros = hogwild.done()
    cdef const fo_walk *last = hogwild.latest()
    outputs = range(run.outputs)
    return {
        "intercepts": [run.intercepts[c] for c in outputs],
        "average_intercepts": [run.average_intercepts[c] for c in outputs],
        "walk_intercepts": [me.intercepts[c] for c in outputs],
        "before": run.before,
        "given": [run.n_given, run.epoch],
        "snapshots": run.snapshots,
        "gathered": run.gathered,
        "observed": run.observed,
        "step": run.step,
        "scale": me.walk.scale,
        "due": me.walk.due,
        "sum": me.walk.sum,
        "intercept_sum": me.walk.intercept_sum,
        "wait": me.walk.wait,
        "averaged": me.walk.averaged,
        "clipped": me.walk.clipped,
        "area": me.area,
        "net": me.net,
        "since": me.since,
        "square": me.walk.square,
        "t": last.t,
        "clock": last.clock,
        "own": [last.own[0], last.own[1]],
        "rows": rows,
        "nonzeros": nonzeros,
    }


def restore_hogwild(Hogwild hogwild, dict numbers):
    """Take over what `hogwild_state` returned; w and the other arrays must be in place already.

    Rows that were given are to be given again, before.
    """
    cdef fo_hogwild *run = &hogwild.run
    cdef fo_worker *me = run.worker
    cdef int k
    cdef Py_ssize_t c
    for name in ("intercepts", "average_intercepts", "walk_intercepts"):
        if len(numbers[name]) != run.outputs:
            raise ValueError(f"{name} must be {run.outputs} numbers, got {numbers[name]!r}")
    for c in range(run.outputs):
        run.intercepts[c] = numbers["intercepts"][c]
        run.average_intercepts[c] = numbers["average_intercepts"][c]
    if [run.n_given, run.epoch] != numbers["given"]:
        raise ValueError(f"the rows of epoch {numbers['given'][1]} were not given again")
    run.before = numbers["before"]
    run.snapshots = numbers["snapshots"]
    run.gathered = numbers["gathered"]
    run.observed = numbers["observed"]
    run.step = numbers["step"]
    me.rows, me.nonzeros = numbers["rows"], numbers["nonzeros"]
    for k in range(run.workers):
        run.worker[k].walk.t, run.worker[k].walk.clock = numbers["t"], numbers["clock"]
        run.worker[k].walk.own[0], run.worker[k].walk.own[1] = numbers["own"]
    if PLACES[run.mode] != "serial":
        for k in range(run.workers):
            for c in range(run.outputs):
                run.worker[k].intercepts[c] = run.worker[k].base_intercepts[c] = run.intercepts[c]
        return
    for c in range(run.outputs):
        me.intercepts[c] = numbers["walk_intercepts"][c]
    me.walk.scale = numbers["scale"]
    me.walk.due, me.walk.sum = numbers["due"], numbers["sum"]
    me.walk.intercept_sum, me.walk.wait = numbers["intercept_sum"], numbers["wait"]
    me.walk.averaged, me.walk.clipped = numbers["averaged"], numbers["clipped"]
    me.area, me.net, me.since = numbers["area"], numbers["net"], numbers["since"]
    me.walk.square = numbers["square"]
