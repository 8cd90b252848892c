"""HARIS: human-like attention over frozen encoders (Zhang et al.)."""

from tris.segmenters.haris.config import HarisConfig as HarisConfig
from tris.segmenters.haris.network import HarisNet as HarisNet
