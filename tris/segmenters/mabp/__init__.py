"""MABP: adaptive binding prototypes for several targets, one, or none (arXiv 2405.15169)."""

from tris.segmenters.mabp.config import MabpConfig as MabpConfig
from tris.segmenters.mabp.network import Mabp as Mabp
