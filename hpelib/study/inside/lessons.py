"""One trained network and one person, on whom a notebook of `notebooks/networks/` explains it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from torch import Tensor, nn

from hpelib.capture import altered
from hpelib.data.crops import to_crop
from hpelib.figures.heatmaps import View
from hpelib.study.config import Run, study_runs
from hpelib.study.engine import NotRunError
from hpelib.study.inside.views import Gallery, fixed_people, ranked_people
from hpelib.study.steps.weights import find_weights

Parts = Mapping[str, tuple[Sequence[nn.Module], Callable[[Tensor], Tensor] | None]]


@dataclass(frozen=True)
class Lesson:
    """What the cells of a notebook use again and again."""

    gallery: Gallery  # the network and those that it is compared with
    run: Run
    network: nn.Module  # trained, in eval mode
    position: int  # of the person in the test split
    view: View  # the person as the network sees them
    images: Tensor  # (1, 3, H, W), what the network is fed

    @property
    def title(self) -> str:
        """Which network of which training stands behind the pictures, as Markdown."""
        width, height = self.run.inputs.input_size
        return (
            f"Trained network: `{self.run.network}` on `{self.run.dataset.name}`, seed {self.run.seed}, profile "
            f"`{self.run.profile}`, input {width}x{height} px. Person {self.position} of the test split."
        )

    @cached_property
    def ranked(self) -> dict[str, dict[str, View]]:
        """The easiest, the median and the hardest person for all networks here together, as each network sees them."""
        people = ranked_people(self.gallery)
        return {rank: self.gallery.look_by_all(position) for rank, position in people.items()}

    def second_look(self, person: str) -> tuple[int, dict[str, View]]:
        """Another person, named as in `begin`: the position, and the views of all networks here."""
        position = _position(self.gallery, person)
        return position, self.gallery.look_by_all(position)

    def error_px(self) -> float:
        """How far the joints found lie from the true ones: the mean over labelled joints, in px of the crop."""
        return float(np.nanmean(np.linalg.norm(self.view.found - self.view.crop.keypoints, axis=1)))

    def nearer_to_others(self, position: int, view: View) -> int:
        """How many of the joints found lie nearer to the bones of somebody else than to those of person `position`.

        Others are the persons annotated in the same picture.
        """
        people = self.gallery.people
        (beside,) = np.nonzero(people.image_ids == people.image_ids[position])
        ends = to_crop(people.keypoints[beside], view.crop.matrix)[:, np.array(people.skeleton.bones)]  # (n, B, 2, 2)
        away_px = _to_segments_px(view.found, ends).min(axis=1)  # (n, K)
        others = beside != position
        return int((away_px[others].min(axis=0, initial=np.inf) < away_px[~others][0]).sum())

    def hidden_and_visible(self) -> pd.DataFrame:
        """The `Gallery.scores_by_visibility` of every network here."""
        rows = {}
        for name in reversed(self.gallery.runs):
            scores = self.gallery.scores_by_visibility(name)
            rows[name] = {f"{kind}, % (of {count})": score for kind, (score, count) in scores.items()}
        return pd.DataFrame(rows).T.round(1)

    def switched_off(self, parts: Parts) -> pd.DataFrame:
        """The mean keypoint score, as `Gallery.mean_score` has it, with each of `parts` changed.

        `parts` gives for a name the modules and what becomes of their output, as `altered` takes it. Networks that
        stand beside this one in the gallery follow with their own scores.

        Example: `lesson.switched_off({"no gate": ([network.gate], torch.ones_like)})`.
        """
        scores = {f"{self.run.network}, as trained": self.gallery.mean_score(self.run.network)}
        for name, (modules, change) in parts.items():
            with ExitStack() as stack:
                for module in modules:
                    stack.enter_context(altered(module, change))
                scores[name] = self.gallery.mean_score(self.run.network)
        others = [name for name in self.gallery.runs if name != self.run.network]
        scores |= {f"{name}, beside it": self.gallery.mean_score(name) for name in others}
        return pd.Series(scores, name="mean keypoint score, %").round(1).to_frame()


def begin(params: dict, network: str, dataset: str, person: str, beside: Sequence[str] = ()) -> Lesson:
    """The lesson of a trained network on one person of the test split.

    Args:
        person: "easy", "occluded" or "small", chosen by the annotation alone, or a position as text.
        beside: networks to compare with.

    Raises:
        NotRunError: one of the networks was not trained, and no weights for its settings come with the repository.
    """
    runs = {name: study_runs(params, name, dataset)[0] for name in (*beside, network)}
    if missing := [name for name, run in runs.items() if find_weights(run) is None]:
        raise NotRunError(
            f"There are no trained weights of {' and '.join(missing)} on {dataset} under the profile "
            f"{params['profile']}. They come with all of these among `networks` in `params.yaml`, by `make study`."
        )
    gallery = Gallery(runs)
    position = _position(gallery, person)
    (view,) = gallery.look(network, position)
    images = gallery.images(network, position)
    return Lesson(gallery, runs[network], gallery.network(network), position, view, images)


def _position(gallery: Gallery, person: str) -> int:
    chosen = fixed_people(gallery.people)
    return chosen[person] if person in chosen else int(person)


def _to_segments_px(points: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Distances of points (K, 2) from segments (n, B, 2 ends, 2): (n, B, K); infinite where an end is NaN."""
    start, along = ends[..., None, 0, :], (ends[..., 1, :] - ends[..., 0, :])[..., None, :]
    length = np.maximum((along**2).sum(axis=-1), 1e-9)
    place = np.clip(((points - start) * along).sum(axis=-1) / length, 0, 1)
    return np.nan_to_num(np.linalg.norm(points - start - place[..., None] * along, axis=-1), nan=np.inf)
