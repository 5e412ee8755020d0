"""Counts the words of a text: {"and": 2, "the": 5}. Words are letters, digits and all
that isn't ASCII; capitals are taken for small letters."""

import collections
import re

WORD = re.compile(r"[a-z0-9\u0080-\U0010ffff]+")


def handler(cloudburst, text=""):
    return dict(sorted(collections.Counter(WORD.findall(text.lower())).items()))
