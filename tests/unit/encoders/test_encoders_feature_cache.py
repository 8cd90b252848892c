import json
import threading
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import multiprocessing

from tris.encoders.feature_cache import FeatureCache, as_stored
from tris.errors import InputError

IDS = torch.tensor([7, 8, 9])


def make_images(count=3, seed=0):
    return torch.randn(count, 3, 8, 10, generator=torch.Generator().manual_seed(seed))


class Encoder:
    """Counts how many images it was given."""

    def __init__(self):
        self.seen = 0

    def __call__(self, images):
        self.seen += len(images)
        return [images * 3, images[:, :1, ::2, ::2] - 1]


def make_cache(folder, **identity):
    return FeatureCache(folder, identity={"encoder": "abc", **identity})


def same(first, second):
    return len(first) == len(second) and all(map(torch.equal, first, second))


def test_an_image_is_encoded_once(tmp_path):
    images, encode = make_images(), Encoder()
    made = make_cache(tmp_path).maps(IDS, images, encode)
    read = make_cache(tmp_path).maps(IDS, images, encode)
    assert encode.seen == 3
    assert same(made, read)
    assert same(read, as_stored(Encoder()(images)))


def test_images_that_are_new_are_encoded_among_those_that_are_not(tmp_path):
    images, encode, cache = make_images(), Encoder(), make_cache(tmp_path)
    cache.maps(IDS[1:2], images[1:2], encode)
    assert same(cache.maps(IDS, images, encode), as_stored(Encoder()(images)))
    assert encode.seen == 3


def test_other_pixels_under_the_same_id_have_a_file_of_their_own(tmp_path):
    images, cache = make_images(), make_cache(tmp_path)
    cache.maps(IDS, images, Encoder())
    mirrored = cache.maps(IDS, images.flip(-1), Encoder())
    assert same(mirrored, as_stored(Encoder()(images.flip(-1))))
    assert same(cache.maps(IDS, images, Encoder()), as_stored(Encoder()(images)))


def test_another_encoder_does_not_read_these_maps(tmp_path):
    images, encode = make_images(), Encoder()
    make_cache(tmp_path).maps(IDS, images, encode)
    make_cache(tmp_path, precision="bfloat16").maps(IDS, images, encode)
    assert encode.seen == 6
    folders = list(tmp_path.iterdir())
    assert len(folders) == 2
    assert all(json.loads((f / "identity.json").read_text())["encoder"] == "abc" for f in folders)


def test_the_files_of_a_batch_are_read_at_once_and_stay_in_order(tmp_path, monkeypatch):
    images, cache = make_images(), make_cache(tmp_path)
    cache.maps(IDS, images, Encoder())
    everybody, load = threading.Barrier(3, timeout=60), safetensors.torch.load_file

    def wait_for_the_others(path):
        everybody.wait()
        return load(path)

    monkeypatch.setattr("safetensors.torch.load_file", wait_for_the_others)
    order = torch.tensor([2, 0, 1])
    read = cache.maps(IDS[order], images[order], Encoder())
    assert same(read, as_stored(Encoder()(images[order])))


def test_values_beyond_half_precision_are_kept_finite():
    assert as_stored([torch.tensor([1e6, -1e6])])[0].tolist() == [65504.0, -65504.0]


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    cache = make_cache(tmp_path)

    def fail(state, path):
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(KeyboardInterrupt):
        cache.maps(IDS, make_images(), Encoder())
    assert [path.name for path in cache.directory.iterdir()] == ["identity.json"]


def test_a_full_disk_is_a_sentence(tmp_path, monkeypatch):
    def fail(state, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(InputError, match=r"No space.*cache_frozen_features=False"):
        make_cache(tmp_path).maps(IDS, make_images(), Encoder())


def test_a_damaged_file_is_named(tmp_path):
    cache = make_cache(tmp_path)
    cache.maps(IDS[:1], make_images(1), Encoder())
    next(cache.directory.glob("*.safetensors")).write_bytes(b"broken")
    with pytest.raises(InputError, match="damaged"):
        cache.maps(IDS[:1], make_images(1), Encoder())


def fill(process, folder):
    numbers = torch.arange(40) if process == 0 else torch.arange(40).flip(0)
    everything = make_images(40)
    cache = make_cache(folder)
    for start in range(0, 40, 4):
        rows = numbers[start : start + 4]
        maps = cache.maps(rows, everything[rows], Encoder())
        assert same(maps, as_stored(Encoder()(everything[rows])))


@pytest.mark.slow
@pytest.mark.multiprocess
def test_two_processes_fill_one_cache(tmp_path):
    multiprocessing.spawn(fill, (tmp_path,), nprocs=2)
    cache, encode = make_cache(tmp_path), Encoder()
    maps = cache.maps(torch.arange(40), make_images(40), encode)
    assert encode.seen == 0
    assert same(maps, as_stored(Encoder()(make_images(40))))
    assert not [path for path in cache.directory.iterdir() if path.name.startswith(".")]
