"""The picture shows what was logged, and drawing it changes nothing elsewhere."""

import subprocess
import sys

import matplotlib
import matplotlib.figure
import numpy as np
import pytest
from PIL import Image

from hf_genkit.evaluation.curves import plot_curves


def history(offset=0.0, epochs=3):
    """As `Trainer` logs: losses and evaluations in separate entries, and a summary."""
    entries = []
    for epoch in range(1, epochs + 1):
        entries.append({"loss": 1 / epoch + offset, "learning_rate": 1e-3, "epoch": float(epoch), "step": 10 * epoch})
        entries.append({"eval_accuracy": 0.5 + 0.1 * epoch + offset, "epoch": float(epoch), "step": 10 * epoch})
    return [*entries, {"train_loss": 0.4, "train_runtime": 1.0, "epoch": float(epochs), "step": 10 * epochs}]


@pytest.fixture
def panels(monkeypatch, tmp_path):
    """Draws, and returns the axes of the two panels."""
    figures = []
    save = matplotlib.figure.Figure.savefig
    monkeypatch.setattr(
        matplotlib.figure.Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k))
    )

    def draw(histories, **kwargs):
        plot_curves(histories, tmp_path / "curves.png", **kwargs)
        return figures[-1].axes

    return draw


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_losses_and_metric_of_single_runs(panels):
    loss, accuracy = panels({"alone": [history()], "distilled": [history(0.1)]}, x="step")
    np.testing.assert_allclose(loss.lines[0].get_xydata(), [[10, 1], [20, 1 / 2], [30, 1 / 3]])
    np.testing.assert_allclose(accuracy.lines[1].get_xydata(), [[10, 0.7], [20, 0.8], [30, 0.9]])
    assert legend(loss) == legend(accuracy) == ["alone", "distilled"]
    assert not loss.collections
    assert loss.lines[0].get_color() == accuracy.lines[0].get_color() != loss.lines[1].get_color()


def test_several_runs_give_their_mean_and_a_band_over_the_points_of_all(panels):
    runs = [history(-0.1), history(0.0), history(0.4, epochs=2)]
    _, accuracy = panels({"student": runs})
    np.testing.assert_allclose(accuracy.lines[0].get_xydata(), [[1.0, 0.7], [2.0, 0.8]])
    band = accuracy.collections[0].get_paths()[0].vertices
    assert band[band[:, 0] == 1.0][:, 1].min() == pytest.approx(0.5)
    assert band[band[:, 0] == 1.0][:, 1].max() == pytest.approx(1.0)
    assert legend(accuracy) == ["student (mean and range of 3 runs)"]


def test_references_and_other_metrics(panels):
    runs = {"student": [[{"eval_kd_loss": 0.25, "epoch": 1.0, "step": 1}]]}
    loss, other = panels(runs, metric="eval_kd_loss", references={"teacher": 0.125})
    assert other.get_title() == "Kd loss on the evaluation set"
    assert legend(other) == ["student", "teacher (0.125)"]
    assert loss.texts[0].get_text() == "no 'loss' was logged"


def test_the_background_is_white_and_opaque_whatever_the_users_style_says(tmp_path):
    plot_curves({"student": [history()]}, tmp_path / "default.png")
    with matplotlib.rc_context({"savefig.transparent": True, "axes.facecolor": "black", "text.color": "white"}):
        plot_curves({"student": [history()]}, tmp_path / "dark.png")
        assert matplotlib.rcParams["axes.facecolor"] == "black"
    pixels = np.asarray(Image.open(tmp_path / "default.png").convert("RGBA"))
    assert np.array_equal(pixels, np.asarray(Image.open(tmp_path / "dark.png").convert("RGBA")))
    assert (pixels[0, 0] == 255).all()


def test_pyplot_and_its_global_state_are_left_alone(tmp_path):
    code = (
        "import sys\n"
        "from hf_genkit.evaluation.curves import plot_curves\n"
        "assert 'matplotlib' not in sys.modules\n"
        f"plot_curves({{'student': [{history()!r}]}}, {str(tmp_path / 'curves.png')!r})\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_runs_without_an_evaluation_have_no_empty_panel(panels):
    trained = [entry for entry in history() if "eval_accuracy" not in entry]
    assert len(panels({"student": [trained]}, references={"teacher": 0.9})) == 1
