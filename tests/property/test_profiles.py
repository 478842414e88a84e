"""The join of traits does not care about order, grouping or repetition."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from cdp.profiles.consent import Statement, join_consents
from cdp.profiles.traits import Register, join_registers, join_traits

START = datetime(2026, 3, 1, tzinfo=UTC)
TIMES = st.integers(0, 5).map(lambda hours: START + timedelta(hours=hours))


def _value_of(name: str, message: str, source: int) -> str | None:
    """A message says one thing of a trait; now and then it removes it."""
    return None if (len(message) + source) % 3 == 0 else f"{name}{message}{source}"


@st.composite
def _registers(draw: st.DrawFn) -> Register:
    name = draw(st.sampled_from("ab"))
    message = draw(st.sampled_from(["m1", "m22", "m333"]))
    source = draw(st.integers(1, 2))
    return Register(name, _value_of(name, message, source), draw(TIMES), message, source)


LISTS = st.lists(_registers(), max_size=12)


@given(LISTS, st.randoms(use_true_random=False))
def test_order_does_not_matter(registers: list[Register], random: object) -> None:
    shuffled = list(registers)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert join_traits(shuffled) == join_traits(registers)


@given(LISTS)
def test_repetition_does_not_matter(registers: list[Register]) -> None:
    assert join_traits(registers + registers) == join_traits(registers)


@given(LISTS, LISTS, LISTS)
def test_grouping_does_not_matter(a: list[Register], b: list[Register], c: list[Register]) -> None:
    left = join_registers([*join_registers(a + b).values(), *c])
    right = join_registers([*a, *join_registers(b + c).values()])
    assert left == right == join_registers(a + b + c)


@given(LISTS)
def test_every_trait_shown_was_said_last_and_every_other_was_removed_last(
    registers: list[Register],
) -> None:
    shown = join_traits(registers)
    for name in {register.name for register in registers}:
        last = max((r for r in registers if r.name == name), key=lambda r: r.stamp)
        assert (shown.get(name) == last) if last.value is not None else (name not in shown)


@given(LISTS, TIMES)
def test_as_of_a_moment_is_the_join_of_what_was_said_until_then(
    registers: list[Register], at: datetime
) -> None:
    assert join_traits(registers, at) == join_traits([r for r in registers if r.at <= at])


STATEMENTS = st.lists(
    st.builds(
        Statement,
        purpose=st.just("marketing"),
        granted=st.booleans(),
        at=TIMES,
        message_id=st.uuids().map(str),
        source_number=st.just(1),
        node_id=st.integers(1, 3),
        evidence=st.none(),
    ),
    max_size=8,
)


@given(STATEMENTS, st.none() | TIMES, st.randoms(use_true_random=False))
def test_consent_depends_on_the_set_of_statements_only(
    statements: list[Statement], joined_at: datetime | None, random: object
) -> None:
    shuffled = statements + statements[:2]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    now = START + timedelta(hours=9)
    assert join_consents(shuffled, joined_at, now) == join_consents(statements, joined_at, now)


@given(STATEMENTS, TIMES)
def test_nobodys_last_word_before_a_join_is_overruled_by_somebody_elses(
    statements: list[Statement], joined_at: datetime
) -> None:
    counted = join_consents(statements, joined_at, START + timedelta(hours=9)).get("marketing")
    newest = max(statements, key=lambda s: s.stamp, default=None)
    if newest is None or newest.at > joined_at:
        return
    last = {s.node_id: s for s in sorted(statements, key=lambda s: s.stamp)}
    assert counted is not None
    assert counted.granted == all(s.granted for s in last.values())
