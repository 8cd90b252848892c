import os
from pathlib import Path

import pytest

os.environ["WANDB_MODE"] = "offline"  # a developer with a login stays here
os.environ["HF_HUB_OFFLINE"] = "1"  # what reaches for the hub fails at once, not after minutes

REPOSITORY = Path(__file__).resolve().parent.parent


def _folder(variable: str, default: Path, what: str) -> Path:
    path = Path(os.environ.get(variable, default))
    if not path.is_dir():
        pytest.skip(f"{what} is not here ({path}); set {variable} to its folder")
    return path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real photographs and expressions: refcoco_mini/, expressions/."""
    return _folder("TRIS_TEST_DATA", REPOSITORY.parent / "shared" / "data", "the real test data")


@pytest.fixture(scope="session")
def reference() -> Path:
    """Reference numbers: golden/, manifests/, fill_rule.py."""
    default = REPOSITORY.parent / "shared" / "reference"
    return _folder("TRIS_REFERENCE", default, "the folder of reference numbers")


@pytest.fixture(scope="session")
def golden(reference: Path) -> Path:
    return reference / "golden"
