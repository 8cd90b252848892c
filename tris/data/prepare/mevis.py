"""MeViS: sentences about motion, frame by frame.

Format: https://github.com/henghuiding/MeViS: ``<split>/meta_expressions.json``,
``<split>/mask_dict.json`` (not for ``valid``), ``<split>/JPEGImages/<video>/<frame>.jpg``. A row is
one sentence and one frame; the rows of a group are one sentence and one video.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tris.data.masks import Rle, check_rle, empty_rle, merge_masks, rle_size, rle_to_box
from tris.data.prepare.coco import read_json
from tris.data.prepare.photographs import Size
from tris.data.prepare.release import Box, Draft, Log, clean_text, take
from tris.data.prepare.simple import SimpleRelease
from tris.data.referent import Referent
from tris.errors import InputError, shorten

Masks = Mapping[str, Sequence[Any]]
_TRAINING_SPLIT = "train"
_SPLITS_WITH_MASKS = (_TRAINING_SPLIT, "valid_u")


@dataclass(frozen=True)
class _Sentence:
    """One sentence about one video; ``objects`` is None where the release does not tell."""

    video: str
    frames: tuple[str, ...]
    name: str
    text: str
    objects: tuple[str, ...] | None


def read_mevis(
    *, source: Path, split: str = "valid_u", keep_training_masks: bool = True
) -> SimpleRelease:
    """Read one split.

    Args:
        source: ``mevis/``, or the split's own folder. The image folder is its ``JPEGImages``.
        split: train, valid_u or valid.
        keep_training_masks: False = the masks of train are not even read. Only they tell in which
            frames an object shows: every row then has its sentence's objects, none is no-target.

    Raises:
        InputError: If the files cannot be used, the masks of train or valid_u are wanted and
            missing, a mask list does not fit its video's frames, or a sentence does not say what
            it means.
    """
    folder = source / split if (source / split).is_dir() else source
    meta_path, masks_path = folder / "meta_expressions.json", folder / "mask_dict.json"
    meta = read_json(meta_path)
    videos = meta.get("videos") if isinstance(meta, dict) else None
    if not isinstance(videos, dict):
        raise InputError(f"{meta_path} has no videos: is it MeViS's meta_expressions.json?")
    is_wanted = keep_training_masks or split != _TRAINING_SPLIT
    has_masks = split in _SPLITS_WITH_MASKS or masks_path.is_file()
    masks = _read_masks(masks_path) if is_wanted and has_masks else {}
    log = Log()
    sentences = list(_sentences(videos, masks, log))
    frames = {
        f"{video}/{frame}": number
        for number, (video, frame) in enumerate(
            (name, frame) for name, video in videos.items() for frame in _frames(name, video)
        )
    }

    def make_drafts() -> Iterator[Draft]:
        number = 0
        for sentence in sentences:
            for position, frame in enumerate(sentence.frames):
                number += 1
                image_id = frames[f"{sentence.video}/{frame}"] + 1
                yield _draft(number, split, sentence, position, image_id, masks)

    return SimpleRelease(
        dataset="mevis",
        sources=(meta_path, masks_path) if masks else (meta_path,),
        sizes=_sizes(frames, sentences, masks),
        make_drafts=make_drafts,
        num_drafts=sum(len(sentence.frames) for sentence in sentences),
        training_splits=(_TRAINING_SPLIT,),
        image_subfolders=("JPEGImages", f"{split}/JPEGImages"),
        log=log,
    )


def _sentences(videos: Mapping[str, Any], masks: Masks, log: Log) -> Iterator[_Sentence]:
    for name, video in videos.items():
        frames = _frames(name, video)
        for key in (records := take(video, "expressions", dict, of=f"Video {name}")):
            what = f"Expression {key} of video {name}"
            record = take(records, key, dict, of=f"Video {name}")
            text = clean_text(take(record, "exp", str, of=what))
            objects = _objects(record, of=what) if masks or "anno_id" in record else None
            for each in objects or ():
                if masks and len(masks.get(each, ())) != len(frames):
                    raise InputError(
                        f"Object {shorten(each)} of video {name} has masks for "
                        f"{len(masks.get(each, ()))} of {len(frames)} frames."
                    )
            if text:
                yield _Sentence(name, frames, key, text, None if objects is None else (*objects,))
            else:
                log.left_out.append(f"expression {key} of video {name}: it is empty")


def _read_masks(path: Path) -> Masks:
    masks = read_json(path)
    if not (isinstance(masks, dict) and masks) or not all(
        isinstance(key, str) and key.isdecimal() and isinstance(value, list)
        for key, value in masks.items()
    ):
        raise InputError(f"{path} should hold lists of masks by number: is it MeViS's?")
    return masks


def _objects(record: Mapping[str, Any], *, of: str) -> list[str]:
    given = take(record, "anno_id", list, of=of)
    if not all(isinstance(each, int | str) and str(each).isdecimal() for each in given):
        raise InputError(f"{of} should have numbers as 'anno_id', not {shorten(given)}.")
    return [str(each) for each in given]


def _frames(name: str, video: Any) -> tuple[str, ...]:  # noqa: ANN401 - checked here
    """Return the frame names in order; masks are counted in this order."""
    if not isinstance(video, dict):
        raise InputError(f"Video {name} should be a dict, not {shorten(video)}.")
    return tuple(sorted(str(frame) for frame in take(video, "frames", list, of=f"Video {name}")))


def _sizes(
    frames: Mapping[str, int], sentences: Sequence[_Sentence], masks: Masks
) -> dict[str, Size | None]:
    """Take the size of a video's frames from any of its masks."""
    by_video: dict[str, Size] = {}
    for sentence in sentences:
        given = (mask for each in sentence.objects or () for mask in masks.get(each, ()) if mask)
        first = next(given, None) if sentence.video not in by_video else None
        if first is not None:
            by_video[sentence.video] = rle_size(check_rle(first))
    return {f"{key}.jpg": by_video.get(key.rpartition("/")[0]) for key in frames}


def _draft(
    number: int,
    split: str,
    sentence: _Sentence,
    position: int,
    image_id: int,
    masks: Masks,
) -> Draft:
    frame = sentence.frames[position]
    objects = sentence.objects or ()
    present = [each for each in objects if masks[each][position]] if masks else objects
    draw = partial(_draw, tuple(masks[each][position] for each in present)) if masks else None
    referent = Referent(
        referent_id=number,
        image_id=image_id,
        file_name=f"{sentence.video}/{frame}.jpg",
        height=0,
        width=0,
        expression_ids=(number,),
        sentences=(sentence.text.lower(),),
        raw_sentences=(sentence.text,),
        annotation_ids=tuple(int(each) for each in present),
        is_no_target=bool(masks) and not present,
        group=f"{sentence.video}/{sentence.name}",
        source_id=f"{sentence.video}/{sentence.name}/{frame}",
    )
    return Draft((split,), referent, draw)


def _draw(rles: Sequence[Any], height: int, width: int) -> tuple[Rle, tuple[Box, ...]]:
    checked = [check_rle(rle) for rle in rles]
    if any(rle["size"] != [height, width] for rle in checked):
        raise InputError(f"A mask of MeViS has another size than its frame ({height} x {width}).")
    boxes = tuple(rle_to_box(rle) or (0.0, 0.0, 0.0, 0.0) for rle in checked)
    return (merge_masks(checked) if checked else empty_rle(height, width)), boxes
