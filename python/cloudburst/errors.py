"""What goes wrong, by what a caller can do about it."""


class Error(Exception):
    """A failure as the platform reports it. str() of it has all there is to know.

    code is the kind as programs tell it apart, message what happened, hint what to do, run
    the run's id and stack where the function failed, each None if there is none; status is
    the HTTP status, None if there was no response."""

    code = "error"

    def __init__(self, message, *, code=None, hint=None, run=None, stack=None, status=None):
        super().__init__(message)
        self.message, self.hint, self.run, self.stack, self.status = message, hint, run, stack, status
        if code:
            self.code = code

    def __str__(self):
        text = self.message
        if self.run and self.run not in text:
            text += f" (run {self.run})"
        if self.hint:
            text += f"\n  hint: {self.hint}"
        if self.stack:
            text += "\n  on the worker:\n" + "\n".join("    " + line for line in self.stack.strip().splitlines())
        return text

    def __reduce__(self):  # else what process pools hand on would lose all but the message
        return _restore, (type(self), self.message, {**self.__dict__, "code": self.code})


def _restore(kind, message, fields):
    e = kind(message)
    e.__dict__.update(fields)
    return e


class FunctionFailed(Error):
    """The function raised, at its last attempt; stack is its traceback."""

    code = "function_failed"


class Crashed(FunctionFailed):
    """The function brought its process or its workers down."""

    code = "crashed"


class Timeout(Error, TimeoutError):
    """The caller's time ran out. The run goes on, and Client.future(run) has its result. Of
    the function's own time there is FunctionTimeout."""

    code = "timeout"


class FunctionTimeout(Timeout, FunctionFailed):
    """The function took longer than it may, at its last attempt. The run has ended."""

    code = "function_timeout"


class Cancelled(Error):
    """Somebody cancelled the run."""

    code = "cancelled"


class BadArgument(Error, ValueError):
    """The argument isn't what the function takes, or can't travel."""

    code = "bad_argument"


class BadName(Error, ValueError):
    """A name that can't be used."""

    code = "bad_name"


class Unknown(Error, LookupError):
    """There is no such function, DAG, run or version."""

    code = "unknown"


class TooLarge(Error):
    """A value over the limit: store it in parts."""

    code = "too_large"


class Busy(Error):
    """The backlog is full: try again later, or add workers."""

    code = "busy"


class Conflict(Error):
    """It exists otherwise, or the key holds another kind of value."""

    code = "conflict"


class NoWorker(Error):
    """No worker serves the function's pool. The call is stored, and runs once one does:
    Client.future(run) has its result. A call with wait_for_worker=True waits for one."""

    code = "no_worker"


class Unavailable(Error, ConnectionError):
    """The server, or what is behind it, can't be reached."""

    code = "unavailable"


class Invalid(Error):
    """A DAG, or a function's code, that doesn't hold together; the message lists everything."""

    code = "invalid"


class Permanent(Exception):
    """Raise it in a function if the same call will always fail: it isn't run again. Here it
    is for functions that are registered from this process; a worker has its own."""


class NoSource(Exception):
    """Why something can't be sent as source: then there is cloudpickle, see image.py."""


_kinds = {
    kind.code: kind
    for kind in (FunctionFailed, Crashed, Timeout, FunctionTimeout, Cancelled, BadArgument, BadName, Unknown, TooLarge, Busy, Conflict, NoWorker, Unavailable, Invalid)
}
_kinds["function_crashed"] = Crashed


def of(fields, status=None, run=None):
    """Returns the error that a response describes; fields are those of its "error"."""
    code = fields.get("code") or "error"
    return _kinds.get(code, Error)(
        fields.get("message") or code, code=code, status=status,
        hint=fields.get("hint") or None, run=fields.get("run") or run, stack=fields.get("stack") or None,
    )  # fmt: skip
