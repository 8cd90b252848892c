"""Train referring image segmentation from text alone."""

__version__ = "0.1.0"
