"""Requests to the gateway, over connections that are kept: one for each thread."""
import http.client
import json
import os
import select
import socket
import threading
import time
import urllib.parse
import weakref

from . import errors

START = "start one with: cloudburst server --http {at}   (or give its address: CLOUDBURST_URL, or connect(url))"
DELAYS = (0, 0.1, 0.3, 1, 2)  # before each attempt after the first: a server that restarts takes about two seconds
SPARE = 15  # seconds that an answer may take beyond what the server was asked to wait


class Transport:
    """Sends requests to one gateway. Threads may share it, and it survives a fork."""

    def __init__(self, url):
        at = urllib.parse.urlsplit(url if "//" in url else "//" + url, scheme="http")
        if at.scheme not in ("http", "https") or not at.hostname or at.query or at.fragment:
            raise errors.BadArgument(f"{url!r} is no address of a gateway", hint="it looks like http://127.0.0.1:8080")
        try:
            self._port = at.port
        except ValueError as e:
            raise errors.BadArgument(f"{url!r} is no address of a gateway: {e}", hint="it looks like http://127.0.0.1:8080") from e
        self._secure, self._host, self._base = at.scheme == "https", at.hostname, at.path.rstrip("/")
        self.url = f"{at.scheme}://{at.netloc}{self._base}"
        self._mine = threading.local()
        self._all = weakref.WeakSet()
        self._lock = threading.Lock()  # guards _all

    def request(self, method, path, *, query=None, body=None, kind=None, headers=None, wait=0, again=True, run=None):
        """Returns status, headers and body of a response; an errors.Error for one of 400 or
        more. again says that sending the request twice does no harm: then a connection that
        breaks is no error unless it goes on doing so. wait is how many seconds the server was
        asked to take, run what the request is about."""
        target = self._base + path + _query(query)
        headers = dict(headers or {})
        if kind:
            headers["Content-Type"] = kind
        broken = None
        for delay in (None, *DELAYS) if again else (None,):
            if delay:
                time.sleep(delay)
            try:
                answer = self._once(method, target, body, headers, wait)
                break
            except (TimeoutError, socket.timeout) as e:  # two classes until Python 3.10
                raise errors.Timeout(f"no answer from {self.url} within {wait + SPARE:g} s", run=run, hint=run and "the run may go on: cloud.future(run).get()") from e
            except ConnectionRefusedError as e:
                if broken is None:
                    raise self._unreachable(e, run) from e
            except (OSError, http.client.HTTPException) as e:
                if isinstance(e, http.client.BadStatusLine) and not isinstance(e, ConnectionError):
                    raise errors.Error(f"what answers at {self.url} doesn't speak HTTP", hint="give the address of the gateway: CLOUDBURST_URL, or connect(url)") from e
                if not isinstance(e, (ConnectionError, http.client.IncompleteRead)):
                    raise self._unreachable(e, run) from e
                broken = e
        else:
            raise errors.Unavailable(
                f"the connection to {self.url} broke: {broken or 'it was closed'}", run=run,
                hint="try again; if it is a call, with the same run id it runs once" if again else "it may have been done: look before you repeat it",
            ) from broken  # fmt: skip
        status, got, data = answer
        if status >= 400:
            raise _error(status, got, data, run, self.url)
        return answer

    def _once(self, method, target, body, headers, wait):
        connection = self._connection()
        try:
            connection.timeout = wait + SPARE
            if connection.sock is None:
                connection.connect()
            connection.sock.settimeout(wait + SPARE)
            try:
                connection.request(method, target, body=body, headers=headers)
            except (BrokenPipeError, ConnectionResetError):
                response = connection.getresponse()  # refused before it was read: this says why
            else:
                response = connection.getresponse()
            return response.status, response.headers, response.read()
        except BaseException:
            connection.close()  # an answer may be on its way: it mustn't be taken for the next one's
            raise

    def lines(self, path, query=None):
        """Yields the lines of a response as they come, over a connection of its own."""
        connection = self._new()
        try:
            try:
                connection.timeout = None
                connection.request("GET", self._base + path + _query(query))
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as e:
                raise self._unreachable(e, None) from e
            if response.status >= 400:
                raise _error(response.status, response.headers, response.read(), None, self.url)
            try:
                yield from response
            except (OSError, http.client.HTTPException) as e:
                raise errors.Unavailable(f"the connection to {self.url} broke: {e}") from e
        finally:
            connection.close()

    def close(self):
        """Closes the connections of all threads that aren't in use; the next request opens
        another one."""
        with self._lock:
            kept, self._all = list(self._all), weakref.WeakSet()
        self._mine = threading.local()
        for k in kept:
            k.connection.close()

    def _connection(self):
        """Returns this thread's connection, closed if the server has closed it."""
        kept = getattr(self._mine, "kept", None)
        if kept is None or kept.process != os.getpid():  # a fork's connection is its parent's
            kept = self._mine.kept = _Kept(self._new())
            with self._lock:
                self._all.add(kept)
        if kept.connection.sock is not None and _readable(kept.connection.sock):
            kept.connection.close()
        return kept.connection

    def _new(self):
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        return kind(self._host, self._port)

    def _unreachable(self, e, run):
        at = f"{self._host}:{self._port or (443 if self._secure else 80)}"
        reason = e.strerror if isinstance(e, OSError) and e.strerror else str(e) or type(e).__name__
        return errors.Unavailable(f"there is no gateway at {self.url}: {reason}", hint=START.format(at=at), run=run)


class _Kept:
    """The connection of one thread, which ends with it."""

    def __init__(self, connection):
        self.connection, self.process = connection, os.getpid()

    def __del__(self):
        self.connection.close()


def _readable(sock):
    """Says whether there is something to read where nothing should be: that it was closed."""
    try:
        if hasattr(select, "poll"):  # select itself can't do with more than a thousand files
            poll = select.poll()
            poll.register(sock, select.POLLIN)
            return bool(poll.poll(0))
        return bool(select.select([sock], [], [], 0)[0])
    except (OSError, ValueError):
        return True


def _query(query):
    given = {k: v for k, v in (query or {}).items() if v is not None}
    return "?" + urllib.parse.urlencode(given, doseq=True) if given else ""


def _error(status, headers, data, run, url):
    try:
        fields = json.loads(data)["error"]
        fields["message"]  # noqa: B018 - is it one of ours?
    except (ValueError, TypeError, KeyError):
        start = data[:200].decode("utf-8", "replace").strip()
        return errors.Error(f"{url} answered {status}: {start}", hint="is it the gateway of a Cloudburst server?", status=status, run=run)
    return errors.of(fields, status, run or headers.get("Cb-Run"))
