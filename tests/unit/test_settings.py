"""Settings: what is wrong is told by the name of its variable, in one line."""

from __future__ import annotations

import pytest

from cdp.errors import SetupError
from cdp.settings import read_settings


@pytest.mark.parametrize(
    ("variable", "value", "word"),
    [
        ("CDP_PORT", "many", "integer"),
        ("CDP_TIMEZONE", "Mars", "Mars"),
        ("CDP_DEFAULT_COUNTRY", "Narnia", "NARNIA"),
        ("CDP_DEFAULT_COUNTRY", "XX", "XX"),
        ("CDP_CURRENCY", "XXXX", "XXXX"),
        ("CDP_CURRENCY", "XAU", "XAU"),
        ("CDP_DUCKDB_MEMORY", "lots", "lots"),
        ("CDP_DUCKDB_MEMORY", "0GB", "0GB"),
        ("CDP_URL", "cdp.example:8080", "http"),
        ("CDP_PUBLIC_URL", "cdp.example", "http"),
        ("CDP_LOG_FORMAT", "xml", "json"),
    ],
)
def test_a_wrong_value_is_told_by_its_variable(variable: str, value: str, word: str) -> None:
    with pytest.raises(SetupError, match=f"^{variable}: .*{word}") as wrong:
        read_settings({variable: value})

    assert "Value error" not in str(wrong.value)
    assert "\n" not in str(wrong.value)


def test_a_misspelt_variable_is_told_with_the_one_that_was_meant() -> None:
    with pytest.raises(SetupError, match="CDP_PROT is not a setting; did you mean CDP_PORT"):
        read_settings({"CDP_PROT": "80"})
    with pytest.raises(SetupError, match="CDP_XYZZY is not a setting; without it"):
        read_settings({"CDP_XYZZY": "1"})


def test_values_are_read_as_people_write_them() -> None:
    given = {
        "CDP_DEFAULT_COUNTRY": "gb",
        "CDP_CURRENCY": "jpy",
        "CDP_DUCKDB_MEMORY": "1.5 GiB",
        "CDP_URL": "https://cdp.example",
        "CDP_KAFKA_TOPIC": "",
    }

    settings = read_settings(given)

    assert (settings.default_country, settings.currency) == ("GB", "JPY")
    assert settings.duckdb_memory == "1.5 GiB"
    assert settings.kafka_topic == "cdp.events"
