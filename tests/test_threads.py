"""How many threads are used by default, what may be asked for, and regions from several threads."""

import shutil
import sys
import threading

import numpy as np
import pytest

import fastopt
from fastopt import _core, threads

SHOW = "import fastopt; print(fastopt.get_num_threads(), *fastopt.threads.why())"
linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux's files and tools")


@pytest.fixture(autouse=True)
def default_again():
    yield
    fastopt.set_num_threads(None)


def test_resolve():
    assert threads.resolve() == fastopt.get_num_threads() >= 1
    wanted = 3 if _core.openmp() != "none" else 1
    assert threads.resolve(3) == threads.resolve(np.int64(3)) == wanted


@pytest.mark.parametrize("wrong", [0, -1, 1025, 2**70])
def test_resolve_names_argument_and_values(wrong):
    with pytest.raises(ValueError, match=rf"n_jobs must be an integer from 1 to 1024.*{wrong}"):
        threads.resolve(wrong, "n_jobs")
    with pytest.raises(ValueError, match="n must be"):
        fastopt.set_num_threads(wrong)


@pytest.mark.parametrize("wrong", [True, False, 2.0, "2", [2], np.float32(1), np.ones(2, int)])
def test_resolve_refuses_types(wrong):
    with pytest.raises(TypeError, match="threads must be an integer"):
        threads.resolve(wrong)


def test_set_num_threads(need_threads):
    fastopt.set_num_threads(5)
    assert fastopt.get_num_threads() == threads.resolve() == 5
    assert threads.why() == (5, "set_num_threads")
    with pytest.raises(ValueError):
        fastopt.set_num_threads(0)
    assert fastopt.get_num_threads() == 5
    fastopt.set_num_threads(None)
    assert threads.why()[1] != "set_num_threads"


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"OMP_NUM_THREADS": "3"}, "3 3 OMP_NUM_THREADS"),
        ({"OMP_NUM_THREADS": " 4,2 "}, "4 4 OMP_NUM_THREADS"),
        ({"FASTOPT_NUM_THREADS": "7", "OMP_NUM_THREADS": "3"}, "7 7 FASTOPT_NUM_THREADS"),
        ({"FASTOPT_NUM_THREADS": "", "OMP_NUM_THREADS": "3"}, "3 3 OMP_NUM_THREADS"),
    ],
)
def test_environment(run_python, need_threads, env, expected):
    assert run_python(SHOW, **env).strip() == expected


@pytest.mark.parametrize("value", ["0", "-2", "two", "1.5", "2,3", "99999", "²"])
def test_wrong_environment_is_a_warning(run_python, need_threads, value):
    text = run_python(SHOW, FASTOPT_NUM_THREADS=value, OMP_NUM_THREADS="3", PYTHONUTF8="1")
    assert f"FASTOPT_NUM_THREADS={value!r} is ignored" in text
    assert "3 3 OMP_NUM_THREADS" in text


@linux
@pytest.mark.skipif(not shutil.which("taskset"), reason="no taskset")
def test_affinity(run_python, need_threads):
    text = run_python(SHOW, prefix=["taskset", "-c", "0"])
    assert text.strip() == "1 1 processors this process may run on"


@linux
def test_affinity_may_change_after_import(run_python, need_threads):
    code = """
        import os, fastopt
        fastopt.get_num_threads()
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        fastopt.set_num_threads(None)
        print(fastopt.get_num_threads())
    """
    assert run_python(code).strip() == "1"


def write_files(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("groups", "files", "cpus"),
    [
        ("0::/\n", {}, None),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"a/cpu.max": "50000 100000\n", "a/b/cpu.max": "max 100000\n"}, 0.5),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "200000 100000\n"}, 2),
        ("0::/gone/from/here\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/../../x\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/a\n", {"unified/a/cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "nonsense\n"}, None),
        ("0::/\n", {"cpu.max": ""}, None),
        (
            "5:memory:/x\n4:cpu,cpuacct:/d/c\n0::/\n",
            {
                "cpu,cpuacct/d/cpu.cfs_quota_us": "250000\n",
                "cpu,cpuacct/d/cpu.cfs_period_us": "100000\n",
            },
            2.5,
        ),
        (
            "1:cpu:/d\n",
            {"cpu/d/cpu.cfs_quota_us": "-1\n", "cpu/d/cpu.cfs_period_us": "100000\n"},
            None,
        ),
        (
            "4:cpuacct,cpu:/host/path\n",
            {"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            0.5,
        ),
    ],
)
def test_control_groups(tmp_path, groups, files, cpus):
    (tmp_path / "cgroup").write_text(groups)
    write_files(tmp_path / "fs", files)
    found = threads.cgroup_cpus(str(tmp_path / "cgroup"), str(tmp_path / "fs"))
    assert found == (float("inf") if cpus is None else cpus)


def test_no_control_groups(tmp_path):
    assert threads.cgroup_cpus(str(tmp_path / "none"), str(tmp_path)) == float("inf")


@pytest.mark.parametrize(("quota", "expected"), [(0.5, 1), (1.9, 1), (2.0, 2), (1e9, 3)])
def test_quota_is_rounded_down(monkeypatch, quota, expected):
    monkeypatch.setattr(threads, "_affinity", lambda: 3)
    monkeypatch.setattr(threads, "cgroup_cpus", lambda: quota)
    assert threads.usable_cpus() == expected
    for name in ("FASTOPT_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    fastopt.set_num_threads(None)
    assert fastopt.get_num_threads() == (expected if _core.openmp() != "none" else 1)
    if quota < 3 and _core.openmp() != "none":
        assert threads.why() == (expected, f"control group quota of {quota:g} processors")


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_a_region_gets_its_threads(need_threads, n):
    assert _core._parallel_probe(n) == n


def test_without_openmp_one_thread_does_all():
    if _core.openmp() != "none":
        pytest.skip("this build has OpenMP")
    assert _core._parallel_probe(4) == 1
    assert threads.resolve(4) == threads.resolve() == 1
    assert threads.why() == (1, "this build has no OpenMP")


def test_python_threads_step_at_once():
    """Only one of them gets a team at a time; all get the same bits as one thread alone."""
    rng = np.random.default_rng(0)
    start = rng.normal(size=200_001).astype(np.float32)
    grad = rng.normal(size=200_001).astype(np.float32)

    def run(w, threads):
        opt = fastopt.Adam(w, lr=1e-2, threads=threads)
        for _ in range(50):
            opt.step(grad)

    expected = start.copy()
    run(expected, 1)
    arrays = [start.copy() for _ in range(4)]
    workers = [threading.Thread(target=run, args=(w, 2), daemon=True) for w in arrays]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert not worker.is_alive()
    for w in arrays:
        assert w.tobytes() == expected.tobytes()


def test_threadpoolctl_sees_the_runtime(run_python, need_threads):
    pytest.importorskip("threadpoolctl")
    code = """
        import fastopt, threadpoolctl
        fastopt._core._parallel_probe(2)
        print([x["prefix"] for x in threadpoolctl.threadpool_info() if x["user_api"] == "openmp"])
    """
    text = run_python(code)
    assert "lib" in text and "omp" in text


def test_joblib_workers_do_not_oversubscribe(run_python, need_threads):
    pytest.importorskip("joblib")
    code = """
        import joblib

        def threads():
            import fastopt
            return fastopt.threads.why()

        if __name__ == "__main__":
            with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads=1):
                print(joblib.Parallel()(joblib.delayed(threads)() for _ in range(2)))
    """
    assert run_python(code).strip() == str([(1, "OMP_NUM_THREADS")] * 2)
