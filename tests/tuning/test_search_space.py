"""The space of a search: what it draws from, and what it refuses before any trial."""

import pytest

from hf_genkit.tuning import SearchSpace

from .fake_recipe import fake_recipe


RATE = {"rate": {"low": 0.1, "high": 1.0}}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return fake_recipe(tmp_path_factory.mktemp("recipe"), options={"model": {"depth": 2}})


def drawn(space: SearchSpace, name: str) -> set:
    import optuna

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return {study.ask(space.distributions).params[name] for _ in range(40)}


def test_the_type_of_the_option_decides_what_is_drawn(recipe):
    """Read from the numbers alone, {low: 0, high: 1} of a learning rate would try 0 and 1 and nothing between."""
    assert drawn(SearchSpace({"width": {"low": 1, "high": 3}}, recipe), "width") == {1, 2, 3}
    assert len(drawn(SearchSpace({"rate": {"low": 0, "high": 1}}, recipe), "rate")) == 40
    assert drawn(SearchSpace({"rate": {"low": 0, "high": 1, "step": 0.5}}, recipe), "rate") == {0.0, 0.5, 1.0}
    assert drawn(SearchSpace({"model.depth": {"low": 1, "high": 2}}, recipe), "model.depth") == {1, 2}


def test_a_log_scale_is_drawn_on_a_log_scale(recipe):
    values = drawn(SearchSpace({"rate": {"low": 1e-6, "high": 1.0, "log": True}}, recipe), "rate")
    assert sum(value < 1e-3 for value in values) > 10


def test_lists_and_dictionaries_are_choices_that_reach_the_recipe_as_they_are(recipe):
    space = SearchSpace({"layers": {"choices": [[0, 1], [2]]}, "model": {"choices": [{"depth": 1}]}}, recipe)
    params = {"layers": space.distributions["layers"].choices[1], "model": space.distributions["model"].choices[0]}
    assert space.values(params) == {"layers": [2], "model": {"depth": 1}}


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"raet": {"low": 0.1, "high": 1.0}}, "'raet', which fake.py has no option for \\(did you mean 'rate'"),
        ({"output_dir": {"choices": ["a"]}}, "the search sets itself"),
        ({"rate": {"low": 1.0, "high": 0.1}}, "low must be below high"),
        ({"rate": {"low": 0.1, "high": 0.1}}, "low must be below high"),
        ({"rate": {"low": 0, "high": 1, "log": True}}, "log scale must have a low above 0"),
        ({"rate": {"low": 0.1, "high": 1, "log": "yes"}}, "log must be true or false"),
        ({"rate": {"low": 0.1, "high": 1, "log": True, "step": 0.1}}, "true only without a step"),
        ({"rate": {"low": 0.1, "high": 1, "step": 2}}, "step must be above 0"),
        ({"rate": {"low": 0.1, "high": 1, "setp": 0.1}}, "the key 'setp' for 'rate' \\(did you mean 'step'"),
        ({"rate": {"low": 0.1}}, "it must hold low and high, or choices"),
        ({"rate": [0.1, 0.2]}, "it must hold low and high, or choices"),
        ({"rate": {"low": "0.1", "high": 1}}, "must be numbers"),
        ({"rate": {"choices": []}}, "one or more values"),
        ({"rate": {"choices": [0.1, None]}}, "one or more values"),
        ({"rate": {"choices": [0.1], "low": 1, "high": 2}}, "one or more values"),
        ({"layers": {"choices": [[1], [1]]}}, "two of them are the same"),
        ({"width": {"low": 0.5, "high": 2}}, "takes whole numbers"),
        ({"kind": {"low": 1, "high": 2}}, "takes no range of numbers"),
        ({"rate": {"low": 0.5, "high": 1.5}}, "fake.py refuses rate 1.5: `rate` is 1.5"),
        ({"width": {"choices": [4, "wide"]}}, "fake.py refuses width wide: argument --width: invalid int value"),
        ({**RATE, "width": {"choices": [1, 2.5]}}, "fake.py refuses rate 0.1, width 2.5: argument --width"),
    ],
)
def test_a_wrong_space_is_refused_in_one_sentence(recipe, space, said):
    with pytest.raises(ValueError, match=said) as refused:
        SearchSpace(space, recipe)
    assert "\n" not in str(refused.value)


def test_a_grid_has_every_point_once_in_an_order_of_the_seed():
    space = SearchSpace({"a": {"choices": ["x", "y"]}, "b": {"low": 0.0, "high": 0.3, "step": 0.1}})
    points = space.grid()
    assert len({(point["a"], point["b"]) for point in points}) == len(points) == 8
    assert max(point["b"] for point in points) == pytest.approx(0.3)
    assert points == space.grid() != space.grid(seed=1)


def test_a_grid_of_a_range_without_a_step_is_refused():
    with pytest.raises(ValueError, match="'rate' a range without a step"):
        SearchSpace(RATE).grid()
