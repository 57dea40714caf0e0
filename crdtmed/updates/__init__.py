"""The two grammars of document updates: what a device may send, and what the relay sends.

No byte reaches pycrdt that one of the readers here has not accepted.
"""

from crdtmed.updates.device_grammar import read_device_update, write_array_update, write_map_update
from crdtmed.updates.lib0 import Malformed
from crdtmed.updates.relay_grammar import read_relay_update
from crdtmed.updates.state_vector import read_state_vector, write_state_vector
from crdtmed.updates.structs import ArrayInsert, DeviceUpdate, ItemId, MapInsert, RelayUpdate, Root
from crdtmed.updates.tombstone import tombstoned

__all__ = [
    "ArrayInsert",
    "DeviceUpdate",
    "ItemId",
    "Malformed",
    "MapInsert",
    "RelayUpdate",
    "Root",
    "read_device_update",
    "read_relay_update",
    "read_state_vector",
    "tombstoned",
    "write_array_update",
    "write_map_update",
    "write_state_vector",
]
