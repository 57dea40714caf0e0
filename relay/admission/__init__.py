"""Admission: from facts to a decision on one statement, without clock, randomness or I/O.

`relay.admission.facts` says what it reads, `relay.admission.effects` what it may want done, `relay.admission.admit` is
the way in.
"""
