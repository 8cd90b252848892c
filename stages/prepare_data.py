"""Make the index that training reads: the embedded data set, or official files."""

import shutil
from pathlib import Path

from stages.setup import Stage, start_stage
from stages.validation import check_drawing
from tris.config import DataConfig
from tris.data.index import open_index
from tris.data.manifest import digest_sources, read_manifest
from tris.data.prepare.assemble import assemble
from tris.data.prepare.custom import read_custom
from tris.data.prepare.grefcoco import read_grefcoco
from tris.data.prepare.grouped import read_grouped
from tris.data.prepare.refer import read_refer
from tris.data.prepare.refzom import read_refzom
from tris.data.prepare.release import Release
from tris.data.synthetic import is_synthetic_written, write_synthetic
from tris.errors import InputError, exits_cleanly

OTHER_RELEASES = {"grefcoco": read_grefcoco, "ref-zom": read_refzom}


@exits_cleanly
def main() -> None:
    """Write ``RUN/data`` (embedded set only), ``RUN/index`` and ``RUN/index_with_masks``."""
    stage = start_stage("Prepare the data of a run.")
    if stage.is_main:
        stage.keep_config(replaces=prepare(stage))
    stage.accelerator.wait_for_everyone()
    stage.accelerator.end_training()


def prepare(stage: Stage) -> bool:
    """Make what is missing, and say whether anything was.

    A finished index of the same files is left as it is.
    """
    source, images = find_source(stage)
    is_new = False
    for index, keeps_masks in (
        (stage.folders.index, False),
        (stage.folders.index_with_masks, True),
    ):
        if (index / "index.json").is_file():
            check_origin(stage, index, source, dataset=stage.config.data.dataset)
            stage.say(f"{index} is there already.")
            continue
        release = read_release(stage.config.data, source)
        assemble(release, images=images, out=index, keep_training_masks=keeps_masks)
        is_new = True
    prepare_generalized(stage, source, images)
    for split in (stage.config.data.train_split, *stage.config.data.evaluation_splits):
        index_of_split = open_index(stage.folders.index, split)
        stage.say(
            f"{split}: {len(index_of_split)} referents, {index_of_split.num_expressions} "
            f"expressions, masks {'kept' if index_of_split.has_masks else 'left out'}"
        )
    return is_new


def prepare_generalized(stage: Stage, source: Path, images: Path) -> None:
    """Index what is scored as generalized segmentation besides the data set's own splits."""
    data = stage.config.data
    has_groups = data.synthetic is not None and data.synthetic.gres is not None
    if not has_groups and not data.also_scores_grefcoco:
        return
    if (stage.folders.index_gres / "index.json").is_file():
        check_origin(stage, stage.folders.index_gres, source, dataset="grefcoco")
    else:
        release = read_grefcoco(source=source, overlapping_polygons=data.overlapping_polygons)
        assemble(release, images=images, out=stage.folders.index_gres, keep_training_masks=False)
    if has_groups and not (stage.folders.index_groups / "index.json").is_file():
        groups = read_grouped(dataset="g-refc", source=source / "groups")
        assemble(groups, images=images, out=stage.folders.index_groups)


def read_release(data: DataConfig, source: Path) -> Release:
    """Read official files, or a person's own ``.jsonl`` file (data set ``custom``).

    Raises:
        InputError: If they cannot be used.
    """
    if data.dataset == "custom":
        return read_custom(source=source)
    if data.dataset in OTHER_RELEASES:
        reader = OTHER_RELEASES[data.dataset]
        return reader(source=source, overlapping_polygons=data.overlapping_polygons)
    return read_refer(
        dataset=data.dataset,
        source=source,
        split_by=data.split_by,
        overlapping_polygons=data.overlapping_polygons,
    )


def check_origin(stage: Stage, index: Path, source: Path, *, dataset: str) -> None:
    """Compare an index that is there with the files of the data set that is asked for.

    Raises:
        InputError: If it was made of others, of what these were before, or with other settings.
    """
    data, manifest = stage.config.data, read_manifest(index)
    files = [Path(each).resolve() for each in manifest.sources]
    is_same = manifest.dataset == dataset
    if dataset not in ("custom", *OTHER_RELEASES):
        is_same &= manifest.split_by == data.split_by
    # The embedded data lie inside the run, which may have been moved; their config was compared.
    if data.synthetic is None:
        is_same &= all(each.is_relative_to(source.resolve()) for each in files)
    if not is_same:
        raise InputError(
            f"{index} was made of {manifest.dataset} ({manifest.split_by}) from {files[0].parent}, "
            f"not of {dataset} ({data.split_by}) from {source}: choose another RUN, or remove "
            "the index."
        )
    # The embedded data are drawn anew where their config changes.
    known = {} if data.synthetic is not None else manifest.source_digests
    changed = [path for path, digest in digest_sources(known).items() if digest != known[path]]
    if changed:
        raise InputError(
            f"{index} was made of what {' and '.join(changed)} held before: choose another RUN, or "
            "remove the index."
        )
    check_drawing(data, open_index(index, data.train_split))


def find_source(stage: Stage) -> tuple[Path, Path]:
    """Return the folders of the official files and of the images.

    Raises:
        InputError: If real data are wanted and ``--data`` does not name them.
    """
    synthetic = stage.config.data.synthetic
    if synthetic is None:
        return find_official(stage.data, stage.config.data.dataset)
    folder = stage.folders.data
    if not is_synthetic_written(synthetic, folder):
        folders = stage.folders
        indexes = (folders.index, folders.index_with_masks, folders.index_gres)
        for made in (folder, *indexes, folders.index_groups):
            shutil.rmtree(made, ignore_errors=True)
        stage.say(f"Drawing the embedded data set into {folder} ...")
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_synthetic(synthetic, folder)
    return folder, folder / "images"


def find_official(data: Path | None, dataset: str) -> tuple[Path, Path]:
    """Return source and image folder below ``--data`` (REFER's layout, or TRIS's).

    Raises:
        InputError: If the folder or the images are not there.
    """
    if data is None:
        raise InputError(
            f"{dataset} needs its official files: pass DATA=folder (make) or --data folder."
        )
    if not data.is_dir():
        raise InputError(f"There is no folder {data}; DATA must hold {dataset}/ and images/.")
    places = (
        data / "images" / "mscoco" / "images" / "train2014",
        data / "images" / "train2014",
        data / "train2014",
        data / "images",
    )
    for place in places:
        if place.is_dir():
            return data.resolve(), place.resolve()
    wanted = ", ".join(str(place.relative_to(data)) for place in places)
    raise InputError(f"{data} has no image folder; looked for {wanted}.")


if __name__ == "__main__":
    main()
