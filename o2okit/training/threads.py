"""One thread or all of them: decided by the clock, again and again.

On two free cores two threads make a large cohort up to 1.7 times as fast. Beside another busy process they
make it many times slower: each of the dozens of parallel sections of an update waits for a thread that
has no core. Neither is known in advance, so some steps are timed both ways. Results do not depend on it.
"""

from __future__ import annotations

import time

import torch

WARM_UP = 10  # steps before the first decision, on one thread: updates are not recorded as yet
PERIOD = 2_000  # steps between two decisions
SAMPLE = 10  # steps timed each way


class Threads:
    """Chooses PyTorch's number of threads; as a context manager it restores the old one."""

    def __init__(self, device: torch.device) -> None:
        self.most = torch.get_num_threads()
        self.active = device.type == "cpu" and self.most > 1
        self._began = self._single = 0.0
        self._steps = -WARM_UP

    def __enter__(self) -> Threads:
        if self.active:
            torch.set_num_threads(1)
        return self

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self.most)

    def tick(self) -> None:
        """To be called before every step; some of the first are timed, wherever a run goes on from."""
        place = self._steps % PERIOD
        self._steps += 1
        if not self.active or place > 2 * SAMPLE:
            return
        now = time.perf_counter()
        if place == 0:
            torch.set_num_threads(1)
            self._began = now
        elif place == SAMPLE:
            self._single, self._began = now - self._began, now
            torch.set_num_threads(self.most)
        elif place == 2 * SAMPLE:
            torch.set_num_threads(self.most if now - self._began < self._single else 1)
