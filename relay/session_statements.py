"""What the frames of a device hold: statements, the keys that they stand under, and names of documents.

Whatever is wrong with them is raised as `Wrong`, which ends the conversation (`relay.session`).
"""

from crdtmed.aggregates.content import Content, ContentError, decode_content
from crdtmed.aggregates.prescription_draft import DraftWrite, write_key
from crdtmed.documents import BadName, Document, parse
from crdtmed.statement import BadStatement, SignedStatement, check_content, decode, decode_envelope
from relay.admission.facts import ChallengeState
from relay.session_events import Said


class Wrong(Exception):
    """A frame is not as it should be.  ``code`` is stable, ``says`` is for people."""

    def __init__(self, code: str, says: str) -> None:
        super().__init__(code)
        self.code = code
        self.says = says


def content_of(signed: SignedStatement) -> Content | ContentError:
    """A statement's content, or what is wrong with it, which admission judges."""
    try:
        return decode_content(signed.statement.kind, bytes(signed.statement.content))
    except ContentError as error:
        return error


def read_any(data: bytes) -> Said:
    """A statement of any author, which answers no challenge of this conversation."""
    return Said(*read_statement(data), ChallengeState.ABSENT)


def read_statement(data: bytes) -> tuple[SignedStatement, Content | ContentError]:
    """A statement and its content, or what is wrong with that; one plain value it is in any case."""
    try:
        signed = decode_envelope(data)
        content = content_of(signed)
        if isinstance(content, ContentError):
            check_content(signed)
    except BadStatement as bad:
        raise Wrong(bad.reason, f"a statement: {bad.says}") from None
    return signed, content


def decoded(data: bytes) -> SignedStatement:
    """A statement alone."""
    try:
        return decode(data)
    except BadStatement as bad:
        raise Wrong(bad.reason, f"a statement: {bad.says}") from None


def read_document(name: str) -> Document:
    """The document of that name."""
    try:
        return parse(name)
    except BadName as bad:
        raise Wrong("unknown_document", str(bad)) from None


def check_key(key: str, said: Said) -> None:
    """A value stands under its own key alone, so that nobody's value can hide another's."""
    statement, content = said.signed.statement, said.content
    if isinstance(content, DraftWrite):
        expected = write_key(content, statement.device, statement.id)
        if key != expected:
            raise Wrong("wrong_key", f"{key[:120]!r} where {expected!r} was due")
    elif not key.endswith(f"/{statement.device}/{statement.id}"):
        raise Wrong("wrong_key", f"{key[:120]!r} does not end with the author and id of its statement")
