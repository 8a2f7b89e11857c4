"""Event: names, payloads, targets, and the two helpers that everything foreign passes through."""

from __future__ import annotations

import json
import math
import pickle
import threading
from collections import OrderedDict
from contextlib import suppress
from enum import Enum, IntEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hakgal_hybrid.broker.event import EVERYBODY, MAX_NAME, Event, Target, checked_name, glob_matcher
from hakgal_hybrid.broker.payload import json_safe, restore_binary
from hakgal_hybrid.errors import EventError

quick = settings(max_examples=150, deadline=None, database=None, derandomize=True)

#: Unicode text as UTF-8 can carry it.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
keys = texts | st.sampled_from(["$binary", "$$binary", "$$$binary", "$", "$$", "binary", "$binaries", "x$binary"])
payloads = st.recursive(
    st.none() | st.booleans() | numbers | texts | st.binary(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=15,
)


def sent(*args: Any) -> Any:
    """Return what a client parses from the data of an event with these arguments."""
    return json.loads(Event.create("e", args).data)


# -- names -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["a", "kb_update", "error", "open", "message", "düse", "with space", "hybrid",
                                  "x" * MAX_NAME, "\u2028", "a:b", "😀"])
def test_name_is_accepted(name):
    """Any line of text up to the limit can be an event's name."""
    assert Event.create(name).name == name


@pytest.mark.parametrize("name", ["", None, 5, b"bytes", "x" * (MAX_NAME + 1), "a\nb", "a\rb", "a\0b", "\n",
                                  "lone\ud800", "hybrid_open", "hybrid_", "hybrid_anything"])
def test_name_is_refused(name):
    """A name that cannot stand in a stream, or is the protocol's own, is refused where the event is made."""
    with pytest.raises(EventError) as caught:
        Event.create(name)
    assert caught.value.status == 422
    assert caught.value.code in {"bad_event_name", "bad_payload"}
    with pytest.raises(EventError):
        checked_name(name)


class Name(str, Enum):
    UPDATE = "kb_update"


class Changing(str):
    """A text that looks different from what it is, to whoever asks it."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __len__(self) -> int:
        return 1

    def __str__(self) -> str:
        return "fine"

    def __format__(self, spec: str) -> str:
        return "fine"


def test_name_of_an_enum_is_its_text():
    """A member of a string Enum names the event by its text, as in JSON, however Python formats such a member."""
    name = Event.create(Name.UPDATE).name
    assert (type(name), name) == (str, "kb_update")


def test_name_of_a_strange_class_is_checked_as_what_it_is():
    """A subclass of str is judged by the text it holds, each time, and only that text leaves."""
    Event.create("good")
    assert type(Event.create(Changing("good")).name) is str
    for _ in range(2):
        for name in ("a\nb", "hybrid_open", "x" * (MAX_NAME + 1), ""):
            with pytest.raises(EventError):
                Event.create(Changing(name))


def test_each_use_of_a_name_is_checked():
    """A name is judged each time by what it is then: emitting it before, or one that is like it, excuses nothing."""
    for n in range(35):
        assert Event.create(f"job_{n}").name == Event.create(f"job_{n}").name == f"job_{n}"
        for _ in range(2):
            with pytest.raises(EventError):
                Event.create(f"job_{n}\n")


def test_names_are_checked_by_many_threads():
    """Threads that emit many names at once lose none, and let none through that is bad."""
    failures: list[BaseException] = []

    def create(number: int) -> None:
        try:
            for n in range(300):
                assert Event.create(f"{number}_{n % 7}").name == f"{number}_{n % 7}"
                with pytest.raises(EventError):
                    Event.create(f"hybrid_{n % 7}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_refused_name_is_quoted_but_not_at_any_length():
    """The error quotes the name, a very long one only in part."""
    with pytest.raises(EventError, match=r"'hybrid_open'"):
        Event.create("hybrid_open")
    with pytest.raises(EventError) as caught:
        Event.create("x" * 100_000)
    assert len(str(caught.value)) < 300


def test_event_error_is_a_value_error():
    """Who emits nonsense gets a ValueError, so that no host needs our names to catch it."""
    with pytest.raises(ValueError, match="cannot be sent"):
        Event.create("e", (object(),))


# -- payloads --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("args", "data", "args_text"), [
    ((), "null", "[]"),
    ((None,), "null", "[null]"),
    (({"a": 1},), '{"a":1}', '[{"a":1}]'),
    (([1, 2],), "[1,2]", "[[1,2]]"),
    ((1, 2), "[1,2]", "[1,2]"),
    ((1, "two", None), '[1,"two",null]', '[1,"two",null]'),
    (("ü\u2028",), '"ü\u2028"', '["ü\u2028"]'),
    (((1, (2, 3)),), "[1,[2,3]]", "[[1,[2,3]]]"),
    ((True, 1.5, -0.0), "[true,1.5,-0.0]", "[true,1.5,-0.0]"),
    (({1: "a", None: "b", False: "c"},), '{"1":"a","null":"b","false":"c"}', '[{"1":"a","null":"b","false":"c"}]'),
])
def test_arguments(args, data, args_text):
    """No argument is null, one is itself, several are an array; envelopes tell one list from several arguments."""
    event = Event.create("e", args)
    assert (event.data, event.args_text) == (data, args_text)


def cyclic_list() -> list[Any]:
    cycle: list[Any] = [b"with bytes"]
    cycle.append(cycle)
    return cycle


def cyclic_dict() -> dict[str, Any]:
    cycle: dict[str, Any] = {}
    cycle["again"] = cycle
    return cycle


def deep_list() -> list[Any]:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    return deep


IMPOSSIBLE = {
    "nan": lambda: math.nan,
    "infinity": lambda: math.inf,
    "minus infinity": lambda: [{"a": -math.inf}],
    "nan as key": lambda: {math.nan: 1},
    "set": lambda: {1, 2},
    "set inside": lambda: {"a": {1}},
    "object": object,
    "complex": lambda: 1j,
    "class": lambda: bytes,
    "bytes as key": lambda: {b"a": 1},
    "tuple as key": lambda: {(1, 2): 3},
    "object beside bytes": lambda: [b"ok", object()],
    "set beside an own $binary": lambda: {"$binary": {1}},
    "cyclic list": cyclic_list,
    "cyclic dict": cyclic_dict,
    "deeper than the stack": deep_list,
    "lone surrogate": lambda: "\ud800",
    "lone surrogate inside": lambda: ["a\udfff"],
    "lone surrogate as key": lambda: {"\ud800": 1},
    "lone surrogate beside bytes": lambda: [b"", "\ud800"],
    "int that has no text": lambda: 10 ** 5000,
}


@pytest.mark.parametrize("make", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_payload_is_refused(make):
    """What JSON cannot hold (RFC 8259) is refused in the emitter's traceback, with the event's name."""
    with pytest.raises(EventError, match="payload of event 'e'") as caught:
        Event.create("e", (make(),))
    assert (caught.value.status, caught.value.code) == (422, "bad_payload")


class Number(IntEnum):
    SEVEN = 7


class Loud(float):
    def __repr__(self) -> str:
        return "LOUD"


#: Values of every kind that the encoder treats by itself, and a few that it must refuse.
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20)
    | st.sampled_from([Name.UPDATE, Changing("x\n"), Number.SEVEN, Loud(1.5), b"bytes", 1j, {1}, object]),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(
        st.text(st.characters(), max_size=5) | st.integers() | st.floats() | st.none() | st.booleans()
        | st.sampled_from([Name.UPDATE, b"bytes", (1, 2)]), inner, max_size=4)
    | st.lists(st.tuples(st.text(max_size=3), inner), max_size=3).map(OrderedDict),
    max_leaves=12,
)


def outcome(function: Any, *args: Any, **options: Any) -> Any:
    """Return what a function returns, or the class and text of what it raises."""
    try:
        return function(*args, **options)
    except (TypeError, ValueError, RecursionError) as error:
        return type(error), str(error)


def plain_dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


@settings(quick, max_examples=500)
@given(anything)
def test_json_is_that_of_the_standard_library(value):
    """A payload without bytes is the text that ``json.dumps`` gives; what that refuses is refused."""
    expected, got = outcome(plain_dumps, value), outcome(lambda: Event.create("e", (value,)).data)
    if isinstance(got, str):
        assert got == expected or holds_binary(value)
    else:
        assert got[0] is EventError
        assert not isinstance(expected, str) or "lone surrogate" in got[1]


def holds_binary(value: Any) -> bool:
    """True if a value holds bytes somewhere."""
    if isinstance(value, dict):
        return any(map(holds_binary, value.values()))
    return isinstance(value, bytes) or (isinstance(value, (list, tuple)) and any(map(holds_binary, value)))


@pytest.mark.parametrize("make", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_is_refused_leaves_nothing_behind(make):
    """What cannot be JSON, cycles and depth among it, is refused again with the same words, and others are made."""
    value = make()
    refusals = [outcome(Event.create, "e", (value,)) for _ in range(2)]
    assert refusals[0] == refusals[1]
    assert refusals[0][0] is EventError
    assert Event.create("e", ([1],)).data == "[1]"


def test_the_same_value_twice_is_no_cycle():
    """A value may occur in several places, side by side or in events made one inside the making of another."""
    class Items(dict[str, Any]):
        def items(self) -> Any:
            Event.create("inner", (shared,))
            return super().items()

    shared: list[Any] = [1]
    shared.append(Items(a=1))
    shared.pop()
    assert Event.create("e", ([shared, shared],)).data == "[[1],[1]]"
    assert Event.create("e", ([shared, Items(a=shared)],)).data == '[[1],{"a":[1]}]'


def test_an_event_is_a_value():
    """Events with the same fields are equal, survive pickling, and cannot be changed."""
    made = Event.create("e", (1, b"\xff"), Target.create("/x", to="a", skip="b"), ack="5")
    same = Event("e", '[1,{"$binary":"/w=="}]', 2, Target("/x", frozenset({"a"}), frozenset({"b"})), "5")
    assert (made, hash(made), repr(made)) == (same, hash(same), repr(same))
    assert Event.create("e") == Event("e", "null")
    assert pickle.loads(pickle.dumps(made)) == made
    with pytest.raises(AttributeError):
        made.name = "other"


@quick
@given(st.none() | texts | st.lists(texts | st.integers(), max_size=3) | st.just("/"),
       st.none() | st.just("") | st.lists(texts, max_size=2), st.sampled_from([None, "", "/", "/x"]))
def test_the_target_for_everybody_is_one_object(to, skip, namespace):
    """Whatever an emitter names, a target says for whom it is, and the one for everybody is told by its identity."""
    target = Target.create(namespace, to, skip)
    everybody = to is None or to == "/" or (isinstance(to, list) and "/" in to)
    assert target.namespace == (namespace or "/")
    assert target.rooms == (None if everybody else frozenset(to if isinstance(to, list) else [to]))
    assert target.skip == (frozenset(skip) if skip and "/" not in skip else frozenset())
    assert (target is EVERYBODY) == target.everybody == (target == EVERYBODY)


@pytest.mark.parametrize("value", [b"\x00\xff", bytearray(b"\x00\xff"), memoryview(b"\x00\xff")])
def test_bytes_become_base64(value):
    """Bytes, in whatever form, travel as {"$binary": "<base64>"}."""
    assert sent(value) == {"$binary": "AP8="}
    assert sent({"a": [value, 1]}) == {"a": [{"$binary": "AP8="}, 1]}


@pytest.mark.parametrize(("own", "wire"), [
    ({"$binary": "x"}, {"$$binary": "x"}),
    ({"$$binary": "x"}, {"$$$binary": "x"}),
    ({"$binary": b""}, {"$$binary": {"$binary": ""}}),
    ({"$binary": 1, "other": 2}, {"$$binary": 1, "other": 2}),
    ({"binary": 1, "$binaries": 2, "a$binary": 3}, {"binary": 1, "$binaries": 2, "a$binary": 3}),
    ([{"$binary": {"$binary": 1}}], [{"$$binary": {"$$binary": 1}}]),
    ("$binary", "$binary"),
    ('"$binary":', '"$binary":'),
])
def test_own_binary_key_is_escaped(own, wire):
    """A caller's own key $binary is escaped, so that nobody takes its value for bytes, and comes back as it was."""
    assert sent(own) == wire
    assert restore_binary(sent(own)) == own


@quick
@given(payloads)
def test_payload_survives_the_wire(payload):
    """Whatever nested JSON with bytes and $binary-like keys is emitted, a client gets exactly that back."""
    assert restore_binary(sent(payload)) == payload


@quick
@given(st.lists(payloads, max_size=4))
def test_arguments_survive_in_envelopes(args):
    """The arguments of an envelope are exactly those of the emit."""
    assert restore_binary(json.loads(Event.create("e", tuple(args)).args_text)) == args


@quick
@given(payloads)
def test_data_is_one_line(payload):
    """The data of an event never holds a line end: it is one field of a stream."""
    assert not set("\r\n") & set(Event.create("e", (payload,)).data)


@pytest.mark.parametrize("value", ["not base64!", "AP8", "AP8=\n", "äöü", 5, None, ["AP8="], {}, {"$binary": "AP8="}])
def test_restoring_what_is_not_base64_is_refused(value):
    """A client that sends $binary with something else is told so."""
    with pytest.raises(EventError, match="base64"):
        restore_binary([{"$binary": value}])


def test_restoring_very_deep_json():
    """JSON that Python's parser takes is restored or refused as the client's mistake, however deep it is nested."""
    deep = json.loads("[" * 600 + "]" * 600)
    with suppress(EventError):
        assert restore_binary(deep) == deep


# -- targets ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("to", "rooms"), [
    (None, None), ("/", None), (["a", "/"], None), ("a", {"a"}), (["a", "b"], {"a", "b"}), (("a",), {"a"}),
    ({"a"}, {"a"}), (frozenset({"a"}), {"a"}), (7, {7}), ([7, "7"], {7, "7"}), ("", {""}), ([], set()),
])
def test_rooms(to, rooms):
    """to= is a room, a sid or several, of any hashable kind; None and "/" mean the whole namespace."""
    assert Target.create(to=to).rooms == rooms


@pytest.mark.parametrize(("skip", "sids"), [(None, set()), ("a", {"a"}), (["a", "b"], {"a", "b"}), ([], set())])
def test_skip(skip, sids):
    """skip= is a sid or several; without one nobody is left out."""
    assert Target.create(skip=skip).skip == sids


@pytest.mark.parametrize(("namespace", "expected"), [(None, "/"), ("", "/"), ("/", "/"), ("/x", "/x")])
def test_namespace(namespace, expected):
    """A namespace begins with a slash; none is the default one."""
    assert Target.create(namespace).namespace == expected


@pytest.mark.parametrize("namespace", ["x", "x/", 5, b"/x"])
def test_namespace_is_refused(namespace):
    """A namespace that does not begin with a slash is refused with its name."""
    with pytest.raises(EventError, match="namespace") as caught:
        Target.create(namespace)
    assert caught.value.code == "bad_namespace"


def test_everybody_is_one_object():
    """Events for everybody share one target: they are the most, and compared most often."""
    assert Event.create("e").target is EVERYBODY
    assert Target.create("/", to="/") is EVERYBODY
    assert EVERYBODY.everybody


@pytest.mark.parametrize("target", [Target("/x"), Target(rooms=frozenset({"a"})), Target(rooms=frozenset()),
                                    Target(skip=frozenset({"a"}))])
def test_not_everybody(target):
    """Another namespace, a room, nobody, and everybody but one are not everybody."""
    assert not target.everybody


# -- json_safe -------------------------------------------------------------------------------------------------

class Process:
    """Like a live Popen in a governor's status."""

    def __init__(self) -> None:
        self.pid = 12

    def __repr__(self) -> str:
        return "<Popen: returncode: None>"


class Mode(str, Enum):
    AUTO = "auto"


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class UnspeakableText(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("no")


class UnspeakableDict(dict[str, int]):
    def items(self) -> Any:
        raise RuntimeError("no")


@pytest.mark.parametrize(("value", "safe"), [
    (None, None), (True, True), (3, 3), (1.5, 1.5), ("ä", "ä"), ([1, (2,)], [1, [2]]), ({"a": 1}, {"a": 1}),
    (math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf"), (b"x", "b'x'"),
    ({"process": Process()}, {"process": "<Popen: returncode: None>"}),
    ({5: 1, 2.5: 2, (1, 2): 3}, {"5": 1, "2.5": 2, "(1, 2)": 3}),
    ("\ud800", "?"), ({"\ud800": "\udfff"}, {"?": "?"}), ({7}, [7]),
    (Unspeakable(), "<Unspeakable whose repr raised RuntimeError>"),
])
def test_json_safe(value, safe):
    """What JSON can hold stays; everything else becomes its repr, or a word about why it has none."""
    assert json_safe(value) == safe


def test_json_safe_of_an_int_without_text():
    """An integer too large for Python to write out is told as such."""
    assert json_safe([10 ** 5000]) == ["<int whose repr raised ValueError>"]


def test_json_safe_keeps_the_text_of_a_string_enum():
    """A governor's mode may be a string Enum: JSON holds it as its value, not by the name of its class."""
    assert json_safe({"mode": Mode.AUTO}) == json.loads(json.dumps({"mode": Mode.AUTO}))


@pytest.mark.parametrize("make", [cyclic_list, cyclic_dict, deep_list])
def test_json_safe_ends(make):
    """Cycles and very deep values end somewhere."""
    assert json.dumps(json_safe(make()), allow_nan=False)


def test_json_safe_is_not_drowned_by_cycles():
    """Objects that refer to each other (a parent and its children) cost an answer of bounded size, not 2**20 parts."""
    told = 0

    class Leaf:
        def __repr__(self) -> str:
            nonlocal told
            told += 1
            return "leaf"

    node: list[Any] = [Leaf()]
    node += [node, node]
    json_safe(node)
    assert told < 100_000


@pytest.mark.parametrize("value", [UnspeakableText("x"), UnspeakableDict(a=1)], ids=["str", "dict"])
def test_json_safe_never_raises(value):
    """Not even subclasses of the built-in types that raise when they are looked at break the answer."""
    assert json.dumps(json_safe({"value": value}), allow_nan=False)


@quick
@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary()
    | st.complex_numbers() | st.builds(object) | st.builds(Unspeakable) | st.builds(Process) | st.dates(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.text(st.characters()) | st.integers() | st.floats() | st.none() | st.binary() | st.tuples(st.integers()),
        inner, max_size=4) | st.tuples(inner) | st.sets(st.integers() | st.floats() | st.binary()),
    max_leaves=12,
))
def test_json_safe_is_always_json(value):
    """Whatever comes in, what comes out can be sent."""
    text = json.dumps(json_safe(value), allow_nan=False, ensure_ascii=False)
    assert text.encode("utf-8")
    Event.create("e", (json_safe(value),))


# -- globs -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("patterns", "name", "matches"), [
    (["kb_update"], "kb_update", True), (["kb_update"], "kb_updates", False), (["kb_update"], "xkb_update", False),
    (["kb_*"], "kb_update", True), (["kb_*"], "kb_", True), (["kb_*"], "KB_update", False), (["*"], "", True),
    (["*"], "anything\nat all", True), (["*update"], "kb_update", True), (["k*_*e"], "kb_update", True),
    (["a**b"], "ab", True), (["a**b"], "axxb", True), (["a", "b"], "b", True), (["a", "b"], "c", False),
    (["a?"], "ab", False), (["a?"], "a?", True), (["a?"], "a", False), (["[ab]"], "a", False), (["[ab]"], "[ab]", True),
    (["[!a]"], "b", False), (["a.c"], "abc", False), (["a.c"], "a.c", True), (["a|b"], "a", False),
    (["a|b"], "a|b", True), (["(a)"], "a", False), (["a+"], "aa", False), (["a$"], "a", False), (["^a"], "a", False),
    (["a\\"], "a\\", True), (["\\*"], "\\x", True), (["a{2}"], "aa", False), (["#a b"], "#a b", True),
    (["a"], "a\n", False), ([], "", False), ([], "a", False), ([""], "", True), ([""], "a", False),
])
def test_glob(patterns, name, matches):
    """Only * is special, and a pattern stands for the whole name."""
    assert glob_matcher(patterns)(name) is matches


@quick
@given(st.lists(texts.filter(lambda text: "*" not in text), min_size=1, max_size=4), texts)
def test_glob_without_star_is_equality(patterns, name):
    """A pattern without * matches itself and nothing else."""
    assert glob_matcher(patterns)(name) is (name in patterns)
    assert all(map(glob_matcher(patterns), patterns))


def test_a_name_is_held_against_the_globs_once():
    """However many globs there are, a name that comes again costs one look-up; that is forgotten, and never wrong."""
    looks = []

    class Name(str):
        def startswith(self, *args):
            looks.append(self)
            return super().startswith(*args)

    matches = glob_matcher([f"*{number}*x" for number in range(64)])
    for _ in range(3):
        assert matches(Name("a7x"))
        assert not matches(Name("nothing"))
    assert len(looks) <= 2 * 64
    for _ in range(2):
        assert [number for number in range(500) if matches(f"a{number}x")] == list(range(500))
        assert not any(matches(f"a{number}y") for number in range(500))


@quick
@given(st.lists(texts, min_size=1, max_size=4), st.lists(texts, min_size=4, max_size=4))
def test_glob_star_stands_for_anything(parts, fillings):
    """Whatever is put in place of the stars of a pattern, the result matches."""
    name = parts[0] + "".join(filling + part for filling, part in zip(fillings, parts[1:], strict=False))
    assert glob_matcher(["*".join(parts)])(name)
