"""What training minimises: targets from the codec, made on the device, and the loss that a recipe names."""

from hpelib.codecs import Codec
from hpelib.losses import LOSSES, distribution_loss, heatmap_loss, transfer_loss
from hpelib.training.fit import Objective


def make_objective(loss: str, codec: Codec, options: dict | None = None) -> Objective:
    """The function of (network output, batch) that `fit` minimises.

    `loss` is "mse" or "ohkm" (`heatmap_loss`), "distribution" (SADI-Net's `distribution_loss`) or "transfer" (DITN's
    `transfer_loss`); `options` are further arguments of that function.

    Raises:
        ValueError: an unknown loss, or "distribution" with the codec `udp`.
    """
    options = options or {}
    if loss == "distribution" and codec.name == "udp":  # whose cells lie elsewhere than the learned ones
        raise ValueError("learned heatmaps have the cells of the codecs msra and dark; choose one of these, not udp")

    def objective(output, batch):
        keypoints = batch["keypoints"]
        targets, weights = codec.encode(keypoints, batch["visible"])
        if loss == "distribution":
            return distribution_loss(output, targets, weights, keypoints, **options)
        if loss == "transfer":
            units = {"stride": codec.stride, "sigma": codec.sigma}
            return transfer_loss(output, targets, weights, keypoints, **(units | options))
        return heatmap_loss(output, targets, weights, loss)

    if loss not in (*LOSSES, "distribution", "transfer"):
        raise ValueError(f"unknown loss {loss!r}; choose from {', '.join(LOSSES)}, distribution, transfer")
    return objective
