"""Weights that are not stored with a network, because they can be had again by name.

A frozen encoder of 2.5 GB does not belong into every checkpoint. A network names such parts in its
method ``left_out``; model directories and checkpoints then hold the other weights, and of these
parts only the name and the digest. Whoever loads them builds the network, which fetches the parts
by name, and compares digests: another encoder under the same name is refused.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from tris.errors import InputError

Description = dict[str, dict[str, str]]
"""``{"prefix.": {"source": ..., "digest": ...}}``, as it stands in files."""


@runtime_checkable
class LeavesOut(Protocol):
    """A network some of whose weights are not stored."""

    def left_out(self) -> dict[str, str]:
        """Return where the weights come from, by the prefix of their keys (final dot included)."""
        ...


def stored_state(module: nn.Module) -> dict[str, Tensor]:
    """Return the state dict without what the module, or a network inside it, leaves out."""
    prefixes = tuple(prefix for prefix, _, _ in _parts(module))
    state: dict[str, Tensor] = module.state_dict()
    return {key: value for key, value in state.items() if not key.startswith(prefixes)}


def load_stored_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load what `stored_state` returned; what is left out stays as it is."""
    prefixes = tuple(prefix for prefix, _, _ in _parts(module))
    own = {key: each for key, each in module.state_dict().items() if key.startswith(prefixes)}
    module.load_state_dict({**own, **state}, strict=True)


def describe_left_out(module: nn.Module) -> Description:
    """Return source and digest of every part that is left out; such parts are frozen."""
    description = {}
    for prefix, source, digests in _parts(module):
        if prefix not in digests:
            state = module.state_dict()
            digests[prefix] = digest_of_state(
                {k.removeprefix(prefix): state[k] for k in state if k.startswith(prefix)}
            )
        description[prefix] = {"source": source, "digest": digests[prefix]}
    return description


def check_left_out(module: nn.Module, saved: Description, *, made: str) -> None:
    """Make sure that the parts left out are those that the stored weights were trained with.

    Args:
        module: Built, with these parts.
        saved: `describe_left_out` of the network that was stored.
        made: What holds the stored weights, for the message.

    Raises:
        InputError: If one differs.
    """
    here = describe_left_out(module)
    for prefix in sorted(saved.keys() | here.keys()):
        found, wanted = here.get(prefix, {}), saved.get(prefix, {})
        if found.get("digest") != wanted.get("digest"):
            raise InputError(
                f"{made} was trained with the frozen weights {_name(wanted)} as "
                f"{prefix.rstrip('.')}, but here they are {_name(found)}: get those, they are not "
                "stored with it."
            )


def digest_of_state(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and values of a state dict."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _parts(module: nn.Module) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield full prefix, source, and the memory of digests of the network it belongs to."""
    for name, network in module.named_modules():
        if isinstance(network, LeavesOut):
            memory = network.__dict__.setdefault("_left_out_digests", {})
            for prefix, source in network.left_out().items():
                yield (f"{name}.{prefix}" if name else prefix), source, memory


def _name(part: Mapping[str, str]) -> str:
    return f"{part['source']} (SHA-256 {part['digest'][:12]})" if part else "stored with it"
