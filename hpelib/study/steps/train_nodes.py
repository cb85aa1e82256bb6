"""One run trained by the processes that torchrun started, on one machine or on several that share a file system.

    torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint first-node:29500 \\
        -m hpelib.study.steps.train_nodes hrnet coco 0

on every node leaves weights and history of the stage train@coco-hrnet-0; docs/clusters.md says how DVC learns of them.
"""

import sys
from dataclasses import replace

import torch
from torch.distributed.elastic.multiprocessing.errors import record

from hpelib.study.config import Run, load_params, make_run
from hpelib.study.steps.train import build_network, forget, train, training_people
from hpelib.training.fit import make_accelerator


@record  # the launcher names its error
def train_here(run: Run) -> None:
    """This process's part of the training: the same weights as on that many processes of one machine.

    Interrupted, it goes on from the run's checkpoint when started again, on any number of processes.
    """
    alone = replace(run, recipe=replace(run.recipe, processes=1))  # torchrun counts them
    people = training_people(alone)
    network = build_network(alone, people)
    torch.manual_seed(run.seed)
    train(alone, network, people)
    accelerator = make_accelerator(alone.recipe)
    if accelerator.is_main_process:
        forget([alone])
    accelerator.end_training()


if __name__ == "__main__":
    train_here(make_run(load_params(), sys.argv[1], sys.argv[2], int(sys.argv[3])))
