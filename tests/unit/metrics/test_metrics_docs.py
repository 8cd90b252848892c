from pathlib import Path

import numpy as np
import pytest

from tris.metrics.protocols import PROTOCOLS
from tris.metrics.rows import Counts
from tris.metrics.summary import compute_metrics

PAGE = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"


def table(first_header):
    lines = PAGE.read_text().splitlines()
    (start,) = [n for n, line in enumerate(lines) if line.startswith(f"| {first_header} |")]
    end = next(n for n in range(start, len(lines)) if not lines[n].startswith("|"))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start:end]]
    return cells[0], cells[2:]


@pytest.fixture(scope="module")
def rows():
    _, samples = table("expression")
    found = []
    for sample in samples:
        expression, referent, predicted, true, common = (int(cell) for cell in sample[:5])
        is_no_target, flag = (int(cell == "yes") for cell in sample[5:])
        union = predicted + true - common
        ids = (expression, referent, expression, 10_000)
        counts = Counts(*ids, common, union, predicted, true, is_no_target, flag)
        found.append(np.array(counts, dtype=np.int64))
    return np.stack(found)


def test_the_worked_example_is_what_the_code_prints(rows):
    header, results = table("protocol | mean_iou")
    assert {"tris", "lavt", "grefcoco", "refzom", "grser"} <= {line[0] for line in results}
    for name, *values in results:
        metrics = compute_metrics(rows, protocol=PROTOCOLS[name])
        assert [f"{metrics[key]:.4f}" for key in header[1:]] == values, name


def test_every_protocol_is_described():
    _, described = table("protocol | IoU metrics look at")
    assert [line[0].strip("`") for line in described] != []
    assert {line[0].strip("`") for line in described} == set(PROTOCOLS)
