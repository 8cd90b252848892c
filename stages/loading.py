"""How the stages get their batches."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Literal

from stages.setup import Stage, wanted_text
from tris.batch import Batch, InputSpec
from tris.data.compose import ComposedPlan, Composer
from tris.data.group_sources import GroupingConfig, GroupSource
from tris.data.groups import GroupConfig, GroupPlan, group_evaluation_batches
from tris.data.index import Index
from tris.data.loader import build_loader
from tris.data.negatives import NegativeSampler, NegativesConfig
from tris.data.phrases import PhraseEraser
from tris.data.plan import BatchPlan, PlanConfig, evaluation_batches
from tris.data.samples import ExpressionDataset, LabelSource
from tris.data.tokens import Tokenizer
from tris.errors import InputError
from tris.training.settings import TrainingConfig


def make_dataset(
    stage: Stage,
    index: Index,
    spec: InputSpec,
    tokenizer: Tokenizer,
    *,
    targets: Literal["none", "truth"] | LabelSource = "none",
    num_negatives: int = 0,
) -> ExpressionDataset:
    """Return a split's expressions as the experiment wants them read."""
    data = stage.config.data
    text = wanted_text(stage.config)
    negatives = NegativeSampler(
        index,
        NegativesConfig(
            count=num_negatives,
            source=data.negatives_source,
            with_replacement=data.negatives_with_replacement,
            allow_same_object=data.negatives_allow_same_object,
        ),
        seed=stage.config.seed,
        text=text,
    )
    phrases = None
    if spec.erases_phrases and targets != "none":
        phrases = PhraseEraser(spec.erases_phrases, tokenizer, seed=stage.config.seed)
        column = "sentences" if text == "clean" else "raw_sentences"
        count = phrases.count(chain.from_iterable(index.column(column).to_pylist()))
        stage.say(
            f"{count.with_phrase:,} of {count.sentences:,} sentences have a noun phrase to erase; "
            "the others stay whole."
        )
    return ExpressionDataset(
        index,
        spec,
        tokenizer,
        targets=targets,
        text=text,
        negatives=negatives if num_negatives else None,
        phrases=phrases,
        cache_images=data.cache_images,
    )


class TrainingBatches:
    """This process's batches of one training, endless, from any step on."""

    def __init__(
        self,
        stage: Stage,
        dataset: ExpressionDataset,
        config: TrainingConfig,
        *,
        earlier: Sequence[TrainingConfig] = (),
        with_no_target: bool = True,
        composer: Composer | None = None,
        groups: GroupSource | None = None,
        grouping: GroupingConfig | None = None,
    ) -> None:
        """Plan the batches.

        Args:
            stage: This stage.
            dataset: What is read.
            config: Updates and schedule.
            earlier: Trainings before this one, on batches made like its own, which come behind.
            with_no_target: See `PlanConfig`.
            composer: What makes sentences about several objects and none of single ones.
            groups: What groups of a group-wise network are made of.
            grouping: How many of these are taken apart, and the like; None = its defaults.

        Raises:
            InputError: If the global batch cannot be shared evenly, or a group-wise network is to
                be given batches that are not groups.
            ValueError: If a group-wise network is given no groups.
        """
        passes = config.gradient_accumulation
        if config.global_batch_size % passes:
            raise InputError(
                f"A global batch of {config.global_batch_size} cannot be split into {passes} equal "
                "passes; choose a gradient_accumulation that divides it."
            )
        self.plan: BatchPlan | GroupPlan
        if dataset.spec.group_size:
            _check_group_settings(config)
            if groups is None:
                raise ValueError("A group-wise network is trained on groups; there are none.")
            self.plan = GroupPlan(
                groups,
                GroupConfig(
                    group_size=dataset.spec.group_size,
                    batch_size=config.global_batch_size // passes,
                    grouping=grouping or GroupingConfig(),
                ),
                seed=stage.config.seed,
                process_index=stage.accelerator.process_index,
                num_processes=stage.accelerator.num_processes,
                composer=composer,
            )
        else:
            plan = PlanConfig(
                sampling=config.sampling,
                batch_size=config.global_batch_size // passes,
                max_expressions_per_image=config.sentences_per_image,
                max_expressions_per_referent=config.sentences_per_referent,
                flip_probability=config.flip_probability,
                with_no_target=with_no_target,
            )
            self.plan = self._pair_plan(stage, dataset, plan, composer)
        self._loader = build_loader(dataset, self.plan, num_workers=config.num_workers)
        self._passes = passes
        self._steps_before = sum(map(self._count_steps, earlier))
        self.total_steps = self._count_steps(config)
        self.steps_per_epoch = max(1, self.plan.num_steps // passes)

    def _count_steps(self, config: TrainingConfig) -> int:
        if config.steps is not None:
            return config.steps
        return max(1, round(config.epochs * self.plan.num_steps / self._passes))

    def _pair_plan(
        self,
        stage: Stage,
        dataset: ExpressionDataset,
        config: PlanConfig,
        composer: Composer | None,
    ) -> BatchPlan:
        index, seed, accelerator = dataset.index, stage.config.seed, stage.accelerator
        part, parts = accelerator.process_index, accelerator.num_processes
        if composer is None:
            return BatchPlan(index, config, seed=seed, process_index=part, num_processes=parts)
        return ComposedPlan(
            index, config, composer, seed=seed, process_index=part, num_processes=parts
        )

    def __call__(self, start_pass: int) -> Iterator[Batch]:
        """Yield batches from pass ``start_pass`` on, behind those of earlier trainings."""
        first_pass = self._steps_before * self._passes + start_pass
        epoch, within = divmod(first_pass, self.plan.num_steps)
        while True:
            self.plan.start_at(epoch, within)
            yield from self._loader
            epoch, within = epoch + 1, 0


def _check_group_settings(config: TrainingConfig) -> None:
    if config.sampling != "referents" or config.flip_probability:
        raise InputError(
            "A group-wise segmenter is trained on groups of photographs that come as they are, but "
            f"sampling is {config.sampling!r} and flip_probability {config.flip_probability}: "
            "leave both out of its training."
        )


def evaluation_loader(
    stage: Stage, dataset: ExpressionDataset, *, images_per_batch: int, num_workers: int
) -> Iterator[tuple[list[int], Batch]]:
    """Yield this process's share of a split: running numbers of expressions, and their batch."""
    accelerator = stage.accelerator
    yield from load_split(
        dataset, images_per_batch=images_per_batch, num_workers=num_workers,
        process_index=accelerator.process_index, num_processes=accelerator.num_processes,
    )  # fmt: skip


def load_split(
    dataset: ExpressionDataset, *, images_per_batch: int, num_workers: int = 0,
    process_index: int = 0, num_processes: int = 1,
) -> Iterator[tuple[list[int], Batch]]:  # fmt: skip
    """Yield one process's share of a split: running numbers of expressions, and their batch.

    Whole batches are shared out, so each is the same whatever the number of processes: what an
    image is computed with may touch the last digit of its maps. A group-wise network gets whole
    groups.
    """
    if dataset.spec.group_size:
        groups = group_evaluation_batches(
            dataset.index, pairs_per_batch=2 * images_per_batch,
            largest_group=dataset.spec.largest_group,
        )  # fmt: skip
        mine = groups[process_index::num_processes]
        numbers = [[item.expression for item in batch] for batch in mine]
        yield from zip(numbers, build_loader(dataset, mine, num_workers=num_workers), strict=True)
        return
    everyone = evaluation_batches(dataset.index, images_per_batch=images_per_batch)
    batches = everyone[process_index::num_processes]
    yield from zip(batches, build_loader(dataset, batches, num_workers=num_workers), strict=True)
