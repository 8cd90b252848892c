import dataclasses

import pytest
import torch
from safetensors.torch import save_file

from configs import debug, refcoco_unc
from stages.setup import Folders, Stage
from stages.train_response import make_fingerprint
from tris.data.manifest import Manifest, write_manifest
from tris.errors import InputError
from tris.training.fingerprint import check_same


def fingerprint(run, config, *, start="", judge=""):
    """Of a run with CLIPs of these names."""
    response = config.response
    network = dataclasses.replace(
        response.network, encoder=dataclasses.replace(response.network.encoder, pretrained=start)
    )
    calibration = dataclasses.replace(
        response.calibration,
        encoder=dataclasses.replace(response.calibration.encoder, pretrained=judge),
    )
    response = dataclasses.replace(response, network=network, calibration=calibration)
    config = dataclasses.replace(config, response=response)
    (run / "index").mkdir(parents=True, exist_ok=True)
    write_manifest(Manifest("refcoco", "unc", "images", {}), run / "index")
    return make_fingerprint(Stage(config, Folders(run), None, None), config)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"judge": "laion2b"}, r"judge: openai there, laion2b now"),
        ({"start": "laion2b"}, r"starts_from\.pretrained: openai there, laion2b now"),
    ],
)
def test_a_judge_or_a_start_with_other_public_weights_makes_another_training(
    tmp_path, changed, named
):
    names = {"start": "openai", "judge": "openai"}
    found = fingerprint(tmp_path, refcoco_unc.get_config(), **names)
    check_same(found, fingerprint(tmp_path, refcoco_unc.get_config(), **names), made=tmp_path)
    with pytest.raises(InputError, match=named):
        check_same(
            found,
            fingerprint(tmp_path, refcoco_unc.get_config(), **names | changed),
            made=tmp_path,
        )


def test_weights_of_stage_0_count_by_what_they_are_and_not_by_where(tmp_path):
    def of_run(name, value):
        clip = tmp_path / name / "clip"
        clip.mkdir(parents=True)
        save_file({"weight": torch.full((2,), value)}, clip / "model.safetensors")
        names = {"start": str(clip), "judge": str(clip)}
        return fingerprint(tmp_path / name, debug.get_config(), **names)

    found = of_run("here", 1.0)
    check_same(found, of_run("moved", 1.0), made=tmp_path)
    with pytest.raises(InputError, match="starts_from"):
        check_same(found, of_run("other", 2.0), made=tmp_path)
