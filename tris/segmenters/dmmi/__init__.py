"""Dual multi-modal interaction network (Hu et al., ICCV 2023)."""

from tris.segmenters.dmmi.network import Dmmi as Dmmi
from tris.segmenters.dmmi.network import DmmiConfig as DmmiConfig
