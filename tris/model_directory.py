"""Model directories: ``config.json``, ``model.safetensors``, a model card, and what they need.

A directory is complete: it rebuilds the network without a download, unless the network leaves out
weights that can be had by name (`tris.left_out`). The class is named in ``config.json`` and must be
one of this package; nothing is unpickled.
"""

import abc
import dataclasses
import importlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import dacite
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from tris.batch import InputSpec
from tris.errors import InputError
from tris.files import replace_directory as replace_directory
from tris.left_out import check_left_out, describe_left_out, load_stored_state, stored_state

Config = TypeVar("Config")
Model = TypeVar("Model", bound="PretrainedModel")

FASTEST_LAYOUT = torch.channels_last
"""Memory layout of images and convolutions, in training and in use; what it does to speed is in
docs/performance.md. It may touch the last digit, so a network is saved and loaded without it."""

_MOST_KEYS = 40
"""Of a sentence about weights that do not fit."""


class ParameterGroup(NamedTuple):
    """Parameters that are trained alike.

    Attributes:
        name: For logs and checkpoints.
        parameters: Each trainable parameter of the network is in exactly one group.
        learning_rate_scale: Factor on the run's learning rate.
        weight_decay: None = the run's weight decay.
    """

    name: str
    parameters: list[nn.Parameter]
    learning_rate_scale: float = 1.0
    weight_decay: float | None = None


class BuildableConfig(Protocol):
    """A frozen dataclass that describes a network."""

    def build(self, *, pretrained: bool = True) -> "PretrainedModel":
        """Make the network; ``pretrained=False`` skips weights that a file will replace."""
        ...


class PretrainedModel(nn.Module, abc.ABC):
    """A network that is described by a frozen config and lives in a model directory."""

    config: Any
    """The frozen dataclass that built the network."""

    def __init__(self) -> None:
        super().__init__()
        self.assets: dict[str, bytes] = {}
        """Files that belong to the network (a tokenizer), by name."""

    def save_pretrained(self, directory: Path | str, *, card: str = "") -> None:
        """Write the model directory; an existing one is replaced only when the new one is whole.

        Args:
            directory: The folder to make.
            card: Text of ``README.md``; a short one is written where it is empty.

        Raises:
            InputError: If the weights cannot be written, for want of space most often.
        """
        directory = Path(directory)
        directory.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
        try:
            description = {
                "class": f"{type(self).__module__}:{type(self).__qualname__}",
                "config_class": f"{type(self.config).__module__}:{type(self.config).__qualname__}",
                "config": dataclasses.asdict(self.config),
                "assets": sorted(self.assets),
            }
            if left_out := describe_left_out(self):
                description["left_out"] = left_out
            (scratch / "config.json").write_text(json.dumps(description, indent=2) + "\n")
            _save_weights(self, scratch / "model.safetensors")
            (scratch / "README.md").write_text(card or _default_card(self))
            for name, content in self.assets.items():
                (scratch / name).write_bytes(content)
            scratch.chmod(0o755)
            replace_directory(scratch, directory)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    @property
    @abc.abstractmethod
    def input_spec(self) -> InputSpec:
        """Size rule, normalisation and tokenizer of the network's input."""

    def left_out(self) -> dict[str, str]:
        """Return which frozen weights are not stored, by prefix, and where they come from.

        ``config.build(pretrained=False)`` fetches these all the same: no file replaces them.
        """
        return {}

    @classmethod
    def from_pretrained(cls: type[Model], source: Path | str) -> Model:
        """Rebuild a network from a model directory, or from a repository of the Hugging Face hub.

        Raises:
            InputError: If there is no such directory, it holds another kind of network, its
                weights do not fit its config (the keys are listed), or frozen weights that it
                leaves out cannot be had or are others.
        """
        directory = _find_directory(source)
        description = read_description(directory)
        model_class = find_class(description["class"])
        if not issubclass(model_class, cls):
            raise InputError(
                f"{source} holds a {model_class.__name__}, but a {cls.__name__} is wanted here."
            )
        config = decode_config(find_class(description["config_class"]), description["config"])
        model = config.build(pretrained=False)
        for name in description.get("assets", []):
            if Path(name).name != name:
                raise InputError(f"{directory}/config.json names an asset outside itself: {name}.")
            model.assets[name] = (directory / name).read_bytes()
        check_left_out(model, description.get("left_out", {}), made=str(directory))
        load_weights(model, directory / "model.safetensors")
        model.eval()
        return model  # type: ignore[no-any-return]  # checked by issubclass above


def read_description(directory: Path) -> dict[str, Any]:
    """Return the parsed ``config.json`` of a model directory.

    Raises:
        InputError: If it is missing or no model description.
    """
    path = directory / "config.json"
    if not path.is_file():
        raise InputError(f"{directory} is no model directory: it has no config.json.")
    try:
        description = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(description, dict) or not {"class", "config_class", "config"} <= set(
        description
    ):
        raise InputError(f"{path} does not name class, config_class and config.")
    return description


def find_class(name: str) -> Any:  # noqa: ANN401 - the class is known at run time only
    """Return the class that ``module:qualname`` names; only this package's classes are admitted."""
    module_name, _, class_name = name.partition(":")
    if module_name.split(".")[0] != "tris":
        raise InputError(f"A model directory may only name classes of tris, not {name!r}.")
    try:
        return getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"This version of tris has no class {name!r}.") from error


def decode_config(config_class: type[Config], values: dict[str, Any]) -> Config:
    """Turn parsed JSON into a config; unknown and missing keys raise.

    Raises:
        InputError: If a key is unknown or a value has the wrong type.
    """
    try:
        return dacite.from_dict(config_class, values, dacite.Config(strict=True, cast=[tuple]))
    except dacite.UnexpectedDataError as error:
        names = ", ".join(sorted(error.keys))
        raise InputError(
            f"{config_class.__name__} has no {names} in this version of tris: another one wrote it."
        ) from error
    except dacite.DaciteError as error:
        raise InputError(f"{config_class.__name__} cannot be read: {error}.") from error


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a safetensors file; every key must fit.

    Raises:
        InputError: If the file is missing or damaged, or keys are missing or left over.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing: the model directory is incomplete.")
    try:
        state = safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise InputError(f"{path} is damaged: {error}.") from error
    load_state(model, state, source=str(path))


def load_state(model: nn.Module, state: dict[str, Tensor], *, source: str) -> None:
    """Load a state dict; every key and every shape must fit, but for weights that are left out.

    Raises:
        InputError: Lists keys that are missing, left over or of another shape.
    """
    wanted = stored_state(model)
    missing = sorted(set(wanted) - set(state))
    unexpected = sorted(set(state) - set(wanted))
    misshapen = sorted(
        f"{key} {tuple(state[key].shape)} != {tuple(wanted[key].shape)}"
        for key in set(wanted) & set(state)
        if state[key].shape != wanted[key].shape
    )
    if missing or unexpected or misshapen:
        raise InputError(
            f"The weights in {source} do not fit {type(model).__name__}: "
            f"missing {_some(missing)}, unexpected {_some(unexpected)}, "
            f"of another shape {_some(misshapen)}."
        )
    load_stored_state(model, state)


def _some(names: list[str]) -> str:
    shown = names[:_MOST_KEYS]
    rest = f" and {len(names) - _MOST_KEYS} more" if len(names) > _MOST_KEYS else ""
    return f"{shown}{rest}"


def _save_weights(model: nn.Module, path: Path) -> None:
    try:
        safetensors.torch.save_file(_plain_state(model), path)
        path.chmod(0o644)  # safetensors keeps files to their owner; a model is to be shared
    except safetensors.SafetensorError as error:
        free = shutil.disk_usage(path.parent).free
        raise InputError(
            f"The weights cannot be written to {path.parent.parent} ({free / 1e6:.1f} MB are free "
            f"there; {error}): free some space or choose another folder."
        ) from error


def _plain_state(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().cpu().contiguous() for key, value in stored_state(model).items()}


def _find_directory(source: Path | str) -> Path:
    if Path(source).is_dir():
        return Path(source)
    name = str(source)
    if Path(source).exists() or name.startswith((".", "/")) or name.count("/") != 1:
        raise InputError(f"There is no model directory {source}.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(
            f"{source} is neither a folder here nor a repository the hub could give ({error})."
        ) from error


def _default_card(model: PretrainedModel) -> str:
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return (
        f"---\nlibrary_name: tris\n---\n# {type(model).__name__}\n\n"
        f"{parameters:,} parameters, made with `tris`: "
        "referring image segmentation learned from text alone.\n\n"
        f"```python\nfrom {type(model).__module__} import {type(model).__name__}\n"
        f'model = {type(model).__name__}.from_pretrained("this/folder")\n```\n'
    )
