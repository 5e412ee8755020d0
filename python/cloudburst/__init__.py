"""The client of Cloudburst: stateful functions on NATS JetStream.

    import cloudburst

    cloud = cloudburst.connect()
    square = cloud.register(lambda _, x: x * x, "square")
    square(3).get()  # 9

It speaks to the HTTP gateway of a server ("cloudburst server --http 127.0.0.1:8080") and
needs nothing but Python. A call is stored before it returns: what comes back is a future,
and the run goes on whatever becomes of this process. In a function that runs on a worker,
"import cloudburst" is another module, the platform as a worker offers it: see docs/python.md.
"""
from .client import Client, connect
from .errors import (
    BadArgument,
    BadName,
    Busy,
    Cancelled,
    Conflict,
    Crashed,
    Error,
    FunctionFailed,
    FunctionTimeout,
    Invalid,
    Permanent,
    Timeout,
    TooLarge,
    NoWorker,
    Unavailable,
    Unknown,
)
from .calls import Callable, Future
from .values import Ref, ref

__version__ = "0.1.0"
__all__ = [
    "BadArgument", "BadName", "Busy", "Callable", "Cancelled", "Client", "Conflict", "Crashed", "Error", "FunctionFailed", "FunctionTimeout",
    "Future", "Invalid", "NoWorker", "Permanent", "Ref", "Timeout", "TooLarge", "Unavailable", "Unknown", "connect", "ref",
]  # fmt: skip

for _name in __all__:
    if isinstance(globals()[_name], type):
        globals()[_name].__module__ = __name__  # which is what users import it from
del _name
