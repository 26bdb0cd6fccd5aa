"""Views of flow in place of colors, as the flow network of a two-stream method sees them (Simonyan and Zisserman 2014; CoCLR, Han et al. 2020).

The one idea: flow is either of what is seen, the cropped clip, so that a mirrored clip has flow to the other side; or, as in data sets that were made once
and for all, of the film, and is then cropped and mirrored like any picture: in pixels of the film as it is on the canvas, however it is resized then. A
clip of T + 1 frames has T frames of flow. Where the batch has stored flow of the film (FLOW), that is taken: from each frame to the film's next one,
which is not the clip's next where frames are left out between them or one is shown twice; `settings` and `bound` are then those it was made with.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from vssl_jax import batch as batch_lib
from vssl_jax.errors import UserError, unknown_name
from vssl_jax.perturb import flow as flow_lib
from vssl_jax.perturb import pieces
from vssl_jax.perturb.flow import TVL1
from vssl_jax.perturb.view import denormalize, normalize

OF_VIEW, OF_FILM = FLOW_OF = ("view", "film")


def of_clip(clip: jax.Array, mean: tuple[float, ...], std: tuple[float, ...], settings: TVL1, bound: float) -> jax.Array:
    """Pictures of the flow of a normalized clip [..., T + 1, h, w, 3]: [..., T, h, w, 3], normalized as it is."""
    gray = 255 * flow_lib.luma(denormalize(clip, mean, std))[..., 0]
    return normalize(flow_lib.to_picture(flow_lib.tvl1_video(gray, settings), bound), mean, std).astype(clip.dtype)


def of_film(batch: batch_lib.Batch, settings: TVL1, bound: float) -> dict[str, jax.Array]:
    """The batch with pictures of its flow in place of its frames, of which there is one more."""
    frames = (batch_lib.VIDEO, batch_lib.LUMA, batch_lib.CHROMA, batch_lib.YUV_SPACE)
    rest = {key: value for key, value in batch.items() if key not in (*frames, batch_lib.FLOW)}
    if batch_lib.FLOW in batch:
        two = batch[batch_lib.FLOW][:, :, :-1]
        made = jnp.concatenate([two, jnp.full_like(two[..., :1], flow_lib.STILL)], axis=-1)
        return rest | {batch_lib.VIDEO: made, batch_lib.TIME: batch[batch_lib.TIME][:, :, :-1]}
    picture_BxKxTxHxWx3 = flow_lib.to_picture(flow_lib.tvl1_video(flow_lib.gray_of(batch), settings), bound)
    made = jnp.round(255 * picture_BxKxTxHxWx3).astype(jnp.uint8)
    return rest | {batch_lib.VIDEO: made, batch_lib.TIME: batch[batch_lib.TIME][:, :, :-1]}


def check_stored(batch: batch_lib.Batch, of: str) -> None:
    """Raises UserError where the batch has the film's flow, and flow is to be found of what is seen."""
    if batch_lib.FLOW in batch and of != OF_FILM:
        raise UserError(
            f"stored flow is of the film, and flow_of={of} finds it of what is seen: leave data.flow empty, or train with objective.flow_of=film"
        )


@dataclass(frozen=True)
class FlowView:
    """What a view (RandomView or EvalView) shows, as flow: `of` "view" or "film", see above. What a view does to colors is done to the frames before their
    flow is found, or to the film's flow.
    """

    view: Any
    settings: TVL1 = field(default_factory=TVL1)
    of: str = OF_VIEW
    bound: float = 20.0

    def __post_init__(self):
        if self.of not in FLOW_OF:
            raise unknown_name("flow of", self.of, FLOW_OF)

    @property
    def size(self):
        return self.view.size

    def __call__(self, *args) -> jax.Array:
        """As the view is called, (keys_B, batch) or (batch,): one frame fewer than the batch has."""
        *keys, batch = args
        pieces.check_span(batch, 2, "a frame and the next, for flow,")
        check_stored(batch, self.of)
        if self.of == OF_FILM:
            return self.view(*keys, of_film(batch, self.settings, self.bound))
        return of_clip(self.view(*keys, batch), self.view.mean, self.view.std, self.settings, self.bound)
