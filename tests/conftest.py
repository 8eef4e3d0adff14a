"""One thread per process: several test processes on two cores must not fight for them."""

import os

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # before the first import of torch; children inherit it
os.environ.setdefault("O2OKIT_BATCH", "1")  # plain progress lines
