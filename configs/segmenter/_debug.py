"""What the tiny test networks of every segmenter config share; no experiment itself."""

from tris.batch import InputSpec, TokenizerConfig
from tris.encoders.clip import ClipConfig

DEBUG_INPUT = InputSpec(image_size=(64, 64), tokenizer=TokenizerConfig(context_length=8))
DEBUG_CLIP = ClipConfig(architecture="tris-small", pretrained="", input_spec=DEBUG_INPUT)
