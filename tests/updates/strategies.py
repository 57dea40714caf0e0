"""Updates of devices, as our own writer makes them."""

from hypothesis import strategies as st

from crdtmed.limits import MAX_CLIENT_ID, MAX_CLOCK, MAX_KEY_CHARS
from crdtmed.updates import ItemId, Root, write_array_update, write_map_update

clients = st.one_of(st.integers(0, 300), st.integers(0, MAX_CLIENT_ID))
clocks = st.one_of(st.integers(0, 300), st.integers(0, MAX_CLOCK - 300))
keys = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=MAX_KEY_CHARS)
values = st.one_of(st.binary(max_size=12), st.binary(min_size=120, max_size=300))
entries = st.lists(st.tuples(keys, values), min_size=1, max_size=5, unique_by=lambda entry: entry[0])
rows = st.lists(values, min_size=1, max_size=5)
ids = st.builds(ItemId, clients, clocks)


@st.composite
def map_updates(draw: st.DrawFn) -> bytes:
    return write_map_update(draw(clients), draw(clocks), draw(entries))


@st.composite
def array_updates(draw: st.DrawFn) -> bytes:
    client, clock = draw(clients), draw(clocks)
    own = st.just(ItemId(client, clock - 1)) if clock else st.none()
    origin = draw(st.one_of(st.none(), own, ids.filter(lambda origin: origin.client != client)))
    return write_array_update(client, clock, origin, draw(rows))


rooted_updates = st.one_of(
    map_updates().map(lambda data: (Root.MAP, data)), array_updates().map(lambda data: (Root.ARRAY, data))
)
