"""Where SADI-Net's distribution learning module expects the keypoints: does it tell persons apart, and how well?"""

import numpy as np
from torch import nn

from hpelib.capture import capture
from hpelib.data.crops import to_image
from hpelib.data.loader import PeopleLoader
from hpelib.formats import Format


def judge_means(network: nn.Module, loader: PeopleLoader, form: Format) -> dict[str, float]:
    """How good the learned means mu are as predictions, for a network that shows `dlm_mu`.

    `sd_share`: the standard deviation of mu over persons as a share of that of the true keypoints, both in crop px. A
    module that has learned the mean pose alone has 0. The other figure is the mean over keypoints that `form` gives to
    mu in place of the predicted keypoints, in percent, such as PCKh@0.5.

    Raises:
        ValueError: the network has no distribution learning module.
    """
    means, truth, placed = [], [], []
    for batch in loader:
        looks = capture(network, batch["images"])
        if "dlm_mu" not in looks:
            raise ValueError("the network shows no `dlm_mu`: only a SADI-Net with dlm=True learns means")
        mu, keypoints, visible, matrices = (
            tensor.float().cpu().numpy()
            for tensor in (looks["dlm_mu"], batch["keypoints"], batch["visible"], batch["matrices"])
        )
        means.append(mu)
        truth.append(np.where(visible[..., None] > 0, keypoints, np.nan))
        placed.append(to_image(mu, matrices))
    share = sd_share(np.concatenate(means), np.concatenate(truth))
    return {"sd_share": share} | form.keypoint_figure(loader.people, np.concatenate(placed))


def sd_share(means: np.ndarray, truth: np.ndarray) -> float:
    """Standard deviation of `means` over persons as a share of that of `truth`.

    Variances are averaged over keypoints and both axes, over the persons whose keypoint is labelled.
    Shape: both (N, K, 2), NaN in `truth` where a keypoint is not labelled.
    """
    labelled = np.where(np.isnan(truth), np.nan, means)
    return float(np.sqrt(np.nanvar(labelled, axis=0).mean() / np.nanvar(truth, axis=0).mean()))
