"""One thread a process, as in the study: results then equal to the bit, and processes side by side do not get in each
other's way. No window is opened for a figure."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before anything imports numpy or torch; child processes inherit it
os.environ["MPLBACKEND"] = "Agg"

import torch

torch.set_num_threads(1)
