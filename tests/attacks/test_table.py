"""The table of attacks: what somebody tries, what stands against it, and the tests that try it."""

import importlib
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Attack:
    """One row.  ``tests`` are module and function, below ``tests``."""

    name: str
    what_stands_against_it: str
    tests: tuple[str, ...]


RELAY = "attacks.test_attacks_on_the_relay"
DEVICE = "attacks.test_attacks_on_a_device"
FLOODS = "attacks.test_floods_and_clones"

TABLE = (
    Attack(
        "a handshake is replayed",
        "both sides sign both nonces and the relay's key",
        (
            f"{RELAY}.test_a_handshake_that_is_replayed_proves_nothing",
            f"{RELAY}.test_a_proof_made_for_another_relay_or_by_another_key_proves_nothing",
            f"{DEVICE}.test_a_relays_proof_that_was_recorded_earlier_is_none",
        ),
    ),
    Attack(
        "a code is used twice",
        "it is deleted in the transaction that certifies the device",
        (
            "relay.identity.test_enrolment.test_a_code_serves_one_device",
            "relay.identity.test_enrolment.test_two_that_compare_the_same_code_at_once_make_one_device",
        ),
    ),
    Attack(
        "a code is guessed",
        "five tries in an hour against 40 bits, spent before they are judged; stored hashed",
        (
            "relay.identity.test_enrolment.test_a_guess_costs_an_attempt_and_the_code_dies_of_them",
            "relay.identity.test_enrolment.test_a_code_is_stored_only_hashed",
            f"{FLOODS}.test_a_code_is_not_guessed_over_the_network",
        ),
    ),
    Attack(
        "a password or PIN is guessed",
        "tries are limited and counted before each one, durably; Argon2id",
        (
            "relay.identity.test_grants.test_attempts_are_spent_before_they_are_judged",
            "device.test_pin.test_a_restart_gives_no_try_back_and_a_try_counts_before_it_is_judged",
            "device.test_pin.test_without_a_count_of_its_own_no_pin_opens_until_a_sign_in_online",
        ),
    ),
    Attack(
        "a certificate of another relay",
        "one identity key is pinned at enrolment; all others follow from it by signatures",
        (
            "relay.identity.test_enrolment.test_a_certificate_of_another_relay_is_not_believed",
            f"{DEVICE}.test_a_certificate_that_the_identity_key_did_not_sign_is_refused",
            "device.test_enrolment.test_a_profile_that_was_changed_is_not_believed",
        ),
    ),
    Attack(
        "another relay in place of the true one",
        "it hears nothing but hello",
        (
            f"{DEVICE}.test_a_relay_of_another_identity_hears_nothing_but_hello",
            f"{DEVICE}.test_a_relay_that_shows_a_true_key_and_cannot_sign_with_it_hears_nothing_but_hello",
            f"{DEVICE}.test_a_retired_relay_key_and_a_stolen_old_identity_key_prove_nothing",
        ),
    ),
    Attack(
        "a certificate of the web that nobody vouches for, or no encryption",
        "checked by default; plain text only to loopback or in so many words",
        (
            "device.test_enrolment.test_a_certificate_that_nobody_vouches_for_ends_it_before_the_code_is_sent",
            "device.test_address.test_plain_text_to_another_machine_needs_the_very_words",
        ),
    ),
    Attack(
        "a grant of another device",
        "a grant names its device, and the relay keeps every grant it issued",
        (
            f"{RELAY}.test_a_grant_of_another_device_opens_nothing",
            "device.test_pin.test_a_grant_that_is_not_the_identity_services_or_not_this_devices_is_refused",
        ),
    ),
    Attack(
        "an expired grant",
        "judged as of the stamp; a stamp ahead of the relay's clock is sent back",
        (
            f"{RELAY}.test_an_expired_grant_is_judged_as_of_the_stamp_and_a_stamp_from_the_future_does_not_help",
            "device.test_pin.test_a_grant_that_has_lapsed_opens_nothing",
        ),
    ),
    Attack(
        "a withdrawn user backdates",
        "what counts is when the relay first heard of it",
        (f"{RELAY}.test_a_user_who_was_withdrawn_gains_nothing_by_backdating",),
    ),
    Attack(
        "a clock is set back",
        "a mark outside the database; while running, the clock that went further counts",
        (
            "test_leasing.test_whatever_is_done_to_the_clock_the_cache_is_open_no_longer_than_leased",
            "device.test_lease.test_a_clock_behind_the_mark_locks_at_start_and_the_relay_opens_again",
            "device.test_lease.test_a_lapse_deletes_the_sealed_key_for_good",
        ),
    ),
    Attack(
        "a lease is replayed, forged, or meant for another",
        "signed, numbered upwards, and its key sealed to one device in one context",
        (
            "device.test_lease.test_leases_that_are_forged_foreign_replayed_or_sealed_to_another_change_nothing",
            "device.test_lease.test_an_older_lease_put_back_locks",
        ),
    ),
    Attack(
        "a forged author",
        "every value is signed by the device that it names",
        (f"{RELAY}.test_a_forged_author_closes_the_connection_and_changes_nothing",),
    ),
    Attack(
        "a high s",
        "only the low form of a signature is one",
        (f"{RELAY}.test_a_forged_author_closes_the_connection_and_changes_nothing",),
    ),
    Attack(
        "a forged register",
        "signed by a relay key that was in service",
        (
            f"{DEVICE}.test_a_forged_register_never_counts",
            f"{DEVICE}.test_a_register_that_a_device_signed_never_counts",
            f"{DEVICE}.test_a_register_of_another_document_or_key_is_not_taken_for_this_one",
        ),
    ),
    Attack(
        "a register is rolled back",
        "versions only rise",
        (f"{DEVICE}.test_an_older_register_never_replaces_a_newer_one",),
    ),
    Attack(
        "the directory's head is rolled back, or an entry left out",
        "the head has a version that never falls and the digest of every entry",
        (
            f"{DEVICE}.test_a_directory_head_that_was_rolled_back_is_refused",
            f"{DEVICE}.test_a_revocation_left_out_under_an_older_truth_is_refused",
            "relay.identity.test_directory.test_no_entry_can_be_left_out_changed_moved_or_added",
        ),
    ),
    Attack(
        "a cloned device",
        "numbers are used once, leases are taken over once, one connection a device",
        (
            f"{FLOODS}.test_a_cloned_device_is_noticed_by_the_number_it_uses_again",
            f"{FLOODS}.test_two_copies_of_a_device_cannot_both_be_on_the_line",
            "relay.identity.test_leases.test_two_devices_with_the_same_keys_are_noticed_at_the_second_renewal",
        ),
    ),
    Attack(
        "an older copy of a device's store is put back",
        "high-water marks, compared on the device and by the relay",
        (
            f"{FLOODS}.test_a_store_put_back_from_an_older_copy_is_noticed_at_the_handshake",
            "device.test_copied_stores.test_a_mark_outside_the_store_tells_of_an_old_copy_even_offline",
        ),
    ),
    Attack(
        "update bytes made to harm other replicas",
        "read strictly before any library sees them, at the relay and again on devices",
        (
            f"{FLOODS}.test_update_bytes_made_to_harm_other_replicas_reach_nobody",
            f"{DEVICE}.test_update_bytes_from_a_relay_that_would_hang_or_kill_are_not_applied",
        ),
    ),
    Attack(
        "flooding before authentication",
        "few strangers at a time, the oldest goes; small frames; ten seconds",
        (
            f"{FLOODS}.test_strangers_who_hold_the_line_keep_no_device_out",
            f"{FLOODS}.test_strangers_are_sent_away_when_their_time_is_up",
            f"{FLOODS}.test_what_a_stranger_may_say_is_little",
        ),
    ),
    Attack(
        "quarantine is flooded",
        "a cap for each device; what it does not take is told",
        (
            f"{FLOODS}.test_quarantine_has_an_end",
            f"{FLOODS}.test_no_hand_over_after_now_nor_of_anothers_or_a_forged_statement",
        ),
    ),
    Attack(
        "a revoked device goes on, by itself or through an accomplice",
        "nothing but hand-over is open to it; what arrives later is quarantined whatever time it claims",
        (
            f"{FLOODS}.test_a_revoked_device_writes_nothing_and_hands_over_in_order_of_arrival",
            f"{FLOODS}.test_a_revoked_device_may_ask_for_nothing",
            f"{FLOODS}.test_an_accomplice_cannot_bring_in_what_a_revoked_device_says_afterwards",
        ),
    ),
    Attack(
        "a forged revocation, to destroy a device's cache",
        "signed by the identity key, and for this very device",
        (f"{DEVICE}.test_a_forged_or_foreign_revocation_wipes_nothing",),
    ),
    Attack(
        "a forged confirmation of a wipe",
        "signed by the device's own key before it is destroyed",
        (
            f"{FLOODS}.test_a_wipe_is_confirmed_by_the_device_alone",
            "relay.identity.test_revocation.test_only_the_devices_own_word_confirms_a_wipe",
        ),
    ),
    Attack(
        "copies of a device's files, with the passphrase",
        "they open until the lease in them lapses, and not beyond the first contact with the relay",
        (
            "revocation.test_on_the_real_clock.test_within_five_minutes_on_the_real_clock",
            "revocation.test_on_the_real_clock.test_a_copy_kept_offline_until_its_lease_lapsed_never_opens_again",
        ),
    ),
    Attack(
        "secrets in logs, errors, process arguments",
        "what holds one does not print it; the command lines take files and prompts",
        (
            "attacks.test_nothing_leaks.test_a_day_of_work_and_mistakes_leaves_no_secret_behind",
            "attacks.test_nothing_leaks.test_no_secret_can_be_given_as_an_argument",
        ),
    ),
)


@pytest.mark.parametrize("attack", TABLE, ids=lambda attack: attack.name)
def test_every_attack_of_the_table_is_tried(attack: Attack) -> None:
    assert attack.tests
    for path in attack.tests:
        module, _, name = path.rpartition(".")
        assert callable(getattr(importlib.import_module(f"tests.{module}"), name, None)), f"there is no {path}"
