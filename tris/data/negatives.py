"""Calibration negatives: sentences about something else than the expression at hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tris.data.draws import draw
from tris.data.index import Index, Referent
from tris.data.recent import RecentReferents, rows_by_image
from tris.data.tokens import text_id
from tris.errors import InputError

_ATTEMPTS = 200


@dataclass(frozen=True)
class NegativesConfig:
    """Which sentences an expression is held against.

    Attributes:
        count: K, sentences per expression; 0 = none (paper: 6, released script: 3).
        source: ``same_image`` = sentences of other referents of the same image; ``other_images`` =
            of any other image.
        with_replacement: Whether a sentence may be drawn twice (released: yes). Where it may not
            and the image has too few, sentences of other images fill up.
        allow_same_object: Whether a sentence with equal words, or about the same annotation under
            another referent number, counts as a negative (released: yes).
    """

    count: int = 0
    source: Literal["same_image", "other_images"] = "same_image"
    with_replacement: bool = True
    allow_same_object: bool = False


class NegativeSampler:
    """Draws the negatives of an expression, fixed by (seed, epoch, expression)."""

    def __init__(
        self,
        index: Index,
        config: NegativesConfig,
        *,
        seed: int,
        text: Literal["clean", "raw"] = "clean",
    ) -> None:
        self.config = config
        self._index, self._seed, self._text = index, seed, text
        self._referents = RecentReferents(index)
        self._rows_of_image = rows_by_image(index)

    def sentences(self, row: int, position: int, *, epoch: int) -> list[str]:
        """Return K sentences that are not about referent ``row``.

        Where the image has no other sentence, they come from other images.

        Raises:
            InputError: If the whole data set has no sentence that would do.
        """
        referent = self._referents[row]
        expression = self._index.first_expression(row) + position
        rng = draw("negatives", self._seed, epoch, expression)
        chosen: list[str] = []
        if self.config.source == "same_image":
            chosen = self._draw_from_image(row, referent, rng)
        while len(chosen) < self.config.count:
            chosen.append(self._draw_elsewhere(referent, chosen, rng))
        return chosen

    def _draw_from_image(self, row: int, referent: Referent, rng: np.random.Generator) -> list[str]:
        others = (self._referents[r] for r in self._rows_of_image[referent.image_id] if r != row)
        usable = [self._usable_sentences(other, referent) for other in others]
        usable = [sentences for sentences in usable if sentences]
        if not usable:
            return []
        if self.config.with_replacement:
            picks = (usable[rng.integers(len(usable))] for _ in range(self.config.count))
            return [sentences[rng.integers(len(sentences))] for sentences in picks]
        flat = list(dict.fromkeys(sentence for sentences in usable for sentence in sentences))
        return [flat[i] for i in rng.permutation(len(flat))[: self.config.count]]

    def _draw_elsewhere(
        self, referent: Referent, chosen: Sequence[str], rng: np.random.Generator
    ) -> str:
        for _ in range(_ATTEMPTS):
            other = self._referents[int(rng.integers(len(self._index)))]
            if other.image_id == referent.image_id:
                continue
            sentences = self._usable_sentences(other, referent)
            if not sentences:
                continue
            sentence = sentences[rng.integers(len(sentences))]
            if self.config.with_replacement or sentence not in chosen:
                return sentence
        raise InputError(
            f"There is no negative sentence for referent {referent.referent_id} in split "
            f"{self._index.split}: use fewer negatives or more data."
        )

    def _usable_sentences(self, other: Referent, referent: Referent) -> list[str]:
        sentences = choose_text(other, self._text)
        if self.config.allow_same_object:
            return list(sentences)
        if other.image_id == referent.image_id and set(other.annotation_ids) & set(
            referent.annotation_ids
        ):
            return []
        own = {text_id(sentence) for sentence in choose_text(referent, self._text)}
        return [sentence for sentence in sentences if text_id(sentence) not in own]


def choose_text(referent: Referent, text: Literal["clean", "raw"]) -> tuple[str, ...]:
    """Return the referent's sentences, cleaned (TRIS reads these) or as typed (LAVT, DMMI)."""
    return referent.sentences if text == "clean" else referent.raw_sentences
