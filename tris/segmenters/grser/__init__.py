"""GRSer: one sentence against a group of photographs, some of which do not show what it names."""

from tris.segmenters.grser.config import GrserConfig
from tris.segmenters.grser.network import Grser

__all__ = ["Grser", "GrserConfig"]
