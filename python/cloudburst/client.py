"""The client: what can be asked of the platform."""
import datetime
import functools
import json
import os
import time
import uuid

from . import errors, graphs, image, values
from .calls import LONGEST, Callable, Future
from .session import Session
from .transport import Transport

DEPLOY = 240  # seconds for every worker to compile or import a function, and
DEPLOY_MIB = 10  # as many more for each MiB of it


def connect(url=None, namespace="state"):
    """Returns a Client of the gateway at url, by default that of the environment's
    CLOUDBURST_URL, or else http://127.0.0.1:8080. namespace is where its keys are."""
    client = Client(Transport(url or os.environ.get("CLOUDBURST_URL") or "http://127.0.0.1:8080"), namespace)
    client.ping()
    return client


class Client:
    """Deploys, calls, and keeps state. Threads may share it.

    Errors are of class Error. A request whose connection breaks is made again where that
    does no harm: a call has its run's id from here, so that it runs once."""

    _stays = True  # see source.py

    def __init__(self, transport, namespace="state", session=None):
        self._transport, self.namespace, self._session = transport, namespace, session
        self._graphs = {}  # of DAGs that were called with arguments by source, by name

    # Calls.

    def start(self, name, *args, level=None, run_id=None, delay=None):
        """Calls a function or DAG, and returns its Future once the call is stored. The
        arguments may be values, refs of keys, and futures. With a delay, in seconds or as a
        timedelta, it runs that much later. With the run_id of an
        earlier call nothing new is started while that call's result is kept; another function
        or argument under the same run_id is a Conflict."""
        body, kind = values.pack(args)
        return self._start(name, body, kind, level, run_id, delay)

    def call(self, name, *args, timeout=60, level=None, run_id=None, wait_for_worker=False):
        """Calls a function or DAG and waits for its result; errors.Timeout, which has the
        run's id, if there is none after timeout seconds. None waits for ever. It is NoWorker
        if no worker serves the function's pool, unless it is told to wait_for_worker."""
        body, kind = values.pack(args)
        return self._call(name, body, kind, timeout, level, run_id, wait_for_worker)

    def future(self, run_id):
        """Returns the Future of a run that was started elsewhere."""
        return Future(self, run_id)

    def runs(self, name=None, status=None):
        """Yields runs, those that wait or run first and then the newest, each a dict with run,
        name, status, …: those of a function or DAG, or all; of a status (pending, running, ok,
        failed, cancelled), or of any."""
        return self._pages("/v1/runs", "runs", name=name and _named(name), status=status)

    def signal(self, run, name, value=None):
        """Sends a run of a DAG the signal that a node of it awaits; run is a Future or an id.
        errors.Conflict if it was sent before, or the run has ended."""
        run = getattr(run, "run_id", run)
        self._request("POST", f"/v1/runs/{values.escape(run)}/signals/{values.escape(name)}", body=values.dumps(value), kind=values.JSON, again=False, run=run)

    def send(self, to, message):
        """Sends a message to an execution, by the id that it has from getid(). It is stored
        on return: the receiver may begin later."""
        body, kind = values.encode(message)
        self._request("POST", "/v1/messages/" + values.escape(to), body=body, kind=kind, again=False)

    def _pages(self, path, what, **query):
        """Yields what a list of pages holds."""
        while True:
            page = self._json("GET", path, query={k: v for k, v in query.items() if v is not None})
            yield from page[what]
            if not page.get("next"):
                return
            query["after"] = page["next"]

    def _start(self, name, body, kind, level=None, run_id=None, delay=None):
        run = run_id or str(uuid.uuid4())
        shown = self._json("POST", _fn(name), query={"async": 1, "run": run, "level": level, "in": None if delay is None else values.duration(delay)}, body=body, kind=kind, run=run)
        return Future(self, shown["run"], name)

    def _call(self, name, body, kind, timeout, level, run_id, wait_for_worker=False):
        run = run_id or str(uuid.uuid4())
        until = None if timeout is None else time.monotonic() + timeout
        wait = LONGEST if timeout is None else min(timeout, LONGEST)
        try:
            headers, data = self._request(
                "POST", _fn(name), query={"wait": f"{wait:.3f}s", "run": run, "level": level, "wait-for-worker": 1 if wait_for_worker else None}, body=body, kind=kind, wait=wait, run=run
            )
        except errors.FunctionTimeout:
            raise
        except errors.Timeout as e:
            left = None if until is None else until - time.monotonic()
            if e.status is not None and (left is None or left > 0) and Future(self, run).status() in ("pending", "running"):
                return Future(self, run, name).get(left)
            raise
        return values.decode(headers.get("Content-Type"), data)

    # Functions.

    def register(self, func, name=None, **options):
        """Deploys a Python function, and returns what calls it. Its first parameter is the
        platform as a worker offers it. It is sent as source, with the imports, constants,
        functions and classes that it uses; what has no source goes by cloudpickle, if that
        is installed here and where the workers are.

        (Class, argument, …) stands for a class: an object is made once for each process of a
        worker, and its method run is what is called. Options are those of deploy."""
        name = name or _name_of(func)
        sent = image.of(func)
        options.setdefault("entry", sent.entry)
        if sent.about:
            options.setdefault("about", sent.about)
        return self.deploy(name, sent.data, runtime="python", **options)

    def function(self, func=None, *, name=None, **options):
        """Decorates a function: it is registered under its name, and what calls it takes its
        place. With options it is @cloud.function(timeout=5)."""
        if func is None:
            return functools.partial(self.function, name=name, **options)
        callable_ = self.register(func, name, **options)
        functools.update_wrapper(callable_, func, updated=())  # __wrapped__ is the function itself
        return callable_

    def deploy(self, name, code, **options):
        """Deploys a new version of a function, and returns what calls it. code is the path
        of a Python file, a WebAssembly module or a directory of Python files; or the bytes of
        such a file or of a zip. It returns when every worker runs new calls with it.

        Options: entry, args (of its command line), pool, level, about, transactional, timeout and backoff (seconds, or
        text as "1m30s"), attempts, memory (bytes, or text as "64MiB"), concurrency, runtime;
        check is the argument of a call that every worker tries first, want what it has to
        return."""
        data = bytes(code) if isinstance(code, (bytes, bytearray, memoryview)) else image.read(code)
        args = [str(a) for a in options.pop("args", None) or ()]
        shown = self._json(
            "PUT", _fn(name), query={**{k: _option(k, v) for k, v in options.items()}, "arg": args or None}, body=data, kind=values.OCTETS, again=False,
            wait=DEPLOY + DEPLOY_MIB * (len(data) >> 20),
        )
        return Callable(self, name, shown)

    def functions(self):
        """Lists the functions, each as a dict with its name, version, pool, runtime, …"""
        return self._json("GET", "/v1/fn")["functions"]

    def get_function(self, name):
        """Returns what calls a function that is there; errors.Unknown if it isn't. Its info
        has all versions."""
        return Callable(self, name, self._json("GET", _fn(name)))

    def delete_function(self, name):
        """Removes a function with all its versions; errors.Conflict if a DAG uses it."""
        self._request("DELETE", _fn(name))

    def rollback(self, name, to=None):
        """Has an earlier version take new calls: the one before, or version to."""
        return self._json("POST", _fn(name) + "/rollback", query={"to": to}, wait=DEPLOY, again=to is not None)

    def logs(self, name, last=100, run=None, follow=False):
        """Yields what a function has printed, the oldest line first, each a dict with text,
        time, run, version and worker. With follow it goes on with what is printed next."""
        run = run.run_id if isinstance(run, Future) else run
        query = {"last": last, "run": run, "follow": 1 if follow else None}
        for line in self._transport.lines(_fn(name) + "/logs", query):
            if line.strip():
                yield json.loads(line)

    # DAGs.

    def register_dag(self, name, functions, edges=(), **fields):
        """Defines a DAG, and returns what calls it: functions are its nodes, and an edge
        (a, b) has the result of a be the next argument of b. {"from": a, "to": b, "when":
        {"field": "ok", "is": True}} has a condition. See graphs.build."""
        return self.apply_dag(graphs.build(name, functions, edges, **fields))

    def apply_dag(self, graph):
        """Defines a DAG by its whole graph, a dict as docs/dags.md has it and dag(name)["graph"]
        returns it, and returns what calls it."""
        name = graph.get("name")
        self._json("PUT", _dag(name), body=values.dumps(graph), kind=values.JSON)
        self._graphs[name] = graph
        return DAG(self, name)

    def call_dag(self, name, *args, level=None, run_id=None, delay=None):
        """Calls a DAG, and returns its Future. The one argument may be a dict of arguments
        by source, {"increment": [1]}, as in the paper: a list is the arguments, anything
        else the one argument. Other arguments are those of the DAG's run."""
        if len(args) == 1 and isinstance(args[0], dict) and args[0]:
            body, kind = graphs.argument(self._graph(name), args[0])
        else:
            body, kind = graphs.shared(self._graph(name), args) if args else (b"", None)
        return self._start(name, body, kind, level, run_id, delay)

    def dag(self, name):
        """Returns a DAG as a dict: name, version, pool, graph, applied."""
        return self._json("GET", _dag(name))

    def dags(self):
        """Lists the DAGs."""
        return self._json("GET", "/v1/dags")["dags"]

    def delete_dag(self, name):
        """Removes a DAG. Runs that have begun end with it."""
        self._graphs.pop(name, None)
        self._request("DELETE", _dag(name))

    def _graph(self, name):
        """Returns a DAG's definition. It is kept: how its sources take their arguments
        hardly ever changes, and asking would double the time of a call."""
        if name not in self._graphs:
            self._graphs[name] = self.dag(name)["graph"]
        return self._graphs[name]

    # State.

    def get(self, key, default=None, ns=None):
        """Returns the value of a key, or default if there is none."""
        try:
            headers, data = self._request("GET", self._at(key, ns))
        except errors.Unknown:
            return default
        return values.decode(headers.get("Content-Type"), data)

    def put(self, key, value, ns=None):
        """Sets a key: a value of JSON, bytes or a numpy array. It is stored on return."""
        body, kind = values.encode(value)
        self._request("PUT", self._at(key, ns), body=body, kind=kind)

    def delete(self, key, ns=None):
        """Removes a key. Removing what isn't there is no error."""
        self._request("DELETE", self._at(key, ns))

    def keys(self, prefix=None, ns=None):
        """Yields the keys of a namespace, or those that begin with prefix."""
        return self._pages("/v1/kv/" + values.escape(ns or self.namespace), "keys", prefix=prefix)

    def namespaces(self):
        """Lists the namespaces."""
        return self._json("GET", "/v1/kv")["namespaces"]

    def _at(self, key, ns):
        if not isinstance(key, str) or not key:
            raise errors.BadName(f"{key!r} is no key: keys are texts, and not empty")
        return f"/v1/kv/{values.escape(ns or self.namespace)}/{values.escape(key)}"

    # Sessions, and the connection.

    def session(self, token=None):
        """Returns a client whose calls see whatever its earlier ones have read or written, on
        any worker. Its token goes on elsewhere."""
        return Client(self._transport, self.namespace, Session(token))

    @property
    def token(self):
        """What a session was shown, as text for session(token); None outside of one."""
        return self._session and self._session.token

    @property
    def url(self):
        return self._transport.url

    def ping(self):
        """Says how to start a gateway if there is none."""
        shown = None
        try:
            shown = json.loads(self._transport.request("GET", "/healthz")[2])
        except ValueError:
            pass
        if not isinstance(shown, dict) or shown.get("status") != "ok":
            raise errors.Error(f"what answers at {self.url} is no gateway of a Cloudburst server", hint="give its address: CLOUDBURST_URL, or connect(url)")

    def close(self):
        """Closes the connections. The client may be used again, and opens others then."""
        self._transport.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __repr__(self):
        return f"<Client of {self.url}>"

    def __reduce__(self):
        raise TypeError("a client can't be sent: a function is handed the platform as its first parameter, other processes connect() themselves")

    def _request(self, method, path, **of):
        """Makes a request with the session's token, and returns headers and body."""
        if self._session:
            of["headers"] = {"Cb-Session": self._session.token}
        _, headers, data = self._transport.request(method, path, **of)
        if self._session:
            self._session.saw(headers.get("Cb-Session"))
        return headers, data

    def _json(self, method, path, **of):
        return json.loads(self._request(method, path, **of)[1])


class DAG(Callable):
    """A DAG. Calling it is Client.call_dag."""

    def __call__(self, *args):
        return self._cloud.call_dag(self.name, *args)

    def call(self, *args, timeout=60):
        return self(*args).get(timeout)


def _fn(name):
    return "/v1/fn/" + values.escape(_named(name))


def _dag(name):
    return "/v1/dags/" + values.escape(_named(name))


def _named(name):
    name = getattr(name, "name", name)  # of a Callable
    if not isinstance(name, str) or not name:
        raise errors.BadName(f"{name!r} is no name of a function or DAG")
    return name


def _name_of(func):
    name = getattr(func[0] if isinstance(func, tuple) and func else func, "__name__", "")
    if not name.isidentifier():  # "<lambda>"
        raise errors.BadName("the function needs a name", hint='register(func, "name")')
    return name


def _option(name, v):
    """Returns an option of deploy as the gateway reads it."""
    if v is None:
        return None
    if name in ("check", "want"):
        return str(values.dumps(v), "utf-8")
    if isinstance(v, bool):
        return "true" if v else "false"
    if name in ("timeout", "backoff") or isinstance(v, datetime.timedelta):
        v = values.duration(v)
    return str(v)
