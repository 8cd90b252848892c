"""One photograph and its sentences through a network of either stage, in original pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image

from tris.batch import Batch, ExpressionSample, SegmenterOutput
from tris.data.collate import collate
from tris.data.groups import cut_evenly
from tris.data.tokens import Tokenizer, build_tokenizer, normalize, text_id
from tris.data.transforms import fit_size, resize_photograph, to_input, to_original
from tris.errors import InputError
from tris.layers.resize import resize
from tris.model_directory import FASTEST_LAYOUT, PretrainedModel
from tris.pseudo.label import LabelConfig, make_label
from tris.response.response_net import ResponseNet
from tris.segmenters.contract import Segmenter

MaskNetwork = Segmenter | ResponseNet


@dataclass(frozen=True)
class Prediction:
    """What a network says of one sentence about one photograph, in the photograph's pixels.

    Attributes:
        mask: True = belongs to it: the logit is above 0, or a CRF says so.
        peak: x, y of the highest logit.
        scores: ``peak``: probability there; ``mask``: mean probability inside the mask (0 where it
            is empty); ``no_target``: sigmoid of the logit that nothing fits, where the network has
            such a head (GRSer's is a difference of distances, no probability).
        no_target: Whether that head says that nothing fits, or the mask is empty.
    """

    mask: Bool[np.ndarray, "height width"]
    peak: tuple[int, int]
    scores: dict[str, float]
    no_target: bool


def load_network(source: str) -> tuple[MaskNetwork, Tokenizer]:
    """Return a network in evaluation mode, and its tokenizer.

    Args:
        source: Model directory, or repository of the hub.

    Raises:
        InputError: If there is none, or it holds neither stage 1 nor a segmenter.
    """
    network = PretrainedModel.from_pretrained(source)
    if not isinstance(network, Segmenter | ResponseNet):
        raise InputError(
            f"{source} holds a {type(network).__name__}, which makes no masks; name the model "
            "directory of stage 1 or stage 2."
        )
    tokenizer = build_tokenizer(network.input_spec.tokenizer, assets=network.assets)
    return network.to(memory_format=FASTEST_LAYOUT), tokenizer


@torch.inference_mode()
def predict(
    network: MaskNetwork,
    tokenizer: Tokenizer,
    photograph: Image.Image,
    *,
    expressions: Sequence[str],
    refinement: LabelConfig | None = None,
) -> list[Prediction]:
    """Return one prediction per sentence; the photograph is encoded once for all of them.

    Args:
        network: In evaluation mode.
        tokenizer: The network's own.
        photograph: RGB.
        expressions: At least one.
        refinement: Sharpens each mask by itself (a dense CRF); peak and scores stay the network's.

    Raises:
        InputError: If a sentence has no words.
    """
    check_expressions(expressions)
    batch = make_batch(network, tokenizer, photograph, expressions=expressions)
    output = respond(network, batch)
    photographs = [photograph] * len(expressions)
    return _read_output(output, batch, photographs, refinement=refinement)


@torch.inference_mode()
def predict_group(
    network: MaskNetwork,
    tokenizer: Tokenizer,
    photographs: Sequence[Image.Image],
    *,
    expression: str,
    refinement: LabelConfig | None = None,
) -> list[Prediction]:
    """Return one prediction per photograph for a group-wise network, which looks at all of them.

    Args:
        network: In evaluation mode; ``input_spec.group_size`` is above 0.
        tokenizer: The network's own.
        photographs: RGB, at least one; their order decides nothing, unless there are more than
            ``input_spec.largest_group``.
        expression: What is asked of the group.
        refinement: See `predict`.

    Raises:
        InputError: If the sentence has no words.
    """
    check_expressions([expression])
    samples = [
        _make_sample(network, tokenizer, photograph, expression=expression, number=number)
        for number, photograph in enumerate(photographs)
    ]
    pairs = list(zip(samples, photographs, strict=True))
    found: list[Prediction] = []
    for part in cut_evenly(pairs, most=network.input_spec.largest_group):
        batch = collate([sample._replace(group_index=1) for sample, _ in part])
        shown = [photograph for _, photograph in part]
        found += _read_output(respond(network, batch), batch, shown, refinement=refinement)
    return found


def check_expressions(expressions: Sequence[str]) -> None:
    """Make sure that there are sentences with words in them.

    Raises:
        InputError: If there is none, or one is empty.
    """
    if not expressions or not all(normalize(expression) for expression in expressions):
        raise InputError(
            f"An expression is empty ({list(expressions)}); say in words what to segment."
        )


def make_batch(
    network: MaskNetwork,
    tokenizer: Tokenizer,
    photograph: Image.Image,
    *,
    expressions: Sequence[str],
) -> Batch:
    """Return the batch of one photograph and its sentences, numbered from 0."""
    spec = network.input_spec
    image = to_input(resize_photograph(photograph, spec), spec)
    original_size = (photograph.height, photograph.width)
    token_ids, token_mask = tokenizer(expressions)
    return collate(
        [
            ExpressionSample(
                image=image,
                image_id=0,
                original_size=original_size,
                content_size=fit_size(original_size, spec),
                token_ids=token_ids[row],
                token_mask=token_mask[row],
                referent_id=row,
                expression_id=row,
                text_id=text_id(expression),
            )
            for row, expression in enumerate(expressions)
        ]
    )


def _make_sample(
    network: MaskNetwork,
    tokenizer: Tokenizer,
    photograph: Image.Image,
    *,
    expression: str,
    number: int,
) -> ExpressionSample:
    spec, original_size = network.input_spec, (photograph.height, photograph.width)
    token_ids, token_mask = tokenizer([expression])
    return ExpressionSample(
        image=to_input(resize_photograph(photograph, spec), spec),
        image_id=number,
        original_size=original_size,
        content_size=fit_size(original_size, spec),
        token_ids=token_ids[0],
        token_mask=token_mask[0],
        referent_id=number,
        expression_id=number,
        text_id=text_id(expression),
    )


def _read_output(
    output: SegmenterOutput,
    batch: Batch,
    photographs: Sequence[Image.Image],
    *,
    refinement: LabelConfig | None,
) -> list[Prediction]:
    """Return one prediction per expression; its photograph is named beside it."""
    predictions = []
    for row, photograph in enumerate(photographs):
        height, width = batch.content_size[batch.image_index[row]].tolist()
        logits = to_original(
            output.mask_logits[row : row + 1].float(),
            (photograph.height, photograph.width),
            (height, width),
        )[0].numpy()
        absence = output.no_target_logit
        mask = logits > 0 if refinement is None else _refine(logits, photograph, refinement)
        predictions.append(
            _decide(logits, None if absence is None else absence[row].sigmoid().item(), mask=mask)
        )
    return predictions


def respond(network: MaskNetwork, batch: Batch) -> SegmenterOutput:
    """Return what a network of either stage says of a batch, masks at the size of its input."""
    output = network(batch)
    if isinstance(output, SegmenterOutput):
        return output
    size = batch.images.shape[-2:]
    return SegmenterOutput(resize(output.response_logits[:, None], size)[:, 0], None, {})


def _refine(
    logits: Float[np.ndarray, "height width"], photograph: Image.Image, config: LabelConfig
) -> Bool[np.ndarray, "height width"]:
    mask: np.ndarray = make_label(logits, np.array(photograph, np.uint8), config) == 1
    return mask


def _decide(
    logits: Float[np.ndarray, "height width"],
    absence: float | None,
    *,
    mask: Bool[np.ndarray, "height width"],
) -> Prediction:
    probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
    y, x = divmod(int(logits.argmax()), logits.shape[1])
    scores = {
        "peak": float(probability[y, x]),
        "mask": float(probability[mask].mean()) if mask.any() else 0.0,
    }
    no_target = not mask.any()
    if absence is not None:
        scores["no_target"] = absence
        no_target |= absence > 0.5
    return Prediction(mask, (x, y), scores, no_target)
