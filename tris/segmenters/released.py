"""Filling a network from a checkpoint that somebody released, whatever its names are."""

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor

from tris.errors import InputError
from tris.model_directory import PretrainedModel, load_state

State = dict[str, Tensor]
Network = TypeVar("Network", bound=PretrainedModel)


def load_released(network: Network, state: State, rename: Callable[[str], str]) -> Network:
    """Fill a network from a released state dict; every key must be used, and none may lack.

    Args:
        network: Is filled in place.
        state: Under the released names.
        rename: Returns the released name of one of the network's weights.

    Raises:
        InputError: Lists keys that are missing, left over or of another shape.
    """
    own = network.state_dict()
    names = {rename(key): key for key in own}
    missing, unexpected = sorted(names.keys() - state.keys()), sorted(state.keys() - names.keys())
    if missing or unexpected:
        raise InputError(
            f"The released weights do not fit {type(network).__name__}: missing {missing}, "
            f"unexpected {unexpected}; check what kind of checkpoint the file is."
        )
    renamed = {
        names[key]: _drop_kernel_axes(value, own[names[key]]) for key, value in state.items()
    }
    load_state(network, renamed, source="the released checkpoint")
    return network.eval()


def _drop_kernel_axes(value: Tensor, wanted: Tensor) -> Tensor:
    """Bring a pointwise convolution over words to the linear layer that it is."""
    kernel = value.shape[wanted.ndim :]
    return value.flatten(wanted.ndim - 1) if kernel and set(kernel) == {1} else value
