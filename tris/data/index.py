"""The index: what every data set becomes, memory-mapped; one row = one referent."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Referent:
    """One row of the index: an object (or several, or none) and the sentences that refer to it.

    Attributes:
        referent_id: Official ``ref_id``.
        image_id: Official image id.
        file_name: Relative to the image folder.
        height: Of the photograph, pixels.
        width: Of the photograph, pixels.
        expression_ids: Official ``sent_id`` per sentence.
        sentences: Cleaned text (``sent``).
        raw_sentences: Text as typed (``raw``).
        expression_types: Free label per sentence ("attribute", ...); empty where unknown.
        category: Category name; empty where unknown.
        annotation_ids: Official ``ann_id``s; empty for no target.
        is_no_target: Whether the sentences refer to nothing in the image.
        group: Name of the image group (group-wise sets); empty otherwise.
        mask: COCO RLE ``{"size": [height, width], "counts": str}`` of the union of the objects,
            None where masks were left out.
        boxes: x, y, width, height per object, original pixels; empty where left out.
    """

    referent_id: int
    image_id: int
    file_name: str
    height: int
    width: int
    expression_ids: tuple[int, ...]
    sentences: tuple[str, ...]
    raw_sentences: tuple[str, ...]
    expression_types: tuple[str, ...] = ()
    category: str = ""
    annotation_ids: tuple[int, ...] = ()
    is_no_target: bool = False
    group: str = ""
    mask: dict[str, object] | None = None
    boxes: tuple[tuple[float, float, float, float], ...] = ()
