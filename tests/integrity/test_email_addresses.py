"""An e-mail address is valid: Python says why not, and the database guards the column for those who go around it."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import bindparam, select, text

from dataarch.database.unit_of_work import Database
from dataarch.errors import CheckFailed, InvalidEmail
from dataarch.models import User
from dataarch.models.types import Email, normalized_email
from dataarch.proof.strategies import emails
from fixtures.shared_data import shared_file
from fixtures.tenants import Inhabited, inhabit

pytestmark = pytest.mark.integrity

CONTROL_PICTURES = {0x2400 + code: code for code in range(0x21)}

ACCEPTED = {
    "ISEMAIL_VALID_CATEGORY": (13, 14),
    "ISEMAIL_DNSWARN": (8, 8),
    "ISEMAIL_RFC5321": (0, 16),
    "ISEMAIL_CFWS": (0, 10),
    "ISEMAIL_DEPREC": (0, 20),
    "ISEMAIL_RFC5322": (0, 30),
    "ISEMAIL_ERR": (0, 66),
}
"""How many addresses of each category are accepted, of how many: docs/reference/email.md says why."""


def is_accepted(address: object) -> bool:
    try:
        normalized_email(address)  # type: ignore[arg-type]  # what a careless caller does
    except InvalidEmail:
        return False
    return True


def isemail() -> list[tuple[str, str]]:
    """Return the addresses of the isemail suite with their categories."""
    tests = ET.parse(shared_file("email", "tests.xml")).getroot().iter("test")
    return [
        ((test.findtext("address") or "").translate(CONTROL_PICTURES), test.findtext("category") or "")
        for test in tests
    ]


def check_refuses(db: Database, addresses: Iterable[str]) -> list[str]:
    """Return the addresses that the column's CHECK refuses; the database itself is asked."""
    query = text(f"SELECT a FROM unnest(CAST(:addresses AS text[])) AS a WHERE NOT ({Email().check('a')})")
    with db.owner() as owner:
        return list(owner.scalars(query, {"addresses": list(addresses)}))


def test_m11_the_isemail_suite_is_accepted_category_by_category() -> None:
    accepted = Counter(category for address, category in isemail() if is_accepted(address))
    present = Counter(category for _, category in isemail())
    assert {category: (accepted[category], present[category]) for category in present} == ACCEPTED


def test_m11_no_address_that_is_an_error_is_accepted() -> None:
    assert [address for address, category in isemail() if category == "ISEMAIL_ERR" and is_accepted(address)] == []


def test_m11_what_python_accepts_of_the_suite_the_check_accepts(shared_db: Database) -> None:
    accepted = [normalized_email(address) for address, _ in isemail() if is_accepted(address)]
    assert check_refuses(shared_db, accepted) == []


def test_m11_the_check_refuses_every_address_that_is_an_error(shared_db: Database) -> None:
    errors = {address for address, category in isemail() if category == "ISEMAIL_ERR" and "\x00" not in address}
    assert set(check_refuses(shared_db, errors)) == errors


@given(addresses=st.lists(emails() | st.emails() | st.text().map("{}@exämple.com".format), min_size=1, max_size=20))
def test_m11_every_address_that_python_accepts_the_check_accepts(shared_db: Database, addresses: list[str]) -> None:
    accepted = [normalized_email(address) for address in addresses if is_accepted(address)]
    assert check_refuses(shared_db, accepted) == []


@pytest.mark.parametrize("length", [63, 64, 65, 66])
def test_m11_python_and_the_check_agree_on_the_longest_local_part(shared_db: Database, length: int) -> None:
    address = f"{'x' * length}@example.com"
    assert is_accepted(address) is (check_refuses(shared_db, [address]) == []) is (length <= 64)


@given(address=emails())
def test_an_address_is_stored_in_one_form_whatever_its_case(address: str) -> None:
    assert normalized_email(address) == normalized_email(address.upper()) == address


LOOSER_THAN_THE_SUITE = {
    "a quoted string with a space in the local part is valid": "quoted local part",
    "a quoted string with a double dot in the local part is valid": "quoted local part",
    "a quoted string with a @ in the local part is valid": "quoted local part",
    "an IPv4-address-literal after the @ is valid": "address literal",
    "an IPv6-address-literal after the @ is valid": "address literal",
}


def test_m11_the_json_schema_suite_is_decided_as_it_says_but_for_quotes_and_literals() -> None:
    [suite] = json.loads(shared_file("formats", "email.json").read_bytes())
    different = {
        test["description"]
        for test in suite["tests"]
        if isinstance(test["data"], str) and is_accepted(test["data"]) is not test["valid"]
    }
    assert different == set(LOOSER_THAN_THE_SUITE)


@pytest.fixture(scope="module")
def tenant(shared_db: Database) -> Inhabited:
    """A tenant with a user."""
    return inhabit(shared_db, "mail")


@pytest.mark.parametrize(
    "address", ["nobody", "a@b", "a b@example.com", "a@example..com", "ada@example.com\n", "a@-b.com"]
)
def test_m11_the_database_refuses_an_address_from_those_who_go_around_python(
    shared_db: Database, tenant: Inhabited, address: str
) -> None:
    with pytest.raises(CheckFailed) as refused, shared_db.tenant(tenant.id) as session:
        session.execute(text("UPDATE users SET email = :address"), {"address": address})
    assert refused.value.constraint == "ck_users_email_valid"


@pytest.mark.parametrize(
    "address", ["nobody", "", "a@b", 5, b"ada@example.com", "ada@example.com\x00", "\ud800@example.com"]
)
def test_m11_python_refuses_an_address_with_a_clear_error(
    shared_db: Database, tenant: Inhabited, address: object
) -> None:
    with pytest.raises(InvalidEmail) as refused, shared_db.tenant(tenant.id) as session:
        session.execute(select(User).where(User.email == bindparam("address", type_=Email())), {"address": address})
    assert refused.value.value == address
    assert "not an e-mail address" in refused.value.message
