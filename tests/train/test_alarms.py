"""Alarms are said once, where they stay."""

from vssl_jax.train.alarms import PATIENCE, Alarms


def told(values):
    said = []
    alarms = Alarms(said.append)
    for step, value in enumerate(values, 1):
        alarms.update(10 * step, {"loss": 1.0, "collapse/alarm": value, "collapse/std": 0.0123, "other/std": 5.0})
    return said


def test_one_that_stays_is_said_once_with_its_numbers():
    (line,) = told([1.0] * 3 * PATIENCE)
    assert "collapse/alarm is up at 5 logged steps in a row, the last of them step 50 (std 0.0123)" in line and "\n" not in line


def test_one_that_goes_away_is_not():
    assert told([1.0, 1.0, 1.0, 1.0, 0.0] * 4) == []


def test_one_that_comes_back_is_said_again():
    assert len(told([1.0] * PATIENCE + [0.0] + [1.0] * PATIENCE)) == 2


def test_half_of_the_micro_batches_are_not_enough():
    assert told([0.5] * 20) == []
