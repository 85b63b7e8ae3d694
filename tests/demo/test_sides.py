import time

from hf_genkit.demo.sides import timed, told_times


def test_each_model_is_timed_by_itself_in_turns():
    order = []

    def call(name, seconds):
        order.append(name)
        time.sleep(seconds)
        return name

    answers, (slow, quick) = timed([lambda: call("slow", 0.02), lambda: call("quick", 0)], repeats=3)
    assert answers == ["slow", "quick"]
    assert order == ["slow", "quick"] * 4
    assert slow >= 20 > quick


def test_faster_and_slower_are_told_the_right_way_round():
    assert "2.0 times faster" in told_times([1.0, 2.0])
    assert "3.0 times slower" in told_times([6.0, 2.0])
    assert told_times([1.5], "a token") == "1.5 ms a token."
