"""The programs of runtimetest.Suite, a function each."""
import os
import sys
import time


def echo(cb, x):
    return x


def add(cb, a, b):
    return a + b


def reverse(cb, x):
    return x[::-1]


def run(cb):
    return cb.getid()


def state(cb, key):
    seen = [cb.get(key)]
    cb.put(key, {"n": 1})
    seen.append(cb.get(key))
    cb.delete(key)
    seen.append(cb.get(key))
    cb.put(key, "last")
    seen.append(cb.get(key))
    cb.put(key, "there", ns="other")
    return seen + [cb.versions(key)]


def counter(cb, key, delta):
    c = cb.counter(key)
    c.add(delta)
    return c.value()


def set(cb, key, elements):
    grows, shrinks = cb.set(key), cb.orset(key + "-or")
    grows.add(*elements)
    shrinks.add(*elements)
    shrinks.remove(elements[0])
    return [grows.elements(), shrinks.elements()]


def max(cb, key, v):
    most, least = cb.max(key), cb.min(key + "-min")
    most.raise_to(v)
    least.lower_to(v)
    return [most.value(), least.value()]


def gcounter(cb, key, n):
    c = cb.gcounter(key)
    c.add(n)
    return c.value()


def zset(cb, key, m, n):
    z = cb.zset(key)
    z.put(m, 2)
    z.put(n, 1)
    z.put("gone", 3)
    assert z.score("gone") == 3 and z.range(2) == [("gone", 3)]
    z.remove("gone")
    return [member for member, _ in z.range()]


def map(cb, key):
    m = cb.map(key)
    m.put("a", 1)
    assert m.get("a") == 1 and m.versions("a") == [1] and m.get("b") is None
    m.counter("n").add(2)
    m.map("in").set("s").add("e")
    m.delete("a")
    return [m.fields(), m.counter("n").value(), m.map("in").set("s").elements()]


def priority(cb, key, n, v):
    p = cb.priority(key)
    assert cb.priority(key + "-none").get() is None
    p.put(n, v)
    value, number = p.get()
    return [number, value]


def once(cb, name, a, id):
    runs = [cb.start(name, a, run_id=id) for _ in range(2)]
    return [runs[0].run, runs[1].run, runs[1].get()]


def refuse(cb, message):
    raise cb.Permanent(message)


def args(cb):
    return sys.argv[1:]


def call(cb, name, arg):
    return cb.call(name, arg)


def future(cb, name, a, b):
    return [f.get() for f in [cb.start(name, a), cb.start(name, b)]]


def mail(cb, to, v):
    cb.send(to, v)
    [(sender, message)] = cb.recv(timeout=60)
    return [cb.getid(), sender, message]


def explode(message):
    raise ValueError(message)


def fail(cb, message):
    explode(message)


def log(cb, word):
    print(word + "-1")
    print(word + "-2", file=sys.stderr)


def sleep(cb, ms):
    time.sleep(ms / 1000)
    return "fine"


def loop(cb, bad):
    while bad:
        pass
    return "fine"


def memory(cb, bad):
    all = []
    while bad:
        all.append(bytearray(1 << 20))
    return "fine"


def garbage(cb, bad):
    if bad:
        os.write(3, b"\xffgarbage" * (1 << 17))
    return "fine"


def crash(cb, bad):
    if bad:
        os._exit(3)
    return "fine"
