"""A module of the program's own, for test_source."""
import math as maths

RATE = 0.5


def scaled(x):
    return maths.floor(x * RATE)


class Model:
    """Scores things."""

    def __init__(self, by):
        self.by = by

    def run(self, cloudburst, x):
        return scaled(x) * self.by
