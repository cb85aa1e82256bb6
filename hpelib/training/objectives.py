"""What training minimises: the loss that a recipe names, with targets that the codec makes on the device."""

from inspect import signature

from hpelib.codecs import Codec
from hpelib.layers.choices import require_choice, require_types
from hpelib.losses import LOSSES, distribution_loss, heatmap_loss, transfer_loss
from hpelib.training.fit import Objective


def make_objective(loss: str, codec: Codec, options: dict | None = None) -> Objective:
    """The function of (network output, batch) that `fit` minimises.

    Args:
        loss: "mse" or "ohkm" (`hpelib.losses.heatmap_loss`), "distribution" (SADI-Net's `distribution_loss`) or
            "transfer" (DITN's `transfer_loss`).
        codec: makes the target heatmaps.
        options: further arguments of "distribution" or "transfer"; the others take none.

    Raises:
        ValueError: an unknown loss, an option that it does not have or of another type, or "distribution" with the
            codec `udp`.
    """
    require_choice("loss", loss, (*LOSSES, "distribution", "transfer"))
    options = options or {}
    if takes := {"distribution": distribution_loss, "transfer": transfer_loss}.get(loss):
        arguments = signature(takes).parameters.values()
        for name in options:
            require_choice(
                f"loss_options of {loss}", name, [one.name for one in arguments if one.default is not one.empty]
            )
        require_types(f"loss_options of {loss}", takes, options)
    elif options:
        raise ValueError(f"the loss {loss} takes no loss_options, got {', '.join(options)}")
    if loss == "distribution" and codec.name == "udp":  # its cells lie elsewhere than those of the learned heatmaps
        raise ValueError("learned heatmaps have the cells of the codecs msra and dark; choose one of these, not udp")

    def objective(output, batch):
        keypoints = batch["keypoints"]
        targets, weights = codec.encode(keypoints, batch["visible"])
        match loss:
            case "distribution":
                return distribution_loss(output, targets, weights, keypoints, **options)
            case "transfer":
                units = {"stride": codec.stride, "sigma": codec.sigma}
                return transfer_loss(output, targets, weights, keypoints, **(units | options))
        return heatmap_loss(output, targets, weights, loss)

    return objective
