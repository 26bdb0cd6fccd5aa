"""Messages that say which setting is wrong."""

import math

import pytest

from vssl_jax.errors import BELOW_1, UserError, above, at_least, between, check_limits, check_names


@pytest.mark.parametrize(
    ("limit", "right", "wrong", "words"),
    [
        (at_least(2), (2, 3), (1, math.nan), "2 or more"),
        (above(0), (0.1,), (0, -1, math.nan), "above 0"),
        (between(0, 1), (0, 0.5, 1), (-0.1, 1.1, math.nan), "from 0 to 1"),
        (BELOW_1, (0, 0.9), (-0.1, 1.0, math.nan), "0 or more and below 1"),
    ],
)
def test_a_setting_outside_its_limit_is_named_with_what_it_must_be(limit, right, wrong, words):
    for value in right:
        check_limits("objective", first=(value, limit), second=(value, limit))
    for value in wrong:
        with pytest.raises(UserError) as error:
            check_limits("objective", first=(right[0], limit), second=(value, limit), third=(value, limit))
        assert str(error.value) == f"objective.second is {value}: it must be {words}"


def test_the_first_name_that_is_not_known_is_named_with_the_nearest():
    check_names("field", (), ())
    check_names("field of a head", {"dim": 3}, ("dim", "norm"))
    with pytest.raises(UserError, match=r"^unknown field of a head 'nrom': did you mean 'norm'"):
        check_names("field of a head", ("dim", "nrom", "dmi"), ("dim", "norm"))
