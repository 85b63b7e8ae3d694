"""The picture of a GAN's training shows what was logged."""

import matplotlib.figure
import numpy as np
import pytest
from PIL import Image

from hf_genkit.evaluation.figures import save_figure
from hf_genkit.evaluation.gan_stability import analyze_gan_stability


N = 40
PROBES = {
    "real_accuracy": 0.7,
    "fake_accuracy": 0.9,
    "logit_gap": 1.5,
    "generator_grad_norm": 1.0,
    "discriminator_grad_norm": 2.0,
    "sample_diversity": 0.9,
    "spectral_norm": 3.0,
}


def log(probes):
    losses = {"generator_loss": 0.9, "discriminator_loss": 0.5}
    return [{key: PROBES.get(key, 0.5) for key in (*losses, *probes)} | {"step": step} for step in range(N)]


@pytest.fixture
def draw(monkeypatch, tmp_path):
    """Draws, and returns the visible panels and the size of the picture."""
    figures = []
    save = matplotlib.figure.Figure.savefig
    monkeypatch.setattr(
        matplotlib.figure.Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k))
    )

    def run(verdict):
        verdict.plot(tmp_path / "stability.png")
        with Image.open(tmp_path / "stability.png") as picture:
            assert picture.format == "PNG"
            assert [file.name for file in tmp_path.iterdir()] == ["stability.png"]
            return {axes.get_title(): axes for axes in figures[-1].axes if axes.axison}, picture.size

    return run


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_losses_alone_are_one_panel_with_the_equilibrium(draw):
    panels, size = draw(analyze_gan_stability([0.9, 0.8, np.nan], [0.5, 0.4, 0.4]))
    assert size == (960, 456)
    assert list(panels) == ["Losses"]
    assert legend(panels["Losses"]) == ["generator", "discriminator", "equilibrium, both (0.693)"]
    np.testing.assert_array_equal(panels["Losses"].lines[0].get_ydata(), [0.9, 0.8, np.nan])


@pytest.mark.parametrize(
    ("loss_type", "lines"),
    [
        ("saturating", ["equilibrium, discriminator (0.693)", "equilibrium, generator (-0.693)"]),
        ("hinge", ["equilibrium, discriminator (1)"]),
        ("wgan", ["equilibrium, discriminator (0)"]),
        ("ganetic", ["equilibrium, discriminator (1.5)", "equilibrium, generator (2.79)"]),
    ],
)
def test_each_loss_has_its_own_equilibrium(draw, loss_type, lines):
    panels, _ = draw(analyze_gan_stability([0.9] * 9, [0.5] * 9, loss_type=loss_type))
    assert legend(panels["Losses"])[2:] == lines


def test_every_probe_has_its_panel(draw):
    panels, size = draw(analyze_gan_stability(log(PROBES)))
    assert size == (1440, 1224)
    assert len(panels) == 6
    assert legend(panels["Discriminator accuracy"]) == ["on real pictures", "on generated ones", "guessing"]
    np.testing.assert_array_equal(panels["Gradient norms"].lines[1].get_xydata(), [[step, 2] for step in range(N)])
    assert all(axes.get_xlabel() == "step" for axes in panels.values())


def test_panels_of_what_was_not_logged_or_means_nothing_are_left_out(draw):
    panels, _ = draw(analyze_gan_stability(log(["sample_diversity", "logit_gap"])))
    assert set(panels) == {"Losses", "Logit gap, real minus generated", "Diversity of samples"}
    panels, _ = draw(analyze_gan_stability(log(PROBES), loss_type="wgan_gp"))
    assert "Discriminator accuracy" not in panels


def test_a_failed_write_keeps_the_old_picture(tmp_path):
    class Broken:
        def savefig(self, path):
            path.write_bytes(b"half")
            raise OSError("disk full")

    (tmp_path / "a.png").write_bytes(b"old")
    with pytest.raises(OSError, match="disk full"):
        save_figure(Broken(), tmp_path / "a.png")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a.png", b"old")]
