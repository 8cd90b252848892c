"""GRSer on groups of RefCOCO's photographs, the paper's setting.

Paper: Wu et al., "Advancing Referring Expression Segmentation Beyond Single Image" (ICCV 2023),
section 5.2: Swin-B (ImageNet-22K) with LAVT's fusion, BERT-base, 416 x 416 pixels, C_v = 512,
N = 8, m = 1, AdamW with decay 0.01, rate 5e-5 with polynomial decay, 80 epochs, no augmentation.
The paper's batch of 4 is read as 4 groups.
Command: make stage1 stage2 CONFIG=refcoco_unc SEGMENTER=grser DATA=...
    (text alone: groups of sentences that recur; published G-RefC groups, with masks:
    tris prepare g-refc, then stages/train_segmenter.py --ceiling)
Cost: 4 x 8 photographs of 416 pixels per step, 80 epochs; the paper names no hardware.
Expected, Table 2, trained with masks. Adapted mean IoU with negatives: G-RefC 84.77, G-RefC+ 78.44,
G-RefCg 75.32, GRD 57.12; mean IoU without negatives: 79.33, 70.38, 65.47, 47.25.
Table 5 (G-RefCg / GRD, adapted mean IoU; share of negatives recognised): full 75.32 / 57.12; 95.25
/ 81.09; without the query module 66.28 / 47.62; 85.33 / 70.29; without the hierarchizer 68.92 /
50.73; 89.12 / 75.38; without mirror training 69.38 / 51.47; 90.12 / 75.54; without the triplet
loss 30.37 / 23.14; 0 / 0. Table 6 (N = 1, 3, 5, 8, G-RefCg): 66.28, 72.98, 74.26, 75.32.
Table 3, Co-SOD on CoCA: the column of GRSer is cut off in our copy of the paper.
"""

from configs.segmenter import grser_synthetic
from tris.config import SegmenterExperiment
from tris.segmenters.grser import GrserConfig
from tris.training.settings import TrainingConfig


def get_config() -> SegmenterExperiment[GrserConfig]:
    """Return the published network, started from Swin-B and BERT-base."""
    return SegmenterExperiment(
        name="grser",
        network=GrserConfig(),
        training=TrainingConfig(
            global_batch_size=32, epochs=80.0, learning_rate=5e-5, weight_decay=0.01,
            schedule="poly", precision="auto",
        ),
    )  # fmt: skip


def get_debug_config() -> GrserConfig:
    """Return a tiny network of the same class, for tests."""
    return grser_synthetic.get_debug_config()
