"""Pictures of convergence: what is drawn is read back, and files are what they say."""

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="pictures need the plot extra")

import matplotlib as mpl
from matplotlib import pyplot

import fastopt
from fastopt.convergence import plots

mpl.use("Agg")


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def found():
    return fastopt.compare("beale", ["SGD", "Momentum", "Adam"], steps=40, lr=0.01)


def lines(ax):
    return {line.get_label(): line.get_xydata() for line in ax.lines if line.get_label()[0] != "_"}


def test_trajectories_are_the_points(found):
    ax = plots.plot_trajectories(found)
    drawn = lines(ax)
    assert list(drawn) == ["SGD", "Momentum", "Adam"]
    for h in found:
        assert (drawn[h.method] == h.points).all()
    assert len(ax.collections) == 1 and "beale" in ax.get_title()
    marks = [line.get_xydata()[0].tolist() for line in ax.lines if len(line.get_xydata()) == 1]
    assert marks == [[1.0, 1.0], [3.0, 0.5]]  # start and optimum
    assert ax.get_xlim() == (-0.5, 4.5)


def test_a_problem_without_limits_shows_all_paths():
    found = fastopt.compare(
        (lambda x: float(x @ x), lambda x: 2 * x, [1.0, 5.0]), ["SGD"], lr=0.1, steps=9
    )
    ax = plots.plot_trajectories(found)
    for low, high, column in zip(ax.get_xlim(), ax.get_ylim(), [0, 1], strict=True):
        assert low < high
        assert found["SGD"].points[:, column].max() < [ax.get_xlim(), ax.get_ylim()][column][1]


def test_drawn_into_given_axes(found):
    figure, (left, right) = pyplot.subplots(1, 2)
    assert plots.plot_trajectories(found, ax=left) is left
    assert plots.plot_losses(found, ax=right) is right
    assert figure.axes == [left, right]


@pytest.mark.parametrize("against", ["steps", "evaluations", "seconds"])
def test_losses_are_the_errors(found, against):
    ax = plots.plot_losses(found, against)
    assert (ax.get_xscale(), ax.get_yscale(), ax.get_xlabel()) == ("log", "log", against)
    for h, (label, data) in zip(found, lines(ax).items(), strict=True):
        assert label == f"{h.method}: {h.rate}"
        x = np.arange(1, 41) if against == "steps" else getattr(h, against)[1:]
        assert (data == np.stack([x, h.errors[1:]], axis=1)).all()


def test_schedules_are_their_values():
    named = {"cosine": fastopt.schedules.cosine(0.1, 50), "mine": lambda t: 1 / (1 + t)}
    drawn = lines(plots.plot_schedules(named, 60))
    for label, schedule in named.items():
        assert drawn[label].tolist() == [[t, schedule(t)] for t in range(61)]
    step = fastopt.schedules.step(1.0, every=10)
    assert list(lines(plots.plot_schedules([step], 5))) == [repr(step)]


def test_animation_shows_the_paths_growing(found):
    animation = plots.plot_animation(found, frames=5)
    ax = animation._fig.axes[0]
    for frame, stop in enumerate([0, 10, 20, 30, 40]):
        animation._func(frame)
        for h in found:
            assert (lines(ax)[h.method] == h.points[: stop + 1]).all()
    animation._draw_was_started = True  # it is not shown, on purpose


def halved(w):
    """The gradient of the sum of squares with a sign flipped, and a row that is off by 1 %."""
    g = 2 * w
    g[2, 3] *= -1
    g[1] *= 1.01
    return g


def test_heat_map_of_a_gradient_check():
    W = np.random.default_rng(0).standard_normal((4, 6))
    report = fastopt.check_grad(lambda w: float(np.sum(w**2)), halved, W)
    ax = plots.plot_gradient_check(report)
    (image,) = ax.images
    shown = image.get_array()
    assert shown.shape == W.shape and shown[2, 3] == pytest.approx(np.log10(2), abs=1e-6)
    np.testing.assert_allclose(shown[1], np.log10(0.01 / 1.01), atol=1e-4)
    right = np.ones(W.shape, bool)
    right[1], right[2, 3] = False, False
    assert (shown[right] < -6).all()
    marked = lines(ax)["wrong"][:, ::-1].astype(int).tolist()
    assert sorted(marked) == [[1, k] for k in range(6)] + [[2, 3]]
    assert report.diagnosis in ax.get_title()


def test_heat_map_of_a_named_parameter_and_of_kinks():
    x = {"a": np.array([1.0, 0.0, -2.0]), "b": np.ones((2, 3, 4))}

    def f(x):
        return float(np.abs(x["a"]).sum() + np.sum(x["b"] ** 2))

    def g(x):
        return {"a": np.sign(x["a"]), "b": 2 * x["b"]}

    report = fastopt.check_grad(f, g, x)
    assert plots.plot_gradient_check(report, "b").images[0].get_array().shape == (2, 12)
    ax = plots.plot_gradient_check(report, "a")
    assert ax.images[0].get_array().shape == (1, 3)
    assert lines(ax)["kink"].tolist() == [[1, 0]]
    with pytest.raises(ValueError, match="parameter must be one of 'a', 'b'"):
        plots.plot_gradient_check(report, "c")
    with pytest.raises(TypeError, match="what check_grad returns"):
        plots.plot_gradient_check(3)


@pytest.mark.slow
def test_files(found, tmp_path):
    from PIL import Image

    plots.save(plots.plot_losses(found), tmp_path / "a.png", dpi=40)
    plots.save(plots.plot_losses(found), tmp_path / "a.svg")
    assert Image.open(tmp_path / "a.png").size == (288, 192)
    assert "<svg" in (tmp_path / "a.svg").read_text()
    plots.save(plots.plot_animation(found, frames=3), tmp_path / "a.gif", dpi=40)
    gif = Image.open(tmp_path / "a.gif")
    assert gif.n_frames == 3 and gif.size == (288, 192)
    plots.save(plots.plot_animation(found, frames=2), tmp_path / "a.html", dpi=30)
    page = (tmp_path / "a.html").read_text()
    assert page.count("data:image/png;base64") == 2 and "<script" in page


def test_refused(found, tmp_path):
    three = fastopt.compare(
        (lambda x: float(x @ x), lambda x: 2 * x, np.ones(3)), ["SGD"], lr=0.1, steps=2
    )
    with pytest.raises(ValueError, match="2 variables"):
        plots.plot_trajectories(three)
    with pytest.raises(ValueError, match="2 variables"):
        plots.plot_animation(three)
    with pytest.raises(ValueError, match="against must be one of 'steps'"):
        plots.plot_losses(found, "time")
    with pytest.raises(ValueError, match="steps must be at least 1"):
        plots.plot_schedules([], 0)
    with pytest.raises(TypeError, match="schedules must be a sequence"):
        plots.plot_schedules(fastopt.schedules.constant(1.0), 3)
    with pytest.raises(TypeError, match="'a' must be callable"):
        plots.plot_schedules({"a": 3}, 3)
    animation = plots.plot_animation(found, frames=2)
    with pytest.raises(ValueError, match=r"\.gif or \.html"):
        plots.save(animation, tmp_path / "a.mp4")
    animation._draw_was_started = True
    assert not pyplot.fignum_exists(99) and not (tmp_path / "a.mp4").exists()


def test_without_matplotlib(run_python):
    code = """
        import sys
        sys.modules["matplotlib"] = None
        import fastopt
        from fastopt.convergence import plots
        try:
            plots.plot_schedules([fastopt.schedules.constant(1.0)], 3)
        except ImportError as error:
            print(error)
    """
    assert "pip install 'fastopt[plot]'" in run_python(code)
