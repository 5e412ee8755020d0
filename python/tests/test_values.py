"""How values and arguments travel."""
import datetime
import io
import json
import os
import tempfile
import unittest
import zipfile

import fake  # noqa: F401 - has cloudburst found
import cloudburst
from cloudburst import errors, files, graphs, session, values

try:
    import numpy
except ImportError:
    numpy = None


class Directories(unittest.TestCase):
    def setUp(self):
        at = tempfile.TemporaryDirectory()
        self.addCleanup(at.cleanup)
        self.at = at.name
        for name in "main.py", "lib/a.py", "bin/tool", ".hidden":
            os.makedirs(os.path.dirname(os.path.join(self.at, name)), exist_ok=True)
            with open(os.path.join(self.at, name), "w") as f:
                f.write(name)
        os.chmod(os.path.join(self.at, "bin/tool"), 0o755)

    def link(self, name, to):
        os.symlink(to, os.path.join(self.at, name))

    def test_links_and_modes(self):
        self.link("config", "lib/a.py")
        self.link("copy", "lib")
        with zipfile.ZipFile(io.BytesIO(files.read(self.at))) as z:
            held = {i.filename: (z.read(i), i.external_attr >> 16 & 0o777) for i in z.infolist()}
        self.assertEqual(held, {
            "main.py": (b"main.py", 0o644), "lib/a.py": (b"lib/a.py", 0o644), "bin/tool": (b"bin/tool", 0o755),
            "config": (b"lib/a.py", 0o644), "copy/a.py": (b"lib/a.py", 0o644),
        })  # fmt: skip

    def test_links_that_lead_out(self):
        for name, to, want in [("out", "/etc", "outside of the directory"), ("gone", "nowhere", "which isn't there"), ("lib/up", "..", "holds it")]:
            self.link(name, to)
            with self.assertRaisesRegex(cloudburst.BadArgument, name + ".*" + want):
                files.read(self.at)
            os.unlink(os.path.join(self.at, name))


class Values(unittest.TestCase):
    def test_arguments(self):
        future = cloudburst.Future(None, "r1")
        for args, want in [
            ((), (b"", None)),
            ((None,), (b"null", "application/json")),
            (("é",), ('"é"'.encode(), "application/json")),
            (([1, 2],), (b"[1,2]", "application/json")),
            ((1, 2), (b"[1,2]", "application/json")),
            ((b"\x00\xff",), (b"\x00\xff", "application/octet-stream")),
            ((bytearray(b"a"),), (b"a", "application/octet-stream")),
            ((cloudburst.ref("k"),), (b'{"$ref":"k"}', "application/json")),
            ((cloudburst.ref("k", "ns"), 2), (b'[{"$ref":"k","ns":"ns"},2]', "application/json")),
            (([cloudburst.ref("k")],), (b'[{"$ref":"k"}]', "application/json")),
            (({"a": future},), (b'{"a":{"$run":"r1"}}', "application/json")),
        ]:
            self.assertEqual(values.pack(args), want, args)

    def test_what_cannot_travel(self):
        for args, says in [
            ((b"a", 1), "argument 1 is bytes, which can only travel as the only argument"),
            (([b"a"],), "there is bytes in a list or dict"),
            ((1, [cloudburst.ref("k")]), "ref('k') stands too deep"),
            ((float("nan"),), "argument: nan isn't JSON; use None"),
            (({"items": [1, {"when": datetime.date(2000, 1, 1)}]},), "argument.items[1].when: date isn't JSON; use .isoformat()"),
            ((1, {2}), "argument[1]: set isn't JSON; use sorted"),
            ((object(),), "object isn't JSON"),
        ]:
            with self.assertRaises(cloudburst.BadArgument) as caught:
                values.pack(args)
            self.assertIn(says, str(caught.exception))
        with self.assertRaises(cloudburst.BadArgument):
            values.encode(cloudburst.ref("k"))  # a value of the state is no argument

    def test_decode(self):
        for kind, body, want in [
            ("application/json", b'{"a":[1,null]}', {"a": [1, None]}),
            ("application/json; charset=utf-8", b"1", 1),
            (None, b"", None),
            ("application/octet-stream", b"\xff", b"\xff"),
            ("text/plain; charset=utf-8", "é".encode(), "é"),
            ("image/png", b"x", b"x"),
        ]:
            self.assertEqual(values.decode(kind, body), want, kind)

    def test_numpy(self):
        if numpy is None:
            with self.assertRaisesRegex(cloudburst.Error, "install numpy"):
                values.decode("application/vnd.numpy", b"\x93NUMPY")
            return
        for a in numpy.arange(6, dtype=">i2").reshape(2, 3), numpy.asfortranarray(numpy.ones((3, 2))), numpy.array(["é"]), numpy.zeros((0, 2)), numpy.array(1.5):
            body, kind = values.pack((a,))
            back = values.decode(kind, body)
            self.assertEqual((kind, back.dtype, back.shape), ("application/vnd.numpy", a.dtype, a.shape))
            numpy.testing.assert_array_equal(back, a)
        self.assertEqual(values.pack((numpy.float64(1.5), numpy.int8(3)))[0], b"[1.5,3]")
        for args in (numpy.ones(2), 1), ([numpy.ones(2)],), (numpy.array([object()]),):
            with self.assertRaises(cloudburst.BadArgument):
                values.pack(args)

    def test_keys_as_paths(self):
        for key, want in [("a b/c", "a%20b%2Fc"), ("user:1", "user%3A1"), ("é", "%C3%A9"), ("..", "%2E%2E"), (".", "%2E"), ("a..b", "a..b"), ("%", "%25")]:
            self.assertEqual(values.escape(key), want)


class Graphs(unittest.TestCase):
    def test_edges(self):
        g = graphs.build("g", ["a", "b", "c"], [("b", "c"), ("a", "c")])
        self.assertEqual(g["edges"], [{"from": "b", "to": "c", "arg": "0"}, {"from": "a", "to": "c", "arg": "1"}])
        self.assertEqual([n.get("input") for n in g["nodes"]], ["a", "b", None])
        self.assertEqual(graphs.build("g", ["a", "b"], [("a", "b")])["edges"], [{"from": "a", "to": "b"}])
        g = graphs.build("g", ["a", {"name": "b", "with": {"0": 7}}], [("a", "b")])
        self.assertEqual(g["edges"], [{"from": "a", "to": "b", "arg": "1"}])
        g = graphs.build("g", ["a", "b", "c"], [("a", "c"), ("b", "c", 0)])
        self.assertEqual([e["arg"] for e in g["edges"]], ["1", "0"])
        g = graphs.build("g", ["a", "b"], [("a", "b", "x"), ("a", "b", "y")], about="twice", level="causal")
        self.assertEqual(([e["arg"] for e in g["edges"]], g["about"], g["level"]), (["x", "y"], "twice", "causal"))
        for bad in "ab", ("a",), ("a", "b", 1, 2), 7:
            with self.assertRaises(cloudburst.BadArgument):
                graphs.build("g", ["a", "b"], [bad])

    def test_arguments(self):
        one = graphs.build("one", ["a", "b"], [("a", "b")])
        two = graphs.build("two", ["a", "b", "c"], [("a", "c"), ("b", "c")])
        for g, given, want in [
            (one, {"a": [1]}, b"1"),
            (one, {"a": 1}, b"1"),
            (one, {"a": [1, 2]}, b"[1,2]"),
            (one, {"a": [[1, 2]]}, b"[1,2]"),
            (one, {"a": []}, b""),
            (one, {"a": [b"\xff"]}, b"\xff"),
            (one, {"a": cloudburst.ref("k")}, b'{"$ref":"k"}'),
            (one, {"x": 1}, b'{"x":1}'),
            (two, {"a": [1], "b": [2, cloudburst.ref("k")]}, b'{"a":1,"b":[2,{"$ref":"k"}]}'),
            (two, {"a": [], "b": "x"}, b'{"a":[],"b":"x"}'),
            (two, {"x": 1}, b'{"a":{"x":1},"b":{"x":1}}'),
        ]:
            self.assertEqual(graphs.argument(g, given)[0], want, given)
        self.assertEqual(graphs.shared(two, (4,))[0], b'{"a":4,"b":4}')
        self.assertEqual(graphs.shared(one, (4,))[0], b"4")
        plain = {"name": "p", "nodes": [{"name": "a"}, {"name": "b"}], "edges": []}
        self.assertEqual(graphs.shared(plain, (4, 5))[0], b"[4,5]")
        for g, given, says in [
            (one, {"a": 1, "zz": 1}, "one has no node 'zz'"),
            (one, {"b": 1}, "only the sources take arguments"),
            (two, {"a": 1}, "needs arguments for b too"),
            (two, {"a": b"x", "b": 1}, "is not JSON"),
            (plain, {"a": 1, "b": 2}, "share one argument"),
        ]:
            with self.assertRaises(cloudburst.BadArgument) as caught:
                graphs.argument(g, given)
            self.assertIn(says, str(caught.exception))


class Sessions(unittest.TestCase):
    def test_join(self):
        for a, b, want in [
            ('{"token":true}', '{"after":{"state":3},"token":true}', {"state": 3}),
            ('{"after":{"state":5},"token":true}', '{"after":{"state":3,"x":1},"token":true}', {"state": 5, "x": 1}),
        ]:
            self.assertEqual(json.loads(session.join(a, b)), {"after": want, "token": True})
        self.assertEqual(session.join('{"token":true}', "blob:abc"), "blob:abc")


class Errors(unittest.TestCase):
    def test_by_code(self):
        e = errors.of({"code": "function_failed", "message": "it failed", "hint": "look", "stack": "Traceback\n  x"}, 500, "r1")
        self.assertIsInstance(e, cloudburst.FunctionFailed)
        self.assertEqual(str(e), "it failed (run r1)\n  hint: look\n  on the worker:\n    Traceback\n      x")
        self.assertIsInstance(errors.of({"code": "timeout"}), TimeoutError)
        self.assertNotIsInstance(errors.of({"code": "timeout"}), cloudburst.FunctionFailed)
        for kind in cloudburst.FunctionFailed, cloudburst.Timeout, TimeoutError:
            self.assertIsInstance(errors.of({"code": "function_timeout"}), kind)
        self.assertIsInstance(errors.of({"code": "unavailable", "message": "m"}), ConnectionError)
        self.assertEqual(errors.of({"code": "new", "message": "m"}).code, "new")

    def test_pickle(self):
        import pickle

        for e in errors.of({"code": "unknown", "message": "m", "hint": "h"}, 404, "r"), errors.of({"code": "unavailable", "message": "m"}):
            back = pickle.loads(pickle.dumps(e))
            self.assertEqual((type(back), str(back), back.status), (type(e), str(e), e.status))


class Images(unittest.TestCase):
    def test_deterministic(self):
        import os
        import tempfile

        made = []
        for when in 1e9, 1.5e9:
            with tempfile.TemporaryDirectory() as d:
                for name in "main.py", "lib/b.py", "lib/a.py", ".hidden/x", "__pycache__/x.pyc", "lib/.y":
                    path = os.path.join(d, name)
                    os.makedirs(os.path.dirname(path), exist_ok=True)
                    with open(path, "w") as f:
                        f.write(name)
                    os.utime(path, (when, when))
                made.append(files.read(d))
        self.assertEqual(made[0], made[1])
        import io
        import zipfile

        self.assertEqual(zipfile.ZipFile(io.BytesIO(made[0])).namelist(), ["lib/a.py", "lib/b.py", "main.py"])
        with self.assertRaisesRegex(cloudburst.BadArgument, "can't be read"):
            files.read("/no/such/file.py")
        with self.assertRaisesRegex(cloudburst.BadArgument, "a text of several lines"):
            files.read("def handler(cloudburst):\n  pass\n")


if __name__ == "__main__":
    unittest.main()
