"""A device that is not there: what lies on it is in memory, but may not be mixed with the rest.

A machine without a GPU runs everything on one device, so that a tensor that was made in the wrong
place is never noticed. Here tensors say that they lie on another one, and every operation raises
that a GPU would refuse: one of tensors of both places, a product of integers, NumPy. PyTorch's meta
device lends its name, for nobody asks it for a driver; nothing is computed there.
"""

import contextlib

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")
aten = torch.ops.aten
PRODUCTS = {
    aten.mm, aten.bmm, aten.mv, aten.dot, aten.addmm, aten.baddbmm, aten.addbmm, aten.convolution,
}  # fmt: skip
MAY_MIX = {aten._to_copy, aten.copy_}
TAKE_INDICES_FROM_MEMORY = {aten.index, aten.index_put_, aten._unsafe_index}


class Elsewhere(torch.Tensor):
    """A tensor on the other device; `here` is where it really is."""

    @staticmethod
    def __new__(cls, here):
        made = torch.Tensor._make_wrapper_subclass(
            cls, here.size(), strides=here.stride(), storage_offset=here.storage_offset(),
            dtype=here.dtype, device=DEVICE,
        )  # fmt: skip
        made.here = here
        return made

    def __repr__(self):
        return f"Elsewhere({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, function, types, arguments=(), options=None):
        return run(function, arguments, options or {})

    def tolist(self):
        return self.here.tolist()

    def numpy(self, **options):
        raise TypeError("What lies elsewhere is no array; call .cpu() first.")

    def new_tensor(self, values, dtype=None):
        return Elsewhere(torch.tensor(values, dtype=dtype or self.dtype))

    def __getitem__(self, key):
        return super().__getitem__(torch.tensor(key) if isinstance(key, list) else key)


class OtherDevice(TorchDispatchMode):
    """Inside this context the device is there."""

    def __enter__(self):
        self._patches = contextlib.ExitStack()
        for name, value in {
            "inference_mode": torch.no_grad,
            "tensor": make_tensor, "autocast": no_autocast, "is_autocast_enabled": lambda *_: False,
        }.items():  # fmt: skip
            self._patches.callback(setattr, torch, name, getattr(torch, name))
            setattr(torch, name, value)
        return super().__enter__()

    def __exit__(self, *error):
        self._patches.close()
        return super().__exit__(*error)

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        return run(function, arguments, options or {})


def take(module: nn.Module) -> nn.Module:
    """Move a network there."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                moved = Elsewhere(weight.detach())
                part._parameters[name] = nn.Parameter(moved, requires_grad=weight.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = Elsewhere(buffer)
    return module


def move(batch):
    """Move a batch there."""
    return type(batch)(
        *(Elsewhere(each) if isinstance(each, torch.Tensor) else each for each in batch)
    )


def bring(value):
    """Return what lies elsewhere, or in memory anyway."""
    return value.here if isinstance(value, Elsewhere) else value


def run(function, arguments, options):
    """Do an operation in memory, if a GPU would do it; say that its result lies elsewhere."""
    kind = function.overloadpacket
    tensors = [each for each in tree_leaves((arguments, options)) if torch.is_tensor(each)]
    there = [each for each in tensors if isinstance(each, Elsewhere)]
    check(kind, there, [each for each in tensors if not isinstance(each, Elsewhere)], arguments)
    wanted = options.get("device")
    here = {name: torch.device("cpu") if name == "device" and wanted else bring(value)
            for name, value in options.items()}  # fmt: skip
    result = function(*tree_map(bring, arguments), **tree_map(bring, here))
    if there and result is bring(arguments[0]):
        return arguments[0]  # it was written in place
    is_there = bool(there) if wanted is None else torch.device(wanted) == DEVICE
    if not is_there:
        return result
    return tree_map(lambda each: Elsewhere(each) if torch.is_tensor(each) else each, result)


def check(kind, there, here, arguments):
    """Raise what a GPU would."""
    if not there:
        return
    if kind in PRODUCTS:
        assert all(each.is_floating_point() for each in there), f"{kind} of integers"
    if kind in TAKE_INDICES_FROM_MEMORY and isinstance(arguments[0], Elsewhere):
        return
    strangers = [tuple(each.shape) for each in here if each.dim() > 0]
    assert not strangers or kind in MAY_MIX, f"{kind} with {strangers} in memory"


_tensor = torch.tensor


def make_tensor(values, *, device=None, **options):
    made = _tensor(values, **options)
    return Elsewhere(made) if device is not None and torch.device(device) == DEVICE else made


def no_autocast(*_, **__):
    return contextlib.nullcontext()
