"""Everything that decides one training, with all layers of params.yaml laid over each other.

    python -m hpelib.study.tools.show_run ditn coco 0

prints the run of `ditn` on `coco` from seed 0 under the current profile, as YAML.
"""

import argparse

import yaml

from hpelib.study.config import load_params, make_run

if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m hpelib.study.tools.show_run", description=__doc__.splitlines()[0])
    parser.add_argument("network", help="a network of the current profile in params.yaml")
    parser.add_argument("dataset", help="a dataset of that profile")
    parser.add_argument("seed", type=int)
    run = make_run(load_params(), **vars(parser.parse_args()))
    print(yaml.safe_dump(run.describe(), sort_keys=False), end="")
