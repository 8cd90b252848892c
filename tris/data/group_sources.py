"""Where image groups come from: an index that names them, or sentences that recur."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from tris.data.absence import TextEvidence
from tris.data.index import Index
from tris.data.plan import Item
from tris.data.recent import RecentReferents
from tris.data.tokens import normalize, text_id
from tris.data.words import PLACES, SUPERLATIVES, Reading, read_claims, split_words
from tris.errors import InputError

_ATTEMPTS = 64
_CHUNK = 1024
_LEAST_SIMILARITY = 0.8
"""Below it most sentences about the same kind of thing are near each other."""


@dataclass(frozen=True)
class GroupingConfig:
    """How image groups are made of sentences, where the data set names none.

    Attributes:
        least_similarity: Cosine of CLIP's features from which two sentences count as the same
            (`find_near_sentences`), 0.8 or more; 1 = they have to be equal, word by word.
        clip_missed_share: CLIP refuses as a negative what looks truer than this share of all true
            pairs; 0 refuses most, 1 = CLIP is not asked.
        alone_share: Of the units of N pairs (`tris.data.groups.GroupPlan`), those whose pairs stand
            alone: a photograph and a sentence, as most are met at test time (GRSer: 0). Where there
            is a composer, only these sentences are composed, and those of a single photograph.
        absent_share: Of the positives that stand alone, or are the only one of their sentence in a
            unit, those whose counterpart is a sentence about nothing with its own photograph, where
            the data set has such (gRefCOCO).
    """

    least_similarity: float = 1.0
    clip_missed_share: float = 0.1
    alone_share: float = 0.0
    absent_share: float = 0.5

    def __post_init__(self) -> None:
        """Check the fields."""
        if not _LEAST_SIMILARITY <= self.least_similarity <= 1:
            raise InputError(
                f"least_similarity is {self.least_similarity}; use {_LEAST_SIMILARITY} to 1."
            )
        for name in ("clip_missed_share", "alone_share", "absent_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; use 0 to 1.")


@runtime_checkable
class GroupSource(Protocol):
    """Sentences, the photographs that each fits, and photographs that it does not fit.

    Attributes:
        num_positives: Photographs that each sentence fits.
        absent: Pairs of a sentence and a photograph that stand in the data set because the
            sentence fits nothing there; they belong to no group.
    """

    num_positives: Sequence[int]
    absent: Sequence[Item]

    def positive(self, sentence: int, number: int) -> Item:
        """Return one of the photographs that a sentence fits."""
        ...

    def negatives(self, sentence: int, count: int, rng: np.random.Generator) -> list[Item]:
        """Return different photographs that a sentence does not fit; fewer where there are none."""
        ...


class IndexedGroups:
    """The groups of an index whose rows name them (GRD, G-RefC, CoCA).

    A positive is of a row with a target, a negative of one without; a group with few negatives
    gives the same ones again.

    Attributes:
        num_left_out: Expressions that are in no group with a target.
    """

    def __init__(self, index: Index) -> None:
        """Gather the groups; those in which nothing is referred to are left out.

        Raises:
            InputError: If no row names a group.
        """
        groups: dict[tuple[str, int], tuple[list[int], list[int]]] = {}
        names = index.column("group").to_pylist()
        absent = index.column("is_no_target").to_pylist()
        sentences = index.column("sentences").to_pylist()
        for row, name in enumerate(names):
            for position, sentence in enumerate(sentences[row] if name else ()):
                members = groups.setdefault((name, text_id(sentence)), ([], []))
                members[absent[row]].append(index.first_expression(row) + position)
        kept = [group for group in groups.values() if group[0]]
        if not kept:
            raise InputError(
                f"Split {index.split} of {index.directory} names no image group with a target."
            )
        self._positives = [positives for positives, _ in kept]
        self._negatives = [negatives for _, negatives in kept]
        self.num_positives: Sequence[int] = [len(each) for each in self._positives]
        self.num_left_out = index.num_expressions - sum(len(a) + len(b) for a, b in kept)
        self.absent: Sequence[Item] = ()

    def positive(self, sentence: int, number: int) -> Item:
        """Return one of the photographs that a sentence fits."""
        return Item(self._positives[sentence][number])

    def negatives(self, sentence: int, count: int, rng: np.random.Generator) -> list[Item]:
        """Return pairs without a target, none twice before all were drawn."""
        pool = self._negatives[sentence]
        if not pool:
            return []
        order = rng.permutation(len(pool))
        return [Item(pool[order[i % len(pool)]]) for i in range(count)]


class RecurringSentences:
    """Groups out of sentences that recur in different photographs: no annotation is needed.

    The photographs that a sentence fits are those that have it, or have one that means nearly the
    same. All referents that it names in a photograph are the target together. Negatives are drawn
    from photographs of which nothing is known that would make the sentence true
    (`tris.data.absence`), and, where ``looks_true`` is given, which do not look like it.
    """

    def __init__(
        self,
        index: Index,
        *,
        text: Literal["clean", "raw"] = "clean",
        near: Sequence[Sequence[int]] | None = None,
        looks_true: Callable[[int, int], bool] | None = None,
    ) -> None:
        """Gather the sentences.

        Args:
            index: The split; no mask is read.
            text: Sentences as cleaned, or as typed.
            near: For every sentence of `list_sentences` the numbers of those that mean nearly the
                same (`find_near_sentences`).
            looks_true: Of expression and row: whether the photograph looks as if the sentence
                fitted it (`tris.data.absence.ClipEvidence.may_be_true`).

        Raises:
            InputError: If there is no sentence.
        """
        self._evidence, self._looks_true = TextEvidence(index), looks_true
        self._referents = RecentReferents(index)
        self._image_of_row: list[int] = index.column("image_id").to_pylist()
        gathered = _gather(index, text)
        places = [each.places for each in gathered]
        self._sentences = [each.words for each in gathered]
        self._first = [each.places[0][1] for each in gathered]
        self._rows_of = [
            _rows_by_image(places, near[number] if near else (), number, self._image_of_row)
            for number in range(len(places))
        ]
        if not gathered:
            raise InputError(
                f"No sentence of split {index.split} of {index.directory} has a target."
            )
        self.num_positives: Sequence[int] = [len(rows) for rows in self._rows_of]
        self.absent: Sequence[Item] = [
            Item(index.first_expression(row) + position)
            for row, is_absent in enumerate(index.column("is_no_target").to_pylist())
            for position in range(len(index[row].sentences) if is_absent else 0)
        ]
        self._own = [dict(reversed(each)) for each in places]
        first_rows = {image: row for row, image in reversed(list(enumerate(self._image_of_row)))}
        self._first_rows = list(first_rows.values())

    def positive(self, sentence: int, number: int) -> Item:
        """Return one of the photographs that a sentence fits, with all that it names there."""
        rows, said = self._rows_of[sentence][number], self._own[sentence]
        own = [said[row] for row in rows if row in said]
        expression = own[0] if own else self._first[sentence]
        return Item(expression, image_row=rows[0], target_rows=rows)

    def negatives(self, sentence: int, count: int, rng: np.random.Generator) -> list[Item]:
        """Return different photographs that a sentence does not fit, as far as can be known."""
        chosen: list[int] = []
        refused = {self._image_of_row[rows[0]] for rows in self._rows_of[sentence]}
        for _ in range(_ATTEMPTS * count):
            if len(chosen) == count:
                break
            row = self._first_rows[int(rng.integers(len(self._first_rows)))]
            if self._image_of_row[row] not in refused:
                refused.add(self._image_of_row[row])
                if not self._may_be_true(sentence, row):
                    chosen.append(row)
        expression = self._first[sentence]
        return [Item(expression, image_row=row, target_rows=()) for row in chosen]

    def _may_be_true(self, sentence: int, row: int) -> bool:
        if self._evidence.may_be_true(self._sentences[sentence], row):
            return True
        return self._looks_true is not None and self._looks_true(self._first[sentence], row)


def list_sentences(
    index: Index, *, text: Literal["clean", "raw"] = "clean"
) -> list[tuple[str, int]]:
    """Return the different sentences of a split that have a target, in order of appearance.

    Beside each stands the running number of the first expression that says it.
    """
    return [(each.words, each.places[0][1]) for each in _gather(index, text)]


def find_near_sentences(
    sentences: Sequence[str],
    features: Float32[np.ndarray, "sentences dim"],
    *,
    least_similarity: float,
) -> list[tuple[int, ...]]:
    """Return for every sentence the numbers of those that mean nearly the same.

    CLIP is blind to much that tells two sentences apart ("left man", "right man"; "second from the
    left", "third from the left"), so they must also agree in all such words, and what they say of
    the object and of a landmark must not contradict each other.

    Args:
        sentences: As `list_sentences` has them.
        features: Of every sentence; unit length.
        least_similarity: Cosine from which two sentences count as the same.
    """
    meanings = [_Meaning.of(sentence) for sentence in sentences]
    near: list[tuple[int, ...]] = []
    for start in range(0, len(features), _CHUNK):
        similarity = features[start : start + _CHUNK] @ features.T
        for number, row in enumerate(similarity, start=start):
            others = map(int, np.flatnonzero(row >= least_similarity))
            mine = meanings[number]
            near.append(
                tuple(each for each in others if each != number and mine.agrees(meanings[each]))
            )
    return near


class _Meaning(NamedTuple):
    """What two sentences must agree in to mean the same.

    Attributes:
        telling: Words of place, order, relation and number, in their order.
        reading: Their claims.
    """

    telling: tuple[str, ...]
    reading: Reading

    @classmethod
    def of(cls, sentence: str) -> "_Meaning":
        words = normalize(sentence).split()
        return cls(tuple(word for word in words if word in _TELLING), read_claims(sentence))

    def agrees(self, other: "_Meaning") -> bool:
        mine, theirs = self.reading, other.reading
        if self.telling != other.telling or mine.subject.contradicts(theirs.subject):
            return False
        if mine.landmark is None or theirs.landmark is None:
            return mine.landmark is None and theirs.landmark is None
        return (
            mine.subject.nouns == theirs.subject.nouns
            and mine.landmark.nouns == theirs.landmark.nouns
            and not mine.landmark.contradicts(theirs.landmark)
        )


_TELLING = (
    PLACES
    | SUPERLATIVES
    | frozenset(
        split_words(
            "behind above below under underneath beside next near between top on in with without "
            "not no one two three four five both all only"
        )
    )
)


class _Sentence(NamedTuple):
    """Words that are equal for `text_id`, and where they stand: rows and expressions."""

    words: str
    places: list[tuple[int, int]]


def _gather(index: Index, text: Literal["clean", "raw"]) -> list[_Sentence]:
    """Return every different sentence of rows that have a target, in order of appearance."""
    sentences: dict[int, _Sentence] = {}
    column = index.column("sentences" if text == "clean" else "raw_sentences").to_pylist()
    absent = index.column("is_no_target").to_pylist()
    for row, texts in enumerate(column):
        for position, words in enumerate(texts if not absent[row] else ()):
            each = sentences.setdefault(text_id(words), _Sentence(words, []))
            each.places.append((row, index.first_expression(row) + position))
    return list(sentences.values())


def _rows_by_image(
    places: list[list[tuple[int, int]]],
    near: Sequence[int],
    number: int,
    image_of_row: Sequence[int],
) -> list[tuple[int, ...]]:
    """Return the rows that a sentence, or a near one, names, by photograph."""
    images: dict[int, dict[int, None]] = {}
    for each in (number, *near):
        for row, _ in places[each]:
            images.setdefault(image_of_row[row], {})[row] = None
    return [tuple(sorted(rows)) for rows in images.values()]
