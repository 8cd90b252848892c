"""`tris predict`: masks for any photographs and sentences, from a stage-1 or stage-2 network."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from PIL import Image

from tris.cli.drawing import draw_prediction
from tris.cli.inference import (
    MaskNetwork,
    Prediction,
    check_expressions,
    load_network,
    predict,
    predict_group,
)
from tris.cli.predict_index import write_predictions
from tris.data.images import read_photograph
from tris.data.index import open_index
from tris.data.masks import encode_mask
from tris.data.tokens import Tokenizer
from tris.errors import InputError, exits_cleanly
from tris.metrics.refinement import RefinementConfig
from tris.pseudo.label import LabelConfig
from tris.tracking.overlays import REFUSAL


@dataclass(frozen=True)
class PredictArguments:
    """Segment what sentences refer to; every sentence is asked of every photograph.

    Writes a mask and an overlay with the peak marked per photograph and sentence, and
    predictions.jsonl. Where nothing fits, the overlay says so; the mask stays as it was drawn, for
    evaluators differ on it. A photograph is turned as its EXIF orientation says before anything
    else. A group-wise network (GRSer) takes all photographs as one group of each sentence.

    With ``--index`` instead of photographs and sentences: predictions.jsonl alone, for a split.

    Attributes:
        model: Model directory or hub repository, stage 1 or stage 2.
        out: Folder for the results.
        image: Photographs.
        expression: Sentences.
        index: An index that `tris prepare` wrote.
        split: Of that index; with ``--index`` only.
        crf: Sharpen each mask, by itself, with a dense CRF.
        refinement: That CRF; with ``--crf`` only. The default suits photographs and a segmenter's
            probabilities.
        saliency: With ``--index``: each line also holds the network's map, grey, which Co-SOD
            metrics are computed of.
    """

    model: str
    out: Path
    image: tuple[Path, ...] = ()
    expression: tuple[str, ...] = ()
    index: Path | None = None
    split: str = "val"
    crf: bool = False
    refinement: RefinementConfig = field(default_factory=RefinementConfig)
    saliency: bool = False

    @property
    def label_rule(self) -> LabelConfig | None:
        """The rule by which each map becomes a mask; None = no CRF."""
        return self.refinement.label_rule() if self.crf else None


@exits_cleanly
def main(arguments: list[str]) -> None:
    """Run `tris predict` with the words that follow it on the command line."""
    wanted = tyro.cli(PredictArguments, args=arguments, prog="tris predict")
    _check_question(wanted)
    _check_options(wanted, arguments)
    if wanted.out.exists() and not wanted.out.is_dir():
        raise InputError(f"{wanted.out} is a file; name a folder for the results in --out.")
    wanted.out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".predict-", dir=wanted.out.parent))
    try:
        predict_wanted = _predict_all if wanted.index is None else _predict_index
        number, num_refused = predict_wanted(wanted, scratch)
        wanted.out.mkdir(exist_ok=True)
        for finished in sorted(scratch.iterdir()):
            finished.replace(wanted.out / finished.name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    extras = "" if wanted.index else ", with masks and overlays"
    print(
        f"{wanted.out}: {number} predictions in predictions.jsonl{extras}; "
        f'"{REFUSAL}" is the answer to {num_refused} of them.'
    )


def _check_question(wanted: PredictArguments) -> None:
    if wanted.index is not None:
        if wanted.image or wanted.expression:
            raise InputError(
                "An index brings its own photographs and sentences; leave --image and --expression "
                "out, or leave --index out."
            )
        return
    check_expressions(wanted.expression)
    if wanted.saliency:
        raise InputError("--saliency is for a whole split; give --index, or leave it out.")
    if not wanted.image:
        raise InputError("There is no photograph; name at least one after --image.")


def _check_options(wanted: PredictArguments, arguments: Sequence[str]) -> None:
    """Make sure that no option was given that would do nothing, be it with its default."""
    names = [argument.partition("=")[0] for argument in arguments]
    if not wanted.crf and any(name.startswith("--refinement.") for name in names):
        raise InputError("--refinement is of the CRF; give --crf, too, or leave it out.")
    if wanted.index is None and "--split" in names:
        raise InputError("--split is of an index; give --index, or leave it out.")


def _predict_index(wanted: PredictArguments, folder: Path) -> tuple[int, int]:
    """Return the number of predictions, and of refusals among them."""
    assert wanted.index is not None, "asked of photographs otherwise"
    index = open_index(wanted.index, wanted.split)
    network, tokenizer = load_network(wanted.model)
    return write_predictions(
        network, tokenizer, index, folder / "predictions.jsonl", refinement=wanted.label_rule,
        with_saliency=wanted.saliency,
    )  # fmt: skip


def _predict_all(wanted: PredictArguments, folder: Path) -> tuple[int, int]:
    """Return the number of predictions, and of refusals among them."""
    network, tokenizer = load_network(wanted.model)
    records: list[dict[str, Any]] = []
    groups = _predict_groups(wanted, network, tokenizer) if network.input_spec.group_size else {}
    for path in wanted.image:
        photograph = read_photograph(path, is_turned=True)
        predictions = groups.get(path) or predict(
            network, tokenizer, photograph, expressions=wanted.expression,
            refinement=wanted.label_rule,
        )  # fmt: skip
        for expression, prediction in zip(wanted.expression, predictions, strict=True):
            record = describe(prediction, path, expression, number=len(records))
            _draw(prediction, photograph, folder, record=record)
            records.append(record)
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "predictions.jsonl").write_text(lines)
    return len(records), sum(record["no_target"] for record in records)


def _predict_groups(
    wanted: PredictArguments, network: MaskNetwork, tokenizer: Tokenizer
) -> dict[Path, list[Prediction]]:
    """Return the predictions of every photograph, in the order of the sentences."""
    paths = list(dict.fromkeys(wanted.image))
    photographs = [read_photograph(path, is_turned=True) for path in paths]
    by_sentence = [
        predict_group(
            network, tokenizer, photographs, expression=each, refinement=wanted.label_rule
        )
        for each in wanted.expression
    ]
    return {path: [each[row] for each in by_sentence] for row, path in enumerate(paths)}


def describe(prediction: Prediction, path: Path, expression: str, *, number: int) -> dict[str, Any]:
    """Return the line of predictions.jsonl, in the format that `tris score` reads.

    Args:
        prediction: In original pixels.
        path: The photograph.
        expression: The sentence.
        number: Running number, which stands for the ids of a data set.
    """
    name = f"{number:03d}-{path.stem}"
    return {
        "expression_id": number,
        "ref_id": number,
        "mask": encode_mask(prediction.mask),
        "no_target": prediction.no_target,
        "point": list(prediction.peak),
        "scores": prediction.scores,
        "image": str(path),
        "expression": expression,
        "mask_file": f"{name}-mask.png",
        "overlay_file": f"{name}-overlay.png",
    }


def _draw(
    prediction: Prediction, photograph: Image.Image, folder: Path, *, record: dict[str, Any]
) -> None:
    mask = prediction.mask.astype(np.uint8) * np.uint8(255)
    Image.fromarray(mask).save(folder / record["mask_file"])
    overlay = draw_prediction(photograph, prediction)
    Image.fromarray(overlay).save(folder / record["overlay_file"])
