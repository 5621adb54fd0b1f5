import re
import uuid
from email.message import EmailMessage
from email.policy import SMTP
from io import BytesIO, StringIO

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spoold.errors import CorruptData, NoRecipients, TooBig
from spoold.message import (
    MAX_HEADER,
    MAX_RECIPIENTS,
    Addressee,
    Priority,
    addresses,
    check_address,
    check_envelope,
    decoded,
    fields,
    header_end,
    needs_utf8,
    new_entry_id,
    prepare,
    read_header,
    subject_of,
    without_bcc,
)

MESSAGE = b"From: Ann <ann@example.com>\r\nTo: bob@example.com\r\nSubject: Hello\r\n\r\nHello, Bob.\r\n"
line_ends = st.sampled_from([b"\r\n", b"\n", b"\r"])

# -- addresses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "ann@example.com", "a@b", "a.b+c@sub.example.com", "!#$%&'*+-/=?^_`{|}~@example.com", '"a b"@example.com',
        '"a\\"b"@example.com', "ann@[192.0.2.1]", "ann@[IPv6:2001:db8::1]", "ann@xn--bcher-kva.example",
        "ann@bücher.example", "jörg@example.com", "用户@例え.jp", "ann@a-b.c_d.e",
        "a" * 64 + "@example.com",
    ],
)  # fmt: skip
def test_a_mailbox_of_rfc_5321_or_6531_is_an_address(address: str) -> None:
    assert check_address(address) == address


@pytest.mark.parametrize(
    "address",
    [
        "", "ann", "@example.com", "ann@", "ann@@example.com", "ann @example.com", "ann@exam ple.com", "<ann@example.com>",
        "ann@example.com>", "ann@-example.com", "ann@example-.com", "ann@.example.com", "ann@example..com", "ann@[",
        "ann@[]", "a,b@example.com", "a;b@example.com", "a:b@example.com", "a\\b@example.com", '"ann@example.com',
        '"a"b"@example.com', "ann@example.com\r\nRCPT TO:<eve@example.com>", "ann\x00@example.com", "ann@example.com\n",
        "\u202eann@example.com", "ann\u00a0@example.com", "ann@exa\u2028mple.com", "ann\ud800@example.com",
        "a" * 65 + "@example.com", "é" * 33 + "@example.com", "ann@" + "a." * 130 + "com", "ann@example.com SIZE=1",
    ],
)  # fmt: skip
def test_what_is_no_mailbox_is_refused_and_named_in_one_harmless_line(address: str) -> None:
    with pytest.raises(CorruptData) as caught:
        check_address(address, "sender")
    text = str(caught.value)
    assert text.startswith("sender ")
    assert text.isprintable()
    assert len(text) < 200


@given(st.text(max_size=300))
@example("a@b\r\n.\r\n")
def test_no_text_whatever_can_smuggle_anything_past_the_angle_brackets(text: str) -> None:
    try:
        address = check_address(text)
    except CorruptData:
        return
    assert address == text
    assert len(address.encode()) <= 254
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", address)
    local, _, domain = address.rpartition("@")
    assert not re.search(r"[<> ]", domain)
    assert local.startswith('"') or not re.search(r"[<> ]", local)


def test_utf8_is_needed_when_an_address_is_not_ascii() -> None:
    assert not needs_utf8("ann@example.com", ["bob@example.com"])
    assert not needs_utf8("", [])
    assert needs_utf8("jörg@example.com", ["bob@example.com"])
    assert needs_utf8("", ["bob@example.com", "bob@bücher.example"])


# -- the envelope ------------------------------------------------------------------------------------------------------


def test_a_recipient_named_twice_gets_one_copy_where_it_was_named_first() -> None:
    ann, bob, again = (
        Addressee("ann@example.com"),
        Addressee("bob@example.com", "cc"),
        Addressee("ann@example.com", "bcc"),
    )
    assert check_envelope("", [ann, bob, again]) == (ann, bob)


def test_an_envelope_needs_recipients_but_not_too_many() -> None:
    with pytest.raises(NoRecipients):
        check_envelope("ann@example.com", [])
    with pytest.raises(TooBig):
        check_envelope("", [Addressee(f"a{n}@example.com") for n in range(MAX_RECIPIENTS + 1)])
    assert len(check_envelope("", [Addressee(f"a{n}@example.com") for n in range(MAX_RECIPIENTS)])) == MAX_RECIPIENTS


@pytest.mark.parametrize(
    "addressee",
    [
        Addressee("ann"),
        Addressee("ann@example.com", "from"),
        Addressee("", "to", "X400"),
        Addressee("a\n", "to", "FAX"),
    ],
)
def test_an_addressee_that_cannot_be_served_is_refused(addressee: Addressee) -> None:
    with pytest.raises(CorruptData):
        check_envelope("", [addressee])


def test_other_address_types_have_addresses_of_their_own() -> None:
    fax = Addressee("+49 30 123456", "to", "FAX")
    assert check_envelope("", [fax]) == (fax,)


# -- the header --------------------------------------------------------------------------------------------------------


def lines_of(content: bytes) -> list[bytes]:
    """With their ends, each of them CRLF, CR or LF: what every one becomes on the wire."""
    return [line for line in re.findall(rb"[^\r\n]*(?:\r\n|\r|\n|\Z)", content) if line]


def expected_end(content: bytes) -> int | None:
    length = 0
    for line in lines_of(content):
        if not line.strip(b"\r\n"):
            return length
        length += len(line)
    return None


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a: b", b" c", b"x"]), max_size=12).map(b"".join))
@example(MESSAGE)
@example(b"a: 1\nb: 2\n\nbody")
@example(b"a: 1\rb: 2\r\rbody")
@example(b"a: 1\r\n\nbody")
@example(b"\n\r\n")
def test_the_header_ends_at_the_first_empty_line_whatever_ends_lines(content: bytes) -> None:
    assert header_end(content) == expected_end(content)


def test_a_message_may_be_all_header_but_not_of_more_than_a_megabyte() -> None:
    assert read_header(b"Subject: x\r\nTo: a@b") == b"Subject: x\r\nTo: a@b"
    assert read_header(MESSAGE) == MESSAGE.partition(b"\r\n\r\n")[0] + b"\r\n"
    with pytest.raises(TooBig):
        read_header(b"X: " + b"x" * MAX_HEADER + b"\r\n\r\n")


@given(line_ends)
def test_a_field_is_found_by_its_name_and_unfolded(end: bytes) -> None:
    header = end.join([b"To: a@b,", b"\tc@d", b"X-To: no", b"SUBJECT : one", b" two", b"to:e@f", b""])
    assert fields(header, "To") == ["a@b,\tc@d", "e@f"]
    assert fields(header, "Subject") == ["one two"]
    assert fields(header, "Cc") == []


def test_eight_bit_octets_are_read_as_utf8_where_they_are_that() -> None:
    assert fields("Subject: Grüße\r\n".encode(), "Subject") == ["Grüße"]
    assert fields("Subject: Grüße\r\n".encode("latin-1"), "Subject") == ["Grüße"]


def test_every_mailbox_of_the_fields_is_found() -> None:
    header = b'To: "Doe, Ann" <ann@example.com>,\r\n Bob <bob@example.com> (a comment)\r\nCc: undisclosed:;, eve@example.com\r\n'
    assert list(addresses(header, "To", "Cc")) == [
        ("To", "ann@example.com"),
        ("To", "bob@example.com"),
        ("Cc", "eve@example.com"),
    ]


@pytest.mark.parametrize(
    "to", [b"ann@example.com,", b"Ann <ann@example.com> (a, comment)", b",ann@example.com", b"ann@example.com;"]
)
def test_a_field_that_is_hard_to_read_never_makes_a_message_go_to_fewer(to: bytes) -> None:
    content = b"From: eve@example.com\r\nTo: " + to + b"\r\nCc: bob@example.com\r\n\r\n"
    try:
        found = {recipient.address for recipient in prepare(content).recipients}
    except CorruptData:
        return  # told so
    assert found == {"ann@example.com", "bob@example.com"}


# -- Bcc ---------------------------------------------------------------------------------------------------------------

words = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\x85\u2028\u2029"), max_size=20).map(str.encode)
names = st.sampled_from([
    b"Bcc", b"bcc", b"BCC", b"Resent-Bcc", b"RESENT-BCC", b"Bcc ", b"bCc\t", b"To", b"X-Bcc", b"Bcc-Note", b"Resent-To",
    b"Bc", b"Subject",
])  # fmt: skip
folded = st.lists(st.tuples(st.sampled_from([b" ", b"\t"]), words), max_size=3)


@given(st.lists(st.tuples(names, words, folded, line_ends), max_size=8), st.booleans())
def test_bcc_is_removed_with_its_folded_lines_and_nothing_else_is(
    content: list[tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]], ended: bool
) -> None:
    written, kept = [], []
    for name, body, more, end in content:
        field = name + b":" + body + end + b"".join(space + text + end for space, text in more)
        written.append(field)
        if name.strip().lower() not in (b"bcc", b"resent-bcc"):
            kept.append(field)
    if not ended and written and kept and written[-1] == kept[-1]:
        kept[-1] = kept[-1].rstrip(b"\r\n")
    header = b"".join(written)
    assert without_bcc(header if ended else header.rstrip(b"\r\n")) == b"".join(kept)


def test_a_line_that_begins_with_a_space_is_no_field_whatever_it_says() -> None:
    header = b"Subject: about\r\n Bcc: fields\r\nTo: a@b\r\n"
    assert without_bcc(header) == header


@given(line_ends)
def test_whoever_is_named_in_bcc_is_in_the_envelope_and_nowhere_else(end: bytes) -> None:
    content = end.join(
        [b"From: a@example.com", b"To: b@example.com", b"Bcc: c@example.com,", b" d@example.com", b"", b"Hi"]
    )
    found = prepare(content)
    assert [(r.address, r.kind) for r in found.recipients] == [
        ("b@example.com", "to"),
        ("c@example.com", "bcc"),
        ("d@example.com", "bcc"),
    ]
    assert without_bcc(read_header(content)) == end.join([b"From: a@example.com", b"To: b@example.com", b""])


# -- subjects ----------------------------------------------------------------------------------------------------------


def test_a_subject_is_decoded_and_unfolded() -> None:
    assert subject_of(b"Subject: =?utf-8?b?R3LDvMOfZQ==?=\r\n =?iso-8859-1?q?_an_J=F6rg?=\r\n") == "Grüße an Jörg"
    assert subject_of(b"Subject: plain\r\n text\r\n") == "plain text"
    assert subject_of(b"To: nobody\r\n") == ""


@pytest.mark.parametrize(
    "value",
    [
        "=?no-such-charset?q?abc?=", "=?utf-8?b?!!!?=", "=?utf-8?b?a?=", "=?utf-8?b?R3?=", "=?utf-8?q?=ff=fe?=", "=?hex?q?00?=",
        "=?utf-8?x?abc?=", "=?idna?q?xn--?=", "=?punycode?q?=ff?=", "=?utf-16?q?a?=", "=?utf-7?q?+?=", "=?a\x00b?q?x?=",
        "=?undefined?q?x?=", "=?unicode_escape?q?=5Cud800?=", "=?raw_unicode_escape?q?=5Cud800?=", "=?rot13?q?x?=", "=?", "=??=",
    ],
)  # fmt: skip
def test_a_subject_that_cannot_be_decoded_is_shown_somehow(value: str) -> None:
    assert isinstance(decoded(value), str)
    subject_of(f"Subject: {value}\r\n".encode())


charsets = st.sampled_from(
    ["utf-8", "us-ascii", "iso-8859-1", "utf-16", "utf-7", "gb18030", "iso-2022-jp", "idna", "x-none", ""]
)
encoded_words = st.builds(
    lambda charset, how, text: f"=?{charset}?{how}?{text}?=".encode(),
    charsets,
    st.sampled_from(["q", "b", "Q", "B", "x"]),
    st.text("abcABC0189+/=_-=?\u00e9", max_size=20),
)


@given(st.lists(encoded_words | st.binary(max_size=30), max_size=5).map(b" ".join))
@example(b"=?utf-8?q?one=0D=0Atwo=00=1B[2J?=")
@example(b"=?utf-7?q?+2AA-?=")
def test_no_octets_whatever_make_a_subject_that_is_not_one_line_of_text(body: bytes) -> None:
    subject = subject_of(b"Subject: " + body + b"\r\n")
    assert len(subject) <= 998
    subject.encode()  # no lone surrogates
    assert "\x00" not in subject
    assert len(subject.splitlines()) <= 1


# -- what a submitter gives --------------------------------------------------------------------------------------------


def test_a_message_is_an_emailmessage_bytes_or_a_binary_file() -> None:
    email = EmailMessage(policy=SMTP)
    email["From"], email["To"], email["Subject"] = "ann@example.com", "bob@example.com", "Grüße"
    email.set_content("Hi")
    for given_ in (MESSAGE, bytearray(MESSAGE), memoryview(MESSAGE), BytesIO(MESSAGE)):
        assert prepare(given_).content == MESSAGE
    found = prepare(email)
    assert (found.sender, found.recipients, found.subject) == (
        "ann@example.com",
        (Addressee("bob@example.com"),),
        "Grüße",
    )
    for wrong in ("text", None, 3, StringIO("text")):
        with pytest.raises(CorruptData):
            prepare(wrong)


def test_the_sender_is_the_one_given_else_of_sender_else_the_first_of_from() -> None:
    assert prepare(MESSAGE).sender == "ann@example.com"
    assert prepare(b"Sender: s@example.com\r\n" + MESSAGE).sender == "s@example.com"
    assert prepare(MESSAGE, sender="").sender == ""
    with pytest.raises(CorruptData, match="no sender"):
        prepare(b"To: bob@example.com\r\n\r\n")


def test_recipients_that_are_given_take_the_place_of_those_in_the_header() -> None:
    assert prepare(MESSAGE, recipients=["eve@example.com"]).recipients == (Addressee("eve@example.com"),)
    with pytest.raises(NoRecipients):
        prepare(b"From: ann@example.com\r\n\r\n")
    with pytest.raises(CorruptData, match="empty"):
        prepare(b"\r\n\r\n", sender="", recipients=["eve@example.com"])


def test_a_submission_says_what_its_content_and_envelope_need() -> None:
    assert not prepare(MESSAGE).eight_bit
    assert prepare(MESSAGE + b"\xff").eight_bit
    assert prepare(MESSAGE, recipients=["jörg@example.com"]).utf8
    assert not prepare(MESSAGE + b"\xff").utf8


def test_priorities_have_names_and_mapis_numbers() -> None:
    assert [Priority.of(value) for value in ("high", "Normal", "LOW", 1, 0, -1)] == [1, 0, -1, 1, 0, -1]
    for wrong in ("urgent", 2, ""):
        with pytest.raises(CorruptData):
            Priority.of(wrong)


def test_an_entry_id_is_a_uuid_of_version_7_and_later_ones_sort_later() -> None:
    ids = [new_entry_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(re.fullmatch(r"[0-9a-f]{32}", entry_id) for entry_id in ids)
    assert all(uuid.UUID(entry_id).version == 7 for entry_id in ids)
    assert [entry_id[:12] for entry_id in ids] == sorted(entry_id[:12] for entry_id in ids)
