"""What a competition inside an image is: its settings, and one contest.

Imports neither torch nor pyarrow, for the workers of `tris.pseudo.pool`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tris.errors import InputError
from tris.pseudo.crf import CrfConfig


@dataclass(frozen=True)
class CompetitionConfig:
    """How the referents of an image compete for its pixels, and which of them do not.

    Attributes:
        background_logit: The background's score, on the scale of the referents': the logit of
            the foreground probability that the CRF's unary makes of a map. 0 = a referent that is
            alone would get the pixels that it gets without competition.
        uses_annotation_ids: Whether equal annotation ids mean the same object, and common ones that
            one sentence's objects are among another's. They are numbers without geometry, of the
            same kind as ``ref_id``, which says that sentences share an object; masks and boxes are
            not read. False = sentences and maps alone.
        shared_sentences: Two referents are the same object if of the sentences of the one that has
            fewer at least this fraction is also said of the other; above 1 = never.
        map_overlap: They are, too, if their maps' foregrounds have at least this IoU and nothing
            tells them apart (`tris.pseudo.rivals.join_alike`); above 1 = never.
        judge_tolerance: The judge tells two referents apart if what one's map keeps fits its own
            sentences better than the other's by more than this, in cosine.
        crf: Unary and kernels of the common CRF; reaches are in pixels of the working size. Its
            threshold is the label rule's ``foreground_threshold``.
    """

    background_logit: float = 0.0
    uses_annotation_ids: bool = True
    shared_sentences: float = 0.5
    map_overlap: float = 0.8
    judge_tolerance: float = 0.01
    crf: CrfConfig = field(default_factory=CrfConfig)

    def __post_init__(self) -> None:
        """Check the fields."""
        for name in ("shared_sentences", "map_overlap"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be above 0, not {getattr(self, name)}.")
        if self.judge_tolerance < 0:
            raise InputError(f"judge_tolerance cannot be negative ({self.judge_tolerance}).")


class Rest(NamedTuple):
    """What a referent of several objects speaks of besides those that have sentences of their own.

    Attributes:
        whole: The referents of several objects, the same ones (their places in the image).
        parts: Per object, or objects, of it that have sentences: the referents of these.
    """

    whole: tuple[int, ...]
    parts: tuple[tuple[int, ...], ...]


class Contest(NamedTuple):
    """One dense CRF over the background and some classes.

    Attributes:
        classes: Per class the referents that it stands for (their places in the image); several
            are the same object, and their maps are averaged.
        num_labelled: The members of so many classes, from the first, take their labels from here;
            the others only compete, and keep what they win in the contest that labels them.
        apart: Classes of contests of their own that have nothing in common with the one labelled
            here though they cannot compete in it, since they share objects with its other classes.
        rests: Compete, too, together as one class, and are labelled nowhere.
    """

    classes: tuple[tuple[int, ...], ...]
    num_labelled: int
    apart: tuple[tuple[int, ...], ...] = ()
    rests: tuple[Rest, ...] = ()

    @property
    def labelled(self) -> tuple[int, ...]:
        """Places of the referents that take their labels from here."""
        return tuple(place for members in self.classes[: self.num_labelled] for place in members)

    @property
    def involved(self) -> frozenset[int]:
        """Places of all referents whose maps the labels from here depend on."""
        wholes = (rest.whole for rest in self.rests)
        return frozenset(
            place for members in (*self.classes, *self.apart, *wholes) for place in members
        )


def contests_for(contests: Sequence[Contest], wanted: Collection[int]) -> list[Contest]:
    """Return the contests of an image that it takes to label some of its referents."""
    involved = set(wanted)
    while True:
        needed = [contest for contest in contests if not involved.isdisjoint(contest.labelled)]
        more = involved.union(*(contest.involved for contest in needed))
        if more == involved:
            return needed
        involved = more
