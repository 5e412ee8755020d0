"""Counts the visits of a page and returns how many there were. All calls share the
count; one that is run again, because a worker died, counts once."""


def handler(cloudburst, page):
    visits = cloudburst.counter("visits:" + page)
    visits.add(1)
    return visits.value()
