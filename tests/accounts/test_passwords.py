"""Passwords: the hash, and the rules of ASVS 5.0, V6.2."""

from __future__ import annotations

import argon2
import pytest

from skstack.accounts import passwords


def test_a_password_is_right_for_its_own_hash_only() -> None:
    kept = passwords.hash_password("correct horse battery")
    assert kept.startswith("$argon2id$")
    assert passwords.is_right(kept, "correct horse battery")
    assert not passwords.is_right(kept, "correct horse batterx")


def test_two_hashes_of_one_password_differ() -> None:
    assert passwords.hash_password("the same words") != passwords.hash_password("the same words")


@pytest.mark.parametrize("kept", [None, "", "rubbish", "$argon2id$v=19$broken"])
def test_nothing_is_right_for_no_hash_or_a_spoiled_one(kept: str | None) -> None:
    assert not passwords.is_right(kept, "correct horse battery")


def test_a_hash_with_other_parameters_is_outdated() -> None:
    weak = argon2.PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash("correct horse battery")
    assert passwords.is_right(weak, "correct horse battery")
    assert passwords.is_outdated(weak)
    assert not passwords.is_outdated(passwords.hash_password("correct horse battery"))


def test_an_unknown_account_costs_a_computation_too(monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[str] = []
    real = passwords._hasher.verify

    class Counting:
        def verify(self, kept: str, password: bytes) -> bool:
            verified.append(kept)
            return real(kept, password)

        hash = staticmethod(passwords._hasher.hash)

    monkeypatch.setattr(passwords, "_hasher", Counting())
    assert not passwords.is_right(None, "correct horse battery")
    assert len(verified) == 1


@pytest.mark.parametrize(
    ("password", "refused"),
    [
        ("1234567", True),
        ("ab3d5f7h", False),
        ("x" * 64, False),
        ("x" * 256, False),
        ("x" * 257, True),
        ("        ", False),
        ("密码密码密码密码", False),
        ("only lower case", False),
    ],
)
def test_asvs_6_2_length_and_no_composition_rules(password: str, refused: bool) -> None:
    assert bool(passwords.problems(password)) is refused


def test_asvs_6_2_11_the_user_name_is_no_password() -> None:
    assert passwords.problems("Administrator", "administrator")
    assert not passwords.problems("Administrator", "alice")


@pytest.mark.parametrize(
    "password", ["12345678", "password", "PassWord", "iloveyou", "1qaz2wsx", "qwertyuiop"]
)
def test_asvs_6_2_4_what_everybody_tries_first_is_refused(password: str) -> None:
    (found,) = passwords.problems(password)
    assert "everybody tries first" in str(found)


def test_asvs_6_2_4_the_list_has_at_least_3000_passwords_that_are_long_enough() -> None:
    assert len(passwords._common()) >= 3000


def test_asvs_6_2_8_a_password_is_taken_exactly_as_received() -> None:
    long = "x" * 200 + "A "
    kept = passwords.hash_password(long)
    assert passwords.is_right(kept, long)
    assert not passwords.is_right(kept, long.strip())
    assert not passwords.is_right(kept, long.lower())
    assert not passwords.is_right(kept, long[:128])


def test_what_is_no_valid_text_is_hashed_all_the_same() -> None:
    assert passwords.is_right(passwords.hash_password("half \ud800 a pair"), "half \ud800 a pair")


def test_generated_passwords_are_long_random_and_readable() -> None:
    found = {passwords.generate() for _ in range(50)}
    assert len(found) == 50
    assert all(len(one) == 23 and not passwords.problems(one, "admin") for one in found)
    assert not set("".join(found)) & set("01lio")
