"""Every contract between rooms: what a network is given, and what it gives back.

A `NamedTuple`, not a dataclass: Accelerate moves tuples to the device, dataclasses stay behind.

Axes used in the annotations: ``images`` and ``expr`` (expressions) are separate, so an image with
all its sentences, a random pair batch (images = expr) and a group of images for one sentence are
the same structure, and every network encodes an image once and a sentence once.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

IGNORE_INDEX = 255
"""Value of a target pixel that no loss may look at."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class TokenizerConfig:
    """How sentences become token ids.

    Attributes:
        kind: ``clip`` = CLIP's byte-pair encoding (inside open_clip); ``file`` = a `tokenizers`
            JSON file; ``bert`` = a Hugging Face BERT tokenizer by name.
        path: File (kind ``file``; relative paths are looked up in the model directory) or hub
            name (kind ``bert``).
        context_length: Tokens per sentence, special tokens included.
        keep_end_token: Truncate words and keep the end token. False = cut blindly, as the released
            TRIS code does (a long sentence then loses its end token).
    """

    kind: Literal["clip", "file", "bert"] = "clip"
    path: str = ""
    context_length: int = 20
    keep_end_token: bool = True


@dataclass(frozen=True)
class PhraseErasing:
    """How training sentences lose a phrase, for a network that has to recover it.

    Attributes:
        phrases: ``noun_phrase`` = a chunk with a noun in it ("a red umbrella", DMMI's paper);
            ``noun_run`` = neighbouring nouns alone ("car door", released DMMI).
        choice: ``each_epoch`` = another phrase every time (paper); ``once`` = always the same one
            (released).
    """

    phrases: Literal["noun_phrase", "noun_run"] = "noun_phrase"
    choice: Literal["each_epoch", "once"] = "each_epoch"


@dataclass(frozen=True)
class InputSpec:
    """What a network wants of the data room.

    Attributes:
        image_size: Height and width of the network input, pixels.
        resize: ``squash`` = resize both sides freely; ``pad`` = keep the aspect ratio, longest
            side fits, zeros (after normalisation) at the right and bottom.
        mean: Per channel, of values in [0, 1].
        std: Per channel, of values in [0, 1].
        tokenizer: How sentences become tokens.
        erases_phrases: Which phrase training sentences lose in a second version of them; None =
            there is no second version.
        group_size: Photographs per sentence in training, for group-wise segmenters (GRSer's N);
            0 = every pair of photograph and sentence stands alone.
        largest_group: Where it is met with more photographs at once than this, they are cut into
            even parts, which bounds the memory; 0 = groups stay whole, however large.
    """

    image_size: tuple[int, int] = (320, 320)
    resize: Literal["squash", "pad"] = "squash"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    tokenizer: TokenizerConfig = TokenizerConfig()
    erases_phrases: PhraseErasing | None = None
    group_size: int = 0
    largest_group: int = 0


class ExpressionSample(NamedTuple):
    """One expression of one image, ready for `tris.data.collate.collate`.

    Attributes:
        image: Normalised network input.
        image_id: The data set's id of the photograph; equal ids share one row of ``Batch.images``.
        original_size: Height, width of the photograph, pixels.
        content_size: Height, width of the part of ``image`` that shows the photograph (top left);
            the rest is padding.
        token_ids: Padded with the tokenizer's padding id.
        token_mask: True = real token.
        referent_id: The data set's ``ref_id``.
        expression_id: The data set's ``sent_id``.
        text_id: 63-bit hash of the normalised sentence; equal sentences have equal ids.
        target: 0, 1 or `IGNORE_INDEX` at network resolution; None where nothing is known.
        is_no_target: Whether the sentence refers to nothing in the image.
        group_index: Number of the image group (group-wise segmenters); 0 otherwise.
        negative_token_ids: Sentences of other objects of the same image (calibration).
        negative_token_mask: Like ``token_mask``.
        erased_token_ids: ``token_ids`` with the padding id in place of one phrase; the same where
            the sentence has none. Belongs to the same ``token_mask``.
    """

    image: Float[Tensor, "3 height width"]
    image_id: int
    original_size: tuple[int, int]
    content_size: tuple[int, int]
    token_ids: Int[Tensor, "tokens"]
    token_mask: Bool[Tensor, "tokens"]
    referent_id: int
    expression_id: int
    text_id: int
    target: UInt8[Tensor, "height width"] | None = None
    is_no_target: bool = False
    group_index: int = 0
    negative_token_ids: Int[Tensor, "negatives tokens"] | None = None
    negative_token_mask: Bool[Tensor, "negatives tokens"] | None = None
    erased_token_ids: Int[Tensor, "tokens"] | None = None


class Batch(NamedTuple):
    """Images and expressions on separate axes; see `ExpressionSample` for units.

    Attributes:
        images: Each photograph once.
        image_id: One per image.
        original_size: Height, width per image, original pixels.
        content_size: Height, width per image, network pixels.
        token_ids: One row per expression.
        token_mask: True = real token.
        image_index: Row of ``images`` that the expression is about.
        referent_id: One per expression.
        expression_id: One per expression.
        text_id: One per expression.
        is_no_target: One per expression.
        group_index: One per expression.
        targets: One mask per expression, or None.
        negative_token_ids: K sentences per expression, or None.
        negative_token_mask: Like ``token_mask``, or None.
        erased_token_ids: ``token_ids`` without one phrase, or None.
    """

    images: Float[Tensor, "images 3 height width"]
    image_id: Int[Tensor, "images"]
    original_size: Int[Tensor, "images 2"]
    content_size: Int[Tensor, "images 2"]
    token_ids: Int[Tensor, "expr tokens"]
    token_mask: Bool[Tensor, "expr tokens"]
    image_index: Int[Tensor, "expr"]
    referent_id: Int[Tensor, "expr"]
    expression_id: Int[Tensor, "expr"]
    text_id: Int[Tensor, "expr"]
    is_no_target: Bool[Tensor, "expr"]
    group_index: Int[Tensor, "expr"]
    targets: UInt8[Tensor, "expr height width"] | None = None
    negative_token_ids: Int[Tensor, "expr negatives tokens"] | None = None
    negative_token_mask: Bool[Tensor, "expr negatives tokens"] | None = None
    erased_token_ids: Int[Tensor, "expr tokens"] | None = None


class PairResponses(NamedTuple):
    """Every image of this process against every expression of the global batch.

    Attributes:
        logits: Response before ReLU.
        image_id: One per image of this process.
        text_image_id: Image that each text was written about.
        referent_id: Referent of each text.
        text_id: Hash of each text.
        is_own: Texts that stand in the batch for each image: its positives.
    """

    logits: Float[Tensor, "images texts h w"]
    image_id: Int[Tensor, "images"]
    text_image_id: Int[Tensor, "texts"]
    referent_id: Int[Tensor, "texts"]
    text_id: Int[Tensor, "texts"]
    is_own: Bool[Tensor, "images texts"]


class ResponseMaps(NamedTuple):
    """What the stage-1 network says of every expression about its own image.

    Attributes:
        response_logits: Before ReLU, at the encoder's resolution; > 0 means "belongs to it".
        pairs: All images against all texts, where they were asked for (training).
    """

    response_logits: Float[Tensor, "expr h w"]
    pairs: PairResponses | None = None


class SegmenterOutput(NamedTuple):
    """What every segmenter gives back, in training and in evaluation.

    Attributes:
        mask_logits: At the resolution of the network input; > 0 means foreground.
        no_target_logit: > 0 means "nothing in the image fits"; None for networks without such a
            head.
        extras: Named tensors that only the network's own loss (or an ablation) reads.
    """

    mask_logits: Float[Tensor, "expr height width"]
    no_target_logit: Float[Tensor, "expr"] | None
    extras: dict[str, Tensor]
