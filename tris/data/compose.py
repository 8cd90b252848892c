"""Training samples that no data set holds: sentences about several objects, and about none.

gRefCOCO was annotated for such sentences; here they are composed of single ones, so that a
segmenter learns from text alone to mark several objects and to say that there is none. What is
drawn depends on (seed, epoch, expression) alone: the same for any number of processes and workers.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from tris.data.absence import ClipEvidence, TextEvidence
from tris.data.counting import Counted, count_kind
from tris.data.draws import draw
from tris.data.index import Index
from tris.data.joining import join_expressions
from tris.data.masks import decode_mask
from tris.data.negatives import choose_text
from tris.data.plan import BatchPlan, Item, PlanConfig
from tris.data.recent import RecentReferents
from tris.data.samples import LabelSource
from tris.data.swapping import list_swaps
from tris.data.tokens import text_id
from tris.errors import InputError

Kind = Literal["single", "multi", "none"]
KINDS: tuple[Kind, ...] = ("single", "multi", "none")


@dataclass(frozen=True)
class CompositionConfig:
    """Which share of the samples is composed, and how; the shares are gRefCOCO's.

    Where a sample cannot be composed (an image of one object, no sentence that is surely untrue)
    it stays single, so that a little less is composed; a training says how much. Samples whose
    referents are already several or none, or in another image than the sentence's own, stay as they
    are, and are joined with no other.

    Attributes:
        single_share: Of samples that mean one object (gRefCOCO: 0.60).
        multi_share: Of samples that mean two or more (gRefCOCO: 0.29).
        none_share: Of samples that mean nothing in the image (gRefCOCO: 0.11).
        triple_share: Of the joined sentences, those about three and not two.
        brief_share: How often a number and a plural are said of joined sentences where they can be;
            sound only where every object has sentences, so off by default: of "the two boats" on
            real photographs there are more than two about half the time.
        counted_share: Of the sentences about several, those about all objects of a kind ("both red
            things", two to four); sound only where every object has sentences of few and plain
            words, so off by default.
        counted_and_share: Of the sentences that count a kind, those that name one more object, too
            ("both circles and the star"), where the image has one.
        max_words: Longer composed sentences are refused; 0 = none is. So are those that the network
            cannot read whole.
        max_overlap: Referents whose labels have a higher intersection over union are not joined.
        swapped_share: Of the sentences about nothing, those that are a true one with one attribute
            swapped; the others are sentences of other images.
        clip_missed_share: CLIP refuses a sentence that looks truer than this share of all true
            ones; 0 refuses most, 1 = CLIP is not asked.
        attempts: Sentences that are tried before a sample stays single.
    """

    single_share: float = 0.60
    multi_share: float = 0.29
    none_share: float = 0.11
    triple_share: float = 0.25
    brief_share: float = 0.0
    counted_share: float = 0.0
    counted_and_share: float = 0.0
    max_words: int = 17
    max_overlap: float = 0.3
    swapped_share: float = 0.4
    clip_missed_share: float = 0.1
    attempts: int = 24

    def __post_init__(self) -> None:
        """Check the fields."""
        total = self.single_share + self.multi_share + self.none_share
        if min(self.single_share, self.multi_share, self.none_share) < 0 or abs(total - 1) > 1e-6:
            raise InputError(f"The shares of single, multi and none sum to {total:g}, not 1.")
        for name in (
            *("triple_share", "brief_share", "counted_share", "counted_and_share"),
            *("max_overlap", "swapped_share", "clip_missed_share"),
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; use 0 to 1.")
        if self.attempts < 1 or self.max_words < 0:
            raise InputError(
                f"attempts is {self.attempts} and max_words {self.max_words}; use at least 1 and 0."
            )


class LabelOverlaps:
    """Intersection over union of the labels of two rows, kept once it is known."""

    def __init__(self, index: Index, targets: LabelSource | Literal["truth"]) -> None:
        self._index, self._targets = index, targets
        self._referents = RecentReferents(index)
        self._mask = lru_cache(maxsize=256)(self._read)
        self._known: dict[tuple[int, int], float | None] = {}

    def __call__(self, first: int, second: int) -> float | None:
        """Return the overlap in [0, 1]; None where a row has no label or an empty one."""
        key = (min(first, second), max(first, second))
        if key not in self._known:
            self._known[key] = self._compute(*key)
        return self._known[key]

    def _compute(self, first: int, second: int) -> float | None:
        masks = self._mask(first), self._mask(second)
        if any(mask is None or not mask.any() for mask in masks):
            return None
        ours, theirs = (np.asarray(mask) for mask in masks)
        return float((ours & theirs).sum() / (ours | theirs).sum())

    def _read(self, row: int) -> np.ndarray | None:
        referent = self._referents[row]
        label: dict[str, object] | UInt8[np.ndarray, "height width"] | None = referent.mask
        if self._targets != "truth":
            name = self._index.manifest.dataset
            label = self._targets.get(name, referent.referent_id)
        if isinstance(label, dict):
            label = decode_mask(label)
        return None if label is None else label == 1


class Composer:
    """Turns a plan's items into composed ones."""

    def __init__(
        self,
        index: Index,
        config: CompositionConfig,
        *,
        seed: int,
        overlaps: LabelOverlaps,
        clip: ClipEvidence | None = None,
        text: Literal["clean", "raw"] = "clean",
        reads_whole: Callable[[str], bool] | None = None,
    ) -> None:
        """Prepare composing.

        Args:
            index: The training split.
            config: How.
            seed: Of the run.
            overlaps: Of the targets that are trained on.
            clip: What refuses untrue sentences that may be true; None = their text alone.
            text: Sentences as cleaned, or as typed.
            reads_whole: Says whether the network reads a sentence to its end; None = any.
        """
        self.config, self._seed = config, seed
        self._reads_whole = reads_whole
        self._index, self._text = index, text
        self._referents = RecentReferents(index)
        self._overlaps, self._clip = overlaps, clip
        self._evidence = TextEvidence(index)
        self._vocabulary, self._expression_of_text = _survey(index, text)

    def __call__(self, item: Item) -> Item:
        """Return the item, or what is composed in its place."""
        row, position = self._index.expression_row(item.expression)
        referent = self._referents[row]
        if referent.is_no_target or len(referent.annotation_ids) > 1:
            return item
        if item.target_rows not in (None, (row,)):
            return item
        rng = draw("composition", self._seed, item.epoch, item.expression)
        config = self.config
        kind = KINDS[rng.choice(3, p=(config.single_share, config.multi_share, config.none_share))]
        if kind == "single":
            return item
        composed = (
            self._several(item, row, position, rng)
            if kind == "multi"
            else self._none(item, row, position, rng)
        )
        return composed or item

    def _several(
        self, item: Item, row: int, position: int, rng: np.random.Generator
    ) -> Item | None:
        """Count a kind, or join the sentence with those of one or two others of the image."""
        if rng.random() < self.config.counted_share:
            counted = self._count(item, row, rng)
            if counted is not None:
                return counted
        wanted = 3 if rng.random() < self.config.triple_share else 2
        chosen = [row]
        for candidate in rng.permutation(self._others((row,))).tolist():
            if len(chosen) < wanted and all(self._is_apart(candidate, each) for each in chosen):
                chosen.append(candidate)
        for count in range(len(chosen), 1, -1):
            sentence = self._join(chosen[:count], position, rng)
            if sentence:
                rows = tuple(sorted(chosen[:count]))
                return item._replace(sentence=sentence, image_row=row, target_rows=rows)
        return None

    def _count(self, item: Item, row: int, rng: np.random.Generator) -> Item | None:
        """Speak of all objects of a kind of which this one is; every row has to be one object."""
        known, landmarks = self._evidence.claims_of_image(row)
        if any(len(self._referents[each].annotation_ids) > 1 for each in known):
            return None
        counted = count_kind(known, row, landmarks=landmarks, rng=rng)
        if counted is None or not self._is_short(counted.sentence):
            return None
        pairs = combinations(counted.rows, 2)
        if not all(self._is_apart(first, second) for first, second in pairs):
            return None
        sentence, rows = counted
        share = self.config.counted_and_share
        if share and rng.random() < share:
            sentence, rows = self._name_one_more(counted, rng) or counted
        return item._replace(sentence=sentence, image_row=row, target_rows=rows)

    def _name_one_more(self, counted: Counted, rng: np.random.Generator) -> Counted | None:
        """Join a counted kind with an object of another kind."""
        for row in rng.permutation(self._others(counted.rows)).tolist():
            own = self._sentences(row)
            sentences = (counted.sentence, own[rng.integers(len(own))])
            joined = join_expressions(sentences, brief_share=0.0, rng=rng)
            is_apart = all(self._is_apart(row, each) for each in counted.rows)
            if is_apart and self._is_short(joined):
                return Counted(joined, tuple(sorted((*counted.rows, row))))
        return None

    def _join(self, rows: Sequence[int], position: int, rng: np.random.Generator) -> str:
        """Return the sentence, empty where it is too long."""
        sentences = [self._sentences(rows[0])[position]]
        for row in rows[1:]:
            own = self._sentences(row)
            sentences.append(own[rng.integers(len(own))])
        if len({text_id(each) for each in sentences}) < len(sentences):
            return ""
        others = [
            sentence
            for row in self._evidence.rows_of_image(rows[0])
            if row not in rows
            for sentence in self._sentences(row)
        ]
        joined = join_expressions(
            sentences, others=others, brief_share=self.config.brief_share, rng=rng
        )
        return joined if self._is_short(joined) else ""

    def _others(self, rows: Sequence[int]) -> list[int]:
        """Return the rows of the same photograph that are one other object each."""
        return [
            each
            for each in self._evidence.rows_of_image(rows[0])
            if each not in rows and len(self._referents[each].annotation_ids) <= 1
        ]

    def _is_short(self, sentence: str) -> bool:
        if self.config.max_words and len(sentence.split()) > self.config.max_words:
            return False
        return self._is_read(sentence)

    def _is_read(self, sentence: str) -> bool:
        return self._reads_whole is None or self._reads_whole(sentence)

    def _none(self, item: Item, row: int, position: int, rng: np.random.Generator) -> Item | None:
        """Put a sentence that fits nothing in the photograph in the place of the item's own."""
        if rng.random() < self.config.swapped_share:
            swapped = self._swap(row, position, rng)
            if swapped is not None:
                return item._replace(sentence=swapped, image_row=row, target_rows=())
        image_id = self._referents[row].image_id
        for expression in rng.integers(self._index.num_expressions, size=self.config.attempts):
            other, place = self._index.expression_row(int(expression))
            if self._referents[other].image_id == image_id or self._referents[other].is_no_target:
                continue
            sentence = self._sentences(other)[place]
            if self._is_read(sentence) and not self._may_be_true(sentence, int(expression), row):
                return Item(
                    int(expression), item.epoch, sentence=sentence, image_row=row, target_rows=(),
                    group=item.group, is_flipped=item.is_flipped,
                )  # fmt: skip
        return None

    def _swap(self, row: int, position: int, rng: np.random.Generator) -> str | None:
        swaps = list_swaps(self._sentences(row)[position], vocabulary=self._vocabulary)
        for number in rng.permutation(len(swaps)):
            swap = swaps[int(number)]
            untrue_of = row if swap.turns_relation else None
            if self._evidence.may_be_true(swap.sentence, row, untrue_of=untrue_of):
                continue
            if self._is_read(swap.sentence) and not self._looks_true(swap.sentence, row):
                return swap.sentence
        return None

    def _looks_true(self, sentence: str, row: int) -> bool:
        if self._clip is None:
            return False
        known = self._expression_of_text.get(text_id(sentence))
        if known is None:
            return self._clip.new_may_be_true(sentence, row)
        return self._clip.may_be_true(known, row)

    def _may_be_true(self, sentence: str, expression: int, row: int) -> bool:
        if self._evidence.may_be_true(sentence, row):
            return True
        return self._clip is not None and self._clip.may_be_true(expression, row)

    def _is_apart(self, first: int, second: int) -> bool:
        known = (set(self._referents[row].annotation_ids) for row in (first, second))
        if set.intersection(*known):
            return False
        overlap = self._overlaps(first, second)
        return overlap is not None and overlap <= self.config.max_overlap

    def _sentences(self, row: int) -> tuple[str, ...]:
        return choose_text(self._referents[row], self._text)


class ComposedPlan(BatchPlan):
    """A batch plan whose items go through a composer."""

    def __init__(
        self,
        index: Index,
        config: PlanConfig,
        composer: Composer,
        *,
        seed: int,
        process_index: int = 0,
        num_processes: int = 1,
    ) -> None:
        """Make the plan; see `BatchPlan`."""
        super().__init__(
            index, config, seed=seed, process_index=process_index, num_processes=num_processes
        )
        self._composer = composer

    def items(self, epoch: int, step: int) -> list[Item]:
        """Return this process's part of one batch."""
        return [self._composer(item) for item in super().items(epoch, step)]


def kind_of(item: Item) -> Kind:
    """Return what an item of a composed plan is."""
    if item.target_rows is None:
        return "single"
    return "multi" if item.target_rows else "none"


def _survey(index: Index, text: str) -> tuple[Collection[str], dict[int, int]]:
    """Return the words that are used now and then, and an expression for every sentence."""
    column = "sentences" if text == "clean" else "raw_sentences"
    counts: Counter[str] = Counter()
    expressions: dict[int, int] = {}
    number = 0
    for sentences in index.column(column).to_pylist():
        for sentence in sentences:
            counts.update(sentence.lower().split())
            expressions.setdefault(text_id(sentence), number)
            number += 1
    return {word for word, count in counts.items() if count >= _FEWEST_USES}, expressions


_FEWEST_USES = 5
