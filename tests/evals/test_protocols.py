"""A protocol is one entry: what it says of itself is enough for whoever checks and measures."""

import numpy as np
import pytest

from vssl_jax import config as config_lib
from vssl_jax import instrument
from vssl_jax.errors import UserError
from vssl_jax.evals import features, subject
from vssl_jax.evals import study as study_lib
from vssl_jax.evals.measure import measure
from vssl_jax.evals.protocols import PROTOCOLS, Protocol

CNN = {"name": "cnn_small", "width": 4, "frames": 4, "size": 16, "dtype": "float32"}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_each_is_of_one_thing_and_has_settings(name):
    protocol = PROTOCOLS[name]
    assert sum(made is not None for made in (protocol.frozen, protocol.tuned, protocol.own)) == 1
    assert name in config_lib.evaluation()


def test_one_more_is_checked_and_measured_by_its_entry_alone(monkeypatch):
    """On frozen features, with their maps or without, for every seed or once for all; and the instrument reads it too."""
    config, given = config_lib.evaluation(), []
    for split in (config.train, config.test):
        split.update({"source": "synthetic", "canvas": (16, 16), "videos": 16})
        split.sampler.frames = 4
    config.protocols, config.turned = ("turned",), {"by": 1}

    def check(settings, planned):
        if settings["by"] >= len(planned.classes):
            raise UserError("it turns too far")

    def turned(found, classes, settings, seed):
        (train, test) = found[0]
        given.append((train.map_NxTxHxWxD is not None, seed))
        return np.eye(classes)[(test.labels_N + settings["by"]) % classes], test.labels_N

    who = (subject.random(subject.Subject(CNN, {}, {}, ""), 0),)
    for by_seed, maps, wanted in ((True, False, [(False, 3), (False, 4)]), (False, True, [(True, 3)])):
        monkeypatch.setitem(PROTOCOLS, "turned", Protocol(check, frozen=turned, seeded=by_seed, reads_map=lambda settings, maps=maps: maps))
        study_lib.check(config, CNN, [{}])
        found = measure(study_lib.open_study(config, None), {3: who, 4: who}, ["turned"])
        assert [result.top1 for result in found["turned"]] == [0.0] * len(wanted) and given == wanted
        given.clear()
    table = features.Table(np.zeros((4, 2)), None, np.arange(4), np.arange(4))
    np.testing.assert_array_equal(instrument._frozen("turned", lambda: (table, table), config.turned, 0)[0].argmax(1), [1, 2, 3, 0])
    config.turned.by = 100
    with pytest.raises(UserError, match="it turns too far"):
        study_lib.check(config, CNN, [{}])
