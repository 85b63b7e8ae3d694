import numpy as np
import pytest

from hf_genkit.data.augmentation import CUTOUT_X, FLIP, Augmentation, random_bits, random_integers


PIXELS = np.random.default_rng(0).integers(1, 256, (64, 3, 10, 12), dtype=np.uint8)
EVERYTHING = Augmentation(flip=True, shift=2, cutout=4)


def splitmix_chain(*values):
    """The documented generator in Python's own integers."""
    state, mask = 0, 2**64 - 1
    for value in values:
        state = (state + value + 0x9E3779B97F4A7C15) & mask
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & mask
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & mask
        state ^= state >> 31
    return state


def test_words_are_the_documented_generator_and_stay_so_across_versions():
    words = random_bits(7, 3, np.array([0, 5, 2**40]), FLIP)
    assert [int(word) for word in words] == [splitmix_chain(7, 3, FLIP, index) for index in (0, 5, 2**40)]
    assert splitmix_chain(0) == 0xE220A8397B1DCDAF  # the first output of SplitMix64 with seed 0


def test_each_argument_changes_the_words():
    indices = np.arange(1000)
    base = random_bits(1, 1, indices, FLIP)
    for other in (
        random_bits(2, 1, indices, FLIP),
        random_bits(1, 2, indices, FLIP),
        random_bits(1, 1, indices, CUTOUT_X),
    ):
        assert not np.any(base == other)
        assert abs(np.corrcoef((base >> np.uint64(63)).astype(int), (other >> np.uint64(63)).astype(int))[0, 1]) < 0.15
    assert len(np.unique(base)) == 1000


def test_integers_cover_their_range_evenly():
    counts = np.bincount(random_integers(-2, 2, 0, 0, np.arange(50_000), FLIP) + 2, minlength=5)
    assert len(counts) == 5
    assert np.abs(counts - 10_000).max() < 500


def test_result_does_not_depend_on_the_other_samples_of_the_batch_or_their_order():
    together = EVERYTHING(PIXELS, seed=3, epoch=1, indices=np.arange(64))
    order = np.random.default_rng(1).permutation(64)
    assert np.array_equal(EVERYTHING(PIXELS[order], seed=3, epoch=1, indices=order), together[order])
    alone = [EVERYTHING(PIXELS[i : i + 1], seed=3, epoch=1, indices=np.array([i]))[0] for i in range(64)]
    assert np.array_equal(np.stack(alone), together)


def test_result_does_not_depend_on_the_global_generators():
    np.random.seed(0)
    first = EVERYTHING(PIXELS, seed=3, epoch=1, indices=np.arange(64))
    np.random.seed(1)
    assert np.array_equal(EVERYTHING(PIXELS, seed=3, epoch=1, indices=np.arange(64)), first)


def test_epochs_and_seeds_differ():
    results = [EVERYTHING(PIXELS, seed=s, epoch=e, indices=np.arange(64)).tobytes() for s in (0, 1) for e in (0, 1)]
    assert len(set(results)) == 4


def test_adding_one_change_leaves_the_draws_of_the_others():
    flipped = Augmentation(flip=True)(PIXELS, seed=0, epoch=0, indices=np.arange(64))
    both = Augmentation(flip=True, cutout=3)(PIXELS, seed=0, epoch=0, indices=np.arange(64))
    assert np.array_equal(both[both > 0], flipped[both > 0])


def test_flip_mirrors_half_of_the_images_whole():
    flipped = Augmentation(flip=True)(PIXELS, seed=0, epoch=0, indices=np.arange(64))
    mirrored = (flipped == PIXELS[..., ::-1]).all((1, 2, 3))
    assert (mirrored | (flipped == PIXELS).all((1, 2, 3))).all()
    assert 20 < mirrored.sum() < 44


def test_shift_moves_in_both_directions_and_fills_with_black():
    shifted = Augmentation(shift=2)(PIXELS, seed=0, epoch=0, indices=np.arange(64))
    seen = set()
    for image, moved in zip(PIXELS, shifted, strict=True):
        matches = []
        for down in range(-2, 3):
            for right in range(-2, 3):
                expected = np.zeros_like(image)
                target = (
                    slice(None),
                    slice(max(down, 0), 10 + min(down, 0)),
                    slice(max(right, 0), 12 + min(right, 0)),
                )
                source = (
                    slice(None),
                    slice(max(-down, 0), 10 + min(-down, 0)),
                    slice(max(-right, 0), 12 + min(-right, 0)),
                )
                expected[target] = image[source]
                if np.array_equal(expected, moved):
                    matches.append((down, right))
        assert len(matches) == 1
        seen.update(matches)
    assert {down for down, _ in seen} == {right for _, right in seen} == {-2, -1, 0, 1, 2}
    assert len(seen) > 15


def test_cutout_blackens_one_square_of_every_image():
    square = PIXELS[..., :10]
    cut = Augmentation(cutout=4)(square, seed=0, epoch=0, indices=np.arange(64))
    corners = set()
    assert np.array_equal(cut[cut > 0], square[cut > 0])
    for image in cut:
        rows, columns = np.nonzero((image == 0).all(0))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert len(rows) == height * width == (image == 0).sum() / 3
        assert 2 <= height <= 4
        assert 2 <= width <= 4
        corners.add((rows[0], columns[0]))
    assert len(corners) > 30


def test_the_input_is_not_changed():
    before = PIXELS.copy()
    EVERYTHING(PIXELS, seed=0, epoch=0, indices=np.arange(64))
    assert np.array_equal(before, PIXELS)


def test_text_form():
    assert Augmentation.from_string("flip, shift:2,cutout:8") == Augmentation(flip=True, shift=2, cutout=8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flip,mixup", "'mixup' is not an augmentation; choose from flip, shift:PIXELS, cutout:PIXELS."),
        ("", "'' is not an augmentation"),
        ("shift", "needs a number of pixels as in shift:2, got 'shift'"),
        ("cutout:-3", "needs a number of pixels as in cutout:2, got 'cutout:-3'"),
        ("flip:2", "flip takes no number, got 'flip:2'"),
    ],
)
def test_bad_text_is_one_sentence(text, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        Augmentation.from_string(text)


def test_negative_pixels_are_refused():
    with pytest.raises(ValueError, match="shift must be a number of pixels from 0 up, got -1"):
        Augmentation(shift=-1)
