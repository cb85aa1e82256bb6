"""Training steps on a GPU at the papers' size, as the paper profile computes them: bf16, channels last."""

import pandas as pd
import torch

from benchmarks.networks import Way, training_step
from benchmarks.timing import interleave, spread
from hpelib.metrics.cost import complexity
from hpelib.models import create_model

ROUNDS, STEPS = 7, 10
BATCH_SIZE, INPUT_SIZE = 64, (192, 256)
BASELINES = {
    "hrnet_w32": "hrnet_w32",
    "de_hrnet_w32": "hrnet_w32",
    "ditn_w32": "hrnet_w32",
    "simple_baseline_resnet50": "simple_baseline_resnet50",
    "daunet_resnet50": "simple_baseline_resnet50",
    "simple_baseline_resnet34": "simple_baseline_resnet34",
    "fr_sbn_resnet34": "simple_baseline_resnet34",
    "hourglass": "hourglass",
    "sadi_net": "hourglass",
}


def measure(device: str = "cuda") -> pd.DataFrame:
    """Images per second, and their share of what the baseline's would be at this network's multiply-accumulates."""
    models = {name: create_model(name).to(device) for name in BASELINES}
    macs = {name: complexity(model, INPUT_SIZE).macs for name, model in models.items()}
    images = torch.randn(BATCH_SIZE, 3, *reversed(INPUT_SIZE), device=device)
    cases = {name: _steps(model, images) for name, model in models.items()}
    rates = {name: STEPS * BATCH_SIZE / seconds for name, seconds in interleave(cases, ROUNDS).items()}
    rows = []
    for name, baseline in BASELINES.items():
        share = rates[name] / (rates[baseline] * macs[baseline] / macs[name])
        rows.append({"network": name, "of what MACs predict": f"{spread(100 * share)} %", "baseline": baseline})
        rows[-1] |= {"images per second": spread(rates[name]), "GMACs": f"{macs[name] / 1e9:.1f}"}
    return pd.DataFrame(rows)


def _steps(model: torch.nn.Module, images: torch.Tensor):
    step = training_step(
        model, lambda model, x: model(x)["heatmaps"].square().mean(), images, Way("bf16", "channels last")
    )

    def several():
        for _ in range(STEPS):
            step()
        if images.is_cuda:
            torch.cuda.synchronize()

    return several
