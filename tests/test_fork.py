"""The child of a process that used threads neither hangs nor computes anything else."""

import os

import pytest

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
    pytest.mark.usefixtures("need_threads"),
]

STEP = """
    import os, sys, warnings
    import numpy as np
    import fastopt

    # Python 3.12 warns of every fork of a process with threads, and rightly so.
    warnings.filterwarnings("ignore", "This process", DeprecationWarning)

    def step(threads=2):
        w = np.linspace(-1, 1, 100_001)
        opt = fastopt.Adam(w, lr=0.1, threads=threads)
        for _ in range(3):
            opt.step(w * w)
        return w.tobytes()
"""


def program(body):
    return STEP + body


def test_fork_after_threads(run_python):
    """On one thread, same bits, one warning; and so in the child's child; the parent goes on."""
    code = program("""
    expected = step()
    assert fastopt._core._parallel_probe(2) == 2
    opt = fastopt.Adam(np.zeros(100_001), threads=2)
    opt.step(np.ones(100_001))

    def check():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            opt.step(np.ones(100_001))
            assert step() == expected and step(None) == expected
            assert fastopt._core._parallel_probe(2) == 1
            assert fastopt.get_num_threads() == 1
        texts = [str(w.message) for w in caught]
        assert len(texts) == 1 and "forked" in texts[0] and "forkserver" in texts[0], texts
        assert fastopt.threads.why()[1].startswith("child of a process"), fastopt.threads.why()

    def in_child(action):
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                action()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0

    def check_twice():
        check()
        in_child(check)

    in_child(check_twice)
    assert step() == expected and fastopt._core._parallel_probe(2) == 2
    print("done")
    """)
    assert run_python(code, timeout=60).endswith("done\n")


def test_fork_before_threads_keeps_them(run_python):
    code = program("""
    pid = os.fork()
    if pid == 0:
        warnings.simplefilter("error")
        os._exit(0 if step() and fastopt._core._parallel_probe(2) == 2 else 1)
    print(os.waitpid(pid, 0)[1])
    """)
    assert run_python(code, timeout=60).strip() == "0"


def test_one_thread_never_warns(run_python):
    code = program("""
    step(2)
    pid = os.fork()
    if pid == 0:
        warnings.simplefilter("error")
        os._exit(0 if step(1) and fastopt.threads.resolve(1) == 1 else 1)
    print(os.waitpid(pid, 0)[1])
    """)
    assert run_python(code, timeout=60).strip() == "0"


@pytest.mark.parametrize("module", ["torch", "sklearn"])
def test_fork_after_others_used_the_shared_runtime(run_python, module):
    """Their threads are in the same pool: a region in the child would wait for them for ever."""
    pytest.importorskip(module)
    use = {
        "torch": "import torch; torch.set_num_threads(2); torch.ones(10**6).add(1).sum()",
        "sklearn": "from sklearn.ensemble import HistGradientBoostingRegressor as H; "
        "H(max_iter=5).fit(np.random.rand(5000, 5), np.random.rand(5000))",
    }[module]
    code = program(f"""
    {use}
    pid = os.fork()
    if pid == 0:
        warnings.simplefilter("ignore")
        os._exit(0 if step() and fastopt._core._parallel_probe(2) == 1 else 1)
    print(os.waitpid(pid, 0)[1])
    """)
    assert run_python(code, timeout=60).strip() == "0"


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(run_python, method):
    code = program(f"""
    def work(k):
        return step()

    if __name__ == "__main__":
        import multiprocessing
        expected = step()
        with multiprocessing.get_context("{method}").Pool(2) as pool:
            results = pool.map_async(work, range(4)).get(timeout=60)
        assert all(result == expected for result in results)
        print("done")
    """)
    text = run_python(code, timeout=90)
    assert text.startswith("done") or text.endswith("done\n")
    assert ("forked from one" in text) == (method == "fork")


def test_fork_while_another_thread_steps(run_python):
    """The other thread is not in the child; the lock it held is."""
    code = program("""
    import threading
    expected = step()
    stop = threading.Event()

    def keep_stepping():
        w, g = np.zeros(2_000_000), np.ones(2_000_000)
        opt = fastopt.Adam(w, threads=2)
        while not stop.is_set():
            opt.step(g)

    thread = threading.Thread(target=keep_stepping)
    thread.start()
    for _ in range(20):
        pid = os.fork()
        if pid == 0:
            warnings.simplefilter("ignore")
            os._exit(0 if step() == expected else 1)
        assert os.waitpid(pid, 0)[1] == 0
    stop.set()
    thread.join()
    print("done")
    """)
    assert run_python(code, timeout=90).strip() == "done"
