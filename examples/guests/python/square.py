"""Squares a number."""


def handler(cloudburst, n):
    return n * n
