import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from spoold.settings.quantities import Octets, Seconds, duration, duration_text, size, size_text


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("90s", 90), ("1m", 60), ("1h30m", 5400), ("5d", 432000), ("1w", 604800), ("250ms", 0.25), ("1.5h", 5400),
        ("1h 30m", 5400), (" 8S ", 8), ("60", 60), ("0.5", 0.5), (60, 60), (0.5, 0.5), (0, 0),
    ],
)  # fmt: skip
def test_a_duration_is_read(written: str | float, seconds: float) -> None:
    assert TypeAdapter(Seconds).validate_python(written) == seconds


@pytest.mark.parametrize(
    "written",
    [
        "",
        "s",
        "1 fortnight",
        "-1s",
        "1s1",
        "1h30",
        "1,5h",
        "\u0661s",
        "inf",
        "nan",
        -1,
        True,
        None,
        [],
        float("inf"),
        2e9,
    ],
)
def test_what_is_no_duration_is_refused(written: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Seconds).validate_python(written)


@given(st.integers(0, 10**9) | st.integers(0, 10**6).map(lambda tenths: tenths / 10))
def test_a_duration_is_written_as_it_is_read(seconds: float) -> None:
    assert duration(duration_text(seconds)) == pytest.approx(seconds, rel=1e-5)
    if seconds == int(seconds):
        assert duration(duration_text(seconds)) == seconds


@pytest.mark.parametrize(
    ("written", "octets"),
    [
        ("50MiB", 50 * 1024**2), ("50M", 50 * 1024**2), ("50MB", 50_000_000), ("1 KiB", 1024), ("1kb", 1000),
        ("2GiB", 2 * 1024**3), ("100", 100), ("100B", 100), (100, 100),
    ],
)  # fmt: skip
def test_a_size_is_read(written: str | int, octets: int) -> None:
    assert TypeAdapter(Octets).validate_python(written) == octets


@pytest.mark.parametrize("written", ["", "MiB", "1.5MiB", "-1", "50Mi", "50iB", "50TiB", "0", 0, 1.5, True, None])
def test_what_is_no_size_is_refused(written: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Octets).validate_python(written)


@given(st.integers(1, 2**50))
def test_a_size_is_written_as_it_is_read(octets: int) -> None:
    assert size(size_text(octets)) == octets
