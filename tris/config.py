"""Experiments as typed values: loaded from a Python file, overridden from the command line."""

import argparse
import contextlib
import dataclasses
import difflib
import importlib.util
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, Literal, TypeVar

import dacite
import tyro

from tris.data.compose import CompositionConfig
from tris.data.group_sources import GroupingConfig
from tris.data.masks import Overlap
from tris.data.synthetic import SyntheticConfig
from tris.encoders.clip import ClipConfig
from tris.errors import InputError
from tris.pseudo.label import LabelConfig
from tris.pseudo.label_presets import SEGMENTER_LABELS
from tris.pseudo.prms import PrmsConfig
from tris.response.calibration import CalibrationConfig
from tris.response.classification import ClassificationConfig
from tris.response.contrastive import ContrastiveConfig
from tris.response.response_net import ResponseNetConfig
from tris.segmenters.image_losses import ImageLossConfig
from tris.tracking.wandb_login import TrackingConfig
from tris.training.settings import TrainingConfig

Network = TypeVar("Network")


@dataclass(frozen=True)
class DataConfig:
    """Which images and sentences.

    Attributes:
        dataset: ``refcoco``, ``refcoco+``, ``refcocog``, ``refclef``, ``grefcoco``, ``ref-zom``, or
            ``custom`` (a person's own ``.jsonl`` file; see docs/data.md).
        split_by: Whose split.
        train_split: Trained on; its masks are left out of the index.
        validation_split: Looked at while training.
        evaluation_splits: Scored at the end.
        text: ``sent`` = cleaned, as TRIS reads; ``raw`` = as typed.
        synthetic: Make the embedded data set instead of reading files from ``--data``.
        negatives_source: Whose sentences calibration holds against a map.
        negatives_with_replacement: The released sampler of those may draw a sentence twice.
        negatives_allow_same_object: Whether an equal sentence, or one about the same object under
            another number, may be among them (released: yes).
        also_scores_grefcoco: Score gRefCOCO's splits, too, whose files lie in the same folder: a
            network that composes its sentences of single ones is asked of people's. Nothing of
            gRefCOCO is trained on.
        overlapping_polygons: ``refer-quirk`` reads overlaps of an object's polygons as holes, as
            REFER's readers do: for comparing with scores that were measured that way.
        cache_images: Keep decoded network-size images in memory (small sets).
    """

    dataset: str = "refcoco"
    split_by: str = "unc"
    train_split: str = "train"
    validation_split: str = "val"
    evaluation_splits: tuple[str, ...] = ("val", "testA", "testB")
    text: Literal["sent", "raw"] = "sent"
    synthetic: SyntheticConfig | None = None
    negatives_source: Literal["same_image", "other_images"] = "same_image"
    negatives_with_replacement: bool = True
    negatives_allow_same_object: bool = False
    also_scores_grefcoco: bool = False
    overlapping_polygons: Overlap = "union"
    cache_images: bool = False


@dataclass(frozen=True)
class PretrainConfig:
    """Stage 0: a small CLIP from the training split's images and sentences.

    Attributes:
        encoder: What is trained; its vocabulary is learned from the sentences.
        vocabulary_size: At most so many word pieces.
        losses: Contrastive terms.
        training: Updates and schedule; images come with one sentence of each referent.
        extra_words: Words that join the vocabulary though no sentence of the data set has them.
    """

    encoder: ClipConfig
    training: TrainingConfig
    vocabulary_size: int = 512
    extra_words: tuple[str, ...] | None = None
    losses: ContrastiveConfig = field(default_factory=ContrastiveConfig)


@dataclass(frozen=True)
class ResponseExperiment:
    """Stage 1.

    Attributes:
        network: The response network.
        classification: Classification loss.
        calibration: Calibration losses.
        training: Updates and schedule.
        encoder_learning_rate_scale: Factor on the learning rate of CLIP (released: 0.1).
        freeze_batch_norm: Keep the towers' batch statistics as they are; the released code lets
            them move.
    """

    network: ResponseNetConfig = field(default_factory=ResponseNetConfig)
    classification: ClassificationConfig = field(default_factory=ClassificationConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    encoder_learning_rate_scale: float = 0.1
    freeze_batch_norm: bool = False


@dataclass(frozen=True)
class LabelExperiment:
    """From response maps to the label store.

    Attributes:
        selection: From the maps of a referent's sentences to one.
        label: Refinement and thresholds.
        num_workers: Processes that run the CRF, per process; 0 = one for each core that it has (of
            a single one it makes use itself where there is no GPU).
    """

    selection: PrmsConfig = field(default_factory=PrmsConfig)
    label: LabelConfig = field(default_factory=LabelConfig)
    num_workers: int = 0


@dataclass(frozen=True)
class SelfTrainingConfig:
    """Rounds of stage 2 after the first: relabel with the last round's segmenter, train it further.

    Their number is the segmenter's (`SegmenterExperiment.rounds`).

    Attributes:
        steps: Of each later round; None = as the first.
        learning_rate: Of each later round; None = as the first.
        label: How a segmenter's map becomes a label.
    """

    steps: int | None = None
    learning_rate: float | None = None
    label: LabelConfig = SEGMENTER_LABELS

    def __post_init__(self) -> None:
        """Check the fields, long before a later round is trained."""
        if self.steps is not None and self.steps < 1:
            raise InputError(f"self_training.steps is {self.steps}; use 1 or more, or None.")
        if self.learning_rate is not None and self.learning_rate < 0:
            raise InputError(
                f"self_training.learning_rate is {self.learning_rate}; use 0 or more, or None."
            )


@dataclass(frozen=True)
class EvaluationConfig:
    """What is scored besides every step's own output.

    Attributes:
        crf: Also score the masks of segmenter and ceiling after a dense CRF, sentence by sentence,
            as rows ``segmenter_crf`` and ``ceiling_crf``; the peak stays the network's.
        refinement: That CRF; its fields about degenerate labels and competition are not read.
        minimum_area: Where sentences may mean nothing, a mask of fewer pixels says that nothing
            fits (MABP: 50, of 480 x 480); so a network without such a head can say it, too. Ref-ZOM
            is scored without this rule, as published.
    """

    crf: bool = False
    refinement: LabelConfig = SEGMENTER_LABELS
    minimum_area: int = 50


@dataclass(frozen=True)
class SegmenterExperiment(Generic[Network]):
    """Stage 2; what the files in ``configs/segmenter`` return.

    Attributes:
        network: A segmenter's config.
        training: Updates and schedule.
        name: Job folder and row of the table.
        composition: Also train on sentences about several objects and about none, composed of
            single ones; None = on those of the data set alone.
        image_losses: Terms beside the network's own.
        rounds: Of training, `SelfTrainingConfig` has the later ones; 1 = there is no self-training.
        grouping: How image groups are made of sentences, for a group-wise network.
    """

    network: Network
    training: TrainingConfig = field(default_factory=TrainingConfig)
    name: str = "tris"
    composition: CompositionConfig | None = None
    image_losses: ImageLossConfig = field(default_factory=ImageLossConfig)
    rounds: int = 1
    grouping: GroupingConfig = field(default_factory=GroupingConfig)

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.rounds < 1:
            raise InputError(f"Stage 2 has at least 1 round, not {self.rounds}.")
        is_image_wise = self.training.sampling == "images"
        if self.image_losses.referent_weight is not None and not is_image_wise:
            raise InputError(
                "image_losses.referent_weight compares the referents of one image, but batches are "
                "random pairs: give --segmenter.training.sampling=images, too."
            )


@dataclass(frozen=True)
class ExperimentConfig(Generic[Network]):
    """All that decides a result, from files to the last table.

    Attributes:
        name: For dashboards.
        data: Images and sentences.
        segmenter: Stage 2.
        response: Stage 1.
        labels: Pseudo-labels.
        self_training: Further rounds of stage 2.
        evaluation: What is scored at the end.
        pretrain: Stage 0, where no pretrained CLIP can be had.
        seed: Of everything random.
        tracking: Dashboards.
    """

    name: str
    data: DataConfig
    segmenter: SegmenterExperiment[Network]
    response: ResponseExperiment = field(default_factory=ResponseExperiment)
    labels: LabelExperiment = field(default_factory=LabelExperiment)
    self_training: SelfTrainingConfig = field(default_factory=SelfTrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    pretrain: PretrainConfig | None = None
    seed: int = 0
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    @property
    def group(self) -> str:
        """Name of this training among others, on dashboards and of artifacts."""
        return f"{self.name}-seed{self.seed}"


@dataclass(frozen=True)
class StageArguments:
    """What every stage is told besides the experiment.

    Attributes:
        run: Folder of everything that the run makes.
        data: Folder with the official files, or None.
        switches: Those of the stage's own switches that were given.
    """

    run: Path
    data: Path | None
    switches: frozenset[str]


def parse_stage(
    arguments: Sequence[str], *, description: str, switches: Sequence[str] = ()
) -> tuple[StageArguments, ExperimentConfig[Any]]:
    """Read ``--config FILE --segmenter FILE --run DIR --data DIR`` and typed overrides.

    Raises:
        InputError: If a file is missing or no experiment, or an override is unknown or ill-typed.
    """
    parser = argparse.ArgumentParser(description=description, add_help=False, allow_abbrev=False)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--segmenter", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=None)
    for switch in switches:
        parser.add_argument(f"--{switch}", action="store_true")
    known, overrides = parser.parse_known_args(arguments)
    config = load(known.config, known.segmenter, overrides)
    given = frozenset(switch for switch in switches if getattr(known, switch))
    return StageArguments(known.run, known.data, given), config


def load(path: Path, segmenter: Path, overrides: Sequence[str] = ()) -> ExperimentConfig[Any]:
    """Load an experiment and its segmenter and apply overrides (``--response.training.steps=5``).

    Raises:
        InputError: If a file is missing or lacks ``get_config``, or an override is unknown or
            ill-typed.
        SystemExit: With code 0 after ``--help``.
    """
    experiment = _call_get_config(path)
    second = _call_get_config(segmenter)
    if not isinstance(second, SegmenterExperiment):
        raise InputError(f"{segmenter}: get_config() must return a SegmenterExperiment.")
    if not isinstance(experiment, ExperimentConfig):
        raise InputError(f"{path}: get_config() must return an ExperimentConfig.")
    return _override(
        dataclasses.replace(experiment, segmenter=second), overrides, program=path.name
    )


def _override(
    default: ExperimentConfig[Any], overrides: Sequence[str], *, program: str
) -> ExperimentConfig[Any]:
    network = type(default.segmenter.network)
    typed = ExperimentConfig[network]  # type: ignore[valid-type]  # known at run time only
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            config, unknown = tyro.cli(
                typed,
                default=default,
                args=list(overrides),
                prog=program,
                config=(tyro.conf.AvoidSubcommands,),
                return_unknown_args=True,
            )
    except SystemExit as leaving:
        if not leaving.code:
            raise
        raise InputError(f"{_first_paragraph(complaint.getvalue())} {_HELP}") from leaving
    if unknown:
        raise InputError(_describe_unknown(unknown[0], default))
    return config


_HELP = "The option --help lists every setting."


def _describe_unknown(argument: str, config: ExperimentConfig[Any]) -> str:
    name = argument.split("=")[0]
    wanted, known = name.replace("_", "-"), _option_names(to_json(config))
    same_field = [each for each in known if each.split(".")[-1] == wanted.split(".")[-1]]
    near = difflib.get_close_matches(wanted, same_field or known, n=1)
    hint = f"did you mean {near[0]}?" if near else _HELP
    return f"There is no setting {name}: {hint}"


def _option_names(settings: Mapping[str, Any], prefix: str = "--") -> list[str]:
    names = []
    for key, value in settings.items():
        name = prefix + key.replace("_", "-")
        names.extend(_option_names(value, f"{name}.") if isinstance(value, Mapping) else [name])
    return names


def _first_paragraph(box: str) -> str:
    """Return the sentence inside the frame that tyro draws around its complaints."""
    lines = [line.strip("│ ") for line in box.splitlines() if line.startswith("│")]
    end = next((i for i, line in enumerate(lines) if not line.strip("─")), len(lines))
    return " ".join(lines[:end])


def to_json(config: object) -> dict[str, Any]:
    """Return a config as JSON would give it back (tuples become lists, paths become text)."""
    plain: dict[str, Any] = json.loads(json.dumps(_plain(config)))
    return plain


def read_experiment(path: Path) -> ExperimentConfig[Any]:
    """Return what `to_json` made of an experiment: the ``config.json`` of a run.

    The segmenter's network stays a dictionary, for the file does not name its class.

    Raises:
        InputError: If the file is missing, or is not of this version.
    """
    if not path.is_file():
        raise InputError(f"{path.parent} is no run: it has no {path.name}; give a run's folder.")
    try:
        values = json.loads(path.read_text())
        return dacite.from_dict(
            ExperimentConfig[Any], values, dacite.Config(strict=True, cast=[tuple])
        )
    except (json.JSONDecodeError, dacite.DaciteError) as error:
        raise InputError(
            f"{path} is no experiment of this version of tris ({error}): evaluate the run again, "
            "which writes it anew."
        ) from error


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def _call_get_config(path: Path) -> object:
    with _explaining(path):
        module = _import_file(path)
        if not hasattr(module, "get_config"):
            raise InputError(f"{path} has no function get_config().")
        return module.get_config()


@contextlib.contextmanager
def _explaining(path: Path) -> Iterator[None]:
    """Turn a slip in a config file (a misspelt field, a wrong import) into a sentence."""
    try:
        yield
    except (SyntaxError, TypeError, ImportError, NameError, AttributeError) as error:
        raise InputError(f"{path} cannot be used: {error}.") from error


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        near = (
            sorted(each.stem for each in path.parent.glob("[!_]*.py"))
            if path.parent.is_dir()
            else []
        )
        raise InputError(
            f"There is no config {path}"
            + (f"; {path.parent} has {', '.join(near)}." if near else ".")
        )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(_root_of(path)))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module


def _root_of(path: Path) -> Path:
    """Return the folder above ``configs``, so that configs can import each other."""
    for parent in path.resolve().parents:
        if parent.name == "configs":
            return parent.parent
    return path.resolve().parent
