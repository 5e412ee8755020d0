"""What a call gives back, and what can be called."""
import base64
import time

from . import errors, values

LONGEST = 60  # seconds that one request waits for a result: proxies give up on longer ones


class Future:
    """The result of a run, which there may not be yet. It can be the argument of another
    call: that one waits for it on the server."""

    _stays = True  # see source.py

    def __init__(self, cloud, run_id, name=None):
        self._cloud, self.run_id, self.name = cloud, run_id, name
        self._end = None  # what the server said of the run when it had ended

    def get(self, timeout=60):
        """Returns the result. An errors.Error if the run failed; errors.Timeout if there is
        none after timeout seconds, the run goes on then. None waits for ever."""
        until = None if timeout is None else time.monotonic() + timeout
        while not self._ended():
            left = LONGEST if until is None else min(LONGEST, max(0, until - time.monotonic()))
            self._look(left)
            if not self._ended() and until is not None and time.monotonic() >= until:
                of = f"of {self.name} " if self.name else ""
                raise errors.Timeout(f"there is no result {of}after {timeout:g} s", run=self.run_id, hint="the run goes on: get() again waits for it")
        return _result(self._end, self.run_id)

    def status(self):
        """Returns how the run stands: pending, running, ok, failed or cancelled."""
        return (self._end or self._look(0))["status"]

    def done(self):
        """Says whether the run has ended."""
        if not self._ended():
            self._look(0)
        return self._ended()

    def cancel(self):
        """Has the run not go on. What it has stored stays. errors.Error if it has ended."""
        self._cloud._request("DELETE", _run(self.run_id), run=self.run_id)

    def _ended(self):
        return self._end is not None

    def _look(self, wait):
        shown = self._cloud._json("GET", _run(self.run_id), query={"wait": f"{wait:.3f}s"} if wait else None, wait=wait, run=self.run_id)
        if shown["status"] in ("ok", "failed", "cancelled"):
            self._end = shown
        return shown

    def _place(self):
        return {"$run": self.run_id}

    def __repr__(self):
        return f"<Future of {self.name or 'a run'}: {self.run_id}>"


def _run(run_id):
    return "/v1/runs/" + values.escape(run_id)


def _result(shown, run_id):
    """Returns the value of a run that has ended, or raises its error."""
    if shown["status"] == "ok":
        if "type" in shown or "base64" in shown:
            return values.decode(shown.get("type") or values.OCTETS, base64.b64decode(shown.get("base64") or ""))
        return shown.get("value")
    fallback = {"code": "cancelled", "message": "the run was cancelled"} if shown["status"] == "cancelled" else {"message": "the run failed"}
    raise errors.of(shown.get("error") or fallback, run=run_id)


class Callable:
    """A function or DAG of the platform. Calling it returns a Future, once the call is stored."""

    _stays = True  # see source.py

    def __init__(self, cloud, name, info=None):
        self._cloud, self.name, self.info = cloud, name, info or {}

    def __call__(self, *args):
        return self._cloud.start(self.name, *args)

    def call(self, *args, timeout=60):
        """Calls it and waits for the result."""
        return self._cloud.call(self.name, *args, timeout=timeout)

    def map(self, items):
        """Calls it once for each item, and returns the futures."""
        return [self(item) for item in items]

    def __repr__(self):
        version = f", version {self.info['version']}" if self.info.get("version") else ""
        return f"<Callable {self.name}{version}>"
