"""What `make study` says of a profile before anything is computed, and what must not change while it computes."""

import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from hpelib.data.augment import Augmentation
from hpelib.data.files import enumerate_first
from hpelib.study.ablations import planned_runs
from hpelib.study.config import Run, profile_changes, profile_params, work_folder
from hpelib.study.planned import differs_from_plan

TRAINING = ("train", "train_extra", "control", "ablate")  # kinds of stages that train
TRAINED_ON = {"stress_hits": ["mpii"], "start": ["coco"], "networks": ["coco"], "baselines": ["coco"]}


def require_no_link(profile: str) -> None:
    """End the command if work/ or the profile's folder in it is a link."""
    if link := next((folder for folder in (Path("work"), Path("work") / profile) if folder.is_symlink()), None):
        sys.exit(
            f"{link} is a link, which DVC does not follow. Put its cache on the other disk instead: "
            "dvc cache dir --local FOLDER; dvc config --local cache.type symlink"
        )


def require_ready(params: dict, kinds: Collection[str]) -> None:
    """End the command if stages of these `kinds` are to run, and lack a dataset, or a GPU or ImageNet weights to train.

    Weights are fetched here, before the data are prepared. Later, trainings find them in the cache of the hub's client.
    """
    _require_datasets(params, kinds)
    if not {*kinds} & {*TRAINING}:
        return
    profile = f"profile {params['profile']}"
    advice = "On this machine, `make study STAGES=prepare` checks the data"
    if profile_params(params).get("recipe", {}).get("device") == "cuda":
        import torch  # takes a second, which profiles for the CPU need not spend

        if not torch.cuda.is_available():
            sys.exit(
                f"{profile} trains on a GPU (recipe: device: cuda), and PyTorch finds none. {advice}, and "
                "hpelib.study.tools.dry_run tries the recipes"
            )
    if starts := [(run.model, run.options) for _, run in planned_runs(params) if run.pretrained is True]:
        from hpelib.models import require_imagenet
        from hpelib.models.weights import imagenet_weights

        try:
            for name in dict.fromkeys(require_imagenet(model, **options) for model, options in starts):
                imagenet_weights(name)
        except OSError as error:
            sys.exit(
                f"networks of {profile} start from ImageNet weights (pretrained: true), and this machine {error}. "
                f"A copy of HF_HOME from a machine that has them will do. {advice}"
            )


def _require_datasets(params: dict, kinds: Collection[str]) -> None:
    """End the command if a stage is about a dataset that is not in the first block of params.yaml."""
    papers = {f"the ablations of {paper} need": entry["datasets"] for paper, entry in params["ablations"].items()}
    needed = {"ablate": papers, **{kind: {f"the stage {kind} needs": names} for kind, names in TRAINED_ON.items()}}
    for kind in sorted({*needed} & {*kinds}):
        have = params["all_datasets" if kind == "ablate" else "datasets"]
        for what, names in needed[kind].items():
            if missing := [name for name in names if name not in have]:
                sys.exit(
                    f"{what} {', '.join(missing)}, which this study does not have: add it to `datasets` in "
                    "params.yaml, or name the stages to end at, such as make study STAGES='tables@coco'"
                )


def forget_old_plan(params: dict) -> None:
    """Remove the plan if a file that params.yaml names was edited since. DVC knows params.yaml alone.

    Such files are a skeleton, and weights that a network starts from.
    """
    try:
        runs = [run for _, run in planned_runs(params) if run.dataset.skeleton or isinstance(run.pretrained, str)]
        changed = any(differs_from_plan(run) for run in runs)
    except ValueError:  # of a run that cannot be: the stage `plan` says so
        return
    if changed:
        shutil.rmtree(work_folder(params) / "plan")


def decided_by(needs: Iterable[str]) -> dict[str, str]:
    """What decides a stage: the plan files among the files that it `needs`, each with its text."""
    plans = [Path(path) for path in needs if "plan" in Path(path).parts]
    return {str(path): path.read_text(encoding="utf-8") for path in plans if path.is_file()}


def require_same(stage: str, before: dict[str, str], command: str) -> None:
    """Make the plan anew, and end the study if what decides `stage` has changed since `stage` started.

    Parameters, code and notebooks may be edited while a study runs. A stage that began before the edit belongs to what
    was there then, but DVC would record it with what is there now. Example: the learning rate is changed while a
    network trains.

    Args:
        before: what `decided_by` returned when the stage started.
        command: of the stage that makes the plan, such as "python -m hpelib.study.plan".
    """
    planned = subprocess.run([sys.executable, *command.split()[1:]], env=os.environ | {"DVC_STAGE": "plan"})
    if planned.returncode or decided_by(before) != before:
        sys.exit(
            f"params.yaml, the code or a notebook was changed while {stage} ran, and what it made is not recorded: run "
            "make study again"
        )


def warn_of_study(params: dict) -> None:
    """Say so where params.yaml names a profile, but the first block is not what that profile's `study` says."""
    study = profile_changes(params, params["profile"])
    if other := [key for key, value in study.items() if params[key] != value]:
        print(
            f"params.yaml names the profile {params['profile']}, which is made for other {', '.join(other)}: "
            f"make study PROFILE={params['profile']} sets them",
            flush=True,
        )


def warn_of_idle_settings(params: dict) -> None:
    """Say which settings of params.yaml act in no training of the study.

    Example: the angle of rotations, where the probability of a rotation is 0. A default that does not act is not named.
    """
    idle: dict[tuple[str, object, str], list[str]] = {}
    acting = set()
    for name, run in planned_runs(params):
        for setting, value, condition, acts in _conditional(run):
            if acts:
                acting.add((setting, value))
            else:
                idle.setdefault((setting, value, condition), []).append(name)
    for (setting, value, condition), names in idle.items():
        if (setting, value) not in acting:
            told = f"{setting} is {value}, which acts only where {condition}"
            print(f"params.yaml: {told}: {enumerate_first(names)}", flush=True)


def _conditional(run: Run) -> Iterator[tuple[str, object, str, bool]]:
    """The run's settings that act under a condition only: name, value, the condition, whether it is met."""
    drawn, default, recipe, form = run.inputs.augmentation, Augmentation(), run.recipe, run.dataset.form
    needs = {
        "rotation_deg": "rotation_probability",
        "rotation_probability": "rotation_deg",
        "shift_factor": "shift_probability",
        "shift_probability": "shift_factor",
    }
    for name, other in needs.items():
        value = getattr(drawn, name)
        if value not in (0, getattr(default, name)):
            yield f"augmentation: {name}", value, f"{other} is above 0", getattr(drawn, other) > 0
    share, fewest = drawn.half_body_probability, drawn.half_body_min_keypoints
    if share:
        has_upper_body = bool(form.skeleton.upper_body)
        yield "augmentation: half_body_probability", share, "the skeleton has an upper_body", has_upper_body
    if share or fewest != default.half_body_min_keypoints:
        met = bool(share) and form.skeleton.num_keypoints > fewest
        condition = "half_body_probability is above 0 and a skeleton has more keypoints"
        yield "augmentation: half_body_min_keypoints", fewest, condition, met
    if drawn.sampling != default.sampling:
        met = bool(drawn.scale_factor or (drawn.rotation_deg and drawn.rotation_probability))
        yield "augmentation: sampling", drawn.sampling, "scale_factor or rotations are above 0", met
    if recipe.optimizer == "adamw":
        yield "recipe: optimizer", "adamw", "weight_decay is above 0: else it is adam", recipe.weight_decay > 0
    if recipe.milestones:
        yield "recipe: milestones", recipe.milestones, "schedule is step", recipe.schedule == "step"
    if recipe.sync_batch_norm:
        yield "recipe: sync_batch_norm", True, "there are several processes", recipe.processes > 1
    if run.test.nms != "hard":
        yield "test: nms", run.test.nms, "a set is in the format coco", run.dataset.format == "coco"
    if "draw" in (train := run.dataset.splits["train"]):
        yield "sets: draw", train["draw"], "the split train has persons beside it", "persons" in train
