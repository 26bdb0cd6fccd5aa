import pytest

from vssl_jax.errors import UserError
from vssl_jax.perturb import masks
from vssl_jax.perturb.color import ColorJitter, Gamma, Gray, OneOf
from vssl_jax.perturb.crop import CenterCrop, MultiScaleCrop, RandomResizedCrop
from vssl_jax.perturb.erase import RandomErase
from vssl_jax.perturb.mix import Mix, NoMix
from vssl_jax.perturb.order import OrderFree
from vssl_jax.perturb.recipe import build_eval_view, build_mask, build_mix, build_view
from vssl_jax.perturb.view import EvalView, Pixels, RandomView, pair


def test_a_view_by_name_is_the_view_by_hand():
    config = {
        "crop": {"name": "random_resized", "area": [0.3, 1.0]},
        "flip": 0.0,
        "color": [{"name": "jitter", "hue": 0.1}, {"name": "gray", "prob": 0.5}],
        "per": "video",
    }
    color = (ColorJitter(hue=0.1), Gray(prob=0.5))
    assert build_view(config, Pixels(64)) == RandomView(64, RandomResizedCrop(area=(0.3, 1.0)), flip=0.0, color=color, per="video")
    assert build_view({"crop": {"name": "multiscale"}}, Pixels(224)).crop == MultiScaleCrop()
    assert build_view({"crop": {"name": "center", "fraction": 0.5}, "order": "mean"}, Pixels(8)) == OrderFree(
        RandomView(8, CenterCrop(0.5)), "mean"
    )


def test_chains_of_colors_by_name():
    chains = [[{"name": "gray", "prob": 1.0}, {"name": "gamma", "power": [0.5, 2.0]}], [{"name": "erase"}]]
    pixels = Pixels(8, (0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
    (op,) = build_view({"crop": {"name": "square"}, "color": [{"name": "one_of", "chains": chains, "probs": [0.2, 0.3]}]}, pixels).color
    assert op == OneOf(((Gray(1.0), Gamma((0.5, 2.0))), (RandomErase(mean=pixels.mean, std=pixels.std),)), (0.2, 0.3))
    with pytest.raises(UserError, match="gray"):
        build_view({"crop": {"name": "square"}, "color": [{"name": "one_of", "chains": [[{"name": "grey"}]], "probs": [1.0]}]}, pixels)


@pytest.mark.parametrize(
    ("op", "message"),
    [
        ({"name": "each_frame", "chain": {"name": "gray"}}, "must be operations"),
        ({"name": "each_frame", "chain": ("gray",)}, "must be operations"),
        ({"name": "each_frame"}, "no chain"),
        ({"name": "one_of", "chains": ({"name": "gray"},), "probs": (1.0,)}, "must be operations"),
        ({"name": "one_of", "chains": (({"name": "gray"},),)}, "a probability of each"),
        ({"name": "one_of", "chains": (({"name": "gray"},),), "probs": 1.0}, "a probability of each"),
        ({"name": "cutout", "sides": 5}, "sides"),
        ({"name": "cutout", "sides": (3.5, 5.0)}, "whole numbers"),
        ({"name": "gamma", "power": 1.5}, "power"),
    ],
)
def test_a_wrong_operation_is_one_clear_line(op, message):
    with pytest.raises(UserError, match=message):
        build_view({"crop": {"name": "whole"}, "color": (op,)}, Pixels(8))


@pytest.mark.parametrize("side", [0.5, (0.5, 0.6, 0.7), (0.9, 0.6), (0.5, 1.5), ("a", 1.0)])
def test_a_wrong_side_of_a_square_is_one_clear_line(side):
    with pytest.raises(UserError, match=r"square crop's side is .* from 0 to 1"):
        build_view({"crop": {"name": "square", "side": side}}, Pixels(8))


def test_evaluation_views():
    assert build_eval_view({"short_side": 0, "crops": 3}, Pixels(32)) == EvalView(32, None, crops=3)
    assert build_eval_view({"short_side": 40, "order": "single"}, Pixels(32)) == OrderFree(EvalView(32, 40), "single")


def test_views_are_normalized_as_the_backbone_wants():
    pixels = Pixels(16, (0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
    for view in (build_view({"crop": {"name": "whole"}}, pixels), build_eval_view({"crops": 1}, pixels)):
        assert (view.size, view.mean, view.std) == pixels
    with pytest.raises(UserError, match="std"):
        build_view({"crop": {"name": "whole"}, "std": (1.0, 1.0, 1.0)}, pixels)


def test_masks():
    assert build_mask({"name": "tube"}, 0.9) == masks.Tube(0.9)
    block = build_mask({"name": "block", "blocks": 4, "shape": {"area": [0.2, 0.3]}}, 0.4)
    assert block == masks.Block(0.4, 4, masks.Cuboids(area=(0.2, 0.3)))
    assert build_mask({"name": "multi_block", "visible": 3, "masked": 5}, 0.9) == masks.MultiBlock(3, 5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "tubes"}, "unknown mask 'tubes': did you mean 'tube'"),
        ({"name": "tube", "blocks": 3}, "unknown field of mask tube 'blocks'"),
        ({"name": "tube", "ratio": 0.5}, r"set objective\.mask_ratio instead"),
        ({"name": "multi_block", "visible": 3}, "mask 'multi_block' needs masked"),
        ({"name": "block", "shape": {"aera": (0.2, 0.3)}}, r"unknown field of objective\.mask\.shape 'aera': did you mean 'area'"),
        ({"name": "block", "shape": {"area": (0.3, 0.2)}}, r"objective\.mask\.shape\.area is \(0.3, 0.2\): it must be \(low, high\)"),
        ({"name": "block", "blocks": 0}, r"objective\.mask\.blocks is 0: it must be 1 or more"),
        ({"name": "running_cell"}, r"objective\.mask_ratio is 0.2: a running cell"),
    ],
)
def test_a_mask_that_there_is_none_of_is_refused(config, message):
    with pytest.raises(UserError, match=message) as error:
        build_mask(config, 0.2)
    assert "\n" not in str(error.value)


def test_mix():
    assert build_mix({}) == NoMix()
    assert build_mix({"mixup": 0.2}) == Mix(mixup=0.2)
    assert pair(3) == (3, 3) and pair([2, 4]) == (2, 4)


@pytest.mark.parametrize(
    "build, config, near",
    [
        (build_view, {"crop": {"name": "centre"}}, "center"),
        (build_view, {"crop": {"name": "center", "fractoin": 1.0}}, "fraction"),
        (build_view, {"crop": {"name": "center"}, "flipp": 0.5}, "flip"),
        (build_view, {"crop": {"name": "center"}, "color": [{"name": "grey"}]}, "gray"),
        (build_eval_view, {"crop": 3}, "crops"),
        (lambda config, _: build_mix(config), {"mix_up": 0.1}, "mixup"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(build, config, near):
    with pytest.raises(UserError, match=near):
        build(config, Pixels(32))


def test_erasing_is_noise_as_the_backbone_reads_it():
    pixels = Pixels(16, (0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
    erase = build_view({"crop": {"name": "whole"}, "color": ({"name": "erase", "prob": 1.0},)}, pixels).color[0]
    assert (erase.prob, erase.mean, erase.std) == (1.0, pixels.mean, pixels.std)
    own = {"name": "erase", "std": [1.0, 1.0, 1.0]}
    assert build_view({"crop": {"name": "whole"}, "color": (own,)}, pixels).color[0].std == (1.0, 1.0, 1.0)
