"""From the index to samples, one expression each."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from tris.batch import IGNORE_INDEX, ExpressionSample, InputSpec
from tris.data.index import Index, Referent
from tris.data.masks import decode_mask
from tris.data.mirror import mirror_sentence
from tris.data.negatives import NegativeSampler, choose_text
from tris.data.phrases import PhraseEraser
from tris.data.plan import Item
from tris.data.recent import RecentReferents
from tris.data.tokens import Tokenizer, text_id
from tris.data.transforms import PhotographReader, fit_size, mirror_content, to_target
from tris.errors import InputError

Pixels = TypeVar("Pixels", Tensor, Tensor | None)

NO_SINGLE_REFERENT = -1
"""``referent_id`` of a sample whose target is not that of the expression's own referent."""


@runtime_checkable
class LabelSource(Protocol):
    """Where stage 2 gets its targets: the store of pseudo-labels."""

    def get(
        self, dataset: str, referent_id: int
    ) -> dict[str, Any] | UInt8[np.ndarray, "height width"] | None:
        """Return a COCO RLE or pixels (0, 1, 255 = ignore) in original size; None = no label."""
        ...


class ExpressionDataset(Dataset[ExpressionSample]):
    """The expressions of one split, by running number.

    Masks are touched only where ``targets="truth"`` asks for them. A referent without a label has
    a target of `IGNORE_INDEX` alone; where several make a target, one without is enough.
    """

    def __init__(
        self,
        index: Index,
        spec: InputSpec,
        tokenizer: Tokenizer,
        *,
        targets: Literal["none", "truth"] | LabelSource = "none",
        text: Literal["clean", "raw"] = "clean",
        negatives: NegativeSampler | None = None,
        phrases: PhraseEraser | None = None,
        cache_images: bool = False,
    ) -> None:
        """Prepare reading.

        Args:
            index: The split.
            spec: What the network wants.
            tokenizer: Made of ``spec.tokenizer``.
            targets: Nothing, the annotated masks, or the labels of a source.
            text: Sentences as cleaned, or as typed.
            negatives: Where every expression's negatives come from, if it has any.
            phrases: What erases a phrase of every expression, if anything does.
            cache_images: Keep decoded photographs in memory, per process.

        Raises:
            InputError: If masks are asked of an index that was prepared without them.
        """
        if targets == "truth" and not index.has_masks:
            raise InputError(
                f"The index {index.directory} has no masks for split {index.split}: prepare it "
                "with masks, or train on labels."
            )
        self.index, self.spec, self.tokenizer = index, spec, tokenizer
        self._targets, self._text = targets, text
        self._negatives = negatives if negatives and negatives.config.count else None
        self._phrases = phrases
        self._referents = RecentReferents(index)
        self._reader = PhotographReader(index, spec, cache_images=cache_images)

    def __len__(self) -> int:
        return self.index.num_expressions

    def __getitem__(self, item: Item | int) -> ExpressionSample:
        """Return one expression; a bare number means epoch 0."""
        return self.__getitems__([item])[0]

    def __getitems__(self, items: Sequence[Item | int]) -> list[ExpressionSample]:
        """Return several; every photograph and label is read once for all its expressions."""
        images: dict[tuple[int, bool], Float[Tensor, "3 height width"]] = {}
        targets: dict[tuple[int, ...], UInt8[Tensor, "height width"] | None] = {}
        places = [self._place(item) for item in items]
        tokens = self.tokenizer([place.sentence for place in places])
        for place in places:
            shown = self._referents[place.image_row]
            key = (shown.image_id, place.is_flipped)
            if key not in images:
                images[key] = self._turn(self._reader.read(shown), shown, place.is_flipped)
            if place.sources not in targets:
                target = self._target(shown, place.target_rows)
                targets[place.sources] = self._turn(target, shown, place.is_flipped)
        samples = [
            self._sample(place, images, targets[place.sources], ids, mask)
            for place, ids, mask in zip(places, *tokens, strict=True)
        ]
        return self._add_negatives(self._add_erased(samples, places), places)

    def _place(self, item: Item | int) -> "_Place":
        item = item if isinstance(item, Item) else Item(item)
        row, position = self.index.expression_row(item.expression)
        own = choose_text(self._referents[row], self._text)[position]
        sentence = own if item.sentence is None else item.sentence
        return _Place(
            row=row,
            position=position,
            epoch=item.epoch,
            expression=item.expression,
            sentence=mirror_sentence(sentence) if item.is_flipped else sentence,
            image_row=row if item.image_row is None else item.image_row,
            target_rows=(row,) if item.target_rows is None else item.target_rows,
            group=item.group,
            is_flipped=item.is_flipped,
        )

    def _sample(
        self,
        place: "_Place",
        images: dict[tuple[int, bool], Float[Tensor, "3 height width"]],
        target: UInt8[Tensor, "height width"] | None,
        token_ids: Int[Tensor, "tokens"],
        token_mask: Bool[Tensor, "tokens"],
    ) -> ExpressionSample:
        referent, shown = self._referents[place.row], self._referents[place.image_row]
        original_size = (shown.height, shown.width)
        is_one_referent = place.target_rows == (place.row,)
        return ExpressionSample(
            image=images[shown.image_id, place.is_flipped],
            image_id=shown.image_id,
            original_size=original_size,
            content_size=fit_size(original_size, self.spec),
            token_ids=token_ids,
            token_mask=token_mask,
            referent_id=referent.referent_id if is_one_referent else NO_SINGLE_REFERENT,
            expression_id=referent.expression_ids[place.position],
            text_id=text_id(place.sentence),
            target=target,
            is_no_target=all(self._referents[row].is_no_target for row in place.target_rows),
            group_index=place.group,
        )

    def _add_erased(
        self, samples: list[ExpressionSample], places: Sequence["_Place"]
    ) -> list[ExpressionSample]:
        if self._phrases is None:
            return samples
        erased = [
            self._phrases.erase(place.sentence, expression=place.expression, epoch=place.epoch)
            for place in places
        ]
        return [
            sample._replace(erased_token_ids=ids)
            for sample, ids in zip(samples, erased, strict=True)
        ]

    def _add_negatives(
        self, samples: list[ExpressionSample], places: Sequence["_Place"]
    ) -> list[ExpressionSample]:
        if self._negatives is None:
            return samples
        count = self._negatives.config.count
        sentences = [
            mirror_sentence(sentence) if place.is_flipped else sentence
            for place in places
            for sentence in self._negatives.sentences(place.row, place.position, epoch=place.epoch)
        ]
        ids, mask = (tokens.unflatten(0, (-1, count)) for tokens in self.tokenizer(sentences))
        return [
            sample._replace(negative_token_ids=ids[i], negative_token_mask=mask[i])
            for i, sample in enumerate(samples)
        ]

    def _turn(self, pixels: Pixels, shown: Referent, is_flipped: bool) -> Pixels:
        """Mirror what the photograph of ``shown`` became, if it is to be."""
        if pixels is None or not is_flipped:
            return pixels
        return mirror_content(pixels, fit_size((shown.height, shown.width), self.spec))

    def _target(self, shown: Referent, rows: Sequence[int]) -> UInt8[Tensor, "height width"] | None:
        """Return the union of the rows' masks in the photograph of ``shown``."""
        if self._targets == "none":
            return None
        masks = [self._mask(self._referents[row]) for row in rows]
        if any(mask is None for mask in masks):
            return torch.full(self.spec.image_size, IGNORE_INDEX, dtype=torch.uint8)
        nothing = np.zeros((shown.height, shown.width), np.uint8)
        return to_target(unite([nothing, *(mask for mask in masks if mask is not None)]), self.spec)

    def _mask(self, referent: Referent) -> UInt8[np.ndarray, "height width"] | None:
        """Return 0, 1 or 255 per original pixel; None where the referent has no label."""
        if referent.is_no_target:
            return np.zeros((referent.height, referent.width), np.uint8)
        label = (
            referent.mask
            if isinstance(self._targets, str)
            else self._targets.get(self.index.manifest.dataset, referent.referent_id)
        )
        mask = decode_mask(label) if isinstance(label, dict) else label
        if mask is not None and mask.shape != (referent.height, referent.width):
            raise InputError(
                f"The label of referent {referent.referent_id} is {mask.shape[0]} x "
                f"{mask.shape[1]}, its photograph {referent.height} x {referent.width}: make the "
                "labels again."
            )
        return mask


class _Place(NamedTuple):
    """An `Item` with all its defaults filled in; ``row`` and ``position`` name the expression."""

    row: int
    position: int
    epoch: int
    expression: int
    sentence: str
    image_row: int
    target_rows: tuple[int, ...]
    group: int
    is_flipped: bool

    @property
    def sources(self) -> tuple[int, ...]:
        """What the target depends on."""
        return (self.is_flipped, self.image_row, *self.target_rows)


def unite(
    masks: Sequence[UInt8[np.ndarray, "height width"]],
) -> UInt8[np.ndarray, "height width"]:
    """Return 1 where any mask is 1, else `IGNORE_INDEX` where any is that, else 0."""
    stacked = np.stack(masks)
    unsure = (stacked == IGNORE_INDEX).any(axis=0) * np.uint8(IGNORE_INDEX)
    return np.where((stacked == 1).any(axis=0), np.uint8(1), unsure).astype(np.uint8)
