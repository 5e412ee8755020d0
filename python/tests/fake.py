"""A gateway for the tests of the client, written from its contract: it keeps everything in
memory, runs functions in this process, and can break connections."""
import base64
import http.server
import io
import json
import os
import sys
import threading
import time
import traceback
import types
import urllib.parse
import zipfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # the client that is beside the tests

JSON = "application/json"


class Fail(Exception):
    def __init__(self, status, code, message, **more):
        super().__init__(message)
        self.status, self.fields = status, {"code": code, "message": message, "hint": "a hint", **more}


class Platform:
    """What a function is handed, as far as tests use it."""

    def __init__(self, gateway, run):
        self.gateway, self.run = gateway, run

    def get(self, key, ns=None):
        found = self.gateway.keys.get((ns or "state", key))
        return found and json.loads(found[1])

    def put(self, key, value, ns=None):
        self.gateway.keys[ns or "state", key] = (JSON, json.dumps(value).encode())

    def getid(self):
        return self.run


class Gateway:
    """Serves at url until close. Its fields are what tests look at and change."""

    def __init__(self):
        self.keys, self.functions, self.graphs, self.runs = {}, {}, {}, {}
        self.images = {}  # of functions, by name
        self.signals, self.messages = {}, []  # that were sent
        self.targets = []  # of requests, with the query
        self.seen = []  # requests: method, path, query, headers, body
        self.breaks = 0  # how many responses are dropped after the request was done
        self.done = 0  # how many functions were run
        self.gate = threading.Event()  # functions run while it is set
        self.gate.set()
        self.lock = threading.Lock()
        self.connections = 0
        gateway = self

        class Handler(Requests):
            of = gateway

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def close(self):
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def deploy(self, name, query, image):
        for key in query:
            if key not in ("runtime", "entry", "pool", "level", "about", "transactional", "timeout", "backoff", "attempts", "memory", "concurrency", "check", "want", "arg"):
                raise Fail(400, "bad_argument", f'deploy "{key}": bad argument: there is no such parameter')
        self.images[name] = load(image, query.get("entry", "handler"))
        version = self.functions.get(name, {}).get("version", 0) + 1
        self.functions[name] = {"name": name, "version": version, "pool": "deployed", "runtime": query.get("runtime", "python"), "query": query, "image": image}
        return {k: v for k, v in self.functions[name].items() if k not in ("query", "image")}

    def start(self, name, run, kind, body):
        """Starts a run, once, and returns it."""
        with self.lock:
            if run in self.runs:
                return self.runs[run]
            if name not in self.functions and name not in self.graphs:
                raise Fail(404, "unknown", f'call "{name}": unknown: there is no function or DAG of this name')
            shown = self.runs[run] = {"run": run, "name": name, "status": "pending", "ended": threading.Event()}
        threading.Thread(target=self.run, args=(shown, name, kind, body), daemon=True).start()
        return shown

    def run(self, shown, name, kind, body):
        self.gate.wait(10)
        try:
            v = self.function(name, shown["run"], kind, body) if name in self.functions else self.dag(self.graphs[name], shown["run"], kind, body)
            shown.update(status="ok", result=v)
        except Exception as e:  # noqa: BLE001 - the function's
            shown.update(status="failed", error={"code": "function_failed", "message": f'call "{name}": function failed: {type(e).__name__}: {e}', "hint": "a hint", "stack": traceback.format_exc()})
        shown["ended"].set()

    def function(self, name, run, kind, body):
        with self.lock:
            self.done += 1
        fn, args = self.images[name], ()
        if kind != JSON:
            args = (body,)
        elif body:
            v = self.resolve(json.loads(body))
            one = not hasattr(fn, "__code__") or fn.__code__.co_argcount == 2 and not fn.__code__.co_flags & 4
            args = v if isinstance(v, list) and not one else (v,)
        v = fn(Platform(self, run), *args)
        return ("application/octet-stream", v) if isinstance(v, bytes) else (JSON, json.dumps(v).encode())

    def dag(self, graph, run, kind, body):
        results, nodes = {}, list(graph["nodes"])
        while nodes:
            node = nodes.pop(0)
            into = [e for e in graph["edges"] if e["to"] == node["name"]]
            if any(e["from"] not in results for e in into):
                nodes.append(node)
                continue
            given = (kind, body)
            if into and "arg" not in into[0]:
                given = results[into[0]["from"]]
            elif into:
                places = {int(e["arg"]): json.loads(results[e["from"]][1]) for e in into}
                places.update({int(k): v for k, v in node.get("with", {}).items()})
                given = (JSON, json.dumps([places[i] for i in range(len(places))]).encode())
            elif node.get("input"):
                given = (JSON, json.dumps(json.loads(body)[node["input"]]).encode())
            results[node["name"]] = self.function(node.get("function") or node["name"], run, *given)
        fed = {e["from"] for e in graph["edges"]}
        ends = [n["name"] for n in graph["nodes"] if n["name"] not in fed]
        if len(ends) == 1:
            return results[ends[0]]
        return JSON, json.dumps({n: json.loads(results[n][1]) for n in ends}).encode()

    def resolve(self, v):
        def one(v):
            if isinstance(v, dict) and "$ref" in v:
                return json.loads(self.keys[v.get("ns", "state"), v["$ref"]][1])
            if isinstance(v, dict) and "$run" in v:
                self.runs[v["$run"]]["ended"].wait(10)
                return json.loads(self.runs[v["$run"]]["result"][1])
            return v

        whole = one(v)
        if whole is not v:
            return whole
        return [one(e) for e in v] if isinstance(v, list) else {k: one(e) for k, e in v.items()} if isinstance(v, dict) else v


def load(image, entry):
    """Returns the function that a worker would call of an image."""
    image = bytes(image)
    names = {"main.py": image}
    if image[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(image)) as z:
            names = {n: z.read(n) for n in z.namelist()}
    module = types.ModuleType(f"main{len(sys.modules)}")
    sys.modules[module.__name__] = module  # as an import does
    exec(compile(names["main.py"], "main.py", "exec"), module.__dict__)
    found = module
    for name in entry.rpartition(":")[2].split("."):
        found = getattr(found, name)
    return found


class Requests(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    of = None

    def setup(self):
        super().setup()
        self.of.connections += 1

    def log_message(self, *_):
        pass

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        at = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(at.query, keep_blank_values=True))
        path = [urllib.parse.unquote(p) for p in at.path.split("/")[1:]]
        self.of.targets.append(self.path)
        self.of.seen.append((self.command, at.path, query, dict(self.headers), body))
        try:
            status, kind, answer, headers = self.answer(path, query, body)
        except Fail as e:
            status, kind, answer, headers = e.status, JSON, json.dumps({"error": e.fields}).encode(), {}
        except Exception:
            traceback.print_exc(file=sys.stderr)
            raise
        if self.of.breaks and path[0] == "v1":
            self.of.breaks -= 1
            self.close_connection = True
            return
        self.send_response(status)
        for k, v in {"Content-Type": kind, "Content-Length": str(len(answer)), **headers}.items():
            self.send_header(k, v)
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_PUT = do_POST = do_DELETE = handle_any

    def answer(self, path, query, body):
        of, method = self.of, self.command

        def shown(v, status=200, **headers):
            return status, JSON, json.dumps(v).encode(), headers

        if path == ["healthz"]:
            return shown({"status": "ok"})
        kind, name = path[1], path[2] if len(path) > 2 else None
        if kind == "kv" and len(path) < 4:
            return shown(self.names(path, query))
        if kind == "messages":
            of.messages.append(("/".join(path[2:]), self.headers.get("Content-Type"), body))
            return 204, JSON, b"", {}
        if kind == "runs" and name is None:
            return shown(page("runs", [{"run": r["run"], "name": r["name"], "status": r["status"]} for r in of.runs.values() if query.get("name", r["name"]) == r["name"]], query))
        if kind == "runs" and path[-2] == "signals":
            run, signal = "/".join(path[2:-2]), path[-1]
            if (run, signal) in of.signals:
                raise Fail(409, "conflict", f'signal "{signal}": conflict: it was sent before')
            of.signals[run, signal] = json.loads(body)
            return 204, JSON, b"", {}
        if kind == "kv":
            return self.key(method, (path[2], path[3]), body)
        if kind == "runs":
            return self.show_run(method, "/".join(path[2:]), query)
        if method == "POST" and len(path) == 3:
            return self.call(name, query, body)
        if kind == "fn":
            if name is None:
                return shown({"functions": [{"name": n, "version": f["version"]} for n, f in sorted(of.functions.items())]})
            if method == "PUT":
                return shown(of.deploy(name, query, body), 201)
            if name not in of.functions:
                raise Fail(404, "unknown", f'function "{name}": unknown')
            if method == "DELETE":
                del of.functions[name]
                return 204, JSON, b"", {}
            if path[3:] == ["logs"]:
                lines = [{"function": name, "run": "r", "text": t} for t in ("one", "two")]
                return 200, "application/x-ndjson", "".join(json.dumps(x) + "\n" for x in lines).encode(), {}
            return shown({"name": name, "version": int(query.get("to", of.functions[name]["version"] - 1))} if path[3:] else {"name": name, "versions": []})
        if name is None:
            return shown({"dags": [{"name": n} for n in of.graphs]})
        if method == "PUT":
            of.graphs[name] = json.loads(body)
        elif name not in of.graphs:
            raise Fail(404, "unknown", f'DAG "{name}": unknown')
        elif method == "DELETE":
            del of.graphs[name]
            return 204, JSON, b"", {}
        return shown({"name": name, "version": "0", "graph": of.graphs[name]})

    def names(self, path, query):
        if len(path) == 2:
            return {"namespaces": sorted({ns for ns, _ in self.of.keys})}
        return page("keys", sorted(k for ns, k in self.of.keys if ns == path[2] and k.startswith(query.get("prefix", ""))), query)

    def key(self, method, at, body):
        if method == "PUT":
            self.of.keys[at] = (self.headers.get("Content-Type", JSON), body)
        elif method == "DELETE":
            self.of.keys.pop(at, None)
        elif at not in self.of.keys:
            raise Fail(404, "unknown", f'get: unknown: there is no key "{at[1]}"')
        else:
            return (200, *self.of.keys[at], {})
        return 204, JSON, b"", {}

    def call(self, name, query, body):
        run = self.of.start(name, query["run"], self.headers.get("Content-Type", JSON), body)
        if "async" in query:
            return 202, JSON, json.dumps({"run": run["run"]}).encode(), {}
        if not run["ended"].wait(seconds(query.get("wait", "60s"))):
            raise Fail(504, "timeout", f'call "{name}": timed out: no result: the run goes on', run=run["run"])
        if run["status"] != "ok":
            raise Fail(500, run=run["run"], **{k: v for k, v in run["error"].items() if k != "hint"})
        session = json.dumps({"after": {"state": self.of.done}, "token": True}) if "token" in self.headers.get("Cb-Session", "") else None
        return (200, *run["result"], {"Cb-Run": run["run"], **({"Cb-Session": session} if session else {})})

    def show_run(self, method, run, query):
        found = self.of.runs.get(run)
        if not found:
            raise Fail(404, "unknown", f'run "{run}": unknown')
        if method == "DELETE":
            found.update(status="cancelled")
            found["ended"].set()
            return 204, JSON, b"", {}
        found["ended"].wait(seconds(query.get("wait", "0s")))
        shown = {k: v for k, v in found.items() if k in ("run", "name", "status", "error")}
        if found["status"] == "ok":
            kind, body = found["result"]
            shown.update({"value": json.loads(body)} if kind == JSON else {"base64": str(base64.b64encode(body), "ascii"), "type": kind})
        return 200, JSON, json.dumps(shown).encode(), {}


def page(what, items, query):
    """Returns a page of two, and where the next one begins."""
    at = int(query.get("after", 0))
    return {what: items[at : at + 2], **({"next": str(at + 2)} if at + 2 < len(items) else {})}


def seconds(text):
    return float(text.rstrip("s"))


def eventually(true, within=5):
    """Waits until true() is, for so many seconds at most."""
    until = time.monotonic() + within
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True
