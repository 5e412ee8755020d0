"""DAGs in the paper's way of writing, in terms of docs/dags.md.

How arguments get to the sources (the nodes that no edge leads to) is part of the graph, so
that any client can call it:

    one source       the run's argument is the source's own. {"increment": [1]} is sent as 1,
                     which is what "cloudburst call test_dag 1" sends
    several sources  the run's argument is an object with a field for each source, which is
                     that node's input. {"a": [1], "b": [2, 3]} is sent as {"a": 1, "b": [2, 3]},
                     and so it is for "cloudburst call"

A node that one edge leads to takes the whole result, JSON or not. One that several lead to
takes as many arguments, in the order in which the edges are listed: its argument is an array.
"""
from . import values
from .errors import BadArgument


def build(name, functions, edges=(), about=None, level=None):
    """Returns the graph of a DAG. A function is a name, what register returned, or a node as
    docs/dags.md has it: {"name": "total", "function": "sum", "timeout": "5s"}. An edge is
    (a, b), or (a, b, place) for another argument than the next: an index, or a name; or an
    edge as docs/dags.md has it: {"from": a, "to": b, "arg": place, "when": {"field": "ok",
    "is": True}}, of which only from and to have to be there."""
    nodes = [_node(f) for f in functions]
    listed = [_edge(e) for e in edges]
    into = {}
    for e in listed:
        into[e["to"]] = into.get(e["to"], 0) + 1
    graph = {"name": name, "nodes": nodes, "edges": []}
    graph.update({k: v for k, v in (("about", about), ("level", level)) if v})
    taken = {n.get("name"): {str(p) for p in n.get("with") or ()} for n in nodes}  # places, by node
    for e in listed:
        if "arg" in e:
            taken.setdefault(e["to"], set()).add(e["arg"])
    for edge in listed:
        b, place = edge["to"], edge.get("arg")
        has = taken.setdefault(b, set())
        if place is None and (into[b] > 1 or has):  # of one that constants complete, too
            place = next(i for i in range(len(has) + 1) if str(i) not in has)
            has.add(str(place))
        if place is not None:
            edge["arg"] = str(place)
        graph["edges"].append(edge)
    several = sources(graph)
    if len(several) > 1:
        for node in several:
            node.setdefault("input", node.get("name"))
    return graph


def sources(graph):
    """Returns the nodes that take the run's argument."""
    fed = {e.get("to") for e in graph.get("edges") or ()}
    return [n for n in graph["nodes"] if n.get("name") not in fed]


def argument(graph, given):
    """Returns body and type of a run's argument. given is a dict of arguments by source, or,
    if it names no node, the argument itself."""
    names = {n["name"] for n in graph["nodes"]}
    if not names.intersection(given):
        return shared(graph, (given,))
    starts = sources(graph)
    takes = {n["name"]: n.get("input") for n in starts}
    _check(graph, names, takes, given)
    if len(starts) == 1 and not starts[0].get("input"):
        (args,) = given.values()
        return values.pack(_args(args))
    fields = []
    for source, args in given.items():
        body, kind = values.pack(_args(args))
        if kind not in (values.JSON, None):
            raise BadArgument(f"the argument of {source} is not JSON: a run's argument holds those of several nodes", hint="store it, and pass cloudburst.ref(key)")
        fields.append(values.dumps(takes[source]) + b":" + (body or b"[]"))
    return b"{" + b",".join(fields) + b"}", values.JSON


def _check(graph, names, takes, given):
    dag = graph.get("name", "the DAG")
    for name in given:
        if name not in names:
            raise BadArgument(f"{dag} has no node {name!r}", hint=f"its sources are {', '.join(takes)}; a dict that isn't by source: cloud.start({dag!r}, {{…}})")
        if name not in takes:
            raise BadArgument(f"{name} of {dag} takes the results of other nodes: only the sources take arguments", hint="give it constants: register_dag(…, [{'name': …, 'with': {…}}])")
        if len(takes) > 1 and not takes[name]:
            raise BadArgument(f"the sources of {dag} share one argument", hint="call_dag(name, argument); a source has one of its own if the node has an input")
    missing = [name for name in takes if name not in given]
    if missing:
        raise BadArgument(f"{dag} needs arguments for {', '.join(missing)} too", hint="an empty list is no argument")


def shared(graph, args):
    """Returns body and type of a run's argument that is for all sources alike."""
    body, kind = values.pack(args)
    starts = sources(graph)
    fields = [n["input"] for n in starts if n.get("input")]
    # Of an object whose fields are the inputs each source takes its own.
    if not fields or len(fields) < len(starts) or (len(args) == 1 and isinstance(args[0], dict) and set(fields) <= set(args[0])):
        return body, kind
    if kind != values.JSON:
        raise BadArgument("the argument is not JSON, and several nodes take fields of it", hint="store it, and pass cloudburst.ref(key)")
    return b"{" + b",".join(values.dumps(f) + b":" + body for f in dict.fromkeys(fields)) + b"}", kind


def _args(v):
    return tuple(v) if isinstance(v, (list, tuple)) else (v,)


def _name(f):
    name = getattr(f, "name", f)  # of a Callable
    if not isinstance(name, str):
        raise BadArgument(f"{f!r} is no function of a DAG: give its name, or what register returned")
    return name


def _node(f):
    node = dict(f) if isinstance(f, dict) else {"name": _name(f)}
    for field in ("wait", "timeout", "backoff"):
        if field in node:
            node[field] = values.duration(node[field])
    return node


EDGE = ("from", "to", "arg", "when")


def _edge(e):
    """Returns an edge as a dict, with its place as text if it has one."""
    if isinstance(e, dict):
        unknown = [k for k in e if k not in EDGE]
        if unknown or "from" not in e or "to" not in e:
            raise BadArgument(f"{e!r} is no edge: it has from and to, and may have arg and when" + (f", and not {unknown[0]}" if unknown else ""))
        edge = {**e, "from": _name(e["from"]), "to": _name(e["to"])}
        place = edge.pop("arg", None)
    else:
        try:
            a, b, *rest = e
        except (TypeError, ValueError):
            a, b, rest = None, None, (1, 2)
        if isinstance(e, str) or len(rest) > 1:
            raise BadArgument(f"{e!r} is no edge: it is (from, to), (from, to, place), or a dict of from, to, arg and when")
        edge, place = {"from": _name(a), "to": _name(b)}, rest[0] if rest else None
    if place is not None:
        edge["arg"] = str(place)
    return edge
