"""What an attack of anybody's returned, as training can use it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from robustml.errors import RequestError


def crafted(x_adv: Any, x: Tensor) -> Tensor:
    """`x_adv` (K N, ...) outside of any graph, on the device and of the type of the images `x` (N, ...).

    K is 1 but for objectives that train on what several attacks made of each image.

    Raises:
        RequestError: it is no tensor, or none of such a shape.
    """
    if not isinstance(x_adv, Tensor) or x_adv.shape[1:] != x.shape[1:] or not len(x_adv) or len(x_adv) % len(x):
        found = f"shape {tuple(x_adv.shape)}" if isinstance(x_adv, Tensor) else f"a {type(x_adv).__name__}"
        raise RequestError(
            f"the attack returned {found} for images of shape {tuple(x.shape)}; expected one tensor of that shape"
        )
    return x_adv.detach().to(x)
