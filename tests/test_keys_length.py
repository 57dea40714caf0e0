"""A signature has one length: one with a zero put in says the same numbers, and is another signature."""

from crdtmed.keys import SoftwareSigner, verify


def test_a_signature_that_is_padded_is_refused() -> None:
    signer = SoftwareSigner.from_scalar(7)
    signature = signer.sign(b"tag", b"body")
    assert verify(signer.public, b"tag", b"body", signature)
    assert not verify(signer.public, b"tag", b"body", signature[:32] + b"\x00" + signature[32:])
