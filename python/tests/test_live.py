"""The client and a real server: that of CLOUDBURST_URL. Without it there is nothing to test
here, and the other tests do without a server."""
import ast
import contextlib
import io
import linecache
import os
import re
import sys
import threading
import time
import unittest
import uuid

import fake

import cloudburst

try:
    import numpy
except ImportError:
    numpy = None
try:
    import cloudpickle
except ImportError:
    cloudpickle = None

URL = os.environ.get("CLOUDBURST_URL")
README = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "README.md")
OFFSET = 100


def shifted(x):
    return x + OFFSET


def shifted_late(_, seconds):
    import time

    time.sleep(seconds)


@unittest.skipUnless(URL, "CLOUDBURST_URL names no server: cloudburst server --http 127.0.0.1:8080")
class Live(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cloud = cloudburst.connect(URL)
        cls.made, cls.suffix = [], uuid.uuid4().hex[:6]  # a server may be tested more than once

    @classmethod
    def tearDownClass(cls):
        for name in cls.made:
            cls.cloud.delete_function(name)
        cls.cloud.close()

    def register(self, func, name, **options):
        name += "-" + self.suffix
        made = self.cloud.register(func, name, **options)
        if name not in self.made:
            self.made.append(name)
        return made

    def key(self, name="k"):
        return f"test:{name}/{uuid.uuid4()}"

    def test_the_papers_way(self):
        cloud, key = self.cloud, self.key()
        self.addCleanup(cloud.delete, key)
        square = self.register(lambda _, x: x * x, "square")
        increment = self.register(lambda _, x: x + 1, "increment")
        self.assertEqual(square(2).get(), 4)
        cloud.put(key, 3)
        self.assertEqual((cloud.get(key), square(cloudburst.ref(key)).get()), (3, 9))
        self.assertEqual(square(square(increment(1))).get(), 16)
        name = "compose-" + self.suffix
        dag = cloud.register_dag(name, [increment, square], [(increment, square)])
        self.addCleanup(cloud.delete_dag, name)
        self.assertEqual(cloud.call_dag(name, {increment.name: [1]}).get(), 4)
        self.assertEqual((cloud.call_dag(name, 2).get(), dag(3).get(), cloud.call(name, 4)), (9, 16, 25))

    def test_conditions_signals_and_lists(self):
        cloud, name, key = self.cloud, "branch-" + self.suffix, self.key("list")
        self.addCleanup(cloud.delete, key)
        check = self.register(lambda _, x: {"ok": x > 0, "x": x}, "check")
        yes, no = self.register(lambda _, x, signal: ["yes", signal], "yes"), self.register(lambda _, x: ["no"], "no")
        dag = cloud.register_dag(name, [check, {"name": "yes", "function": yes.name, "signal": "go"}, no], [
            {"from": check, "to": "yes", "arg": "x", "when": {"field": "ok", "is": True}}, {"from": check, "to": no, "when": {"field": "ok", "is": False}},
        ])  # fmt: skip
        self.addCleanup(cloud.delete_dag, name)
        self.assertEqual(dag(-1).get(), {no.name: ["no"]})
        run = cloud.start(name, 1)
        cloud.signal(run, "go", {"by": "eve"})
        self.assertEqual(run.get(), {"yes": ["yes", {"by": "eve"}]})
        with self.assertRaises(cloudburst.Conflict):
            cloud.signal(run, "go")
        self.assertIn(run.run_id, [r["run"] for r in cloud.runs(name)])
        self.assertEqual(cloud.apply_dag(cloud.dag(name)["graph"]).name, name)
        cloud.put(key, 1)
        self.assertEqual(list(cloud.keys(key)), [key])
        self.assertIn("state", cloud.namespaces())

    def test_messages_and_delays(self):
        hear = self.register(lambda cb: [message for _, message in cb.recv(timeout=60)], "hear")
        run = hear()
        self.cloud.send(run.run_id, {"n": 1})
        self.assertEqual(run.get(), [{"n": 1}])
        began = time.monotonic()
        late = self.register(lambda _, x: x, "late")
        self.assertEqual(self.cloud.start(late.name, 7, delay=0.5).get(), 7)
        self.assertGreaterEqual(time.monotonic() - began, 0.5)

    def test_command_line(self):
        name = "args-" + self.suffix
        self.made.append(name)
        self.assertEqual(self.cloud.deploy(name, b"import sys\ndef handler(): return sys.argv[1:]", args=["-v", "two words"])().get(), ["-v", "two words"])
        self.assertEqual(self.cloud.get_function(name).info["args"], ["-v", "two words"])

    def test_dag_with_several_sources(self):
        cloud, name, key = self.cloud, "join-" + self.suffix, self.key()
        double, minus, take = (self.register(f, n) for f, n in [(lambda _, x: 2 * x, "double"), (lambda _, a, b: a - b, "minus"), (lambda _, a, b: [a, b], "take")])
        cloud.register_dag(name, [double, minus, take], [(minus, take), (double, take)])
        self.addCleanup(cloud.delete_dag, name)
        cloud.put(key, 10)
        self.assertEqual(cloud.call_dag(name, {double.name: [1], minus.name: [cloudburst.ref(key), 3]}).get(), [7, 2])
        self.assertEqual(cloud.call(name, {double.name: 1, minus.name: [5, 3]}), [2, 2])
        with cloudburst.connect(URL) as other:
            self.assertEqual(other.call_dag(name, {double.name: [1], minus.name: [5, 3]}).get(), [2, 2])

    def test_state_on_workers(self):
        key = self.key("visits")

        def visit(cloudburst, key, by=1):
            """Counts."""
            print("visited", key)
            cloudburst.counter(key).add(by)
            return cloudburst.getid()

        visit = self.register(visit, "visit")
        futures = [visit(key, 2) for _ in range(20)]
        self.assertEqual([f.get() for f in futures], [f.run_id for f in futures])
        value = self.register(lambda cloudburst, key: cloudburst.counter(key).value(), "value")
        self.assertTrue(fake.eventually(lambda: value.call(key) == 40), value.call(key))
        self.assertIn("visited " + key, [line["text"] for line in self.cloud.logs(visit.name)])
        self.assertEqual(visit.info["about"], "Counts.")

    def test_what_is_sent_along(self):
        def nested(_, x):
            return shifted(x) * factor

        factor = 2
        self.assertEqual(self.register(nested, "nested").call(1), 202)

        class Adder:
            def __init__(self, by):
                self.by = by

            def run(self, cloudburst, x):
                return x + self.by

        self.assertEqual(self.register((Adder, 5), "adder").call(1), 6)

    def test_failures(self):
        fails = self.register(lambda _, x: {}[x], "fails", attempts=1)
        for call in lambda: fails("k").get(), lambda: fails.call("k"):
            with self.assertRaises(cloudburst.FunctionFailed) as caught:
                call()
            self.assertRegex(str(caught.exception), r"(?s)KeyError.*hint: .*on the worker:.*KeyError")
            self.assertTrue(caught.exception.run)
        with self.assertRaises(cloudburst.BadArgument):
            self.register(lambda _, a, b: a, "two").call(1, 2, 3)
        with self.assertRaisesRegex(cloudburst.Unknown, "did you mean " + fails.name):
            self.cloud.call(fails.name + "s", 1)
        with self.assertRaises(cloudburst.Unknown):
            self.cloud.future("no-such-run").get()
        with self.assertRaisesRegex(cloudburst.Invalid, "(?s)no_such_module"):
            self.cloud.deploy("broken-" + self.suffix, b"import no_such_module\ndef handler(cloudburst): pass\n")
        with self.assertRaises(cloudburst.Invalid):
            self.cloud.register_dag("broken-" + self.suffix, [fails.name], [(fails.name, "nothing")])
        with self.assertRaises(cloudburst.BadArgument):
            self.cloud.deploy("broken-" + self.suffix, b"def handler(cloudburst): pass", timeuot=3)

    def test_large_values(self):
        echo = self.register(lambda _, x: len(x), "length")
        for size in 1 << 20, (1 << 20) + 1, (64 << 20) - 2:
            self.assertEqual(echo.call("a" * size), size)
        self.cloud.put("large-" + self.suffix, "a" * ((1 << 20) + 1))
        self.assertEqual(len(self.cloud.get("large-" + self.suffix)), (1 << 20) + 1)
        for send in (lambda v: echo.call(v), lambda v: self.cloud.put("large-" + self.suffix, v)):
            with self.assertRaises(cloudburst.TooLarge) as caught:
                send("a" * ((64 << 20) - 1))
            self.assertIn("67108865 bytes; the limit is 67108864", caught.exception.message)

    def test_time_outs(self):
        def slow(_, seconds):
            import time

            time.sleep(seconds)
            return seconds

        slow = self.register(slow, "slow", attempts=1)
        future = slow(1)
        with self.assertRaises(cloudburst.Timeout) as caught:
            future.get(timeout=0.1)
        self.assertEqual(caught.exception.run, future.run_id)
        with self.assertRaises(cloudburst.Timeout) as caught:
            slow.call(1, timeout=0.1)
        self.assertEqual(self.cloud.future(caught.exception.run).get(), 1)
        self.assertEqual((future.get(), future.status()), (1, "ok"))
        late = self.register(shifted_late, "late", attempts=1, timeout=0.3)
        for call in (lambda: late.call(30), lambda: late(30).get()):
            with self.assertRaises(cloudburst.FunctionTimeout) as caught:
                call()
            self.assertEqual(caught.exception.code, "function_timeout")
            self.assertEqual(self.cloud.future(caught.exception.run).status(), "failed")
        future = slow(30)
        self.assertTrue(fake.eventually(lambda: future.status() == "running"), future.status())
        future.cancel()
        with self.assertRaises(cloudburst.Cancelled):
            future.get()

    def test_values(self):
        echo = self.register(lambda _, x: x, "echo")
        for v in None, True, 1.5, "é\0", [], {"a": [1, {"b": None}]}, b"", b"\x00\xff" * 300_000, "x" * 600_000, 2**60:
            self.assertEqual(echo(v).get(), v)
            self.assertEqual(echo.call(v), v)
            key = self.key("a b/é:%")
            self.cloud.put(key, v)
            self.assertEqual(self.cloud.get(key, "none"), v)
            self.cloud.delete(key)
            self.assertEqual(self.cloud.get(key, "none"), "none")
        self.assertEqual(self.register(lambda _: "nothing", "nothing").call(), "nothing")

    def on_worker(self, module):
        """Says whether workers have a module, of the version of Python that is here."""

        def has(_, module, python):
            import importlib.util
            import sys

            return importlib.util.find_spec(module) is not None and list(sys.version_info[:2]) == python

        return self.register(has, "has").call(module, list(sys.version_info[:2]))

    def test_cloudpickle(self):
        add = eval("lambda cloudburst, x: x + 1")  # without a source
        if not (cloudpickle and self.on_worker("cloudpickle")):
            with self.assertRaisesRegex(cloudburst.Error, "cloudpickle"):
                self.register(add, "pickled")
            return

        class Adder:
            def __init__(self, by):
                self.by = by

            def add(self, cloudburst, x):
                return x + self.by

        self.assertEqual(self.register(add, "pickled").call(1), 2)
        self.assertEqual(self.register(Adder(5).add, "bound").call(1), 6)

    def test_numpy(self):
        if not (numpy and self.on_worker("numpy")):
            self.skipTest("numpy isn't installed here and on the worker")
        a, key = numpy.arange(1000.0).reshape(10, 100), self.key()
        total = self.register(lambda _, a: float(a.sum()), "total")
        twice = self.register(lambda _, a: a * 2, "twice")
        self.cloud.put(key, a)
        numpy.testing.assert_array_equal(self.cloud.get(key), a)
        self.assertEqual((total.call(a), total.call(cloudburst.ref(key)), total(twice(a)).get()), (a.sum(), a.sum(), 2 * a.sum()))
        numpy.testing.assert_array_equal(twice(a).get(), a * 2)
        numpy.testing.assert_array_equal(twice.call(a), a * 2)

    def test_versions(self):
        f = self.register(lambda _: 1, "versions", check=None)
        f = self.register(lambda _: 2, "versions", timeout=5, memory="64MiB", attempts=2)
        self.assertEqual((f.call(), f.info["version"], f.info["timeout_ms"], f.info["attempts"]), (2, 2, 5000, 2))
        self.assertEqual((self.cloud.rollback(f.name)["version"], f.call()), (1, 1))
        self.assertEqual([v["version"] for v in self.cloud.get_function(f.name).info["versions"]], [1, 2])
        self.assertIn(f.name, [g["name"] for g in self.cloud.functions()])
        with self.assertRaises(cloudburst.Invalid):
            self.register(lambda _, x: x, "versions", check=1, want=2)

    def test_sessions(self):
        key, session = self.key(), self.cloud.session()
        write = self.register(lambda cloudburst, key, v: cloudburst.put(key, v), "write")
        read = self.register(lambda cloudburst, key: cloudburst.get(key), "read")
        for i in range(30):
            session.call(write.name, key, i)
            self.assertEqual(session.call(read.name, key), i)
        self.assertIn('"after"', session.token)
        self.assertEqual(self.cloud.session(session.token).call(read.name, key), 29)
        self.assertEqual(session.get(key), 29)

    def test_the_same_run(self):
        key, run = self.key(), "test-" + uuid.uuid4().hex
        count = self.register(lambda cloudburst, key: cloudburst.counter(key).add(), "count")
        for _ in range(3):
            self.cloud.call(count.name, key, run_id=run)
        value = self.register(lambda cloudburst, key: cloudburst.counter(key).value(), "count-value")
        self.assertTrue(fake.eventually(lambda: value.call(key) == 1), value.call(key))

    def test_threads(self):
        echo, got = self.register(lambda _, x: x, "threads"), []
        threads = [threading.Thread(target=lambda n=n: got.extend(echo.call(n) for _ in range(10))) for n in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(sorted(got), sorted(list(range(8)) * 10))

    def test_readme(self):
        """The README's listings, one after the other, are a program that runs. A line that is
        an expression and ends in "# value" has that value."""
        with open(README, encoding="utf-8") as f:
            program = "".join(re.findall(r"(?s)```python\n(.*?)```", f.read()))
        lines, file, checked = program.splitlines(True), "README.py", 0
        linecache.cache[file] = (len(program), None, lines, file)  # so that its functions have a source
        names = {"__name__": "readme"}
        for node in ast.parse(program).body:
            want = re.search(r"  # ([\d'\[][^:]*)", lines[node.end_lineno - 1])
            if want and isinstance(node, ast.Expr):
                value = eval(compile(ast.Expression(node.value), file, "eval"), names)
                self.assertEqual(value, ast.literal_eval(want.group(1).strip()), lines[node.end_lineno - 1])
                checked += 1
            else:
                with contextlib.redirect_stdout(io.StringIO()):
                    exec(compile(ast.Module([node], []), file, "exec"), names)
        names["cloud"].close()
        self.assertGreater(checked, 8)


if __name__ == "__main__":
    unittest.main()
