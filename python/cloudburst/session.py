"""What a session carries from one request to the next."""
import json
import threading


class Session:
    """A token: by namespace, the revision that reads must include. Threads may share it, and
    then each sees what any of them was shown."""

    def __init__(self, token=None):
        self._lock = threading.Lock()  # guards token
        self.token = token or '{"token":true}'  # asks for one

    def saw(self, token):
        """Notes the token of a response."""
        if token:
            with self._lock:
                self.token = join(self.token, token)


def join(a, b):
    """Returns the token that includes both: of each namespace the later revision. One in
    another form than that is left as it is, and the newer takes the place of the older."""
    try:
        old, new = json.loads(a), json.loads(b)
        after = dict(old.get("after") or {})
        for ns, revision in (new.get("after") or {}).items():
            after[ns] = max(after.get(ns, 0), revision)
    except (ValueError, TypeError, AttributeError):
        return b
    return json.dumps({"after": after, "token": True} if after else {"token": True}, separators=(",", ":"))
