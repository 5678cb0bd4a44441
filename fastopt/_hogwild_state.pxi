# Where a run of the lock-free runner is, as numbers: with its arrays, all that it goes on from.


def hogwild_state(Hogwild hogwild):
    """Return the numbers of a run between two slices.

    One thread's are taken as they are, so that it goes on to the same bits; several workers bring
    together what they have learned first. The arrays w, average, paid, lag and states go with them.
    """
    cdef fo_hogwild *run = &hogwild.run
    cdef fo_worker *me = run.worker
    if PLACES[run.mode] != "serial":
        hogwild.settle()
    rows, nonzeros = hogwild.done()
    cdef const fo_walk *last = hogwild.latest()
    return {
        "intercept": run.intercepts[0],
        "average_intercept": run.average_intercepts[0],
        "snapshots": run.snapshots,
        "gathered": run.gathered,
        "observed": run.observed,
        "step": run.step,
        "scale": me.walk.scale,
        "walk_intercept": me.walk.intercept,
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
    """Take over what `hogwild_state` returned; w and the other arrays must be in place already."""
    cdef fo_hogwild *run = &hogwild.run
    cdef fo_worker *me = run.worker
    cdef int k
    run.intercepts[0] = numbers["intercept"]
    run.average_intercepts[0] = numbers["average_intercept"]
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
            run.worker[k].walk.intercept = run.intercepts[0]
            run.worker[k].base_intercepts[0] = run.intercepts[0]
        return
    me.walk.scale, me.walk.intercept = numbers["scale"], numbers["walk_intercept"]
    me.walk.due, me.walk.sum = numbers["due"], numbers["sum"]
    me.walk.intercept_sum, me.walk.wait = numbers["intercept_sum"], numbers["wait"]
    me.walk.averaged, me.walk.clipped = numbers["averaged"], numbers["clipped"]
    me.area, me.net, me.since = numbers["area"], numbers["net"], numbers["since"]
    me.walk.square = numbers["square"]
