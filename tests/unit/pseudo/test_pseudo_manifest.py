from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from tris.errors import InputError
from tris.pseudo.manifest import (
    LabelSettings,
    Manifest,
    digest_of_weights,
    list_differences,
    read_manifest,
    read_settings,
    software_versions,
    write_json,
)

SETTINGS = LabelSettings(
    config={"label": {"refiner": "crf", "size": (3, 4)}, "round": 1},
    weights={"response": "ab"},
    data={"toy": "cd"},
)


def weights(**changes):
    return {"b": torch.arange(3.0), "a": torch.ones(2, 2, dtype=torch.bfloat16), **changes}


def test_the_digest_of_a_network_is_that_of_its_file_and_folder(tmp_path):
    save_file(weights(), tmp_path / "model.safetensors")
    expected = digest_of_weights(weights())
    assert digest_of_weights(tmp_path) == expected
    assert digest_of_weights(tmp_path / "model.safetensors") == expected


def test_the_digest_does_not_depend_on_order_or_layout():
    transposed = torch.tensor([[1.0, 3.0], [2.0, 4.0]]).T
    state = {"x": transposed, "y": torch.tensor(1)}
    assert digest_of_weights(state) == digest_of_weights(
        {"y": torch.tensor(1), "x": torch.tensor([[1.0, 2.0], [3.0, 4.0]])}
    )


@pytest.mark.parametrize(
    "other",
    [
        weights(b=torch.tensor([0.0, 1.0, 2.5])),
        weights(b=torch.arange(3.0)[None]),
        weights(b=torch.arange(3)),
        weights(c=torch.zeros(1)),
    ],
)
def test_the_digest_changes_with_values_shapes_types_and_names(other):
    assert digest_of_weights(other) != digest_of_weights(weights())


def test_weights_that_are_not_there_or_damaged_are_refused(tmp_path):
    with pytest.raises(InputError, match="no weights at"):
        digest_of_weights(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match="no sound safetensors file"):
        digest_of_weights(tmp_path)


def test_settings_survive_a_file_and_then_differ_in_nothing(tmp_path):
    write_json(tmp_path / "settings.json", SETTINGS)
    assert list_differences(read_settings(tmp_path / "settings.json"), SETTINGS) == []
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


def test_a_manifest_survives_a_file(tmp_path):
    manifest = Manifest(
        settings=LabelSettings(config={"a": 1}, weights={}, data={}),
        num_records=2,
        counts={"sound": 2},
        software=software_versions(),
    )
    write_json(tmp_path / "manifest.json", manifest)
    assert read_manifest(tmp_path / "manifest.json") == manifest


def test_differences_name_the_field_and_both_values():
    wanted = replace(
        SETTINGS,
        config={"label": {"refiner": "threshold", "size": (3, 4)}},
        weights={"response": "ab", "auxiliary": "ef"},
    )
    assert list_differences(SETTINGS, wanted) == [
        "config.label.refiner: crf, not threshold",
        "config.round: 1, not absent",
        "weights.auxiliary: absent, not ef",
    ]


def test_a_damaged_file_is_refused(tmp_path):
    (tmp_path / "settings.json").write_text('{"config": {}')
    with pytest.raises(InputError, match="make the labels again"):
        read_settings(tmp_path / "settings.json")
    (tmp_path / "settings.json").write_text('{"config": {}, "weights": {}, "data": {}, "more": 1}')
    with pytest.raises(InputError, match="more"):
        read_settings(tmp_path / "settings.json")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    write_json(tmp_path / "settings.json", SETTINGS)
    with pytest.raises(TypeError):
        write_json(tmp_path / "settings.json", replace(SETTINGS, config={"x": object()}))
    assert list_differences(read_settings(tmp_path / "settings.json"), SETTINGS) == []
    assert len(list(tmp_path.iterdir())) == 1


def test_software_versions_name_what_labels_depend_on(monkeypatch):
    monkeypatch.setattr("tris.pseudo.manifest.RECORDED_PACKAGES", ("torch", "no-such-package"))
    assert software_versions().keys() == {"python", "torch"}
