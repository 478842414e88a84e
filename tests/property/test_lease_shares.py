"""However workers come, go and renew, every partition finds exactly one of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cdp.log.leases import Lease, choose_partitions


class Shop:
    """The leases as the database would keep them; a dead worker's time is over at once."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.leases: dict[int, Lease] = {}
        self.live: set[str] = set()

    def renew(self, me: str) -> frozenset[int]:
        self.live.add(me)
        wanted = choose_partitions(me, sorted(self.live), self.partitions, self.leases)
        for partition in wanted:
            held = self.leases.get(partition)
            assert held is None or held.worker_id == me or held.is_expired, "taken from the living"
        self.leases = {p: one for p, one in self.leases.items() if one.worker_id != me}
        self.leases |= {partition: Lease(me, False) for partition in wanted}
        return wanted

    def die(self, who: str) -> None:
        self.live.discard(who)
        for partition, lease in self.leases.items():
            if lease.worker_id == who:
                self.leases[partition] = Lease(who, True)


names = st.sampled_from(["a", "b", "c", "d", "e"])


@given(
    partitions=st.integers(1, 20),
    steps=st.lists(st.tuples(names, st.booleans()), max_size=30),
    last=st.sets(names, min_size=1),
)
def test_shares_become_fair_and_complete_whatever_happened_before(
    partitions: int, steps: list[tuple[str, bool]], last: set[str]
) -> None:
    shop = Shop(partitions)
    for who, lives in steps:
        if lives:
            shop.renew(who)
        else:
            shop.die(who)
    for who in shop.live - last:
        shop.die(who)
    for _ in range(2):
        for who in sorted(last):
            shop.renew(who)
    held = {who: shop.renew(who) for who in last}
    assert sorted(p for each in held.values() for p in each) == list(range(partitions))
    sizes = [len(each) for each in held.values()]
    assert max(sizes) - min(sizes) <= 1


@given(partitions=st.integers(1, 20), workers=st.sets(names, min_size=1))
def test_nobody_gives_up_anything_once_all_is_shared(partitions: int, workers: set[str]) -> None:
    shop = Shop(partitions)
    for _ in range(3):
        for who in sorted(workers):
            shop.renew(who)
    before = dict(shop.leases)
    for who in workers:
        shop.renew(who)
    assert shop.leases == before
