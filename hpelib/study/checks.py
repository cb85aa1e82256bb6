"""What `make study` says of a profile before anything is computed, and what must not change while it computes."""

import os
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from hpelib.data.augment import Augmentation
from hpelib.data.files import enumerate_first
from hpelib.study.ablations import ablation_runs
from hpelib.study.config import Run, make_run, networks_on, profile_changes, profile_params


def require_ready(params: dict, trainings: Collection[str]) -> None:
    """End the command if `trainings` are to run, and this machine lacks the GPU or the ImageNet weights for them.

    Weights are fetched here, before the data are prepared. Later, trainings find them in the cache of the hub's client.
    """
    if not trainings:
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


def planned_runs(params: dict) -> Iterator[tuple[str, Run]]:
    """A run of every network on each of its datasets, of the control and of every row, with what messages call it."""
    for dataset in params["all_datasets"]:
        for network in networks_on(params, dataset):
            yield f"{network} on {dataset}", make_run(params, network, dataset, params["seeds"][0])
    for dataset in params["datasets"]:
        control = params["control"]
        yield f"the control {control} on {dataset}", make_run(params, control, dataset, params["seeds"][0], "shuffled")
    for paper, ablation in params["ablations"].items():
        for dataset in ablation["datasets"]:
            for row, run in ablation_runs(params, paper, params["ablation_seeds"][0], dataset).items():
                yield f"row {row} of {paper} on {dataset}", run


def warn_of_idle_settings(params: dict) -> None:
    """Say which settings of params.yaml act in no training of the study.

    Example: the angle of rotations, where the probability of a rotation is 0. A default that does not act is not named.
    """
    idle: dict[tuple[str, object], list[str]] = {}
    acting = set()
    for name, run in planned_runs(params):
        for setting, value, acts in _conditional(run):
            if acts:
                acting.add((setting, value))
            else:
                idle.setdefault((setting, value), []).append(name)
    for (setting, value), names in idle.items():
        if (setting, value) not in acting:
            name, condition = setting.split(", ")
            print(f"params.yaml: {name} is {value}, which acts only {condition}: {enumerate_first(names)}", flush=True)


def _conditional(run: Run) -> Iterator[tuple[str, object, bool]]:
    """Settings of the run that act under a condition only: name and condition, value, whether it is met."""
    drawn, default, recipe, form = run.inputs.augmentation, Augmentation(), run.recipe, run.dataset.form
    rules = (
        ("rotation_deg, where rotation_probability is above 0", drawn.rotation_probability > 0),
        ("rotation_probability, where rotation_deg is above 0", drawn.rotation_deg > 0),
        ("shift_factor, where shift_probability is above 0", drawn.shift_probability > 0),
        ("shift_probability, where shift_factor is above 0", drawn.shift_factor > 0),
        ("half_body_min_keypoints, where half_body_probability is above 0", drawn.half_body_probability > 0),
    )
    for setting, met in rules:
        value = getattr(drawn, name := setting.partition(",")[0])
        if value not in (0, getattr(default, name)):
            yield f"augmentation: {setting}", value, met
    if drawn.half_body_probability:
        met = bool(form.skeleton.upper_body)
        setting = "augmentation: half_body_probability, where the skeleton has an upper_body"
        yield setting, drawn.half_body_probability, met
    if recipe.milestones:
        yield "recipe: milestones, where schedule is step", recipe.milestones, recipe.schedule == "step"
    if recipe.sync_batch_norm:
        yield "recipe: sync_batch_norm, with several processes", True, recipe.processes > 1
    if run.test.nms != "hard":
        yield "test: nms, on sets in the format coco", run.test.nms, run.dataset.format == "coco"
