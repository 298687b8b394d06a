"""One thread, here and in the processes that tests start.

The tensors are too small to share, and results stay the same to the last bit.
"""

import os

import torch

os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)
