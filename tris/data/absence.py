"""Evidence that a sentence fits nothing in an image: its own sentences, and CLIP.

There is no annotation to ask. What the image's sentences say of its objects rules most claims out
or in; objects that no sentence names are CLIP's business.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int

from tris.data.index import Index
from tris.data.recent import RecentReferents, rows_by_image
from tris.data.tokens import text_id
from tris.data.words import Claim, read_claims

Embed = Callable[[str], Float[np.ndarray, "dim"]]
"""Returns the unit embedding of a sentence."""

_Usual = tuple[Float[np.ndarray, "expr"], Float[np.ndarray, "expr"]]


class TextEvidence:
    """What the sentences of an image say of its objects."""

    def __init__(self, index: Index) -> None:
        self._referents = RecentReferents(index)
        self._rows_of_image = rows_by_image(index)
        self._known = lru_cache(maxsize=1 << 14)(self._read_image)

    def rows_of_image(self, row: int) -> list[int]:
        """Return the rows about the same photograph as ``row`` that have a target."""
        rows = self._rows_of_image[self._referents[row].image_id]
        return [each for each in rows if not self._referents[each].is_no_target]

    def claims_of_image(self, row: int) -> tuple[dict[int, Claim], tuple[Claim, ...]]:
        """Return what is said of each object of the photograph of ``row``, and of landmarks."""
        known = self._known(self._referents[row].image_id)
        return known.objects, known.landmarks

    def may_be_true(self, sentence: str, row: int, *, untrue_of: int | None = None) -> bool:
        """Say whether the sentence may fit something in the photograph of ``row``.

        It may if it equals one of the photograph's sentences, or if for what it means, and for
        the landmark that it names, some object is spoken of that both can be (see
        `Claim.may_hold_for`).

        Args:
            sentence: What is said.
            row: Any row about the photograph.
            untrue_of: A row for which it is known not to hold.
        """
        known = self._known(self._referents[row].image_id)
        if text_id(sentence) in known.text_ids:
            return True
        reading = read_claims(sentence)
        if reading.landmark is not None:
            anchors = (*known.objects.values(), *known.landmarks)
            if not any(reading.landmark.may_hold_for(each) for each in anchors):
                return False
        candidates = [claim for each, claim in known.objects.items() if each != untrue_of]
        return any(reading.subject.may_hold_for(each) for each in (*candidates, *known.landmarks))

    def _read_image(self, image_id: int) -> "_Known":
        objects: dict[int, Claim] = {}
        landmarks: list[Claim] = []
        ids: set[int] = set()
        for row in self._rows_of_image[image_id]:
            referent = self._referents[row]
            if referent.is_no_target:
                continue
            readings = [read_claims(sentence) for sentence in referent.sentences]
            objects[row] = Claim().join(reading.subject for reading in readings)
            landmarks += [each.landmark for each in readings if each.landmark is not None]
            ids.update(text_id(each) for each in (*referent.sentences, *referent.raw_sentences))
        unknown = [each for each in landmarks if not _is_among(each, objects.values())]
        return _Known(objects, tuple(unknown), frozenset(ids))


@dataclass(frozen=True)
class _Known:
    """What is said of an image: by row, of landmarks that are no row, and its very sentences."""

    objects: dict[int, Claim]
    landmarks: tuple[Claim, ...]
    text_ids: frozenset[int]


def _is_among(landmark: Claim, objects: Iterable[Claim]) -> bool:
    return any(landmark.may_hold_for(each) for each in objects)


class ClipEvidence:
    """How much an image looks, to CLIP, as if a sentence fitted it.

    A sentence is similar to all images or to none ("circle" more than "small striped star"), so
    a similarity is compared with those of the same sentence to a sample of images: the score is
    their difference in standard deviations. The threshold is calibrated on what is known to be
    true: a share of ``missed_share`` of all true pairs scores below it.

    Attributes:
        threshold: Scores above it count as "may be true".
    """

    def __init__(
        self,
        features: "ClipFeatures",
        *,
        missed_share: float,
        embed: Embed | None = None,
    ) -> None:
        """Calibrate.

        Args:
            features: Of the split.
            missed_share: Share of true pairs that may pass as untrue, in [0, 1].
            embed: Embeds a sentence that nobody says in the split; None = such a sentence may be
                true of any photograph.
        """
        self._features = features
        images, sentences = features.images, features.sentences
        picked = np.linspace(0, len(images) - 1, min(len(images), _SAMPLE)).astype(int)
        self._sample = images[picked].astype(np.float32)
        usual = [
            self._usual_similarity(sentences[start : start + _CHUNK].astype(np.float32))
            for start in range(0, len(sentences), _CHUNK)
        ]
        self._means, self._spreads = (np.concatenate(each) for each in zip(*usual, strict=True))
        self._embed = None if embed is None else lru_cache(maxsize=1 << 12)(embed)
        rows = features.row_of_expression
        own = [self.score(each, int(rows[each])) for each in features.true.tolist()]
        self.threshold = float(np.quantile(own, missed_share)) if own else float("inf")

    def score(self, expression: int, row: int) -> float:
        """Return how far above its usual similarity the sentence is to the photograph of a row."""
        sentence = self._features.sentences[expression].astype(np.float32)
        return self._compare(sentence, row, self._means[expression], self._spreads[expression])

    def may_be_true(self, expression: int, row: int) -> bool:
        """Say whether the score is above the threshold."""
        return self.score(expression, row) > self.threshold

    def new_may_be_true(self, sentence: str, row: int) -> bool:
        """Say the same of a sentence that no expression of the split is."""
        if self._embed is None:
            return True
        embedded = self._embed(sentence).astype(np.float32)
        (mean,), (spread,) = self._usual_similarity(embedded[None])
        return self._compare(embedded, row, mean, spread) > self.threshold

    def _compare(
        self, sentence: Float[np.ndarray, "dim"], row: int, mean: np.floating, spread: np.floating
    ) -> float:
        image = self._features.images[self._features.image_of_row[row]].astype(np.float32)
        return (float(image @ sentence) - float(mean)) / float(spread)

    def _usual_similarity(self, sentences: Float[np.ndarray, "expr dim"]) -> _Usual:
        """Return mean and spread of each sentence's similarities to the sample of images."""
        similarity = sentences @ self._sample.T
        return similarity.mean(axis=1), np.maximum(similarity.std(axis=1), 1e-6)


@dataclass(frozen=True)
class ClipFeatures:
    """Unit embeddings of a split, of any float type.

    Attributes:
        images: One per photograph.
        sentences: One per expression, by running number.
        image_of_row: Place of every row's photograph in ``images``.
        row_of_expression: Row of every expression.
        true: Running numbers of the expressions that have a target.
    """

    images: Float[np.ndarray, "images dim"]
    sentences: Float[np.ndarray, "expr dim"]
    image_of_row: Int[np.ndarray, "referents"]
    row_of_expression: Int[np.ndarray, "expr"]
    true: Int[np.ndarray, "true"]


_SAMPLE = 512
_CHUNK = 4096
