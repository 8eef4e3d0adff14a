"""One thread per process: several test processes on two cores must not fight for them.

Float32 on every processor: what is compared with plain code is compared exactly. Tests of bfloat16 say so.
"""

import os

# Before the first import of torch; children inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("O2OKIT_BFLOAT16", "0")
os.environ.setdefault("O2OKIT_BATCH", "1")  # plain progress lines
