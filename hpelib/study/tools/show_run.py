"""Everything that decides one training, with all layers of params.yaml laid over each other.

    python -m hpelib.study.tools.show_run ditn coco 0

prints the run of `ditn` on `coco` from seed 0 under the current profile, as YAML.
"""

import sys

import yaml

from hpelib.study.config import load_params, make_run

if __name__ == "__main__":
    network, dataset, seed = sys.argv[1:]
    print(yaml.safe_dump(make_run(load_params(), network, dataset, int(seed)).describe(), sort_keys=False), end="")
