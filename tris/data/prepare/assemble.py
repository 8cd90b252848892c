"""From a release to an index: check photographs, draw masks where wanted, write, compare counts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from tris.data.index_writer import IndexWriter, refuse_to_replace
from tris.data.masks import rle_to_box
from tris.data.prepare.overlap import Overlaps
from tris.data.prepare.photographs import Photograph, Verification, check_photographs
from tris.data.prepare.published import compare_with_published, leakage_warnings
from tris.data.prepare.release import Draft, Log, Release
from tris.data.referent import Referent
from tris.errors import InputError

DuplicateIds = Literal["error", "renumber"]


@dataclass(frozen=True)
class Settings:
    """How an index is made, whatever the data set.

    Attributes:
        skip_bad_images: Leave out photographs that cannot be used (listed in the manifest)
            instead of stopping.
        verify_images: ``quick`` reads headers and end marks, ``full`` decodes every photograph,
            ``none`` opens nothing: the index then serves for scoring alone.
        duplicate_ids: A ``ref_id`` or ``sent_id`` that comes twice is an ``error``, or gets the
            next free number (``renumber``).
        check_overlap: Indexes whose photographs are compared with these.
        is_quiet: No progress bar.
    """

    skip_bad_images: bool = False
    verify_images: Verification = "quick"
    duplicate_ids: DuplicateIds = "error"
    check_overlap: Sequence[Path] = ()
    is_quiet: bool = False


def assemble(
    release: Release,
    *,
    images: Path,
    out: Path,
    keep_training_masks: bool = True,
    settings: Settings | None = None,
) -> Path:
    """Write the index of a release.

    Args:
        release: What a reader found.
        images: The image folder.
        out: The index to make; an older one is replaced when the new one is whole.
        keep_training_masks: False = leave masks and boxes out of the training splits; their
            polygons are then not even drawn.
        settings: Everything else.

    Returns:
        ``out``.

    Raises:
        InputError: If the release or a photograph cannot be used, or ``out`` is no index.
    """
    settings = settings or Settings()
    refuse_to_replace(out, holding=(images, *release.sources))
    overlaps = Overlaps.of_indexes(settings.check_overlap)
    photographs, problems = check_photographs(
        release.photographs(),
        images,
        subfolders=release.image_subfolders,
        verify=settings.verify_images,
        is_quiet=settings.is_quiet,
    )
    if problems and not settings.skip_bad_images:
        raise InputError(_describe(problems, images))
    writer = IndexWriter(
        out,
        dataset=release.dataset,
        images=images,
        split_by=release.split_by,
        sources=release.sources,
        training_splits=release.training_splits,
        keep_training_masks=keep_training_masks,
        options={**release.options, "verify_images": settings.verify_images},
    )
    text_only = frozenset() if keep_training_masks else frozenset(release.training_splits)
    ids = _Ids(settings.duplicate_ids)
    with writer, tqdm(total=len(release), desc="referents", disable=settings.is_quiet) as bar:
        for draft in release.drafts():
            bar.update()
            photograph = photographs.get(draft.referent.file_name)
            if photograph is None:
                reason = f"Ref {draft.referent.referent_id}: its photograph was skipped"
                writer.left_out.append(reason)
                continue
            referent = ids.settle(draft.referent)
            for split, placed in _place(
                draft, referent, photograph, text_only=text_only, log=release.log
            ):
                writer.add(split, placed)
                overlaps.add(split, placed)
        _note(writer, release, problems, overlaps, ids)
    return out


def _place(
    draft: Draft,
    referent: Referent,
    photograph: Photograph,
    *,
    text_only: frozenset[str],
    log: Log,
) -> list[tuple[str, Referent]]:
    """Put a referent into its photograph's frame, once per split, drawn where masks are kept."""
    height, width = photograph.size
    plain = replace(
        referent,
        file_name=photograph.file_name,
        height=height,
        width=width,
        is_turned=photograph.is_turned,
    )
    if draft.draw is None or text_only.issuperset(draft.splits):
        return [(split, plain) for split in draft.splits]
    mask, boxes = draft.draw(height, width)
    if not referent.is_no_target and rle_to_box(mask) is None:
        log.mend("referents have an empty mask although they name an object")
    drawn = replace(plain, mask=mask, boxes=boxes)
    return [(split, plain if split in text_only else drawn) for split in draft.splits]


def _note(
    writer: IndexWriter, release: Release, problems: dict[str, str], overlaps: Overlaps, ids: "_Ids"
) -> None:
    """Fill the manifest's notes."""
    facts = writer.facts()
    writer.skipped_images = problems
    writer.left_out += release.log.left_out
    writer.overlaps = overlaps.found(release.training_splits)
    writer.warnings += [
        *leakage_warnings(release.dataset, release.split_by),
        *compare_with_published(release.dataset, release.split_by, facts, writer.total()),
        *(f"{number:,} {what}." for what, number in release.log.mended.items()),
        *([f"{len(problems):,} photographs were skipped."] if problems else []),
        *(
            [f"{len(writer.left_out):,} referents or sentences left out."]
            if writer.left_out
            else []
        ),
        *([f"{ids.renumbered:,} ids came twice and were renumbered."] if ids.renumbered else []),
        *(
            f"{what} have {len(names):,} photographs in common."
            for what, names in writer.overlaps.items()
            if names
        ),
    ]


class _Ids:
    """Sees to it that no id comes twice."""

    def __init__(self, duplicates: DuplicateIds) -> None:
        self.duplicates = duplicates
        self.renumbered = 0
        self._referents: set[int] = set()
        self._expressions: set[int] = set()

    def settle(self, referent: Referent) -> Referent:
        """Return the referent with ids that are its own."""
        what = f"Ref {referent.referent_id}"
        referent_id = self._own(referent.referent_id, self._referents, what)
        expression_ids = tuple(
            self._own(key, self._expressions, f"Sentence {key} of {what}")
            for key in referent.expression_ids
        )
        return replace(referent, referent_id=referent_id, expression_ids=expression_ids)

    def _own(self, key: int, known: set[int], what: str) -> int:
        if key in known:
            if self.duplicates == "error":
                raise InputError(
                    f"{what} comes twice; predictions are joined by these ids: mend the file, or "
                    "give --duplicate-ids renumber."
                )
            self.renumbered += 1
            key = _FIRST_NEW_ID + self.renumbered
        known.add(key)
        return key


_FIRST_NEW_ID = 10**12
"""Renumbered ids start here: above every published one."""


def _describe(problems: dict[str, str], images: Path) -> str:
    name, reason = next(iter(problems.items()))
    others = f" ({len(problems) - 1:,} more cannot be used)" if len(problems) > 1 else ""
    return (
        f"The photograph {name} cannot be used: {reason}{others}; mend it in {images}, or give "
        "--skip-bad-images to leave such photographs out."
    )
