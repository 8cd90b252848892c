"""What every stage does first: read its arguments, find its folders, start Accelerate."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs

from tris.config import ExperimentConfig, parse_stage, to_json
from tris.encoders.clip import ClipConfig, ClipEncoder
from tris.errors import InputError
from tris.files import replace_file
from tris.model_directory import FASTEST_LAYOUT, decode_config, read_description
from tris.training.precision import choose_mixed_precision
from tris.training.seeding import seed_everything
from tris.training.settings import TrainingConfig

Network = TypeVar("Network", bound=torch.nn.Module)


@dataclass(frozen=True)
class Folders:
    """Where a run keeps what it makes; every stage reads and writes below ``run``."""

    run: Path

    @property
    def config(self) -> Path:
        """The whole experiment that the run's work was done for."""
        return self.run / "config.json"

    @property
    def data(self) -> Path:
        """Official files of the embedded data set."""
        return self.run / "data"

    @property
    def index(self) -> Path:
        """The index that training reads: no mask of the training split is in it."""
        return self.run / "index"

    @property
    def index_with_masks(self) -> Path:
        """The index of the ceiling and of scoring training labels; no other stage opens it."""
        return self.run / "index_with_masks"

    @property
    def index_gres(self) -> Path:
        """Sentences about several objects and about none, of the embedded data set."""
        return self.run / "index_gres"

    @property
    def index_groups(self) -> Path:
        """Image groups of the embedded data set."""
        return self.run / "index_groups"

    @property
    def clip(self) -> Path:
        """Model directory of stage 0."""
        return self.run / "clip"

    @property
    def labels(self) -> Path:
        """The label store."""
        return self.run / "labels"

    @property
    def features(self) -> Path:
        """Maps of frozen image encoders, where a segmenter caches them; can be removed."""
        return self.run / "features"

    @property
    def metrics(self) -> Path:
        """The figures of every step."""
        return self.run / "metrics.json"

    def job(self, name: str) -> Path:
        """Folder of one training: checkpoints, logs, ``model``."""
        return self.run / name

    def model(self, job: str) -> Path:
        """Model directory that a training delivered."""
        return self.run / job / "model"


@dataclass(frozen=True)
class Stage:
    """One started stage."""

    config: ExperimentConfig[Any]
    folders: Folders
    data: Path | None
    accelerator: Accelerator
    switches: frozenset[str] = frozenset()

    @property
    def is_main(self) -> bool:
        """Whether this process prints and writes."""
        return bool(self.accelerator.is_main_process)

    def say(self, text: str) -> None:
        """Print once, not once per process."""
        if self.is_main:
            print(text, flush=True)

    def keep_config(self, *, replaces: bool = True) -> None:
        """Write ``RUN/config.json``, once no check of the stage can refuse the experiment any more.

        Args:
            replaces: Whether an older one makes way; not where the stage finds its work done, for
                the next one may still refuse what this one does not depend on.
        """
        if self.is_main and (replaces or not self.folders.config.is_file()):
            replace_file(self.folders.config, json.dumps(to_json(self.config), indent=2) + "\n")


def start_stage(
    description: str, *, training: str | None = None, switches: Sequence[str] = ()
) -> Stage:
    """Read the command line and start Accelerate; nothing is written.

    Args:
        description: First line of the stage's help.
        training: Path of the `TrainingConfig` within the experiment ("response.training"); its
            precision and its attention are used. None = fp32.
        switches: Names of the stage's own on/off options.

    Raises:
        InputError: If the arguments cannot be used.
    """
    arguments, config = parse_stage(sys.argv[1:], description=description, switches=switches)
    settings = find_training(config, training) if training else TrainingConfig(precision="fp32")
    accelerator = Accelerator(
        mixed_precision=choose_mixed_precision(settings.precision),
        log_with="wandb" if config.tracking.tracking == "wandb" else None,
        project_dir=str(arguments.run),
        cpu=not torch.cuda.is_available(),
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=True)],
    )
    use_attention(settings)
    seed_everything(config.seed, process_index=accelerator.process_index)
    folders = Folders(arguments.run)
    return Stage(config, folders, arguments.data, accelerator, arguments.switches)


def use_attention(settings: TrainingConfig) -> None:
    """Take the attention that a training wants, in this process, from now on."""
    # Named after GPUs, heard by the processor's fused kernel, too.
    torch.backends.cuda.enable_flash_sdp(settings.attention != "plain")


def segmenter_job(config: ExperimentConfig[Any]) -> str:
    """Return the job folder of the experiment's segmenter: ``segmenter`` for the TRIS net."""
    name = config.segmenter.name
    return "segmenter" if name == "tris" else f"segmenter_{name}"


def ceiling_job(config: ExperimentConfig[Any]) -> str:
    """Return the job folder of the same network trained on annotated masks."""
    return segmenter_job(config).replace("segmenter", "ceiling", 1)


def wanted_text(config: ExperimentConfig[Any]) -> Literal["clean", "raw"]:
    """Return which form of the sentences is read."""
    return "clean" if config.data.text == "sent" else "raw"


def find_training(config: ExperimentConfig[Any], path: str) -> TrainingConfig:
    """Return the `TrainingConfig` at a dotted path."""
    value: Any = config
    for name in path.split("."):
        value = getattr(value, name)
    if not isinstance(value, TrainingConfig):
        raise TypeError(f"{path} is no TrainingConfig.")
    return value


def with_own_clip(stage: Stage) -> ExperimentConfig[Any]:
    """Return the experiment with stage 0's CLIP in the places of the pretrained ones.

    Raises:
        InputError: If stage 0 has not been run.
    """
    config = stage.config
    if config.pretrain is None:
        return config
    if not (stage.folders.clip / "config.json").is_file():
        raise InputError(
            f"{stage.folders.clip} holds no CLIP yet: run stages/pretrain_clip.py first."
        )
    own = read_description(stage.folders.clip)["config"]
    encoder: ClipConfig = decode_config(ClipConfig, own)
    encoder = dataclasses.replace(encoder, pretrained=str(stage.folders.clip))
    response = config.response
    network = dataclasses.replace(response.network, encoder=encoder)
    calibration = dataclasses.replace(response.calibration, encoder=encoder)
    response = dataclasses.replace(response, network=network, calibration=calibration)
    return dataclasses.replace(config, response=response)


def find_stage1(stage: Stage) -> Path:
    """Return the model directory of stage 1.

    Raises:
        InputError: If there is none.
    """
    directory = stage.folders.model("response")
    if not (directory / "config.json").is_file():
        raise InputError(f"{directory} holds no stage-1 network yet: run make stage1 first.")
    return directory


def on_device(network: Network, stage: Stage) -> Network:
    """Return a network for use: on this process's device, in the layout that is fastest there."""
    return network.to(stage.accelerator.device).to(memory_format=FASTEST_LAYOUT)


def load_judge(config: ExperimentConfig[Any]) -> ClipEncoder:
    """Return the frozen CLIP that judges what maps keep (calibration, PRMS)."""
    encoder: ClipEncoder = config.response.calibration.encoder.build()
    return encoder.eval().requires_grad_(False)


def tokenizer_assets(config: ExperimentConfig[Any], folders: Folders) -> dict[str, bytes]:
    """Return the tokenizer files of stage 0; none where the tokenizer comes with a package."""
    if config.pretrain is None:
        return {}
    names = read_description(folders.clip).get("assets", [])
    return {name: (folders.clip / name).read_bytes() for name in names}
