"""Leeds Sports Pose, extended: PCK as on LSP, in a split of our own that keeps near-duplicate photographs together."""

from pathlib import Path

from hpelib.data.lsp import read_lspet
from hpelib.data.people import People
from hpelib.data.splits import grouped_split, read_groups
from hpelib.formats import SPLITS, Dataset
from hpelib.formats.lsp import Leeds

SEARCHED_IMAGES = 7000  # our split is one of the images that were searched for near-duplicates


class Lspet(Leeds):
    """Entries: `fraction` (of the persons, 1 over all splits), `near_duplicates` (csv with group and image_number).

    The path of `near_duplicates` is relative to the current folder and not to the root of the set.
    """

    name = "lspet"
    required = ("fraction", "near_duplicates")
    public_persons = (5_600, 840)

    def read(self, dataset: Dataset, split: str) -> People:
        people = read_lspet(dataset.root)
        people = people.take(people.ids <= SEARCHED_IMAGES)
        groups = read_groups(self.files(dataset, split)["near_duplicates"], people.ids)
        fractions = [self.files(dataset, name)["fraction"] for name in SPLITS]
        parts = grouped_split(len(people), groups, fractions, seed=0)
        return people.take(parts[SPLITS.index(split)])

    def annotation_files(self, dataset: Dataset) -> list[Path]:
        groups = {Path(self.files(dataset, split)["near_duplicates"]) for split in dataset.splits}
        return [dataset.root / "joints.mat", *sorted(groups)]


FORMAT = Lspet()
