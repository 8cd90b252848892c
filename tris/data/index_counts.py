"""Counting what an index holds, while it is written."""

from dataclasses import dataclass, field

from tris.data.manifest import SplitFacts
from tris.data.referent import Referent


@dataclass
class Counts:
    """Counts referents as they come; attributes as in `tris.data.manifest.SplitFacts`."""

    image_ids: set[int] = field(default_factory=set)
    annotation_ids: set[int] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    referents: int = 0
    expressions: int = 0
    multi_target: int = 0
    no_target: int = 0
    masks: int = 0

    def add(self, referent: Referent) -> None:
        """Count one referent."""
        num_expressions = len(referent.expression_ids)
        self.image_ids.add(referent.image_id)
        self.annotation_ids.update(referent.annotation_ids)
        self.groups.update([referent.group] if referent.group else [])
        self.referents += 1
        self.expressions += num_expressions
        self.multi_target += num_expressions * (len(referent.annotation_ids) > 1)
        self.no_target += num_expressions * referent.is_no_target
        self.masks += referent.mask is not None

    def facts(self, *, is_training: bool = False, masks_left_out: bool = False) -> SplitFacts:
        """Return the counts so far."""
        return SplitFacts(
            images=len(self.image_ids),
            referents=self.referents,
            expressions=self.expressions,
            multi_target=self.multi_target,
            no_target=self.no_target,
            objects=len(self.annotation_ids),
            groups=len(self.groups),
            masks=self.masks,
            is_training=is_training,
            masks_left_out=masks_left_out,
        )
