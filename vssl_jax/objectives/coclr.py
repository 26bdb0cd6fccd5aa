"""CoCLR (Han, Xie, Zisserman 2020, https://arxiv.org/abs/2010.09709): two networks, one that sees colors and one that sees optical flow, say to each
other which videos are alike.

By itself either network takes another clip of the same video for its only positive, and all other videos for negatives, those of the same
action too. Two such videos often look alike to one network and not to the other: so the nearest keys of *that* one are positives of this one.

    turns rgb_nce, flow_nce    each network by itself: InfoNCE against a queue of its keys
    turns rgb, flow            in turn, `cycles` times: one network learns, and the other, which stands still, mines its positives

    Step 1) a turn begins with a queue of random vectors and a key network that is a copy
    Step 2) keys of the second clip by the learning network's average; what the other network makes of the same clip, in evaluation mode
    Step 3) positives: the own key, the entries of the queue that are of the same source, and the `mined` nearest of the others, by the other network.
            The own key is so near that it hides them: it is left out of the positives 9 times of 10, where there are others (the authors' code)
    Step 4) -log of the positives' share (MIL-NCE), and both keys go into the queues
    Step 5) in the turns that mine, nothing is learned from a queue that is not full of keys

The authors train every turn of every cycle as a run of its own. Here a turn that comes again goes on with its optimizer's moments.

Letters as in joint.py, and K entries of the queue, M that are mined.
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp

from vssl_jax import batch as batch_lib
from vssl_jax.errors import Limit, UserError, above, at_least, between, check_limits, unknown_name
from vssl_jax.objectives import average as average_lib
from vssl_jax.objectives import collapse, losses
from vssl_jax.objectives import queue as queue_lib
from vssl_jax.objectives.average import Average
from vssl_jax.objectives.encoder import HEAD
from vssl_jax.objectives.joint import EMA, HEAD_STATS, RUNNING, JointEmbedding, Seen, shared_fields
from vssl_jax.objectives.protocol import ACCURACY, ENCODER, LOSS, STATS, VIDEO, Memory, Parts, Turn, part_of
from vssl_jax.perturb import flow_view, pieces
from vssl_jax.perturb import keys as keys_lib
from vssl_jax.perturb.flow import TVL1
from vssl_jax.perturb.view import denormalize

log = logging.getLogger(__name__)

RGB, FLOW = "rgb", "flow"
KINDS = ("rgb_nce", "flow_nce", RGB, FLOW)  # of turns
PREFIX = {RGB: "", FLOW: "flow_"}  # of a network's parts and statistics
OTHER, SOURCE, CLASS, KIND, FULL = "queue_other", "queue_source", "queue_class", "kind", "full"


@dataclass(frozen=True)
class CoCLR(JointEmbedding):
    """Parts: "encoder", "head", which see colors, and "flow_encoder", "flow_head". Memory: their statistics, likewise; "average", of the network that
    learns; "queue", its keys, and "queue_other", the other network's, float32 [size, D], with "queue_source" and "queue_class" int32 [size] and what
    a queue has besides; "kind", the place in KINDS of the turn that was last, int32, and "full", whether the loss that was last had a queue full of keys.

    Two views, each of as many frames as the encoder takes, from clips that are one frame longer. `flow_of` "view": flow is of the cropped clip, so a
    mirrored clip has flow to the other side; "film": as in the paper flow is of the film and then cropped and mirrored like a picture.
    `initial`, `learning`: how many steps a turn of either sort lasts. Features: "video", of the network of colors, which is the one that is fine-tuned; and
    "flow", of the other one.
    """

    average: Average = field(default_factory=Average)
    flow: TVL1 = field(default_factory=TVL1)
    flow_of: str = "view"
    bound: float = 20.0
    size: int = 2048
    temperature: float = 0.07
    mined: int = 5
    drop_own: float = 0.9
    siblings: bool = True  # entries of the same source are never mined, and are positives
    initial: int = 1
    learning: int = 1
    cycles: int = 1

    def __post_init__(self):
        super().__post_init__()
        if len(self.views) != 2:
            raise UserError(f"CoCLR compares two views, objective.views has {len(self.views)}")
        if self.views[0].stride != self.views[1].stride:
            raise UserError(
                f"CoCLR's views have strides {self.views[0].stride} and {self.views[1].stride}: flow is found of frames equally far apart in both"
            )
        if self.flow_of not in flow_view.FLOW_OF:
            raise unknown_name("objective.flow_of", self.flow_of, flow_view.FLOW_OF)
        check_limits(
            "objective",
            mined=(self.mined, Limit(f"1 or more and below objective.queue={self.size}", lambda value: 1 <= value < self.size)),
            temperature=(self.temperature, above(0)),
            drop_own=(self.drop_own, between(0, 1)),
            **{name: (getattr(self, name), at_least(1)) for name in ("initial", "learning", "cycles")},
        )

    @property
    def turns(self) -> tuple[Turn, ...]:
        parts = {name: (f"{PREFIX[name]}{ENCODER}", f"{PREFIX[name]}{HEAD}") for name in (RGB, FLOW)}
        alone = tuple(Turn(kind, parts[kind.removesuffix("_nce")], self.initial) for kind in KINDS[:2])
        return alone + self.cycles * tuple(Turn(name, parts[name], self.learning) for name in (RGB, FLOW))

    def check_run(self, videos, steps, sampler):
        if steps > (planned := sum(turn.steps for turn in self.turns)):
            log.warning(
                "train.steps=%d is more than the %d of all turns: they begin again, with each network by itself; raise objective.learning or cycles",
                steps, planned,
            )  # fmt: skip

    def init(self, rng, batch):
        rgb_rng, flow_rng, queue_rng = jax.random.split(rng, 3)
        params, memory = {}, {}
        for name, own_rng in ((RGB, rgb_rng), (FLOW, flow_rng)):
            own_params, own_memory = super().init(own_rng, batch)
            params |= {f"{PREFIX[name]}{part}": tree for part, tree in own_params.items()}
            memory |= {f"{PREFIX[name]}{entry}": tree for entry, tree in own_memory.items()}
        memory |= queue_lib.start(queue_rng, self.size, self.head.dim)
        none = jnp.full((self.size,), -1, jnp.int32)
        memory |= {
            OTHER: jnp.copy(memory[queue_lib.QUEUE]),
            SOURCE: none,
            CLASS: jnp.copy(none),
            KIND: jnp.full((), -1, jnp.int32),
            FULL: jnp.zeros((), bool),
        }
        return params, memory | {EMA: jax.tree.map(jnp.copy, self._network(params, memory, RGB))}

    def _network(self, params: Parts, memory: Memory, name: str) -> dict[str, Any]:
        """A network's parts and statistics under the names that `vectors` knows."""
        of = {part: params[f"{PREFIX[name]}{part}"] for part in (ENCODER, HEAD)}
        return of | {entry: memory[f"{PREFIX[name]}{entry}"] for entry in (STATS, HEAD_STATS)}

    def shown(self):
        return {VIDEO: {}, FLOW: {"flow": {"settings": asdict(self.flow), "of": self.flow_of, "bound": self.bound}}}

    def backbone(self, params, memory, feature=VIDEO):
        return params[part_of(feature, ENCODER)], memory[part_of(feature, STATS)]

    def see(self, batch, rng):
        """Without what only flow needs of a clip, its last frame: a view that begins anywhere then begins where its flow does."""
        behind = 1 if self.flow_of == flow_view.OF_FILM else self.views[0].stride
        return super().see(pieces.without_last(batch, behind), rng)

    def see_flow(self, batch: batch_lib.Batch, rng: jax.Array) -> Seen:
        """The views of `see`, as flow: the same stretches, crops and flips, and, where flow is of the film, colors."""
        flow_view.check_stored(batch, self.flow_of)
        if self.flow_of == flow_view.OF_FILM:
            return super().see(flow_view.of_film(batch, self.flow, self.bound), rng)
        plain = tuple(replace(view, frames=view.frames + 1, view=replace(view.view, color=())) for view in self.views)
        seen = zip(plain, JointEmbedding.see(replace(self, views=plain), batch, rng), strict=True)
        return [flow_view.of_clip(x, view.view.mean, view.view.std, self.flow, self.bound) for view, x in seen]

    def _begin(self, params: Parts, memory: Memory, kind: int, name: str, rng: jax.Array) -> Memory:
        """Step 1."""
        new = memory[KIND] != kind
        fresh = jax.lax.cond(
            new, lambda: queue_lib.start(rng, self.size, self.head.dim), lambda: {entry: memory[entry] for entry in queue_lib.ENTRIES}
        )
        average = jax.tree.map(lambda copy, old: jnp.where(new, copy, old), self._network(params, memory, name), memory[EMA])
        return memory | fresh | {EMA: jax.lax.stop_gradient(average), KIND: jnp.int32(kind), FULL: fresh[queue_lib.FILLED] == self.size}

    def _watch(self, batch: batch_lib.Batch, rng: jax.Array, name: str) -> Seen:
        return self.see(batch, rng) if name == RGB else self.see_flow(batch, rng)

    def _positives(self, other_BxD: jax.Array, memory: Memory, batch: batch_lib.Batch, rng: jax.Array) -> tuple[jax.Array, jax.Array, dict]:
        """Step 3: (the own key and the queue's entries that are positives, bool [B, 1 + size]; whose own key is left out, bool [B]; metrics)."""
        filled = jnp.arange(self.size) < memory[queue_lib.FILLED]
        kin_BxK = (source_of(batch)[:, None] == memory[SOURCE]) & filled & self.siblings
        alike_BxK = losses.similarity(other_BxD, jax.lax.stop_gradient(memory[OTHER]))
        best, places_BxM = jax.lax.top_k(jnp.where(kin_BxK | ~filled, -jnp.inf, alike_BxK), self.mined)
        hits_BxMxK = jax.nn.one_hot(places_BxM, self.size, dtype=bool) & jnp.isfinite(best)[:, :, None]
        mined_BxK = jnp.any(hits_BxMxK, axis=1)
        others_BxK = mined_BxK | kin_BxK
        keys_B = keys_lib.example_keys(rng, batch, keys_lib.TASK)
        drop_B = jax.vmap(lambda key: jax.random.bernoulli(key, self.drop_own))(keys_B) & jnp.any(others_BxK, axis=1)
        known_BxK = mined_BxK & (memory[CLASS] >= 0) & (batch[batch_lib.LABEL] >= 0)[:, None]
        right = jnp.sum(known_BxK & (memory[CLASS] == batch[batch_lib.LABEL][:, None]))
        same = jnp.sum(mined_BxK & (source_of(batch)[:, None] == memory[SOURCE]))
        metrics = {
            "mined/precision": right / jnp.maximum(jnp.sum(known_BxK), 1),
            "mined/siblings": same / jnp.maximum(jnp.sum(mined_BxK), 1),
        }
        return jnp.concatenate([~drop_B[:, None], others_BxK], axis=1), drop_B, metrics

    def loss(self, params, memory, batch, rng, turn):
        kind = KINDS.index(turn.name)
        name, other = ((RGB, FLOW), (FLOW, RGB))[kind % 2]
        memory, drawn = self._begin(params, memory, kind, name, rng), keys_lib.example_keys(rng, batch, keys_lib.DROPOUT)
        first, second = self._watch(batch, rng, name)
        query_Bx1xD, running = self.vectors(*2 * (self._network(params, memory, name),), [first], drawn, True)
        key_Bx1xD, average = self.vectors(memory[EMA], memory[EMA], [second], keys_lib.unit_keys(drawn, 1)[:, 0], True)
        query_BxD, key_BxD = query_Bx1xD[:, 0], jax.lax.stop_gradient(key_Bx1xD[:, 0])

        own_Bx1 = jnp.sum(query_BxD * key_BxD, axis=1, keepdims=True) / self.temperature
        queue_BxK = losses.similarity(query_BxD, jax.lax.stop_gradient(memory[queue_lib.QUEUE]), self.temperature)
        scores, weight = jnp.concatenate([own_Bx1, queue_BxK], axis=1), batch[batch_lib.WEIGHT]
        metrics = {
            ACCURACY: losses.mean((own_Bx1[:, 0] > jnp.max(queue_BxK, axis=1)).astype(jnp.float32), weight),
            "queue/filled": memory[queue_lib.FILLED] / self.size,
        }
        if kind < 2:
            loss, seen_by_other = losses.mean(losses.info_nce(own_Bx1[:, 0], queue_BxK), weight), key_BxD
        else:  # step 2
            net = jax.lax.stop_gradient(self._network(params, memory, other))
            seen_by_other = self.vectors(net, net, [self._watch(batch, rng, other)[1]], drawn, False)[0][:, 0]
            positive, _, mined = self._positives(seen_by_other, memory, batch, rng)
            loss, metrics = losses.mean(losses.mil_nce(scores, positive), weight), metrics | mined
        pushed = queue_lib.push(memory, key_BxD, **{OTHER: seen_by_other, SOURCE: source_of(batch), CLASS: batch[batch_lib.LABEL]})
        stats = {f"{PREFIX[name]}{entry}": running[entry] for entry in RUNNING}
        memory = memory | stats | pushed | {EMA: memory[EMA] | average}
        return loss, (memory, metrics | collapse.monitor(query_BxD, weight))

    def moves(self, memory, turn):
        """Step 5."""
        return True if KINDS.index(turn.name) < 2 else memory[FULL]

    def after_update(self, params, memory, step):
        average, learns_flow = memory[EMA], memory[KIND] % 2 == 1
        now = {
            part: jax.tree.map(lambda a, b: jnp.where(learns_flow, b, a), params[part], params[f"flow_{part}"]) for part in (ENCODER, HEAD)
        }
        return memory | {EMA: average | self.average.follow({part: average[part] for part in now}, now, step)}

    def held_out(self, params, memory, batch, rng):
        """Each network by itself: does it find a video's other clip among those of the batch?"""
        total, metrics, weight = 0.0, {}, batch[batch_lib.WEIGHT]
        for name in (RGB, FLOW):
            net = self._network(params, memory, name)
            z_BxVxD, _ = self.vectors(net, net, self._watch(batch, rng, name), keys_lib.example_keys(rng, batch, keys_lib.DROPOUT), False)
            loss_B, right_B = losses.nt_xent(z_BxVxD, self.temperature, weight)
            total += losses.mean(loss_B, weight)
            metrics |= {f"{name}/{ACCURACY}": losses.mean(right_B, weight)}
        return {LOSS: total} | metrics

    def pictures(self, params, memory, batch, rng):
        """What both networks see."""
        flow = [denormalize(seen, self.view.mean, self.view.std) for seen in self.see_flow(batch, rng)]
        return super().pictures(params, memory, batch, rng) | {f"flow {v + 1}": jnp.clip(x, 0, 1) for v, x in enumerate(flow)}

    @property
    def passes(self):
        """The mean over the turns: a query, a key, and in half of the turns what the other network makes of it. Without the flow itself."""
        alone, together = 2 * self.initial, 2 * self.cycles * self.learning
        return (4.0 * alone + 5.0 * together) / (alone + together)


def source_of(batch: batch_lib.Batch) -> jax.Array:
    """int32 [B]: which recording a video was cut from, where the data say so, else which video it is."""
    return batch[batch_lib.GROUP] if batch_lib.GROUP in batch else batch[batch_lib.INDEX]


def from_config(config: Mapping[str, Any]) -> CoCLR:
    """`objective.queue` (its length), `temperature`, `mined`, `drop_own`, `siblings`, `flow` (fields of TVL1), `flow_of`, `bound`, `average`; `initial`,
    `learning` (steps of a turn of either sort), `cycles`; and what every joint embedding has (objectives/joint.py).
    """
    c = config["objective"]
    own = {name: c[name] for name in ("temperature", "mined", "drop_own", "siblings", "flow_of", "bound", "initial", "learning", "cycles")}
    averaged = average_lib.build(c["average"], config["train"]["steps"])
    return CoCLR(size=c["queue"], flow=TVL1(**c["flow"]), average=averaged, **own, **shared_fields(config))
