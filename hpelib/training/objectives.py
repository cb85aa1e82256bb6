"""What training minimises: targets from the codec, on the device, and the loss that a recipe names."""

from hpelib.codecs import Codec
from hpelib.losses import heatmap_loss
from hpelib.training.fit import Objective


def make_objective(loss: str, codec: Codec) -> Objective:
    """The function of (network output, batch) that `fit` minimises; `loss` as in `hpelib.losses.heatmap_loss`."""

    def objective(output, batch):
        targets, weights = codec.encode(batch["keypoints"], batch["visible"])
        return heatmap_loss(output, targets, weights, loss)

    return objective
