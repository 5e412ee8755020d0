"""Functions as source: what is sent runs where nothing of this module is."""
import collections
import dataclasses
import datetime
import functools
import os.path
import re
import subprocess
import sys
import tempfile
import textwrap
import threading
import unittest
from functools import reduce as fold

import fake
import helpers
from helpers import scaled

import cloudburst
from cloudburst import image

try:
    import cloudpickle
except ImportError:
    cloudpickle = None

LIMIT, NAMES = 10, {"a": (1, 2.5, None), "b": [True, {"x"}, b"\x00"]}
PATTERN = re.compile(r"\d+", re.I)
SINCE = datetime.date(2020, 11, 1)
Named = collections.namedtuple("Named", "a")
COUNTS = collections.Counter("aab")
LOCK = threading.Lock()
INFINITE = float("-inf")
square = lambda _, x: x * x  # noqa: E731
first, second = lambda _, x: x + 1, lambda _, x: x + 2


def double(x: Named) -> Named:
    """Doubles."""
    return 2 * x


def tripled(f):
    @functools.wraps(f)
    def wrapper(*args):
        return 3 * f(*args)

    return wrapper


@tripled
def trebled(x):
    return double(x)


@functools.lru_cache(maxsize=LIMIT)
def cached(x):
    return x + LIMIT


@dataclasses.dataclass
class Point:
    x: int
    y: int = LIMIT

    def sum(self):
        return double(self.x) + self.y


class Far(Point):
    pass


def everything(cloudburst, x):
    # A comment that stays.
    found = PATTERN.findall(f"{x} and {LIMIT}")
    return [
        double(x), trebled(x), cached(x), Far(x).sum(), fold(lambda a, b: a + b, [1, x]), os.path.basename("a/b"), found,
        sorted(NAMES), SINCE.year, COUNTS["a"], INFINITE < 0, scaled(x), len(__name__) > 0,
    ]  # fmt: skip


def fact(cloudburst, n):
    return 1 if n < 2 else n * fact(cloudburst, n - 1)


def even(_, n):
    return n == 0 or odd(_, n - 1)


def odd(_, n):
    return n != 0 and even(_, n - 1)


def with_module(_, x):
    return helpers.scaled(x) + len(os.path.join("a", "b"))


def locked(_, x):
    with LOCK:
        return x


def undefined(_, x):
    return later_defined(x)  # noqa: F821


def counted(_):
    global total
    total = globals().get("total", 0) + 1
    return total


def run(func, *args):
    """Sends a function as register does, and calls what a worker would make of it."""
    sent = image.of(func)
    return fake.load(sent.data, sent.entry)(None, *args)


class Source(unittest.TestCase):
    def test_uses(self):
        self.assertEqual(run(everything, 4), everything(None, 4))
        self.assertIn(b"# A comment that stays.", image.of(everything).data)
        self.assertEqual(run(fact, 5), 120)
        self.assertEqual(run(even, 7), False)
        self.assertEqual(run(counted), 1)

    def test_only_what_is_used(self):
        text = str(image.of(fact).data, "utf-8")
        self.assertNotIn("import os", text)
        self.assertNotIn("LIMIT", text)
        self.assertEqual(image.of(fact), image.of(fact))

    def test_lambdas(self):
        self.assertEqual(run(square, 3), 9)
        self.assertEqual((run(first, 1), run(second, 1)), (2, 3))
        self.assertEqual(run(lambda _, x: x - LIMIT, 3), -7)
        pair = [lambda _: "a", lambda _: "b"]
        self.assertEqual([run(f) for f in pair], ["a", "b"])
        self.assertEqual(
            run(
                lambda _, x: (
                    x  # of several lines
                    + 1
                ),
                1,
            ),
            2,
        )
        self.assertEqual([run(f, 1) for f in [lambda _, x, i=i: x + i for i in range(3)]], [1, 2, 3])

    def test_alike_on_one_line(self):
        pair = [lambda _, x=[1]: x, lambda _, x=[2]: x]  # noqa: B006
        self.assertEqual([run(f) for f in pair], [[1], [2]])

    def test_closures(self):
        def adder(by):
            def add(_, x):
                return helper(x) + by

            def helper(x):
                """Is in
            the same function."""
                return x * LIMIT

            return add

        self.assertEqual(run(adder(3), 2), 23)
        by = [1]
        self.assertEqual(run(lambda _, x: x + by[0], 2), 3)

    def test_decorated(self):
        class Cloud:
            _stays = True

            def function(self, f=None, **options):
                return f if f else self.function

        cloud = Cloud()

        @cloud.function(timeout=3)
        def plain(_, x):
            return double(x)

        @cloud.function
        @tripled
        def wrapped(_, x):
            return x

        self.assertEqual(run(plain, 2), 4)
        self.assertEqual(run(wrapped, 2), 6)

    def test_classes(self):
        sent = image.of((helpers.Model, 10))
        self.assertEqual((fake.load(sent.data, sent.entry)(None, 5), sent.about), (20, "Scores things."))
        with self.assertRaisesRegex(cloudburst.BadArgument, "no method run"):
            image.of(Point)

    def test_own_modules_go_along(self):
        sent = image.of(with_module)
        self.assertEqual(sent.entry, "main:with_module")
        with tempfile.TemporaryDirectory() as d:
            import io
            import zipfile

            with zipfile.ZipFile(io.BytesIO(sent.data)) as z:
                self.assertEqual(z.namelist(), ["helpers.py", "main.py"])
                z.extractall(d)
            got = subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path[0:0] = [{d!r}]; import main; print(main.with_module(None, 5))"], capture_output=True, text=True)
        self.assertEqual((got.stdout, got.stderr), ("5\n", ""))

    def test_refused(self):
        client = cloudburst.Client(cloudburst.transport.Transport("http://127.0.0.1:1"))

        async def several(_):
            yield 1

        for func, says in [
            (undefined, "undefined uses later_defined, which isn't defined"),
            (lambda _: client.get("k"), "which can't go to a worker"),
            (several, "is a generator"),
            (7, "7 is no function"),
        ]:
            with self.assertRaises(cloudburst.BadArgument) as caught:
                image.of(func)
            self.assertIn(says, str(caught.exception))

    def test_by_cloudpickle(self):
        class Counter:
            n = 0

            def add(self, _, x):
                self.n += x
                return self.n

        without_source = eval("lambda _, x: x + 1")
        if cloudpickle is None:
            for func in without_source, Counter().add:
                with self.assertRaisesRegex(cloudburst.BadArgument, "can't be sent as source: .*\n.*pip install cloudpickle"):
                    image.of(func)
        else:
            self.assertEqual(run(without_source, 1), 2)
            self.assertEqual(run(Counter().add, 3), 3)
            self.assertIn(b"which this worker's Python hasn't: install cloudpickle there", image.of(without_source).data)
        with self.assertRaisesRegex(cloudburst.BadArgument, "can't be sent as source"):
            image.of(locked)

    def test_as_a_script(self):
        """A script's own module is __main__, and its file is what it was at the start."""
        script = textwrap.dedent("""
            import sys
            sys.path[0:0] = sys.argv[1].split(",")
            import math, xml.dom.minidom
            from os import path as p
            import fake
            from cloudburst import image
            BASE = 3
            def near(x): return math.floor(x) + BASE
            def f(cloudburst, x): return [near(x), p.join("a", "b"), xml.dom.minidom.parseString("<a/>").documentElement.tagName]
            sent = image.of(f)
            print(fake.load(sent.data, sent.entry)(None, 1.5))
        """)
        here = os.path.dirname(os.path.abspath(__file__))
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "script.py")
            with open(path, "w") as f:
                f.write(script)
            got = subprocess.run([sys.executable, path, here], capture_output=True, text=True)
        self.assertEqual((got.stdout, got.stderr), ("[4, 'a/b', 'a']\n", ""))


if __name__ == "__main__":
    unittest.main()
