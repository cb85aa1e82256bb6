"""What each stage of dvc.yaml is made of: the notebook or module that runs, its part of params.yaml, what it loads."""

from collections.abc import Iterator

from hpelib.records import presets, records
from hpelib.study.ablations import ablation_runs
from hpelib.study.config import decisive, networks_on, profile_params, study_runs
from hpelib.study.entries import full_size_models

# Stages whose results are numbers: a new colour in their pictures is not worth training anew.
COMPUTING = ("mannequins", "stress_data", "prepare", "train", "evaluate", "control", "ablate", "stress_hits", "count")

Stage = tuple[str, tuple[str, ...], dict, tuple[str, ...]]  # name; what runs; its parameters; modules loaded by name


def stages(params: dict) -> Iterator[Stage]:
    """Every stage of dvc.yaml but the plan, item by item: "train/coco-hrnet-0" is the stage train@coco-hrnet-0."""
    profile = profile_params(params)
    study = {name: params[name] for name in ("profile", "networks", "extra", "seeds")}
    rows = study | {name: params[name] for name in ("ablation_seeds", "ablations")}
    yield "mannequins", ("hpelib.study.steps.render",), profile["mannequins"], ()
    yield "stress_data", ("hpelib.study.steps.render",), profile["stress"], ()
    for name in params["all_datasets"]:
        for network in networks_on(params, name):
            runs = [decisive(run.describe()) for run in study_runs(params, network, name)]
            for run in runs:
                item = f"{name}-{network}-{run['seed']}"
                yield f"train/{item}", ("notebooks/train.ipynb",), run | {"test": None}, _loaded(run)
            tested = runs[0] | {"seeds": params["seeds"]}
            yield f"evaluate/{name}-{network}", ("hpelib.study.steps.evaluate",), tested, _loaded(*runs)
        form = (f"hpelib.formats.{runs[0]['dataset']['format']}",)
        yield f"prepare/{name}", ("hpelib.study.steps.prepare",), runs[0]["dataset"], form
        shown = {section: runs[0][section] for section in ("dataset", "inputs")}
        yield f"data/{name}", ("notebooks/data.ipynb",), shown, ()
        yield f"tables/{name}", ("notebooks/tables.ipynb",), study, ()
        yield f"heatmaps/{name}", ("notebooks/heatmaps.ipynb",), study, ()
        if name in params["datasets"]:
            run = decisive(study_runs(params, params["control"], name, labels="shuffled")[0].describe())
            sources = ("notebooks/train.ipynb", "hpelib.study.steps.evaluate")
            yield f"control/{name}", sources, run, _loaded(run)
        if name in params["error_datasets"]:
            yield f"errors/{name}", ("notebooks/errors.ipynb",), study, ()
    for paper in params["ablations"]:
        for seed in params["ablation_seeds"]:
            runs = {
                name: {row: decisive(run.describe()) for row, run in ablation_runs(params, paper, seed, name).items()}
                for name in params["ablations"][paper]["datasets"]
            }
            every = [run for rows in runs.values() for run in rows.values()]
            yield f"ablate/{paper}-{seed}", ("notebooks/ablate.ipynb",), runs, _loaded(*every)
        drawn = tuple(f"hpelib.models.{name}" for name in records()[paper].compared)
        yield f"networks/{paper}", (f"notebooks/networks/{paper}.ipynb",), rows, drawn
    yield "start", ("notebooks/00_start.ipynb",), study, ()
    models = tuple(f"hpelib.models.{name}" for name in records())
    yield "baselines", ("notebooks/networks/baselines.ipynb",), study, models
    yield "codecs", ("notebooks/codecs.ipynb",), {}, ()
    yield "ablations", ("notebooks/ablations.ipynb",), rows, ()
    yield "claims", ("notebooks/claims.ipynb",), rows, ()
    sized = {"ablations": params["ablations"], "networks": profile["networks"], "inputs": profile["inputs"]}
    sized |= {"models": full_size_models(params)}
    yield "count", ("hpelib.study.steps.count",), sized, models
    yield "sizes", ("notebooks/sizes.ipynb",), {}, ()
    runs = [decisive(study_runs(params, network, "mpii")[0].describe()) for network in params["networks"]]
    yield "stress_hits", ("hpelib.study.steps.stress",), {"runs": runs, "seeds": params["seeds"]}, _loaded(*runs)
    yield "stress", ("notebooks/stress.ipynb",), study, ()
    named = {"all_datasets": params["all_datasets"], "of_profile": [*profile["networks"]]}
    yield "index", ("hpelib.study.results.index",), rows | named, ()


def _loaded(*runs: dict) -> tuple[str, ...]:
    """The modules that described runs load by name. Two settings of one network share a module."""
    models = [f"hpelib.models.{presets()[run['model']].name}" for run in runs]
    formats = [f"hpelib.formats.{run['dataset']['format']}" for run in runs]
    return tuple(dict.fromkeys([*models, *formats]))
