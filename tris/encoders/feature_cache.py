"""Maps of a frozen image encoder on disk: computed once per image, read ever after."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tris.errors import InputError
from tris.files import replace_file

Encode = Callable[[Tensor], list[Tensor]]

_SAMPLES_PER_SIDE = 32
_NUM_READERS = 8
"""Threads: disks, and more so those of a network, answer several questions at once."""


def as_stored(maps: list[Tensor]) -> list[Tensor]:
    """Return maps as the cache would give them back: rounded to half precision, as float32.

    A network that rounds so whether or not it has a cache computes the same in both cases. Half
    precision: features are read by learned layers, its error (2^-11 of a value) is a quarter of
    what bf16 autocast adds anyway, and the three maps of SAM's ViT-H take 23 MB instead of 46.
    """
    return [_to_half(each).float() for each in maps]


class FeatureCache:
    """A folder of maps, one file per image.

    What the maps depend on beside the image is the cache's identity: another one has another
    subfolder. The name of a file has the image's id and a digest of a grid of its pixels: the same
    photograph flipped, or another data set's with the same id, has a file of its own. Files are
    renamed into place when whole, so any number of processes may read and write; two that make the
    same file make the same content.
    """

    def __init__(self, directory: Path | str, *, identity: Mapping[str, object]) -> None:
        """Name the folder; nothing is written yet.

        Args:
            directory: Of all caches of a run.
            identity: Digest of the encoder, input spec, precision: plain values.
        """
        self._identity = json.dumps(identity, sort_keys=True)
        name = hashlib.sha256(self._identity.encode()).hexdigest()[:16]
        self.directory = Path(directory) / name

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # files cannot be compiled
    def maps(
        self,
        image_id: Int[Tensor, "images"],
        images: Float[Tensor, "images 3 height width"],
        encode: Encode,
    ) -> list[Float[Tensor, "images _ _ _"]]:
        """Return the maps of a batch, as `as_stored` gives them; those that are new are written.

        Args:
            image_id: The data set's ids.
            images: Normalised network inputs.
            encode: Computes the maps of some of the images, without gradient.

        Raises:
            InputError: If a file is damaged or cannot be written.
        """
        paths = self._paths(image_id, images)
        with ThreadPoolExecutor(_NUM_READERS) as readers:
            found = list(readers.map(partial(self._read, like=images), paths))
        missing = [row for row, maps in enumerate(found) if maps is None]
        if missing:
            made = [_to_half(each) for each in encode(images[missing])]
            for position, row in enumerate(missing):
                own = [each[position] for each in made]
                self._write(paths[row], own)
                found[row] = [each.float() for each in own]
        columns = zip(*(maps for maps in found if maps is not None), strict=True)
        return [torch.stack(column) for column in columns]

    def _paths(self, image_id: Tensor, images: Tensor) -> list[Path]:
        height, width = (max(1, side // _SAMPLES_PER_SIDE) for side in images.shape[-2:])
        grids = images[:, :, ::height, ::width].float().cpu().contiguous().numpy()
        digests = [hashlib.blake2b(grid.tobytes(), digest_size=8).hexdigest() for grid in grids]
        return [
            self.directory / f"{number}-{digest}.safetensors"
            for number, digest in zip(image_id.tolist(), digests, strict=True)
        ]

    def _read(self, path: Path, *, like: Tensor) -> list[Tensor] | None:
        try:
            maps = safetensors.torch.load_file(path)
        except FileNotFoundError:
            return None
        except safetensors.SafetensorError as error:
            raise InputError(
                f"The cached features {path} are damaged ({error}); remove {self.directory}."
            ) from error
        # The file is mapped: it is read by what touches the numbers, so that must be done here.
        return [maps[str(level)].to(like.device).float() for level in range(len(maps))]

    def _write(self, path: Path, maps: list[Tensor]) -> None:
        if not self.directory.is_dir():
            self._make_directory()
        state = {str(level): each.cpu().contiguous() for level, each in enumerate(maps)}
        handle, scratch = tempfile.mkstemp(prefix=f".{path.stem}-", dir=self.directory)
        os.close(handle)
        try:
            safetensors.torch.save_file(state, scratch)
            Path(scratch).replace(path)
        except (OSError, safetensors.SafetensorError) as error:
            free = shutil.disk_usage(self.directory).free
            raise InputError(
                f"Features cannot be cached in {self.directory} ({free / 1e6:.1f} MB are free "
                f"there; {error}): free some space or train with cache_frozen_features=False."
            ) from error
        finally:
            Path(scratch).unlink(missing_ok=True)

    def _make_directory(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        replace_file(self.directory / "identity.json", self._identity + "\n")


def _to_half(features: Tensor) -> Tensor:
    limit = torch.finfo(torch.float16).max
    return features.clamp(-limit, limit).half()
