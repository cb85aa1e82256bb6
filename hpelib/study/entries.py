"""What a claim compares and a row of a paper's table is about: a whole network, or one row of its ablations."""

from dataclasses import dataclass

from hpelib.records import records
from hpelib.study.ablations import row_entry


@dataclass(frozen=True, order=True)
class Entry:
    """A network of the study, or one row of its ablations. As text: `ditn` or `ditn:full`."""

    network: str  # its name in params.yaml, or a preset of `create_model` that only has its size counted
    row: str = ""  # of `ablations` in params.yaml; empty for the whole network

    @classmethod
    def parse(cls, text: str) -> "Entry":
        """Read an entry from its text.

        Raises:
            ValueError: the text is neither `network` nor `network:row`.
        """
        network, colon, row = text.partition(":")
        if not network or bool(colon) != bool(row) or ":" in row:
            raise ValueError(f"entry {text!r} is neither network nor network:row")
        return cls(network, row)

    def __str__(self) -> str:
        return f"{self.network}:{self.row}" if self.row else self.network


def full_size(params: dict, entry: Entry) -> tuple[str, dict]:
    """Name and options, for `create_model`, of an entry's model at the size that its paper reports.

    Example: the entry `daunet:ibn` gives `("daunet_resnet50", {"scru": False})`.
    """
    changes = params["ablations"][entry.network]["rows"][entry.row] if entry.row else {}
    networks = {record.name: {"model": record.full_size} for record in records().values()}
    chosen = row_entry({entry.network: {"model": entry.network}} | networks, entry.network, changes)
    return chosen["model"], chosen.get("options", {})
