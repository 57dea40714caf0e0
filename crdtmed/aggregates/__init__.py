"""The eight aggregates: what statements and registers hold, what is wrong with it, and the views that follow.

Content models are frozen structs in FHIR R4 names (snake_case), encoded as MessagePack maps by
`crdtmed.codec`. Decode them with `crdtmed.aggregates.content.decode_content`; it is the one door from bytes
to typed content.
"""
