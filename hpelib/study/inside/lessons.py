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

PERSONS = 200  # of the test split, on whom parts are switched off
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

    def distances_px(self, position: int, view: View) -> tuple[float, float]:
        """How far the joints found lie from those of person `position`, and from those of the nearest other person.

        Mean over labelled joints, in px of the crop. Other persons are those annotated in the same picture; where there
        are none the second distance is infinite.
        """
        people = self.gallery.people
        in_crop = to_crop(people.keypoints, view.crop.matrix)  # of everybody
        off_px = np.where(people.visibility > 0, np.linalg.norm(in_crop - view.found, axis=-1), np.nan)
        beside = (people.image_ids == people.image_ids[position]) & (people.visibility > 0).any(axis=1)
        beside[position] = False
        others_px = np.nanmean(off_px[beside], axis=1)
        return float(np.nanmean(off_px[position])), float(min(others_px, default=np.inf))

    def hidden_and_visible(self) -> pd.DataFrame:
        """The mean keypoint score of visible and of hidden joints of `PERSONS` test persons, of every network here."""
        rows = {}
        for name in reversed(self.gallery.runs):
            scores = self.gallery.scores_by_visibility(name, PERSONS)
            rows[name] = {f"{kind}, % (of {count})": score for kind, (score, count) in scores.items()}
        return pd.DataFrame(rows).T.round(1)

    def switched_off(self, parts: Parts) -> pd.DataFrame:
        """The mean keypoint score of `PERSONS` test persons, with each of `parts` changed, without the flip test.

        `parts` gives for a name the modules and what becomes of their output, as `altered` takes it. Networks that
        stand beside this one in the gallery follow with their own scores.

        Example: `lesson.switched_off({"no gate": ([network.gate], torch.ones_like)})`.
        """
        scores = {f"{self.run.network}, as trained": self.gallery.mean_score(self.run.network, PERSONS)}
        for name, (modules, change) in parts.items():
            with ExitStack() as stack:
                for module in modules:
                    stack.enter_context(altered(module, change))
                scores[name] = self.gallery.mean_score(self.run.network, PERSONS)
        others = [name for name in self.gallery.runs if name != self.run.network]
        scores |= {f"{name}, beside it": self.gallery.mean_score(name, PERSONS) for name in others}
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
