"""Every limit of the system, with its unit.

Whatever a peer, a file or a user can make grow is bounded by a name in this file; what exceeds a limit gets an error
that names it.  Sizes are bytes unless the name says otherwise, times are milliseconds where they end in ``_MS`` and
seconds where they end in ``_S``.
"""

from typing import Final

# Identifiers and texts, in characters.
MAX_SCOPE_ID_CHARS: Final = 32
MAX_DOCUMENT_NAME_CHARS: Final = 64
MAX_RELAY_NAME_CHARS: Final = 64
"""The name of a relay's key: the settings' name, and from the first rotation on a number behind it."""
MAX_KEY_CHARS: Final = 120
MAX_GRANT_ID_CHARS: Final = 64
MAX_USER_ID_CHARS: Final = 32
MAX_CODE_CHARS: Final = 64
MAX_SHORT_TEXT_CHARS: Final = 200
MAX_LONG_TEXT_CHARS: Final = 2_000
MAX_DECIMAL_CHARS: Final = 18
MAX_UNIT_CHARS: Final = 32
"""Of a UCUM unit."""
MAX_LOT_CHARS: Final = 20
"""Of a lot or serial number, as GS1 has it."""
MAX_ZONE_CHARS: Final = 64
"""Of the name of a time zone."""

# Statements and other signed values.
MAX_STATEMENT_BYTES: Final = 16_384
MAX_SEEN: Final = 256
MAX_REGISTER_BYTES: Final = 262_144
MAX_SIGNED_VALUE_BYTES: Final = 16_384
MAX_NUMBER: Final = 2**53 - 1
MAX_QUANTITY_UNITS: Final = 10_000_000
"""Counting units (tablets, mL) in one movement, receipt, order or dispense."""
MAX_REPEATS: Final = 99
MAX_DEPTH: Final = 12
"""Nesting of a MessagePack value, in levels."""

# Document updates.
MAX_CLIENT_ID: Final = 2**53 - 1
MAX_CLOCK: Final = 2**31 - 1
MAX_UPDATE_BYTES: Final = 262_144
MAX_VALUE_BYTES: Final = MAX_STATEMENT_BYTES
MAX_STRUCTS_PER_UPDATE: Final = 256
"""Values that one transaction of a device may insert."""
MAX_RELAY_VALUE_BYTES: Final = MAX_REGISTER_BYTES
MAX_RELAY_UPDATE_BYTES: Final = 33_554_432
MAX_LISTED_BYTES: Final = 29_360_128
"""Registers of one document past which conflicts and what is quarantined are kept on record and listed there no more:
stock, orders and queues need what is left of `MAX_RELAY_UPDATE_BYTES`."""
LARGE_BYTES: Final = 16_777_216
"""A document that takes more is told to the operator, long before it takes `MAX_RELAY_UPDATE_BYTES`."""
MAX_CLIENTS_PER_DOCUMENT: Final = 100_000
MAX_RELAY_STRUCTS: Final = 1_000_000
"""Structs in one update of the relay; as many values, and as many deleted ranges."""
MAX_MERGE_STEPS: Final = 50_000_000
"""Comparisons that merging one update into an Array may take, at about 0.15 us each."""

# Frames.
MAX_FRAME_BYTES: Final = 1_048_576
"""What a device may send in one frame."""
MAX_RELAY_FRAME_BYTES: Final = 67_108_864
MAX_HANDSHAKE_FRAME_BYTES: Final = 8_192
MAX_RATIO: Final = 32
"""How far bytes may have shrunk: who sends little must not make another handle much.  Bytes of ours shrink to a tenth
at most; what would shrink further is left as it is."""
BURST_FRAMES: Final = 256
"""Frames of the relay that a device takes in at once, and that may wait to be."""
MAX_SUBSCRIPTIONS_PER_FRAME: Final = 2_000
MAX_DOCUMENTS_PER_FRAME: Final = 256
"""Whole documents that one signature of the relay vouches for."""
MAX_DIGESTS_BYTES: Final = 65_536
MAX_SUBSCRIPTIONS: Final = 20_000
MAX_PUSHES_IN_FLIGHT: Final = 256
PUSH_STATEMENTS: Final = 128
"""Statements that a device puts into one update, so that the relay judges one while it reads the next."""
MAX_VERDICTS_ASKED: Final = 1_000
MAX_HANDED_STATEMENTS: Final = 500
MAX_HANDED_BYTES: Final = 524_288
"""What a device hands over or back in one frame; a statement larger than that goes alone."""
MAX_QUESTIONS: Final = 4
"""Of one device that the relay works on at a time, leases and sign-ins among them; the others wait."""
HANDSHAKE_TIMEOUT_MS: Final = 10_000
KEEPALIVE_MS: Final = 20_000
CONVERSATION_OF_USE_MS: Final = 30_000
"""A conversation that lasted so long from the welcome was of use, whatever ended it."""
LAST_WORDS_MS: Final = 1_000
"""How long what a relay said before it hung up is waited for."""
MAX_UNAUTHENTICATED_CONNECTIONS: Final = 200
MAX_CONNECTIONS: Final = 5_000
HIGH_WATER_BYTES: Final = 262_144
LOW_WATER_BYTES: Final = 65_536
"""With more than the one waiting, a socket is told to be full, and with less than the other to have room again."""
SEND_BUDGET_BYTES: Final = 4_194_304
"""What may wait for one slow reader before its queue for a document is dropped."""
MAX_WAITING_BYTES: Final = 2 * MAX_RELAY_FRAME_BYTES
"""Whom so much waits for is given up: its verdicts are not dropped, and could be more than what it has sent by far."""
MAX_FRAMES_PER_S: Final = 5_000

# Admission.
CHALLENGE_MS: Final = 60_000
MAX_CHALLENGES: Final = 64
"""Open at a time on one connection."""
MAX_CHALLENGES_ASKED: Final = 16
"""In one frame."""
DRIFT_MS: Final = 120_000
"""How far a stamp may be ahead of the clock that judges it."""
SEGMENT_GRACE_MS: Final = 600_000
AWAITS_MS: Final = 24 * 3_600_000
LATE_MS: Final = 24 * 3_600_000
"""A fact that arrives longer than this after its stamp is marked as late."""
RESUBMIT_DAYS: Final = 30
KNOWLEDGE_TIMEOUT_MS: Final = 3_000
MAX_CARDS: Final = 50
MAX_KNOWLEDGE_RESPONSE_BYTES: Final = 262_144
MAX_BATCH_STATEMENTS: Final = 256
"""Statements that share one commit of the relay."""

# Identity, grants and leases.
GRANT_HOURS: Final = 36
MAX_GRANT_HOURS: Final = 24 * 14
ENROLMENT_CODE_S: Final = 3_600
ENROLMENT_ATTEMPTS: Final = 5
MAX_ENROLMENT_BYTES: Final = 4_096
MAX_ENROLLED_BYTES: Final = 65_536
MAX_ENROLLING: Final = 16
"""Enrolments under way at once; each compares a code, which is slow on purpose."""
MAX_DRAWS: Final = 16
"""Random names of something new that are tried before giving up; hardly ever is one taken."""
SIGN_IN_ATTEMPTS: Final = 10
PIN_ATTEMPTS: Final = 5
MIN_PASSPHRASE_CHARS: Final = 12
"""Of a key file: nothing limits how often somebody guesses who has copied it."""
MIN_PASSWORD_CHARS: Final = 8
MIN_PIN_CHARS: Final = 4
MAX_PIN_CHARS: Final = 64
MAX_PASSWORD_CHARS: Final = 256
MAX_SITES_PER_GRANT: Final = 64
MAX_ROSTER: Final = 200
LEASE_RENEWAL_S: Final = 60
ONLINE_LEASE_S: Final = 120
"""How long a relay may leave renewals unanswered before a device gives the connection up."""
OFFLINE_LEASE_HOURS: Final = 12
MIN_OFFLINE_LEASE_HOURS: Final = 4
MAX_OFFLINE_LEASE_HOURS: Final = 72
EMERGENCY_LEASE_HOURS: Final = 4
MAX_EMERGENCY_LEASE_HOURS: Final = 24
LEASE_WARNINGS_S: Final = (4 * 3_600, 3_600)
BREAK_GLASS_WINDOW_S: Final = 3_600
WIPE_DEADLINE_S: Final = 300
HEAD_STALE_S: Final = 24 * 3_600
MAX_ROTATIONS: Final = 16
"""Identity keys in a row that a device can catch up with, and whose grants it still knows."""
MAX_PROTECTED_BYTES: Final = 65_536
"""A container that a passphrase opens."""
MAX_MEMORY_KIB: Final = 1_048_576
MAX_PASSES: Final = 32
MAX_LANES: Final = 16
"""What such a container may ask of Argon2id."""
MAX_ATTEMPT_ENTRIES: Final = 250
"""Users whose failed PIN tries a device counts."""
CLOCK_BACK_MS: Final = 5_000
"""How far a wall clock may be behind the high-water mark at start: what disciplining a clock does."""
GRANT_REISSUE_HOURS: Final = 6
"""A roster's grants are issued anew when those held are older; what is left is a day and more."""
MAX_QUARANTINE_PER_DEVICE: Final = 5_000
MAX_URL_CHARS: Final = 500
ENROLMENT_TIMEOUT_S: Final = 30

# Storage of the relay and the device.
LIVE_DOCUMENTS: Final = 2_000
LIVE_REGISTERS: Final = 10_000
LIVE_AUTHORS: Final = 500
FREE_NUMBERS: Final = 2_000
"""Statement numbers that a device has skipped so far, and that the relay remembers without asking its record."""
COMPACT_AFTER_UPDATES: Final = 200
MAX_CATCH_UP_UPDATES: Final = 1_000
"""Updates that are sent one by one to a device that was away; behind more, it gets the document whole."""
BASE_CACHE_BYTES: Final = 33_554_432
KEPT_NAMES: Final = 65_536
"""Names of documents that were taken apart."""
KEPT_PLACES: Final = 16_384
"""Pairs of a target and the document that something was pushed into."""
KEPT_IDS: Final = 4_096
"""Ids of devices and grants that were found to be ones, and public keys that were read."""
KEPT_WRITES: Final = 4_096
"""Writes of drafts that were decoded."""
KEPT_DIGESTS: Final = 256
"""Digests that were signed: many devices that come back at once ask for the same documents."""
KEPT_VIEWS: Final = 256
"""Views that a device keeps until something in them changes."""
MAX_WORDS_BYTES: Final = 1_024
"""Of a client's first statement, with which its later ones are packed."""
MAX_NOTES: Final = 1_000
"""Events that are kept for the log until it takes them."""
MAX_VERIFIERS: Final = 16
"""Processes that check signatures beside the relay's own; each takes some 30 MB."""
MAX_AUTOMATIC: Final = 4
"""Such processes where no setting says how many: the writer judges no faster than so many verify."""
MAX_OPEN: Final = 8
"""Questions that one of them has at a time: enough to keep it busy while the loop does something else, and few, since
those that the writer does not wait for were asked in vain."""
MAX_INBOX_BYTES: Final = 67_108_864
"""What may wait to be judged, of all devices; past it, nobody's socket is read."""
ITEM_BYTES: Final = 512
"""What one item takes of that beside its statements, so that empty ones are bounded too."""
MAX_OUTBOX_STATEMENTS: Final = 100_000
MAX_INBOX_ENTRIES: Final = 10_000
RETRY_FIRST_MS: Final = 500
RETRY_MOST_MS: Final = 60_000

# Imports.
MAX_IMPORT_BYTES: Final = 67_108_864
MAX_IMPORT_ROWS: Final = 200_000
MAX_IMPORT_ERRORS_SHOWN: Final = 1_000
MAX_SNAPSHOT_RULES: Final = 100_000

# Clinical content, in entries of a list.
MAX_TIMES_PER_DAY: Final = 24
MAX_FREQUENCY: Final = 1_440
"""Doses in one period of a timing."""
MAX_HOME_MEDICATIONS: Final = 100
MAX_SESSION_BYTES: Final = MAX_REGISTER_BYTES - 1_024
"""What a session may take with its notes; what ends it has to find room behind that."""
MAX_RESTARTED_SESSIONS: Final = 16
MAX_IDENTIFIERS: Final = 16
MAX_ALLERGIES: Final = 200
MAX_CARE_SITES: Final = 64
MAX_INGREDIENTS: Final = 64
MAX_PACKS: Final = 64
MAX_OVERRIDES: Final = 64
MAX_SLOTS: Final = 10_000
"""Scheduled instants that one question about a timing may return."""
