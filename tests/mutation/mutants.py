"""Ways in which the code could be wrong: what is replaced where, and which tests must notice (else simulated seeds)."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Mutant:
    """``old`` becomes ``new`` in ``path``, once; ``tests`` are asked first, then histories of the simulation."""

    name: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...] = ()


GATES: Final = "relay/admission/gates.py"
DISPENSING: Final = "relay/admission/dispensing.py"
COMMIT: Final = "relay/commit.py"
READING: Final = "relay/reading.py"
ASKED_TWICE: Final = ("tests/relay/service/test_asked_twice.py",)
ADMISSION: Final = ("tests/relay/admission",)
COMMITTING: Final = (
    "tests/relay/service/test_commit.py",
    "tests/relay/service/test_failed_commits.py",
    "tests/relay/service/test_live.py",
    "tests/relay/service/test_catching_up.py",
    "tests/relay/service/test_restored.py",
    "tests/relay/service/test_proof.py",
)
VERIFYING: Final = (
    "tests/relay/test_checks.py",
    "tests/relay/service/test_verifying.py",
    "tests/relay/service/test_failing_verifiers.py",
)
PACE: Final = ("tests/relay/test_pace.py", *VERIFYING)
DEVICE: Final = ("tests/device",)
CORE: Final = (
    "tests/test_statement.py",
    "tests/test_keys.py",
    "tests/test_keys_length.py",
    "tests/test_codec.py",
    "tests/test_clock.py",
)

MUTANTS: Final = (
    Mutant("low_s_dropped", "crdtmed/keys.py", "0 < s <= HALF_ORDER", "0 < s <= P256_ORDER - 1", CORE),
    Mutant("signature_length", "crdtmed/keys.py", "if len(signature) != SIGNATURE_BYTES:", "if False:", CORE),
    Mutant(
        "canonical_dropped",
        "crdtmed/codec.py",
        "if encode(value) != data:\n            raise",
        "if False:\n            raise",
        CORE,
    ),
    Mutant(
        "same_ignores_content",
        "crdtmed/statement.py",
        "one.seen, bytes(one.content)) == (",
        "one.seen, b'') == (",
        CORE,
    ),
    Mutant("seen_unordered", "crdtmed/statement.py", "any(a >= b for", "any(a > b for", CORE),
    Mutant(
        "stamp_stands",
        "crdtmed/clock.py",
        "Stamp(max(stamp(now_ms), last + 1))",
        "Stamp(max(stamp(now_ms), last))",
        CORE,
    ),
    Mutant(
        "clock_dragged",
        "crdtmed/clock.py",
        "if is_ahead(other, now_ms, drift_ms):\n        return last",
        "if False:\n        return last",
        CORE,
    ),
    Mutant(
        "signature_skipped",
        "relay/jobs.py",
        "return judge if all(_signed(judge)) else",
        "return judge if True else",
        ("tests/attacks", "tests/relay/service"),
    ),
    Mutant(
        "verifiers_ignored",
        "relay/jobs.py",
        "signed_by(public, encoded) if found is None else found",
        "signed_by(public, encoded)",
        VERIFYING,
    ),
    Mutant(
        "unanswered_is_good",
        "relay/jobs.py",
        "signed_by(public, encoded) if found is None else found",
        "found is not False",
        VERIFYING,
    ),
    Mutant(
        "answer_to_another_question",
        "relay/checks.py",
        "(found.number, len(found.good)) != (due.number, due.count)",
        "len(found.good) != due.count",
        VERIFYING,
    ),
    Mutant(
        "answer_at_another_place",
        "relay/checks.py",
        "check.found[first:end] = good[at : at + end - first]",
        "check.found[first:end] = good[: end - first]",
        VERIFYING,
    ),
    Mutant(
        "answer_after_all",
        "relay/checks.py",
        "        if not check.taken:\n            check.found",
        "        if True:\n            check.found",
        VERIFYING,
    ),
    Mutant("verifier_unburied", "relay/verifiers.py", "        self.process.wait()\n", "", VERIFYING),
    Mutant("verifier_for_ever", "relay/verifiers.py", "        if self._restarts:\n", "        if True:\n", VERIFYING),
    Mutant(
        "verifier_hangs_on",
        "relay/verifiers.py",
        "if oldest and self._waited_s >= ANSWER_S:",
        "if False:",
        VERIFYING,
    ),
    Mutant(
        "busy_verifier_hangs",
        "relay/verifiers.py",
        "self._waited_s + passed_s if oldest == self._oldest else 0.0",
        "self._waited_s + passed_s",
        VERIFYING,
    ),
    Mutant(
        "hang_up_unnoticed", "relay/checks.py", "forgo(self._open.popleft().parts)", "self._open.popleft()", VERIFYING
    ),
    Mutant(
        "own_work_for_others",
        "relay/checks.py",
        "        check.here += end - first\n",
        "        pass\n",
        VERIFYING,
    ),
    Mutant(
        "taken_unchecked", "relay/jobs.py", "while inbox and (not done or _is_done(inbox[0])):", "while inbox:", PACE
    ),
    Mutant("waits_without_helping", "relay/pace.py", "Step.HELP if unasked else", "", PACE),
    Mutant("waits_for_ever", "relay/pace.py", "if self.late >= LATE_TIMES:", "if False:", PACE),
    Mutant("alone_for_ever", "relay/pace.py", "if now_s < self.alone_until_s:", "if self.alone_until_s > 0:", PACE),
    Mutant(
        "helps_for_ever",
        "relay/service.py",
        """            case Step.HELP:
                self._pump_later("late", LATE_S)
""",
        """            case Step.HELP:
""",
        VERIFYING,
    ),
    Mutant(
        "waits_while_it_stops",
        "relay/service.py",
        "if self._stopping or not self.verifiers.some:",
        "if False:",
        VERIFYING,
    ),
    Mutant("timers_go_on", "relay/service.py", "            timer.cancel()\n", "            pass\n", VERIFYING),
    Mutant("late_for_good", "relay/service.py", "        self._pace.took()\n", "", VERIFYING),
    Mutant(
        "late_while_busy", "relay/service.py", '"write" not in self._busy and bool(self.hub.inbox)', "True", VERIFYING
    ),
    Mutant(
        "late_once_is_late",
        "relay/pace.py",
        "self.late, self.alone_until_s = 0, now_s",
        "self.alone_until_s = now_s",
        PACE,
    ),
    Mutant("few_are_asked_about", "relay/pace.py", "if not is_more(inbox, FEW) and", "if False and", PACE),
    Mutant(
        "checks_are_kept",
        "relay/service.py",
        "if next_unasked(self.hub.checks) is not None and is_more(self.hub.inbox, FEW):",
        "if is_more(self.hub.inbox, FEW):",
        VERIFYING,
    ),
    Mutant("verifiers_untimed", "relay/service.py", "        self.verifiers.tick(TICK_S)\n", "", VERIFYING),
    Mutant(
        "verifier_takes_signals",
        "relay/verifier.py",
        "signal.signal(number, signal.SIG_IGN)",
        "signal.signal(number, signal.SIG_DFL)",
        VERIFYING,
    ),
    Mutant(
        "loop_waits_for_others",
        "relay/writer.py",
        "if self.record.try_begin() else None",
        "if self.record.begin() is None else None",
        ("tests/relay/service/test_writing.py",),
    ),
    Mutant("revoked_admitted", COMMIT, "if batch.revoked(item.device):", "if False:", COMMITTING),
    Mutant("foreign_client", COMMIT, "if client is not None and client.author != author:", "if False:", COMMITTING),
    Mutant("gap_taken", COMMIT, "if update.clock != due:", "if False:", COMMITTING),
    Mutant(
        "closed_segment", COMMIT, "return None if document.name in taking else taking[0]", "return None", COMMITTING
    ),
    Mutant(
        "known_judged_again",
        "relay/judging.py",
        "if stored is not None and same(stored.signed.statement, statement):\n        outcome.judged",
        "if False:\n        outcome.judged",
        COMMITTING,
    ),
    Mutant(
        "tombstone_forgotten",
        COMMIT,
        "fanned = push.raw if all(kept) else tombstoned(update, kept)",
        "fanned = push.raw",
        COMMITTING,
    ),
    Mutant(
        "dangling_origin", COMMIT, "if known is None or insert.origin.clock >= known.clock:", "if False:", COMMITTING
    ),
    Mutant(
        "cache_kept_after_failure",
        COMMIT,
        "        live.drop()\n        # Nobody",
        "        # Nobody",
        COMMITTING,
    ),
    Mutant(
        "answer_before_commit",
        COMMIT,
        "        _finish(batch)\n        record.commit()",
        "        _finish(batch)\n        record.rollback()",
        COMMITTING,
    ),
    Mutant(
        "others_unnoticed",
        COMMIT,
        "    if live.version == version:\n        return False",
        "    return False",
        COMMITTING,
    ),
    Mutant(
        "over_authorised",
        DISPENSING,
        "register.dispensed + wanted.said.quantity <= register.authorised",
        "True",
        ADMISSION,
    ),
    Mutant(
        "second_dispense",
        DISPENSING,
        "dispensed=register.dispensed + wanted.said.quantity)",
        "dispensed=register.dispensed)",
        ADMISSION,
    ),
    Mutant(
        "stock_unchecked", DISPENSING, "if of is None or of.on_hand >= wanted.said.quantity:", "if True:", ADMISSION
    ),
    Mutant("expired_lot", DISPENSING, "> date.fromisoformat(of.expiry)", "< date.min", ADMISSION),
    Mutant("wrong_site", DISPENSING, "register.site != wanted.site else None", "False else None", ADMISSION),
    Mutant(
        "stopped_dispensed",
        DISPENSING,
        "(now := standing(register, wanted.received_at)) is Standing.ACTIVE",
        "(now := standing(register, wanted.received_at))",
        ADMISSION,
    ),
    Mutant("role_unchecked", GATES, "needed.isdisjoint(grant.roles)", "False", ADMISSION),
    Mutant(
        "gate_not_asked_of_its_kind",
        GATES,
        "patient_not_in_care: lambda kind: KINDS[kind].carrier in _OF_A_PATIENT",
        "patient_not_in_care: lambda kind: KINDS[kind].carrier is Carrier.DRAFTS",
        ADMISSION,
    ),
    Mutant("site_unchecked", GATES, "if site not in grant.sites)", "if False)", ADMISSION),
    Mutant(
        "care_unchecked",
        GATES,
        "if grant is None or patient is None or in_care(port, grant, patient):",
        "if True:",
        ADMISSION,
    ),
    Mutant("challenge_dropped", GATES, "NeedsChallenge() if wanted and", "NeedsChallenge() if False and", ADMISSION),
    Mutant("challenge_spent", GATES, "ChallengeSpent() if wanted and", "ChallengeSpent() if False and", ADMISSION),
    Mutant("grant_for_ever", GATES, "grant.not_before <= at <= grant.not_after", "grant.not_before <= at", ADMISSION),
    Mutant("withdrawn_admitted", GATES, "if at <= heard else None", "if at < 0 else None", ADMISSION),
    Mutant(
        "awaits_nothing", GATES, "if missing is not None and not _given_up(port, submission)", "if False", ADMISSION
    ),
    Mutant("redo_forgotten", GATES, "return Redo() if submission.handed_back", "return Redo() if False", ADMISSION),
    Mutant("resolved_twice", "relay/admission/resolutions.py", "if not register.open:", "if False:", ADMISSION),
    Mutant(
        "duplicate_receipt",
        "relay/admission/stock.py",
        "if other is not None and not received.separate",
        "if False",
        ADMISSION,
    ),
    Mutant("stale_adjustment", "relay/admission/stock.py", "it.of.version == it.said.version_seen", "True", ADMISSION),
    Mutant("below_zero", "relay/admission/stock.py", "of.on_hand + it.said.delta >= 0", "True", ADMISSION),
    Mutant(
        "facts_refused",
        "relay/admission/conflicts.py",
        "if not claim.is_fact(signed, content) and (vain or not actions):",
        "if vain or not actions:",
        ADMISSION,
    ),
    Mutant(
        "challenge_for_ever",
        "relay/session.py",
        "fresh = until is not None and now_ms < until",
        "fresh = until is not None",
        ("tests/relay/session",),
    ),
    Mutant(
        "challenge_twice",
        "relay/session.py",
        "self._challenges.pop(challenge, None)",
        "self._challenges.get(challenge)",
        ("tests/relay/session",),
    ),
    Mutant(
        "any_author",
        "relay/session.py",
        "if signed.statement.device != self.device:",
        "if False:",
        ("tests/relay/session",),
    ),
    Mutant(
        "newest_thought_new",
        "relay/batch.py",
        "if at <= author.newest]",
        "if at < author.newest]",
        ("tests/relay/service/test_ids_on_record.py",),
    ),
    Mutant(
        "line_loses_its_place",
        "relay/messages.py",
        "at = first + self.owed",
        "at = first",
        ("tests/relay/service/test_messages.py",),
    ),
    Mutant("any_key", "relay/session_statements.py", "if key != expected:", "if False:", ("tests/relay/session",)),
    Mutant(
        "proof_unchecked",
        "relay/session.py",
        "if certificate is None or not keys.verify(",
        "if certificate is None or None is keys.verify(",
        ("tests/relay/session",),
    ),
    Mutant(
        "epoch_kept",
        "relay/storage/restore.py",
        "count = record.renew_epochs(iter(lambda: to_text(random(EPOCH_BYTES)), None))",
        "count = 0",
        ("tests/relay/storage", "tests/relay/service"),
    ),
    Mutant(
        "seen_ignored",
        "crdtmed/policies/lww_diff.py",
        "heads = tuple(write for write in reversed(history) if write.ref not in superseded)",
        "heads = tuple(reversed(history))",
        ("tests/policies",),
    ),
    Mutant(
        "concurrent_hidden",
        "crdtmed/policies/lww_diff.py",
        "concurrent=tuple(write for write in heads if write.same_as != winner.same_as)",
        "concurrent=()",
        ("tests/policies",),
    ),
    Mutant(
        "visible_before_durable",
        "crdtmed/device/engine_say.py",
        "await core.ports.database.run(lambda connection: store.append(connection, said, stamp))",
        "await core.ports.database.run(lambda connection: None)",
        DEVICE,
    ),
    Mutant(
        "grant_lapsed", "crdtmed/device/engine_say.py", "and not covers(grant, core.relay_now())", "and False", DEVICE
    ),
    Mutant(
        "queued_offline",
        "crdtmed/device/engine_say.py",
        "if session is None or session.stage is not Stage.OPEN:",
        "if session is None:",
        DEVICE,
    ),
    Mutant(
        "useless_relay_hurried",
        "crdtmed/device/link.py",
        "return lost or of_use",
        "return lost or by_relay",
        ("tests/device/test_reconnecting.py",),
    ),
    Mutant(
        "use_forgotten",
        "crdtmed/device/link.py",
        "return lost or of_use",
        "return lost",
        ("tests/device/test_reconnecting.py",),
    ),
    Mutant(
        "welcome_is_use",
        "crdtmed/device/engine_relay.py",
        "lasts = since is not None and core.ports.now_ms() - since >= CONVERSATION_OF_USE_MS",
        "lasts = since is not None",
        ("tests/device/test_reconnecting.py",),
    ),
    Mutant("sent_once", "crdtmed/device/engine_relay.py", "    core.outbox.all_again()\n", "", DEVICE),
    Mutant(
        "old_store_goes_on",
        "crdtmed/device/engine_opened.py",
        "if welcome.last_number > core.number:",
        "if False:",
        DEVICE,
    ),
    Mutant("identity_remembered", COMMIT, "        batch.live.known = Known()\n", "", COMMITTING),
    Mutant("number_stays_free", "relay/live.py", "self.free.discard(number)", "pass", COMMITTING),
    Mutant(
        "movement_not_undone",
        "relay/applying.py",
        "    undo.append(batch.moved.pop)\n",
        "",
        COMMITTING,
    ),
    Mutant("known_thought_new", "relay/batch.py", "if at not in known})", "})", COMMITTING),
    Mutant(
        "words_forgotten",
        "relay/batch.py",
        "                self.record.put_words(client.row, client.words)\n",
        "                pass\n",
        ("tests/relay/storage", "tests/relay/service"),
    ),
    Mutant(
        "revocation_waits_for_the_relay",
        "crdtmed/device/engine_revoked.py",
        "    core.tell(Revoked(revocation, handed_over=revocation.now or not _chunks(core)))\n",
        "",
        DEVICE,
    ),
    Mutant("lease_kept", "crdtmed/device/lease.py", "if lease.serial < mark.lease:", "if False:", DEVICE),
    Mutant("plain_store", "crdtmed/device/store_database.py", "if start == PLAIN_HEADER:", "if False:", DEVICE),
    Mutant(
        "asked_twice_goes_on",
        "relay/fanout.py",
        "held[document] = BEHIND\n            return",
        "return",
        ("tests/relay/service/test_fanout.py",),
    ),
    Mutant("registers_unseen", COMMIT, "random, careful=True)", "random)", COMMITTING),
    Mutant("others_forgotten", COMMIT, "live.version = version\n", "pass\n", COMMITTING),
    Mutant(
        "answered_twice", "relay/catching_up.py", "if answer.document in connection.wants:", "if False:", ASKED_TWICE
    ),
    Mutant(
        "left_and_wanted",
        "relay/catching_up.py",
        "        connection.wants.pop(document, None)\n",
        "        pass\n",
        ASKED_TWICE,
    ),
    Mutant(
        "left_while_it_was_read",
        "relay/catching_up.py",
        "for want in left if hub.fanout.wants(connection.id, want.document)}",
        "for want in left}",
        ASKED_TWICE,
    ),
    Mutant("anothers_change", READING, "changes.get(row.id)", "next(iter(changes.values()), None)", COMMITTING),
    Mutant("first_change_alone", READING, "row.position == 1 and", "row.position >= 1 and", COMMITTING),
    Mutant("care_of_everybody", READING, "if not self._sites.isdisjoint(sites):", "if True:", COMMITTING),
    Mutant("withdrawn_in_care", READING, "if sites is None:", "if register is None:", COMMITTING),
    Mutant(
        "change_of_any_position",
        "relay/storage/queries.py",
        """            CHANGE.c.position == b("position"),
""",
        """            CHANGE.c.position >= b("position"),
""",
        ("tests/relay/storage",),
    ),
)
"""Every mutant; each is caught, or gets a test."""
