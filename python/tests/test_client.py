"""The client against a gateway of this process, see fake.py."""
import datetime
import os
import socket
import threading
import unittest

import fake

import cloudburst


class Client(unittest.TestCase):
    def setUp(self):
        self.gateway = fake.Gateway()
        self.addCleanup(self.gateway.close)
        self.cloud = cloudburst.connect(self.gateway.url)
        self.addCleanup(self.cloud.close)

    def last(self):
        return self.gateway.seen[-1]

    def test_the_papers_way(self):
        cloud = self.cloud
        sq = cloud.register(lambda _, x: x * x, "square")
        self.assertEqual(sq(2).get(), 4)
        cloud.put("key", 2)
        self.assertEqual(cloud.get("key"), 2)
        self.assertEqual(sq(cloudburst.ref("key")).get(), 4)
        cloud.register(lambda _, x: x + 1, "increment")
        compose = cloud.register_dag("compose", ["increment", "square"], [("increment", "square")])
        self.assertEqual(cloud.call_dag("compose", {"increment": [1]}).get(), 4)
        self.assertEqual(cloud.call_dag("compose", {"increment": 2}).get(), 9)
        self.assertEqual(cloud.call_dag("compose", 3).get(), 16)
        self.assertEqual(compose(4).get(), 25)
        self.assertEqual(compose.call(4), 25)

    def test_dags_with_several_sources(self):
        cloud = self.cloud
        for name, f in [("double", lambda _, x: 2 * x), ("minus", lambda _, a, b: a - b), ("sub", lambda _, a, b: a - b)]:
            cloud.register(f, name)
        cloud.register_dag("d", ["double", "minus", "sub"], [("minus", "sub"), ("double", "sub")])
        self.assertEqual(cloud.call_dag("d", {"double": [1], "minus": [10, 3]}).get(), 5)
        self.assertEqual(cloud.call("d", {"double": 1, "minus": [10, 3]}), 5)
        other = cloudburst.connect(self.gateway.url)
        self.addCleanup(other.close)
        self.assertEqual(other.call_dag("d", {"double": [1], "minus": [10, 3]}).get(), 5)
        self.assertEqual([d["name"] for d in cloud.dags()], ["d"])
        self.assertEqual(cloud.dag("d")["graph"]["name"], "d")
        cloud.delete_dag("d")
        with self.assertRaises(cloudburst.Unknown):
            cloud.call_dag("d", 1)

    def test_whole_graphs_and_conditions(self):
        cloud = self.cloud
        sq = cloud.register(lambda _, x: x * x, "square")
        dag = cloud.register_dag(
            "c", [sq, {"name": "big", "function": "square", "wait": 1.5}, "minus"],
            [{"from": sq, "to": "big", "when": {"field": "ok", "is": True}}, ("square", "minus", 1), {"from": "big", "to": "minus", "arg": 0}],
        )  # fmt: skip
        graph = cloud.dag("c")["graph"]
        self.assertEqual(graph["nodes"][1], {"name": "big", "function": "square", "wait": "1.5s"})
        self.assertEqual(graph["edges"], [
            {"from": "square", "to": "big", "when": {"field": "ok", "is": True}}, {"from": "square", "to": "minus", "arg": "1"}, {"from": "big", "to": "minus", "arg": "0"},
        ])  # fmt: skip
        again = cloud.apply_dag({**graph, "name": "c2"})
        self.assertEqual((dag.name, again.name, cloud.dag("c2")["graph"]["edges"]), ("c", "c2", graph["edges"]))
        for edge, want in [({"from": "a"}, "has from and to"), ({"from": "a", "to": "b", "if": 1}, "and not if"), ("ab", "is no edge"), (("a", "b", 1, 2), "is no edge")]:
            with self.assertRaisesRegex(cloudburst.BadArgument, want):
                cloud.register_dag("d", ["a", "b"], [edge])

    def test_lists(self):
        cloud = self.cloud
        for key in "a1", "a2", "a3", "b/1", "a4":
            cloud.put(key, 1)
        cloud.put("x", 1, ns="other")
        self.assertEqual(list(cloud.keys()), ["a1", "a2", "a3", "a4", "b/1"])
        self.assertEqual(list(cloud.keys("a", ns="state")), ["a1", "a2", "a3", "a4"])
        self.assertEqual((list(cloud.keys(ns="other")), cloud.namespaces()), (["x"], ["other", "state"]))
        sq = cloud.register(lambda _, x: x * x, "square")
        runs = [sq(i) for i in range(3)]
        for f in runs:
            f.get()
        self.assertEqual([r["run"] for r in cloud.runs(sq)], [f.run_id for f in runs])
        self.assertEqual(list(cloud.runs("nothing")), [])

    def test_signals_messages_and_delays(self):
        cloud = self.cloud
        f = cloud.register(lambda _, x: x, "same").call
        self.assertEqual(f(1), 1)
        run = cloud.start("same", 2, delay=1.5, run_id="order/1")
        self.assertEqual(self.last()[2]["in"], "1.5s")
        cloud.signal(run, "approve", {"by": "eve"})
        self.assertEqual((self.gateway.signals, self.last()[1]), ({("order/1", "approve"): {"by": "eve"}}, "/v1/runs/order%2F1/signals/approve"))
        with self.assertRaises(cloudburst.Conflict):
            cloud.signal("order/1", "approve")
        cloud.send("order/1", [1])
        cloud.send("r2", b"x")
        self.assertEqual(self.gateway.messages, [("order/1", "application/json", b"[1]"), ("r2", "application/octet-stream", b"x")])
        cloud.start("same", 3, delay=datetime.timedelta(minutes=2))
        self.assertEqual(self.last()[2]["in"], "120s")

    def test_command_lines(self):
        self.cloud.deploy("f", b"def handler(_): return 1", args=["-v", "two words"])
        self.assertIn("arg=-v&arg=two+words", self.gateway.targets[-1])

    def test_futures(self):
        cloud = self.cloud
        add = cloud.register(lambda _, a, b: a + b, "add")
        f = add(1, 2)
        self.assertEqual(add(f, add(10, 20)).get(), 33)
        self.assertTrue(f.done())
        self.assertEqual((f.status(), cloud.future(f.run_id).get()), ("ok", 3))
        self.assertEqual([g.get() for g in cloud.register(lambda _, x: -x, "neg").map([1, 2])], [-1, -2])
        self.gateway.gate.clear()
        f = add(1, 2)
        self.assertFalse(f.done())
        with self.assertRaisesRegex(cloudburst.Timeout, "there is no result of add after 0.05 s .run " + f.run_id):
            f.get(timeout=0.05)
        with self.assertRaises(TimeoutError):
            cloud.call("add", 1, 2, timeout=0.05)
        self.gateway.gate.set()
        self.assertEqual(f.get(), 3)
        self.gateway.gate.clear()
        f = add(3, 4)
        f.cancel()
        with self.assertRaisesRegex(cloudburst.Cancelled, "the run was cancelled"):
            f.get()

    def test_failures(self):
        bad = self.cloud.register(lambda _, x: 1 // x, "bad")
        for call in lambda: bad(0).get(), lambda: bad.call(0):
            with self.assertRaises(cloudburst.FunctionFailed) as caught:
                call()
            e = caught.exception
            self.assertIn("ZeroDivisionError", str(e))
            self.assertIn("\n  on the worker:\n    Traceback", str(e))
            self.assertIn(e.run, str(e))
            self.assertEqual(e.hint, "a hint")
        with self.assertRaises(cloudburst.Unknown) as caught:
            self.cloud.call("nothing")
        self.assertEqual((caught.exception.code, caught.exception.status), ("unknown", 404))
        with self.assertRaises(cloudburst.BadName):
            self.cloud.register(lambda _: 1)

    def test_functions(self):
        cloud = self.cloud

        @cloud.function
        def triple(_, x):
            """Multiplies by three."""
            return 3 * x

        @cloud.function(name="other", timeout=1.5)
        def unlike(_, x):
            return -x

        self.assertEqual((triple(2).get(), triple.__name__, triple.__wrapped__(None, 2)), (6, "triple", 6))
        self.assertEqual((unlike(2).get(), unlike.name), (-2, "other"))
        self.assertEqual(self.gateway.functions["triple"]["query"], {"entry": "triple", "about": "Multiplies by three.", "runtime": "python"})
        self.assertEqual(cloud.register(triple, "again")(2).get(), 6)
        with self.assertRaisesRegex(cloudburst.BadArgument, r"(?s)it uses triple, <Callable triple, version 1>.*cloudburst.call"):
            cloud.register(lambda _, x: triple(x), "bad")

    def test_options(self):
        cloud = self.cloud
        cloud.deploy("f", b"def handler(_): return 1", timeout=1.5, memory="64MiB", transactional=True, check=[1, "a"], backoff=2, attempts=3, pool=None)
        want = {"timeout": "1.5s", "memory": "64MiB", "transactional": "true", "check": '[1,"a"]', "backoff": "2s", "attempts": "3"}
        self.assertEqual(self.gateway.functions["f"]["query"], want)
        with self.assertRaisesRegex(cloudburst.BadArgument, "no such parameter"):
            cloud.deploy("f", b"def handler(_): return 1", timeuot=1)
        self.assertEqual(cloud.get_function("f")().get(), 1)
        self.assertEqual([f["name"] for f in cloud.functions()], ["f"])
        self.assertEqual(cloud.rollback("f", 1)["version"], 1)
        self.assertEqual([x["text"] for x in cloud.logs("f")], ["one", "two"])
        with self.assertRaises(cloudburst.Unknown):
            list(cloud.logs("nothing"))
        cloud.delete_function("f")
        with self.assertRaises(cloudburst.Unknown):
            cloud.get_function("f")

    def test_state(self):
        cloud = self.cloud
        for key, value in [("a/b c", {"x": [1, None]}), ("..", "dots"), ("é:1%", b"\x00\xff"), ("n", None)]:
            cloud.put(key, value)
            self.assertEqual(cloud.get(key, "none"), value)
            cloud.delete(key)
            self.assertEqual(cloud.get(key, "none"), "none")
        cloud.put("k", 1, ns="other")
        self.assertEqual((cloud.get("k"), cloud.get("k", ns="other")), (None, 1))
        self.assertIn(("other", "k"), self.gateway.keys)
        with self.assertRaises(cloudburst.BadName):
            cloud.put("", 1)

    def test_bytes(self):
        echo = self.cloud.register(lambda _, x: x, "echo")
        self.assertEqual(echo(b"\x00\xff").get(), b"\x00\xff")
        self.assertEqual(echo.call(b"\x00\xff"), b"\x00\xff")
        self.assertEqual(echo.call(b""), b"")
        with self.assertRaises(cloudburst.BadArgument):
            echo(b"a", b"b")

    def test_sessions(self):
        self.cloud.register(lambda _, x: x, "echo")
        self.cloud.call("echo", 1)
        self.assertNotIn("Cb-Session", self.last()[3])
        self.assertIsNone(self.cloud.token)
        session = self.cloud.session()
        session.call("echo", 1)
        self.assertEqual(self.last()[3]["Cb-Session"], '{"token":true}')
        self.assertEqual(session.token, '{"after":{"state":2},"token":true}')
        session.put("k", 1)
        self.assertEqual(self.last()[3]["Cb-Session"], session.token)
        self.assertEqual(self.cloud.session(session.token).token, session.token)

    def test_broken_connections(self):
        echo = self.cloud.register(lambda _, x: x, "echo")
        for call in lambda: echo(1).get(), lambda: echo.call(1):
            done, self.gateway.breaks = self.gateway.done, 2
            self.assertEqual(call(), 1)
            self.assertEqual(self.gateway.done, done + 1)  # each attempt had the same run id
            self.assertEqual(self.gateway.breaks, 0)
        self.gateway.breaks = 1
        with self.assertRaisesRegex(cloudburst.Unavailable, "broke: .*\n.*it may have been done"):
            self.cloud.deploy("other", b"def handler(_): pass")
        self.assertEqual(echo.call(2), 2)

    def test_connections_are_kept(self):
        echo = self.cloud.register(lambda _, x: x, "echo")
        for i in range(5):
            echo.call(i)
        self.assertEqual(self.gateway.connections, 1)
        got = []
        threads = [threading.Thread(target=lambda: got.extend(echo.call(i) for i in range(20))) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(sorted(got), sorted(list(range(20)) * 4))
        self.assertEqual(self.gateway.connections, 5)
        self.cloud.close()
        self.assertEqual(echo.call(7), 7)

    def test_no_server(self):
        with self.assertRaises(cloudburst.Unavailable) as caught:
            cloudburst.connect("http://127.0.0.1:1")
        self.assertIn("there is no gateway at http://127.0.0.1:1", str(caught.exception))
        self.assertIn("cloudburst server --http 127.0.0.1:1", str(caught.exception))
        with socket.create_server(("127.0.0.1", 0)) as other:

            def greet():
                with other.accept()[0] as peer:
                    peer.sendall(b"INFO {}\r\n")
                    peer.recv(1000)

            t = threading.Thread(target=greet)
            t.start()
            with self.assertRaisesRegex(cloudburst.Error, "doesn't speak HTTP"):
                cloudburst.connect("http://127.0.0.1:%d" % other.getsockname()[1])
            t.join()
        for url in "ftp://x", "http://", "http://x:y", "http://x?y":
            with self.assertRaises(cloudburst.BadArgument):
                cloudburst.connect(url)

    def test_address(self):
        was = os.environ.get("CLOUDBURST_URL")
        os.environ["CLOUDBURST_URL"] = self.gateway.url + "/"
        try:
            with cloudburst.connect() as cloud:
                self.assertEqual(cloud.url, self.gateway.url)
        finally:
            os.environ.pop("CLOUDBURST_URL")
            if was:
                os.environ["CLOUDBURST_URL"] = was

    @unittest.skipUnless(hasattr(os, "fork"), "there is no fork here")
    def test_fork(self):
        echo = self.cloud.register(lambda _, x: x, "echo")
        out, into = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(into, str(echo.call(5)).encode())
            finally:
                os._exit(0)
        os.close(into)
        self.assertEqual(echo.call(6), 6)
        with os.fdopen(out) as f:
            self.assertEqual(f.read(), "5")
        os.waitpid(child, 0)


if __name__ == "__main__":
    unittest.main()
