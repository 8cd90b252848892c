"""GRSer: one sentence against a group of photographs, some of which do not show what it names."""

from tris.segmenters.grser.network import Grser, GrserConfig

__all__ = ["Grser", "GrserConfig"]
